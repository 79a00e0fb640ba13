"""Your own prompts, from a file of JSON lines, JSON, CSV or Parquet."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.contracts import Workload
from harness.errors import ConfigError
from harness.timeline import Request

from . import _files as files
from . import _text as text

_TEXT_KEYS: Final = ("prompt", "text", "question", "input", "instruction")
_LENGTH_KEYS: Final = ("max_tokens", "max_completion_tokens", "output_tokens", "osl_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """
    One request a row.

    Args:
        path: the file. A row has one of `prompt`, `text`, `question`, `input`,
            `instruction`, or `messages` (a list of `{role, content}`), or
            `prompt` as a list of token ids; and it may say `max_tokens`.
        column: the text's column, if it has another name.
        osl_tokens: output length asked for where a row does not say; None: then each
            row must.
        shuffle: in an order drawn from the seed.
        repeat: begin again at the end of the file.
    """

    path: Path
    column: str | None = None
    osl_tokens: int | None = 256
    shuffle: bool = False
    repeat: bool = True

    def __post_init__(self) -> None:
        text.check_length("osl_tokens", self.osl_tokens)

    def requests(self, *, seed: int) -> Iterator[Request]:
        """As many as there are rows, or without end."""
        found = list(files.rows(self.path))
        if not found:
            raise files.none_found(self.path, "row")
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        index = 0
        while index == 0 or self.repeat:
            if self.shuffle:
                draw.shuffle(found)
            for where, row in found:
                yield self._request(index, where, row)
                index += 1

    def _request(self, index: int, where: str, row: Mapping[str, Any]) -> Request:
        osl = next((row[key] for key in _LENGTH_KEYS if row.get(key)), self.osl_tokens)
        if osl is None:
            raise ConfigError(
                f"{where} says no output length", remedy="set workload.osl_tokens for all"
            )
        messages = row.get("messages")
        if isinstance(messages, list) and self.column is None:
            turns = tuple((str(turn["role"]), str(turn["content"])) for turn in messages)
            return Request(index=index, prompt="", messages=turns, max_osl_tokens=int(osl))
        for key in (self.column,) if self.column else _TEXT_KEYS:
            value = row.get(key)
            if isinstance(value, str) and value:
                return Request(index=index, prompt=value, max_osl_tokens=int(osl))
            if isinstance(value, list) and value:
                ids = tuple(int(token) for token in value)
                return Request(
                    index=index, prompt=ids, max_osl_tokens=int(osl), isl_tokens=len(ids)
                )
        raise ConfigError(
            f"{where} has no prompt: it has {', '.join(list(row)[:6])}",
            remedy="name the column with workload.column",
        )


PLUGIN: type[Workload] = Prompts
