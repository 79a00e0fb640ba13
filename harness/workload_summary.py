"""What a workload is made of, from its own first requests: lengths and shared prefixes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .errors import JoulemarkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .contracts import Workload
    from .timeline import Request

_MOST: Final = 256
_FEW: Final = 64
_BINS: Final = 8
_TEXT_BLOCK: Final = 64
_TOKEN_BLOCK: Final = 16
_BAR: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """
    Counts over the first requests.

    Args:
        requests: how many were looked at.
        isl_tokens: shape (n,), input lengths aimed at; empty: the workload does not say.
        max_osl_tokens: shape (n,), output lengths asked for.
        prefix_ratio: share of the prompts' blocks that an earlier prompt began with,
            which a prefix cache without bounds would serve.
        sessions: conversations they belong to; 0: each stands alone.
        span_s: from the first to the last recorded instant; None: none are given.
    """

    requests: int
    isl_tokens: npt.NDArray[np.int64]
    max_osl_tokens: npt.NDArray[np.int64]
    prefix_ratio: float
    sessions: int
    span_s: float | None


def summarise(workload: Workload, *, seed: int, most: int | None) -> Summary:
    """
    Look at the first requests, at most 256 of them.

    Args:
        workload: is asked for requests of its own; the run's are not used up.
        seed: of the run.
        most: no more than the run will send; None: not known.

    Raises:
        ConfigError: the workload's data cannot be read.
    """
    count = _MOST if most is None else min(most, _MOST)
    requests = list(islice(workload.requests(seed=seed), count))
    instants = [item.t_offset_s for item in requests if item.t_offset_s is not None]
    lengths = [item.isl_tokens for item in requests if item.isl_tokens is not None]
    return Summary(
        requests=len(requests),
        isl_tokens=np.array(lengths, np.int64),
        max_osl_tokens=np.array([item.max_osl_tokens for item in requests], np.int64),
        prefix_ratio=prefix_ratio(requests),
        sessions=len({item.session for item in requests if item.session is not None}),
        span_s=max(instants) - min(instants) if instants else None,
    )


def peeked(workload: Workload, *, seed: int) -> tuple[float | None, Iterator[Request]]:
    """
    `prefix_ratio` of the first requests of a run, at most 64, and all of its requests.

    Returns:
        None for the ratio: they cannot be read. Why, the requests say where they are needed.
    """
    requests = workload.requests(seed=seed)
    try:
        first = list(islice(requests, _FEW))
    except JoulemarkError:
        return None, workload.requests(seed=seed)
    return prefix_ratio(first), chain(first, requests)


def prefix_ratio(requests: Sequence[Request]) -> float:
    """
    Share of blocks that lie in a prefix which an earlier request had, too.

    A block is 16 tokens, or 64 characters of text; it is shared only if all
    blocks before it are, as in a prefix cache.
    """
    seen: set[int] = set()
    blocks = shared = 0
    for request in requests:
        chain = 0
        known = True
        for block in _blocks(request):
            chain = hash((chain, block))
            blocks += 1
            known = known and chain in seen
            shared += known
            seen.add(chain)
    return shared / blocks if blocks else 0.0


def _blocks(request: Request) -> list[str] | list[tuple[int, ...]]:
    if request.messages is not None:
        text = "".join(f"<{role}>{content}" for role, content in request.messages)
    elif isinstance(request.prompt, str):
        text = request.prompt
    else:
        ids = request.prompt
        whole = len(ids) // _TOKEN_BLOCK * _TOKEN_BLOCK
        return [ids[at : at + _TOKEN_BLOCK] for at in range(0, whole, _TOKEN_BLOCK)]
    whole = len(text) // _TEXT_BLOCK * _TEXT_BLOCK
    return [text[at : at + _TEXT_BLOCK] for at in range(0, whole, _TEXT_BLOCK)]


def describe(summary: Summary) -> list[str]:
    """Lines for people: a histogram of each length, and what is shared."""
    lines = [f"workload: the first {summary.requests} requests"]
    for name, values in (
        ("input tokens", summary.isl_tokens),
        ("output tokens asked", summary.max_osl_tokens),
    ):
        lines += _histogram(name, values)
    lines.append(
        f"shared prefix: {summary.prefix_ratio:.1%} of the prompts' blocks"
        + (f", in {summary.sessions} conversations" if summary.sessions else "")
    )
    if summary.span_s is not None:
        lines.append(f"recorded instants: over {summary.span_s:.1f} s")
    return lines


def _histogram(name: str, values: npt.NDArray[np.int64]) -> list[str]:
    if not len(values):
        return [f"{name}: the workload does not say"]
    low, high = int(values.min()), int(values.max())
    mean = f"{name}: mean {values.mean():.1f}"
    if low == high:
        return [f"{name}: {low} each"]
    counts, edges = np.histogram(values, bins=min(_BINS, high - low))
    most = int(counts.max())
    return [f"{mean}, from {low} to {high}"] + [
        f"  {edges[place]:>9.0f} .. {edges[place + 1]:<9.0f} {count:>6} "
        + "#" * round(_BAR * int(count) / most)
        for place, count in enumerate(counts)
    ]
