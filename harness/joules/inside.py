"""Says what a device's cumulative energy at an edge can be, near a tick or between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from .counter import Knots
    from .edges import Placed

_NEIGHBOURS: Final = 3
_AROUND: Final = 2
"""Ticks on either side of one whose mean the power readings around it are held against."""
_ONE_SIDED_RATIO: Final = 0.2
_UNSEEN_RATIOS: Final = (0.1, 0.85)
_SUSPICION: Final = 20.0
"""A sensor that straddles a step now and then comes near the mean by accident."""
_HALVED: Final = 2**0.5
"""A random path strays from its chord by a share that grows as the root of the halving."""
_UNKNOWN_BENDS: Final = 1
_LEAST_J: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Bends:
    """
    How far the energy has been from the straight line between two ticks, where it is known.

    Each tick is compared with the chord between its neighbours, as a share of the most
    that the powers around it allow.

    Args:
        t_ns: shape (n,), increasing: when each was.
        share: shape (n,), -1 to 1.
    """

    t_ns: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shapes:
    """
    Draws of what the power did inside ticks, for both edges of a window.

    Args:
        when_ns: shape (draws,): an instant; what every device did around it, they
            may do at the edge, each as it did then: GPUs that share a model work in step.
        wild: shape (draws,), -1 to 1: where nothing of the kind was seen before.
        tilt: shape (draws,), -1 to 1: the power at the very tick, from lowest to highest.
        quick: shape (draws,), -1 to 1: what of it is too quick for a sensor that averages.
    """

    when_ns: npt.NDArray[np.float64]
    wild: npt.NDArray[np.float64]
    tilt: npt.NDArray[np.float64]
    quick: npt.NDArray[np.float64]


def bends(knots: Knots, quantum_j: float) -> Bends:
    """Compare each tick with the chord between its neighbours."""
    middle_ns, energy_j = knots.middle_ns, knots.energy_j
    steps_ns = np.maximum(np.diff(middle_ns), 1.0)
    if not knots.each or len(steps_ns) < 2 * _NEIGHBOURS:
        return Bends(np.empty(0), np.empty(0))
    usual_ns = float(np.median(steps_ns))
    # Brackets are wider than ticks are irregular: their middles make no good slopes.
    rises_w = np.diff(energy_j) / usual_ns * 1e9
    around_w = np.lib.stride_tricks.sliding_window_view(rises_w, 2 * _NEIGHBOURS)
    at = np.arange(len(around_w)) + _NEIGHBOURS
    mean_w = (rises_w[at - 1] + rises_w[at]) / 2
    low_w, high_w = levels(around_w.min(axis=1), around_w.max(axis=1), mean_w)
    most_j = usual_ns / 1e9 * np.minimum(high_w - mean_w, mean_w - low_w)
    off_j = (rises_w[at - 1] - rises_w[at]) / 2 * usual_ns / 1e9
    whole = np.abs(steps_ns / usual_ns - 1) < 0.8  # noqa: PLR2004  no tick was missed
    known = whole[at - 1] & whole[at]
    return Bends(
        middle_ns[at][known], np.clip(off_j / (most_j + max(quantum_j, _LEAST_J)), -1.0, 1.0)[known]
    )


def draw_shapes(
    all_bends: Sequence[Bends], random: np.random.Generator, draws: int
) -> tuple[Shapes, Shapes]:
    """Draw for the two edges of a window, alike for all devices of a boundary."""
    pooled = np.concatenate([own.t_ns for own in all_bends])
    fewest = min(len(own.t_ns) for own in all_bends)
    sides = []
    for _ in range(2):
        wild = np.where(
            random.random(draws) < _UNKNOWN_BENDS / (fewest + _UNKNOWN_BENDS),
            random.uniform(-1, 1, draws),
            np.nan,
        )
        when_ns = random.choice(pooled, draws) if len(pooled) else np.zeros(draws)
        sides.append(Shapes(when_ns, wild, *random.uniform(-1, 1, (2, draws))))
    return sides[0], sides[1]


def energy_j(
    placed: Placed,
    edge_ns: float,
    *,
    near_w: npt.NDArray[np.float64],
    off_ratio: float | None,
    own: Bends,
    shapes: Shapes,
    locked: npt.NDArray[np.float64],
) -> tuple[float, npt.NDArray[np.float64]]:
    """
    What a device's cumulative energy was at an edge.

    Args:
        placed: its knots around the edge.
        edge_ns: the edge.
        near_w: its power readings around the edge; may be empty.
        off_ratio: by what share its power readings of seconds are above what the counter says
            of the same seconds; None: not known.
        own: how far this device's energy was from straight lines elsewhere.
        shapes: draws for this edge, the same for devices that may work in step.
        locked: shape (draws,), -1 or 1: which way a load in step with the ticks goes; the
            same at both edges of a window.

    Returns:
        The best guess and draws of what it can have been, joules.
    """
    times_ns = np.maximum.accumulate(placed.draws_ns, axis=1)
    middle_ns = placed.middle_ns
    best = float(np.interp(edge_ns, middle_ns, placed.energy_j))
    nearest = int(np.argmin(np.abs(middle_ns - edge_ns)))
    if abs(middle_ns[nearest] - edge_ns) < 1.0:
        power_w = _at_tick_w(
            placed, nearest, near_w=near_w, off_ratio=off_ratio, shapes=shapes, locked=locked
        )
        drawn = placed.energy_j[nearest] + power_w * (edge_ns - times_ns[:, nearest]) / 1e9
        # However far off the tick is, the energy is between those of the ticks beside it.
        beside_j = np.concatenate(([-np.inf], placed.energy_j, [np.inf]))
        return best, np.clip(drawn, beside_j[nearest], beside_j[nearest + 2])
    drawn = _interpolated(edge_ns, times_ns, placed.energy_j)
    right = int(np.clip(np.searchsorted(middle_ns, edge_ns), 1, len(middle_ns) - 1))
    span_s = max(float(middle_ns[right] - middle_ns[right - 1]) / 1e9, 1e-9)
    slopes_w = np.diff(placed.energy_j) / np.maximum(np.diff(middle_ns), 1.0) * 1e9
    mean_w = float(slopes_w[right - 1])
    left_ns, right_ns = times_ns[:, right - 1], times_ns[:, right]
    part = np.clip((edge_ns - left_ns) / np.maximum(right_ns - left_ns, 1.0), 0.0, 1.0)
    # Inside a tick the energy need not rise in a straight line, but it ends where the
    # next tick says: the deviation is nil at both ends.
    low_w, high_w = levels(float(slopes_w.min()), float(slopes_w.max()), mean_w)
    drawn = drawn + _bent_j(
        _share(own, shapes), part, span_s, float(mean_w - low_w), float(high_w - mean_w)
    )
    # A load in step with the ticks does the same at both edges: it is drawn once. Whatever is
    # in step: the power can be one of those that were read near the edge.
    scatter = _scatter_ratio(near_w, mean_w)
    hidden_w = min(max(_in_step_ratio(scatter, off_ratio), scatter), _UNSEEN_RATIOS[1]) * mean_w
    return best, drawn + _bent_j(locked, part, span_s, hidden_w, hidden_w)


def _at_tick_w(
    placed: Placed,
    tick: int,
    *,
    near_w: npt.NDArray[np.float64],
    off_ratio: float | None,
    shapes: Shapes,
    locked: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """
    Draws of the power at a tick of a device's own.

    It is one of those that were read around it, in the counter's watts, give or take what is too
    quick for a sensor that averages and what is in step.
    """
    first, last = max(tick - _AROUND, 0), min(tick + _AROUND, len(placed.energy_j) - 1)
    span_ns = max(float(placed.middle_ns[last] - placed.middle_ns[first]), 1.0)
    mean_w = float(placed.energy_j[last] - placed.energy_j[first]) / span_ns * 1e9
    scatter = _scatter_ratio(near_w, mean_w)
    level_w: npt.NDArray[np.float64] | float = mean_w
    if off_ratio is not None and off_ratio > -1 and len(near_w):
        level_w = np.quantile(near_w, (1 + shapes.tilt) / 2) / (1 + off_ratio)
    unseen = shapes.quick * _UNSEEN_RATIOS[0] + locked * _in_step_ratio(scatter, off_ratio)
    return np.maximum(level_w + unseen * mean_w, 0.0)


def _share(own: Bends, shapes: Shapes) -> npt.NDArray[np.float64]:
    if not len(own.t_ns):
        return np.nan_to_num(shapes.wild, nan=0.0)
    at = np.clip(np.searchsorted(own.t_ns, shapes.when_ns), 0, len(own.t_ns) - 1)
    seen = np.clip(_HALVED * own.share[at], -1.0, 1.0)
    return np.where(np.isnan(shapes.wild), seen, shapes.wild)


def _bent_j(
    share: npt.NDArray[np.float64],
    part: npt.NDArray[np.float64],
    span_s: float,
    below_w: float,
    above_w: float,
) -> npt.NDArray[np.float64]:
    """How far from the chord: first as high as can be and then as low, or the reverse."""
    up_j = span_s * np.minimum(part * above_w, (1 - part) * below_w)
    down_j = span_s * np.minimum(part * below_w, (1 - part) * above_w)
    bent: npt.NDArray[np.float64] = np.where(share > 0, share * up_j, share * down_j)
    return bent


def _interpolated(
    edge_ns: float, times_ns: npt.NDArray[np.float64], energy_j: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """What `numpy.interp` says of each row of instants."""
    rows = np.arange(len(times_ns))
    right = np.clip((times_ns < edge_ns).sum(axis=1), 1, len(energy_j) - 1)
    left_ns, right_ns = times_ns[rows, right - 1], times_ns[rows, right]
    part = np.clip((edge_ns - left_ns) / np.maximum(right_ns - left_ns, 1.0), 0.0, 1.0)
    drawn: npt.NDArray[np.float64] = energy_j[right - 1] + part * (
        energy_j[right] - energy_j[right - 1]
    )
    return drawn


def levels(
    low_w: npt.ArrayLike, high_w: npt.ArrayLike, mean_w: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """
    Between which powers a device was inside a tick.

    Readings on one side of the mean alone show a load in step with them: what they
    never meet lies as far on the other side.
    """
    mean = np.asarray(mean_w)
    below_w = np.maximum(mean - np.asarray(low_w), 0.0)
    above_w = np.maximum(np.asarray(high_w) - mean, 0.0)
    least_w = _ONE_SIDED_RATIO * np.maximum(below_w, above_w)
    below_w, above_w = (
        np.where(below_w < least_w, above_w, below_w),
        np.where(above_w < least_w, below_w, above_w),
    )
    return np.maximum(mean - below_w, 0.0), mean + above_w


def _scatter_ratio(near_w: npt.NDArray[np.float64], mean_w: float) -> float:
    """By what share of the mean the readings near an edge are off it at most; none: by a lot."""
    if not len(near_w) or mean_w <= 0:
        return _UNSEEN_RATIOS[1]
    return float(np.max(np.abs(near_w - mean_w))) / mean_w


def _in_step_ratio(scatter: float, off_ratio: float | None) -> float:
    """
    By what share of its mean the power at every tick may be another without being seen.

    A load in step with the ticks looks constant to the counter. To a power sensor
    that looks at a part of each period it looks constant, too, but hardly ever at
    the mean, neither near the edge nor over seconds; where either says the same as
    the counter, little is hidden. Readings of an uneven load that is not in step scatter
    near the edge, and come to the counter's mean over seconds.
    """
    least, most = _UNSEEN_RATIOS
    off = scatter if off_ratio is None else min(scatter, abs(off_ratio))
    return min(max(_SUSPICION * off, least), most)
