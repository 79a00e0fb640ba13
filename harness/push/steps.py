"""Mean watts of each device over many short steps; a step that is not covered has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from harness.joules.counter import stretches
from harness.joules.trapezoid import AVERAGE_DELAY_NS
from harness.timeline import ReadStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from harness.timeline import Channel, PowerTrace

    Floats = npt.NDArray[np.float64]
    Edges = npt.NDArray[np.int64]

_GAP_S: Final = 0.5
_GAP_READINGS: Final = 5
"""A source that is read more slowly may be silent for so many of its usual distances."""


def step_powers_w(
    traces: Sequence[PowerTrace], edges_ns: Edges
) -> Iterator[tuple[Channel, Floats]]:
    """
    Mean power between consecutive edges, from each device's energy counter if it has one.

    Args:
        traces: all channels of a run.
        edges_ns: shape (n + 1,), int64, strictly increasing.

    Yields:
        One channel a device and boundary, and shape (n,) watts; NaN where it does not
        cover the whole step.
    """
    chosen: dict[tuple[str, str], PowerTrace] = {}
    # The later in this order, the better: a counter misses nothing between readings.
    order = ("average", "instant", "mean", "counter")
    for trace in sorted(traces, key=lambda one: order.index(one.channel.sense)):
        chosen[trace.channel.boundary, trace.channel.device] = trace
    for trace in chosen.values():
        yield trace.channel, step_power_w(trace, edges_ns)


def step_power_w(trace: PowerTrace, edges_ns: Edges) -> Floats:
    """
    Mean power of one channel between consecutive edges; shape (n,) watts, NaN for a gap.

    A counter's energy is interpolated between the instants at which it moved, never
    across a reset or a lost device; power is integrated by trapezoids, a `mean`
    reading holding back to the one before it.
    """
    steps_s = np.diff(edges_ns) / 1e9
    energy_j = np.full(len(steps_s), np.nan)
    if trace.channel.quantity == "energy":
        for knots in stretches(trace):
            t_ns = knots.middle_ns
            covered = (edges_ns[:-1] >= t_ns[0]) & (edges_ns[1:] <= t_ns[-1])
            own_j = np.diff(np.interp(edges_ns, t_ns, knots.energy_j))
            energy_j[covered] = own_j[covered]
    else:
        energy_j = _integrals_j(trace, edges_ns)
    energy_j[_silent(trace, edges_ns)] = np.nan
    watts: Floats = energy_j / steps_s
    return watts


def _read(trace: PowerTrace) -> tuple[Floats, Floats]:
    ok = trace.status == ReadStatus.OK
    t_ns = (trace.t_before_ns[ok] + trace.t_after_ns[ok]) / 2
    late_ns = AVERAGE_DELAY_NS if trace.channel.sense == "average" else 0.0
    return t_ns - late_ns, trace.value[ok]


def _integrals_j(trace: PowerTrace, edges_ns: Edges) -> Floats:
    t_ns, power_w = _read(trace)
    energy_j = np.full(len(edges_ns) - 1, np.nan)
    if len(t_ns) < 2:  # noqa: PLR2004 - a mean needs a beginning and an end
        return energy_j
    instants = np.unique(np.concatenate((t_ns, edges_ns.astype(np.float64))))
    if trace.channel.sense == "mean":
        held = np.minimum(np.searchsorted(t_ns, instants[1:], side="left"), len(t_ns) - 1)
        parts_j = power_w[held] * np.diff(instants) / 1e9
    else:
        watts = np.interp(instants, t_ns, power_w)
        parts_j = (watts[1:] + watts[:-1]) / 2 * np.diff(instants) / 1e9
    total_j = np.concatenate(([0.0], np.cumsum(parts_j)))
    covered = (edges_ns[:-1] >= t_ns[0]) & (edges_ns[1:] <= t_ns[-1])
    energy_j[covered] = np.diff(np.interp(edges_ns, instants, total_j))[covered]
    return energy_j


def _silent(trace: PowerTrace, edges_ns: Edges) -> npt.NDArray[np.bool_]:
    """Steps that touch a silence: longer than half a second and than is usual for the channel."""
    t_ns, _ = _read(trace)
    silent = np.zeros(len(edges_ns) - 1, dtype=np.bool_)
    waits_ns = np.diff(t_ns)
    if not len(waits_ns):
        return silent
    limit_ns = max(_GAP_S * 1e9, _GAP_READINGS * float(np.median(waits_ns)))
    for gap in np.flatnonzero(waits_ns > limit_ns):
        silent |= (edges_ns[:-1] < t_ns[gap + 1]) & (edges_ns[1:] > t_ns[gap])
    return silent
