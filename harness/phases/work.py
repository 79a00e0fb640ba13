"""What a server did in bins of time: tokens read and made, and where that is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from harness.silence import silences

if TYPE_CHECKING:
    import pandas as pd

    from harness.tokens import TokenTimes

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_SETTLED_NS: Final = 300_000_000
"""So long before a request and after it a server is not called idle: sensors lag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """
    What a server did in each bin.

    Args:
        prefill_tok_per_s: shape (n,): input tokens computed, each request's spread evenly
            from sent to first output; cached ones do not count.
        decode_tok_per_s: shape (n,): output tokens, each spread over the step before it.
        known: shape (n,): False where it is not known what the engine did: in a silence,
            and while a request's input may have been computed before, in, or after one.
        idle: shape (n,): no request was in flight, nor shortly before or after.
    """

    prefill_tok_per_s: Floats
    decode_tok_per_s: Floats
    known: Mask
    idle: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """
    One recording's requests and tokens, ready to be cut into bins.

    Args:
        read_from_ns: shape (r,): from when each request's input may have been computed.
        read_to_ns: shape (r,): until when.
        read_tokens: shape (r,): how many input tokens.
        made_ns: shape (t,), ascending: when output came.
        made_tokens: shape (t,): how many tokens with it.
        step_ns: a token's joules are spent over this long before it.
        unsure_ns: shape (u, 2): stretches in which it is not known what the engine did.
        busy_ns: shape (b, 2): stretches with a request in flight, a little widened.
    """

    read_from_ns: Floats
    read_to_ns: Floats
    read_tokens: Floats
    made_ns: Floats
    made_tokens: Floats
    step_ns: float
    unsure_ns: Floats
    busy_ns: Floats

    def done(self, start_ns: Floats, end_ns: Floats) -> Done:
        """In bins from *start_ns* to *end_ns*."""
        took_s = (end_ns - start_ns) / 1e9
        return Done(
            prefill_tok_per_s=(self._read_at(end_ns) - self._read_at(start_ns)) / took_s,
            decode_tok_per_s=(self._made_at(end_ns) - self._made_at(start_ns)) / took_s,
            known=~_touched(self.unsure_ns, start_ns, end_ns),
            idle=~_touched(self.busy_ns, start_ns, end_ns),
        )

    def _read_at(self, edges: Floats) -> Floats:
        """Input tokens computed until each edge."""
        took = self.read_to_ns - self.read_from_ns
        share = np.clip((edges[:, None] - self.read_from_ns) / took, 0.0, 1.0)
        found: Floats = share @ self.read_tokens
        return found

    def _made_at(self, edges: Floats) -> Floats:
        """Output tokens made until each edge."""
        if not len(self.made_ns):
            return np.zeros(len(edges))
        base = self.made_ns[0]
        t = self.made_ns - base
        count = np.concatenate([[0.0], np.cumsum(self.made_tokens)])
        moment = np.concatenate([[0.0], np.cumsum(self.made_tokens * t)])

        def area(at: Floats) -> Floats:
            """Integral of the count of tokens up to *at*."""
            place = np.searchsorted(t, at, side="right")
            found: Floats = at * count[place] - moment[place]
            return found

        made: Floats = (area(edges - base + self.step_ns) - area(edges - base)) / self.step_ns
        return made


def work(requests: pd.DataFrame, tokens: TokenTimes) -> Work:
    """
    What *requests* had a server do.

    Args:
        requests: rows of RequestTrace; without t_end_ns a request ends with its last token.
        tokens: when their output came.
    """
    sent = requests.dropna(subset=["t_sent_ns"])
    begun = sent["t_sent_ns"].to_numpy(np.int64)
    end_column = "t_end_ns" if "t_end_ns" in requests else "t_last_ns"
    ended = sent[end_column].fillna(sent["t_sent_ns"]).to_numpy(np.int64)
    started = sent.dropna(subset=["t_first_ns", "isl_tokens"])
    read_from = started["t_sent_ns"].to_numpy(np.float64)
    read_to = np.maximum(started["t_first_ns"].to_numpy(np.float64), read_from + 1)
    cached = started["cached_tokens"].fillna(0).to_numpy(np.float64)
    silent = silences(tokens.t_ns, begun, ended).astype(np.float64)
    reading = np.column_stack([read_from, read_to])
    return Work(
        read_from_ns=read_from,
        read_to_ns=read_to,
        read_tokens=started["isl_tokens"].to_numpy(np.float64) - cached,
        made_ns=tokens.t_ns.astype(np.float64),
        made_tokens=tokens.tokens,
        step_ns=max(_median_step_ns(requests), 1.0),
        unsure_ns=np.concatenate([silent, reading[_touched(silent, read_from, read_to)]]),
        busy_ns=np.column_stack([begun - _SETTLED_NS, ended + _SETTLED_NS]).astype(np.float64),
    )


def _touched(stretches_ns: Floats, start_ns: Floats, end_ns: Floats) -> Mask:
    """Whether any of the stretches reaches into each [start, end]."""
    starts, ends = np.sort(stretches_ns[:, 0]), np.sort(stretches_ns[:, 1])
    begun, over = np.searchsorted(starts, end_ns), np.searchsorted(ends, start_ns, side="right")
    touched: Mask = begun > over
    return touched


def _median_step_ns(requests: pd.DataFrame) -> float:
    """Time between two output tokens of one answer; 0 if no answer tells."""
    known = requests.dropna(subset=["t_first_ns", "t_last_ns", "osl_tokens"])
    known = known[known["osl_tokens"] > 1]
    if not len(known):
        return 0.0
    took = known["t_last_ns"].to_numpy(np.float64) - known["t_first_ns"].to_numpy(np.float64)
    return float(np.median(took / (known["osl_tokens"].to_numpy(np.float64) - 1)))
