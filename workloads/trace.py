"""Recorded traffic of Mooncake, Azure or BurstGPT, at its instants and with its shared prefixes."""

from __future__ import annotations

import datetime as dt
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

_MILLISECOND_S: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """
    Requests as somebody's production saw them; their texts are made up.

    The format is told by the columns:

    - Mooncake (kvcache-ai/Mooncake FAST25-release/traces): `timestamp` in
      milliseconds, `input_length`, `output_length`, `hash_ids` of blocks of 512
      tokens. Equal ids become equal text, so a prefix cache finds what it would
      have found.
    - Azure (Azure/AzurePublicDataset): `TIMESTAMP`, `ContextTokens`,
      `GeneratedTokens`; no prefixes.
    - BurstGPT (HPMLL/BurstGPT): `Timestamp` in seconds, `Request tokens`,
      `Response tokens`; a row with no response is a failure there and left out.

    With `load.pattern = "trace"` requests are sent at their recorded instants
    (stretched by `load.time_scale`), with any other pattern in their order.

    Args:
        path: the file.
        prompts: `text`: words, about as long; `tokens`: random ids, exactly.
        vocab_tokens: ids are below it.
        block_tokens: tokens a hash id stands for.
        max_isl_tokens: leave longer requests out; None: leave none out.
        max_osl_tokens: cut longer answers; None: cut none.
    """

    path: Path
    prompts: text.Form = "text"
    vocab_tokens: int = 30_000
    block_tokens: int = 512
    max_isl_tokens: int | None = None
    max_osl_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_tokens", "block_tokens", "max_isl_tokens", "max_osl_tokens"):
            text.check_length(name, getattr(self, name))
        if self.prompts == "harmony":
            raise ConfigError(
                "workload.prompts is 'harmony', which a trace's lengths do not allow for",
                remedy="set 'text' or 'tokens'",
            )

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Each row once, its instant counted from the first row's."""
        first_s: float | None = None
        last_s = 0.0
        index = 0
        for where, row in files.rows(self.path):
            at_s, isl, osl, blocks = _row(where, row)
            if isl < 1 or osl < 1 or isl > (self.max_isl_tokens or isl):
                continue
            first_s = at_s if first_s is None else first_s
            if at_s - first_s < last_s:
                raise ConfigError(
                    f"{where} is earlier than the row before it", remedy="sort the file by time"
                )
            last_s = at_s - first_s
            yield Request(
                index=index,
                prompt=self._prompt(seed, index, isl, blocks),
                max_osl_tokens=min(osl, self.max_osl_tokens or osl),
                isl_tokens=isl,
                t_offset_s=last_s,
            )
            index += 1
        if index == 0:
            raise files.none_found(self.path, "usable request")

    def _prompt(self, seed: int, index: int, isl: int, blocks: list[int]) -> str | tuple[int, ...]:
        """Block by block, each from its own id, so that equal ids give equal text."""
        parts = []
        left = isl
        for place, block in enumerate(blocks):
            last = place == len(blocks) - 1
            count = left if last else min(self.block_tokens, left)
            parts.append(self._piece(f"{seed}:{block}", count))
            left -= count
        if left > 0:
            parts.append(self._piece(f"{seed}:own:{index}", left))
        if self.prompts == "text":
            return " ".join(str(part) for part in parts if part)
        return tuple(token for part in parts for token in part if isinstance(token, int))

    def _piece(self, source: str, count: int) -> str | tuple[int, ...]:
        draw = random.Random(source)  # noqa: S311 - reproducible, not secret
        return text.prompt(
            draw, count, form=self.prompts, vocab_tokens=self.vocab_tokens, effort="medium"
        )


def _row(where: str, row: Mapping[str, Any]) -> tuple[float, int, int, list[int]]:
    """Seconds, input and output tokens, and block ids of one row."""
    if "input_length" in row:
        at_s = files.whole(where, row, "timestamp") * _MILLISECOND_S
        isl, osl = (files.whole(where, row, key) for key in ("input_length", "output_length"))
        return at_s, isl, osl, list(row.get("hash_ids") or [])
    if "ContextTokens" in row:
        isl, osl = (files.whole(where, row, key) for key in ("ContextTokens", "GeneratedTokens"))
        return _azure_s(where, str(row.get("TIMESTAMP"))), isl, osl, []
    if "Request tokens" in row:
        isl, osl = (files.whole(where, row, key) for key in ("Request tokens", "Response tokens"))
        try:
            return float(row["Timestamp"]), isl, osl, []
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"{where} has no Timestamp in seconds", remedy="give BurstGPT's own columns"
            ) from error
    raise ConfigError(
        f"{where} is of no trace format we know: it has {', '.join(list(row)[:6])}",
        remedy="give Mooncake's, Azure's or BurstGPT's columns (see `joulemark list workloads`)",
    )


def _azure_s(where: str, stamp: str) -> float:
    """Their stamps have seven digits behind the point, one more than Python reads."""
    whole, _, fraction = stamp.partition(".")
    try:
        moment = dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC)
        return moment.timestamp() + float(f"0.{fraction.removesuffix('+00:00') or 0}")
    except ValueError as error:
        raise ConfigError(
            f"{where} has TIMESTAMP = {stamp!r}", remedy="give e.g. 2023-11-16 18:15:46.6805900"
        ) from error


PLUGIN: type[Workload] = Trace
