"""Integrates power readings over a window, with what the readings cannot know as an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.errors import CoverageError
from harness.timeline import ReadStatus

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.timeline import PowerTrace, Window

AVERAGE_DELAY_NS: Final = 0.5e9
"""NVML's average power is a mean over the last second (on GA100 and older it is not offered)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerIntegral:
    """
    The joules under one power channel's readings.

    Args:
        energy_j: joules in the window.
        half_width_j: how far the truth may be away, as far as the readings tell.
        samples: readings inside the window.
        longest_gap_s: the longest silence inside the window or across its edges.
    """

    energy_j: float
    half_width_j: float
    samples: int
    longest_gap_s: float


def cumulated_j(
    trace: PowerTrace,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The middles of power readings, ns, and the joules by trapezoids from the first up to each."""
    good = trace.status == ReadStatus.OK
    middle_ns = (trace.t_before_ns[good] + trace.t_after_ns[good]) / 2
    watts = trace.value[good]
    steps_j = np.diff(middle_ns) / 1e9 * (watts[1:] + watts[:-1]) / 2
    return middle_ns, np.concatenate([[0.0], np.cumsum(steps_j)])[: len(middle_ns)]


def integrate_power_j(
    trace: PowerTrace, window: Window, *, max_gap_s: float = 0.5
) -> PowerIntegral:
    """
    Energy drawn on one power channel inside *window*, in joules.

    Trapezoids between readings, each placed at the middle of its call; a `mean`
    channel's reading holds back to the reading before it, and an `average` channel's
    reading stands for the middle of the second it averages. Both edges are
    interpolated, so the result does not depend on where the readings fall.

    Args:
        trace: a power channel, watts.
        window: on the same clock as *trace*.
        max_gap_s: the longest silence to interpolate across.

    Returns:
        Joules at the boundary of the channel.

    Raises:
        CoverageError: the trace misses an edge or has a longer gap.
    """
    ok = trace.status == ReadStatus.OK
    t_ns = (trace.t_before_ns[ok] + trace.t_after_ns[ok]) / 2
    if trace.channel.sense == "average":
        t_ns -= AVERAGE_DELAY_NS
    power_w = trace.value[ok]
    gap_ns = max_gap_s * 1e9
    if not len(t_ns) or t_ns[0] > window.start_ns + gap_ns or t_ns[-1] < window.end_ns - gap_ns:
        raise CoverageError(
            f"{trace.channel.name} does not cover the window {window.name!r}",
            remedy="start the sampler before the load and stop it after",
        )
    inside = (t_ns > window.start_ns) & (t_ns < window.end_ns)
    edges = np.array([window.start_ns, window.end_ns], dtype=np.float64)
    instants = np.concatenate((edges[:1], t_ns[inside], edges[1:]))
    first = int(np.searchsorted(t_ns, window.start_ns, side="right"))
    last = int(np.searchsorted(t_ns, window.end_ns, side="left"))
    around = t_ns[max(first - 1, 0) : last + 1]
    longest_s = float(np.diff(around).max() / 1e9) if len(around) > 1 else 0.0
    if longest_s > max_gap_s:
        raise CoverageError(
            f"{trace.channel.name} has a gap of {longest_s:.3f} s in the window"
            f" {window.name!r}, the limit is {max_gap_s} s",
            remedy="look for what stopped the sampler; the part before the gap is valid",
        )
    steps_s = np.diff(instants) / 1e9
    if trace.channel.sense == "mean":
        holds = np.minimum(np.searchsorted(t_ns, instants[1:], side="left"), len(t_ns) - 1)
        energy_j = float(np.sum(power_w[holds] * steps_s))
    else:
        watts = np.interp(instants, t_ns, power_w)
        energy_j = float(np.sum((watts[1:] + watts[:-1]) / 2 * steps_s))
    return PowerIntegral(
        energy_j=energy_j,
        half_width_j=_half_width_j(t_ns, power_w, window)
        + abs(energy_j) * (trace.channel.gain_ratio or 0.0),
        samples=int(np.count_nonzero(inside)),
        longest_gap_s=longest_s,
    )


def _half_width_j(
    t_ns: npt.NDArray[np.float64], power_w: npt.NDArray[np.float64], window: Window
) -> float:
    """
    Sampling error of the integral, at about two standard deviations.

    Between two different readings the power may have been anywhere between them
    (or the sensor asleep): each such step is an error of up to half its height
    for its length, independent of the others.
    """
    near = (t_ns > window.start_ns - 1e9) & (t_ns < window.end_ns + 1e9)
    changes = np.flatnonzero(np.diff(power_w[near]) != 0)
    if len(changes) < 2:  # noqa: PLR2004
        return float(np.ptp(power_w[near])) * window.duration_s if np.any(near) else 0.0
    tick_s = float(np.median(np.diff(t_ns[near][changes]))) / 1e9
    spread_w = float(np.std(power_w[near][changes]))
    return 2 * spread_w * float(np.sqrt(tick_s * max(window.duration_s, tick_s)))
