"""Estimates what prefill, decode and idling cost on one server, by regression over short bins."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import optimize

from .phases.bins import PLAIN_S, TICKED_S, Powers, Recording, powers
from .phases.checks import (
    cached_findings,
    disagreements,
    fit_findings,
    idle_findings,
    silence_findings,
    unseen_findings,
)
from .phases.estimate import Split, around
from .phases.least_squares import bend_ratio, half_widths
from .phases.work import Done, Work, work
from .record import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from .phases.work import Floats, Mask
    from .timeline import PowerTrace, Window
    from .tokens import TokenTimes

_LAG_STEP_S: Final = 0.05
_LAGS_S: Final = np.arange(-4, 5) * _LAG_STEP_S
_HAC_S: Final = 2.0
FEWEST_BINS: Final = 20


def fit(
    power_w: Floats, prefill_tok_per_s: Floats, decode_tok_per_s: Floats, *, bin_s: float = PLAIN_S
) -> Split | None:
    """
    Power = idle + a * prefill rate + b * decode rate, all three at least 0.

    Least squares under those bounds (Lawson and Hanson's NNLS). The intervals
    are of Newey and West's covariance, which allows for residuals of
    bins within 2 s that go together, or of independent residuals where that is
    larger, with Student's t; a coefficient at its bound has an interval from 0.

    Args:
        power_w: shape (n,), mean of each bin.
        prefill_tok_per_s: shape (n,), input tokens computed in each bin.
        decode_tok_per_s: shape (n,), output tokens of each bin.
        bin_s: length of a bin.

    Returns:
        The estimate; None with fewer than 20 bins or a power that never changes.
    """
    count = len(power_w)
    if count < FEWEST_BINS or float(np.ptp(power_w)) == 0:
        return None
    whole = np.column_stack([prefill_tok_per_s, decode_tok_per_s, np.ones(count)])
    seen = np.any(whole > 0, axis=0)
    design = whole[:, seen]
    scale = np.linalg.norm(design, axis=0)
    scaled = design / scale
    solution, _ = optimize.nnls(scaled, power_w)
    values = solution / scale
    residuals = power_w - design @ values
    total = float(((power_w - power_w.mean()) ** 2).sum())
    lags = round(_HAC_S / bin_s)
    half = half_widths(scaled, residuals, solution > 0, lags) / scale
    found = {
        int(place): around(float(value), float(reach))
        for place, value, reach in zip(np.flatnonzero(seen), values, half, strict=True)
    }
    r2 = 1 - float((residuals**2).sum()) / total
    condition = float(np.linalg.cond(scaled))
    bend = bend_ratio(scaled, decode_tok_per_s, power_w, residuals, lags)
    return Split(
        prefill_j_per_token=found.get(0),
        decode_j_per_token=found.get(1),
        idle_w=found[2],
        idle_measured_w=None,
        r2_ratio=r2,
        bins=count,
        bin_s=bin_s,
        left_out_ratio=0.0,
        lag_s=0.0,
        condition=condition,
        findings=fit_findings(r2, condition, bend),
    )


def split(
    trace: PowerTrace,
    windows: list[Window],
    tokens: TokenTimes,
    requests: pd.DataFrame,
    *,
    average: PowerTrace | None = None,
) -> Split | Finding:
    """The split of one device's power in one recording: see `pooled`, and `Recording`."""
    return pooled(
        [Recording(trace=trace, windows=windows, tokens=tokens, requests=requests, average=average)]
    )


def pooled(recordings: Sequence[Recording]) -> Split | Finding:
    """
    The split of one device's power over several recordings of the same load.

    The same load: joules of a token depend on how many are made at once. Bins in which the
    engine was silent although requests were in flight are left out, with those over which
    the input of such a request would be spread. The sensor's delay is found with the split:
    of shifts up to 0.25 s the one that fits best; of a counter whose ticks are placed, of
    those within what is unknown of their instants.

    Args:
        recordings: of one server that did nothing else.

    Returns:
        The best fit; or why there is none: no readings, or too few bins.
    """
    cut = [powers(own) for own in recordings]
    doubts_s = [own.doubt_s for own in cut if own.doubt_s is not None]
    doubt_s = max(doubts_s) if cut and len(doubts_s) == len(cut) else None
    rows = _Rows(
        cut=cut,
        works=[work(own.requests, own.tokens) for own in recordings],
        power_w=np.concatenate([np.zeros(0), *(own.power_w for own in cut)]),
        bin_s=PLAIN_S if doubt_s is None else TICKED_S,
    )
    if not len(rows.power_w):
        return _none("split_no_power", "the power readings reach none of the windows")
    # What is left out depends on the shift, and the shift must be found on the same bins.
    known = rows.at(0.0).known
    first = _best(rows, known, doubt_s)
    if first is None:
        return _too_few(known)
    known = rows.at(first.lag_s).known
    best = _best(rows, known, doubt_s)
    if best is None:
        return _too_few(known)
    checked = _checked(rows, best, known)
    cached = cached_findings([own.requests for own in recordings])
    return dataclasses.replace(checked, findings=(*checked.findings, *cached))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The bins of all recordings, and what was done in them, at any shift."""

    cut: Sequence[Powers]
    works: Sequence[Work]
    power_w: Floats
    bin_s: float

    def at(self, lag_s: float) -> Done:
        """What was done in each bin if its power came *lag_s* after it."""
        lag_ns = lag_s * 1e9
        done = [
            own.done(bins.start_ns - lag_ns, bins.end_ns - lag_ns)
            for own, bins in zip(self.works, self.cut, strict=True)
        ]
        names = (field.name for field in dataclasses.fields(Done))
        return Done(**{n: np.concatenate([getattr(own, n) for own in done]) for n in names})

    def fitted(self, lag_s: float, chosen: Mask) -> Split | None:
        done = self.at(lag_s)
        found = fit(
            self.power_w[chosen],
            done.prefill_tok_per_s[chosen],
            done.decode_tok_per_s[chosen],
            bin_s=self.bin_s,
        )
        return None if found is None else dataclasses.replace(found, lag_s=lag_s)


def _best(rows: _Rows, known: Mask, doubt_s: float | None) -> Split | None:
    """The fit at the shift that explains most; None: there is none at any."""
    shifts_s = _LAGS_S.tolist() if doubt_s is None else [0.0]
    coarse = [found for shift in shifts_s if (found := rows.fitted(shift, known)) is not None]
    if not coarse:
        return None
    best = max(coarse, key=lambda found: found.r2_ratio)

    def misfit(lag_s: float) -> float:
        found = rows.fitted(lag_s, known)
        return 1.0 if found is None else 1 - found.r2_ratio

    # A bin that is off by a hundredth already shifts joules from one phase to the other.
    reach_s = _LAG_STEP_S if doubt_s is None else doubt_s
    bounds = (best.lag_s - reach_s, best.lag_s + reach_s)
    least = optimize.minimize_scalar(
        misfit, bounds=bounds, method="bounded", options={"xatol": 2e-4}
    )
    fine = rows.fitted(float(least.x), known)
    return fine if fine is not None and fine.r2_ratio > best.r2_ratio else best


def _checked(rows: _Rows, best: Split, known: Mask) -> Split:
    """*best* held against what was measured with nothing in flight, and each recording."""
    idle = rows.power_w[known & rows.at(best.lag_s).idle]
    measured = None
    if len(idle) > 1:
        ones = np.ones((len(idle), 1))
        mean = float(idle.mean())
        lags = round(_HAC_S / rows.bin_s)
        half = half_widths(ones, idle - mean, np.ones(1, np.bool_), lags)
        measured = around(mean, float(half[0]))
    left_out = 1 - float(known.mean())
    each = []
    if len(rows.cut) > 1:
        which = np.repeat(np.arange(len(rows.cut)), [len(own.power_w) for own in rows.cut])
        own = [rows.fitted(best.lag_s, known & (which == k)) for k in range(len(rows.cut))]
        each = [found for found in own if found is not None]
    return dataclasses.replace(
        best,
        idle_measured_w=measured,
        left_out_ratio=left_out,
        findings=(
            *best.findings,
            *idle_findings(best.idle_w, measured),
            *disagreements(best, each),
            *silence_findings(left_out),
            *unseen_findings(best),
        ),
    )


def _too_few(known: Mask) -> Finding:
    left, out = int(known.sum()), int((~known).sum())
    message = "the power never changes"
    if left < FEWEST_BINS:
        message = f"{left} bins are left, fewer than {FEWEST_BINS}"
        if out:
            message += (
                f"; in {out} more no token came for 0.5 s although requests were in flight, or "
                "input may have been read in such a silence"
            )
    return _none("split_too_few_bins", message)


def _none(code: str, why: str) -> Finding:
    return Finding(code=code, severity="warning", message=f"no split: {why}")
