"""Made-up conversations that share a prefix and grow turn by turn, as agents' do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from harness.contracts import Workload
from harness.timeline import Request

from . import _text as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """
    Sessions of several turns below a few system prompts; one turn: just a shared prefix.

    Turns of many sessions are dealt out in rounds, so that what a session said
    before is in a prefix cache only if the cache holds all sessions of a round.
    Answers in the history are made up, not the server's, and as long as asked.

    Args:
        prefixes: different system prompts; sessions are dealt out to them.
        prefix_tokens: length of each.
        turns: of a session.
        turn_tokens: length of what the user (or a tool) says in a turn.
        osl_tokens: output length asked for.
        sessions: that go on at the same time.
        as_text: send each request as one text to `/v1/completions`.
    """

    prefixes: int = 1
    prefix_tokens: int = 1024
    turns: int = 1
    turn_tokens: int = 128
    osl_tokens: int = 128
    sessions: int = 16
    as_text: bool = False

    def __post_init__(self) -> None:
        for name in ("prefixes", "prefix_tokens", "turns", "turn_tokens", "osl_tokens", "sessions"):
            text.check_length(name, getattr(self, name))

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Round upon round of new sessions, without end."""
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        systems = [text.words(draw, self.prefix_tokens) for _ in range(self.prefixes)]
        index = 0
        while True:
            first = index // self.turns
            going = [
                [("system", systems[(first + place) % self.prefixes])]
                for place in range(self.sessions)
            ]
            for turn in range(self.turns):
                for place, history in enumerate(going):
                    history.append(("user", text.words(draw, self.turn_tokens)))
                    yield self._request(index, history, session=str(first + place), turn=turn)
                    history.append(("assistant", text.words(draw, self.osl_tokens)))
                    index += 1

    def _request(
        self, index: int, history: list[tuple[str, str]], *, session: str, turn: int
    ) -> Request:
        whole = "".join(f"{who}: {what}\n\n" for who, what in history) + "assistant:"
        length = self.prefix_tokens + self.turn_tokens * (turn + 1) + self.osl_tokens * turn
        return Request(
            index=index,
            prompt=whole,
            messages=None if self.as_text else tuple(history),
            max_osl_tokens=self.osl_tokens,
            isl_tokens=length,
            session=session,
        )


PLUGIN: type[Workload] = Conversations
