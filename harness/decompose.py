"""Estimates what prefill, decode and idling cost on one server, by regression over short bins."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from .record import Finding
from .timeline import ReadStatus, Window

if TYPE_CHECKING:
    import pandas as pd

    from .timeline import PowerTrace
    from .tokens import TokenTimes

Floats = npt.NDArray[np.float64]
BIN_S: Final = 1.0
_LAG_STEP_S: Final = 0.05
_LAGS_S: Final = np.arange(-4, 5) * _LAG_STEP_S
_HAC_LAGS: Final = 2
_LEVEL: Final = 0.95
_FEWEST_BINS: Final = 20
_POOR_R2: Final = 0.5
_LARGEST_CONDITION: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """
    One estimated number with its 95 % interval.

    Args:
        value: J/token, or watts for the constant; never negative.
        low: at least 0.
        high: of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """
    What a token costs in each phase, as far as one server's power tells.

    Args:
        prefill_j_per_token: of an input token that was computed.
        decode_j_per_token: of an output token.
        idle_w: drawn whether or not tokens are made.
        r2_ratio: share of the power's variance that the fit explains.
        bins: how many were fitted.
        bin_s: their length.
        lag_s: by how much the power was found to come after the tokens.
        condition: of the scaled regressors; large: their effects cannot be told apart.
        findings: what speaks against trusting it.
    """

    prefill_j_per_token: Coefficient
    decode_j_per_token: Coefficient
    idle_w: Coefficient
    r2_ratio: float
    bins: int
    bin_s: float
    lag_s: float
    condition: float
    findings: tuple[Finding, ...]


def fit(power_w: Floats, prefill_tok_per_s: Floats, decode_tok_per_s: Floats) -> Split | None:
    """
    Power = idle + a * prefill rate + b * decode rate, all three at least 0.

    Least squares under those bounds (Lawson and Hanson's NNLS). The intervals
    are of Newey and West's covariance, which allows for residuals of
    neighbouring bins that go together, or of independent residuals where that is
    larger, with Student's t; a coefficient at its bound has an interval from 0.

    Args:
        power_w: shape (n,), mean of each bin.
        prefill_tok_per_s: shape (n,), input tokens computed in each bin.
        decode_tok_per_s: shape (n,), output tokens of each bin.

    Returns:
        The estimate; None with fewer than 20 bins or a power that never changes.
    """
    count = len(power_w)
    if count < _FEWEST_BINS or float(np.ptp(power_w)) == 0:
        return None
    design = np.column_stack([prefill_tok_per_s, decode_tok_per_s, np.ones(count)])
    scale = np.where((sizes := np.linalg.norm(design, axis=0)) > 0, sizes, 1.0)
    scaled = design / scale
    solution, _ = optimize.nnls(scaled, power_w)
    values = solution / scale
    residuals = power_w - design @ values
    total = float(((power_w - power_w.mean()) ** 2).sum())
    half = _half_widths(scaled, residuals, solution > 0) / scale
    found = [
        Coefficient(value=float(v), low=float(max(v - h, 0.0)), high=float(v + h))
        for v, h in zip(values, half, strict=True)
    ]
    r2 = 1 - float((residuals**2).sum()) / total
    condition = float(np.linalg.cond(scaled))
    return Split(
        prefill_j_per_token=found[0],
        decode_j_per_token=found[1],
        idle_w=found[2],
        r2_ratio=r2,
        bins=count,
        bin_s=BIN_S,
        lag_s=0.0,
        condition=condition,
        findings=_findings(r2, condition),
    )


def _half_widths(design: Floats, residuals: Floats, free: npt.NDArray[np.bool_]) -> Floats:
    """Of the free coefficients by Newey and West; of those at their bound as if they were free."""
    count, width = design.shape
    try:
        inverse = np.linalg.inv(design.T @ design)
    except np.linalg.LinAlgError:
        return np.full(width, np.inf)
    scores = design * residuals[:, None]
    meat = scores.T @ scores
    for lag in range(1, _HAC_LAGS + 1):
        weight = 1 - lag / (_HAC_LAGS + 1)
        both = scores[lag:].T @ scores[:-lag]
        meat += weight * (both + both.T)
    degrees = count - int(free.sum())
    together = np.diag(inverse @ meat @ inverse) * count / degrees
    apart = np.diag(inverse) * float(residuals @ residuals) / degrees
    # The estimate of how neighbours go together is itself noisy, and then often too small.
    variance = np.maximum(together, apart)
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, degrees))
    half: Floats = reach * np.sqrt(np.maximum(variance, 0.0))
    return half


def _findings(r2: float, condition: float) -> tuple[Finding, ...]:
    found = []
    if r2 < _POOR_R2:
        found.append(
            Finding(
                code="split_poor_fit",
                severity="warning",
                message=f"prefill and decode rates explain {r2:.0%} of the power's variance, below "
                f"{_POOR_R2:.0%}: other things moved it",
            )
        )
    if condition > _LARGEST_CONDITION:
        found.append(
            Finding(
                code="split_not_told_apart",
                severity="warning",
                message=f"the phases rose and fell together (condition {condition:.0f}, above "
                f"{_LARGEST_CONDITION:.0f}): vary the load, or meter an idle stretch",
            )
        )
    return tuple(found)


def split(
    trace: PowerTrace,
    windows: list[Window],
    tokens: TokenTimes,
    requests: pd.DataFrame,
) -> Split | None:
    """
    The split of one device's power over *windows*.

    The sensor's delay is found with it: of shifts up to 0.25 s the one that fits best.

    Args:
        trace: an energy counter, or power readings; of one server whose whole load
            is in *tokens*.
        windows: stretches of time; an idle one tells the constant best.
        tokens: when output tokens came.
        requests: rows of RequestTrace: an input's tokens count from when it was
            sent to its first output, evenly; cached ones do not count. An output
            token's joules are those of the step before it.

    Returns:
        The best fit; None if there are too few bins.
    """
    edges = [own for own in map(_edges, windows) if own is not None]
    prefill = [np.diff(_prefilled_at(requests, own)) / BIN_S for own in edges]

    # A token's joules are spent in the step that ends with it.
    lead_ns = _median_step_ns(requests) // 2
    decode = [
        np.histogram(tokens.t_ns, bins=own + lead_ns, weights=tokens.tokens)[0] / BIN_S
        for own in edges
    ]

    def at(lag_s: float) -> Split | None:
        shifted = [_energy_at(trace, own + int(lag_s * 1e9)) for own in edges]
        power = [np.diff(energy) / BIN_S for energy in shifted if energy is not None]
        if not edges or len(power) < len(edges):
            return None
        found = fit(np.concatenate(power), np.concatenate(prefill), np.concatenate(decode))
        return None if found is None else dataclasses.replace(found, lag_s=lag_s)

    coarse = [found for found in map(at, _LAGS_S.tolist()) if found is not None]
    if not coarse:
        return None
    best = max(coarse, key=lambda found: found.r2_ratio)

    def misfit(lag_s: float) -> float:
        found = at(lag_s)
        return 1.0 if found is None else 1 - found.r2_ratio

    # A bin that is off by a hundredth already shifts joules from one phase to the other.
    reach = (best.lag_s - _LAG_STEP_S, best.lag_s + _LAG_STEP_S)
    found = optimize.minimize_scalar(
        misfit, bounds=reach, method="bounded", options={"xatol": 2e-4}
    )
    fine = at(float(found.x))
    return fine if fine is not None and fine.r2_ratio > best.r2_ratio else best


def _median_step_ns(requests: pd.DataFrame) -> int:
    """Time between two output tokens of one answer; 0 if no answer tells."""
    known = requests.dropna(subset=["t_first_ns", "t_last_ns", "osl_tokens"])
    known = known[known["osl_tokens"] > 1]
    if not len(known):
        return 0
    took = known["t_last_ns"].to_numpy(np.float64) - known["t_first_ns"].to_numpy(np.float64)
    return int(np.median(took / (known["osl_tokens"].to_numpy(np.float64) - 1)))


def _edges(window: Window) -> npt.NDArray[np.int64] | None:
    count = int(window.duration_s / BIN_S)
    if count < 1:
        return None
    return window.start_ns + np.arange(count + 1) * int(BIN_S * 1e9)


def _energy_at(trace: PowerTrace, edges: npt.NDArray[np.int64]) -> Floats | None:
    """Joules at the edges; None where the readings do not reach."""
    good = trace.status == ReadStatus.OK
    middle = (trace.t_before_ns[good] + trace.t_after_ns[good]) / 2
    value = trace.value[good]
    if len(value) < 2:  # noqa: PLR2004 - a line needs two points
        return None
    if trace.channel.quantity == "power":
        steps = np.diff(middle) / 1e9 * (value[1:] + value[:-1]) / 2
        value = np.concatenate([[0.0], np.cumsum(steps)])
    else:
        # A counter holds its value between ticks; only where it moved is it exact.
        moved = np.flatnonzero(np.diff(value) > 0) + 1
        if len(moved) < 2:  # noqa: PLR2004 - same
            return None
        middle, value = (middle[moved] + middle[moved - 1]) / 2, value[moved]
    if edges[0] < middle[0] or edges[-1] > middle[-1]:
        return None
    found: Floats = np.interp(edges, middle, value)
    return found


def _prefilled_at(requests: pd.DataFrame, edges: npt.NDArray[np.int64]) -> Floats:
    """Input tokens computed until each edge, each request's spread from sent to first output."""
    known = requests.dropna(subset=["t_sent_ns", "t_first_ns", "isl_tokens"])
    start = known["t_sent_ns"].to_numpy(np.float64)
    end = np.maximum(known["t_first_ns"].to_numpy(np.float64), start + 1)
    cached = known["cached_tokens"].fillna(0).to_numpy(np.float64)
    computed = known["isl_tokens"].to_numpy(np.float64) - cached
    share = np.clip((edges[:, None] - start[None, :]) / (end - start)[None, :], 0.0, 1.0)
    found: Floats = share @ computed
    return found
