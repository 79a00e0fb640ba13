"""Tells an engine that stands still from one that reads prompts, by the power of its silences."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from .integrate import one_reading_a_device
from .joules.trapezoid import cumulated_j
from .timeline import ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from .record import Finding, MetricValue
    from .timeline import PowerTrace, Window

_AT_WORK_RATIO: Final = 0.5
"""Of the way from the idle watts to those of the rest of the window: from there on it worked."""
_TWO: Final = 2


def told_by_power(
    finding: Finding,
    stretches_ns: npt.NDArray[np.int64],
    window: Window,
    power: Sequence[PowerTrace],
    metrics: Mapping[str, MetricValue],
) -> Finding:
    """
    The finding `engine_silent` with what was drawn meanwhile.

    Args:
        finding: as tokens alone have it, a warning.
        stretches_ns: shape (n, 2): the silences, inside the window.
        window: in which they are.
        power: all channels of the run.
        metrics: of the run; its mean and its loaded idle watts are looked for.

    Returns:
        A mere piece of information where power says that the engine was at work, a warning
        with the watts where it stood still; unchanged where power does not tell.
    """
    for boundary in dict.fromkeys(trace.channel.boundary for trace in power):
        mean, idle = (metrics.get(f"{boundary}_{name}") for name in ("average_w", "loaded_idle_w"))
        if not len(stretches_ns):
            break
        own = [trace for trace in power if trace.channel.boundary == boundary]
        silent_w = _drawn_w(own, stretches_ns)
        silent_s = float(np.diff(stretches_ns, axis=1).sum()) / 1e9
        left_s = window.duration_s - silent_s
        if mean is None or idle is None or silent_w is None or left_s <= 0:
            continue
        rest_w = (mean.value * window.duration_s - silent_w * silent_s) / left_s
        if rest_w <= idle.value:
            continue
        seen = (
            f"{finding.message.partition(': the engine')[0]}. It drew {silent_w:.3g} W "
            f"({_words(boundary, own)}) meanwhile, {idle.value:.3g} W when idle and "
            f"{rest_w:.3g} W otherwise: "
        )
        if (silent_w - idle.value) / (rest_w - idle.value) >= _AT_WORK_RATIO:
            return dataclasses.replace(
                finding, severity="info", message=seen + "it was at work, on prompts"
            )
        return dataclasses.replace(
            finding,
            message=seen + "it stood still, compiling or swapping; its joules per token hold for a "
            "load with such pauses",
        )
    return finding


def _words(boundary: str, power: Sequence[PowerTrace]) -> str:
    kinds = sorted({trace.channel.power_kind for trace in power} - {"measured"})
    return ", ".join([boundary.replace("_", " "), *(kind.upper() for kind in kinds)])


def _drawn_w(power: Sequence[PowerTrace], stretches_ns: npt.NDArray[np.int64]) -> float | None:
    """Mean watts of the stretches, over all devices; None: a device's readings do not tell."""
    chosen = one_reading_a_device(power)
    total_j = 0.0
    for trace in chosen:
        curve = _curve(trace)
        if curve is None or curve[0][0] > stretches_ns.min() or curve[0][-1] < stretches_ns.max():
            return None
        total_j += float(np.diff(np.interp(stretches_ns, *curve), axis=1).sum())
    silent_s = float(np.diff(stretches_ns, axis=1).sum()) / 1e9
    return total_j / silent_s if chosen and silent_s else None


def _curve(
    trace: PowerTrace,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Instants, and joules up to each; None: too few readings, or the counter was reset."""
    if trace.channel.quantity == "power":
        curve = cumulated_j(trace)
    else:
        good = trace.status == ReadStatus.OK
        curve = (trace.t_before_ns[good] + trace.t_after_ns[good]) / 2, trace.value[good]
        if np.any(np.diff(curve[1]) < 0):
            return None
    return curve if len(curve[1]) >= _TWO else None
