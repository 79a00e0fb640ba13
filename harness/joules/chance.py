"""How likely it is that all ticks of a lattice fell into the brackets that readings left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_NEVER: Final = 1e-9
_WITHIN: Final = 0.35
"""What a reading that has the tick within it counts for: simulated counters whose ticks jitter by
1 to 5 ms are then within the interval as often as it says, with 1 by 2 ms in three of four."""


def quick(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.float64],
    jitter_ns: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Log of the probability that all ticks fell into their brackets, for each lattice drawn."""
    ticks = drawn[:, :1] + (drawn[:, 1:] - drawn[:, :1]) * share
    jitter = jitter_ns[:, None]
    overlap = np.minimum(ticks + jitter, high) - np.maximum(ticks - jitter, low)
    log_chance: npt.NDArray[np.float64] = np.log(np.clip(overlap / (2 * jitter), _NEVER, 1.0)).sum(
        axis=1
    )
    return log_chance


def slow(
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.float64],
    jitter_ns: npt.NDArray[np.float64],
    *,
    blur: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    """
    The same, of readings whose values can be of any instant within them.

    Where the tick that is due lies within a reading, either value would have been nearly as good,
    and the bracket that begins or ends with it tells little of how regular ticks are.
    """
    ticks = drawn[:, :1] + (drawn[:, 1:] - drawn[:, :1]) * share
    jitter = jitter_ns[:, None]
    begin = np.where((ticks >= low) & (ticks <= low + blur[0]), -np.inf, low)
    end = np.where((ticks >= high - blur[1]) & (ticks <= high), np.inf, high)
    log_chance = np.zeros(len(drawn))
    for first, last, weight in ((begin, end, 1 - _WITHIN), (low, high, _WITHIN)):
        overlap = np.minimum(ticks + jitter, last) - np.maximum(ticks - jitter, first)
        log_chance += weight * np.log(np.clip(overlap / (2 * jitter), _NEVER, 1.0)).sum(axis=1)
    return log_chance
