"""Real conversations in ShareGPT's format, turn by turn, with their recorded answers as history."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.contracts import Workload
from harness.timeline import Request

from . import _files as files
from . import _text as text

_ROLES: Final[Mapping[str, str]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
# English text has about four tokens in three words.
_TOKENS_PER_WORD: Final = 4 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareGpt:
    """
    Each turn of the user is one request with all turns before it.

    The history holds the recorded answers, not the server's own, so that the
    same seed asks for the same work of every server.

    Args:
        path: .json or .jsonl of objects with `conversations` (or `messages`): a list
            of `{from, value}` (or `{role, content}`).
        osl_tokens: output length asked for; None: of the recorded answer, guessed
            from its words.
        max_turns: of one conversation at most; None: all.
        shuffle: take the conversations in an order drawn from the seed.
        as_text: send each request as one text to `/v1/completions`.
    """

    path: Path
    osl_tokens: int | None = None
    max_turns: int | None = None
    shuffle: bool = True
    as_text: bool = False

    def __post_init__(self) -> None:
        text.check_length("osl_tokens", self.osl_tokens)
        text.check_length("max_turns", self.max_turns)

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Conversation upon conversation, until all were used."""
        found = list(enumerate(row for _, row in files.rows(self.path)))
        if self.shuffle:
            random.Random(seed).shuffle(found)  # noqa: S311 - reproducible, not secret
        index = 0
        for place, row in found:
            for request in self._turns(row, session=str(row.get("id", place)), index=index):
                yield request
                index += 1
        if index == 0:
            raise files.none_found(self.path, "conversation that a user begins")

    def _turns(self, row: Mapping[str, Any], *, session: str, index: int) -> Iterator[Request]:
        turns = _turns(row)
        history: list[tuple[str, str]] = []
        asked = 0
        for place, (role, content) in enumerate(turns):
            history.append((role, content))
            if role != "user" or asked == self.max_turns:
                continue
            follows = turns[place + 1] if place + 1 < len(turns) else ("", "")
            recorded = follows[1] if follows[0] == "assistant" else ""
            if self.osl_tokens is None and not recorded:
                continue
            guessed = max(1, round(len(recorded.split()) * _TOKENS_PER_WORD))
            whole = "".join(f"{who}: {what}\n\n" for who, what in history) + "assistant:"
            yield Request(
                index=index + asked,
                prompt=whole,
                messages=None if self.as_text else tuple(history),
                max_osl_tokens=self.osl_tokens or guessed,
                session=session,
            )
            asked += 1


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Roles in OpenAI's words; turns of unknown roles and empty ones left out."""
    listed = row.get("conversations") or row.get("conversation") or row.get("messages") or []
    found = []
    for turn in listed:
        role = _ROLES.get(str(turn.get("from", turn.get("role"))))
        content = turn.get("value", turn.get("content"))
        if role is not None and isinstance(content, str) and content:
            found.append((role, content))
    return found


PLUGIN: type[Workload] = ShareGpt
