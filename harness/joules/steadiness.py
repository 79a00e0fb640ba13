"""Tells from the energies of successive ticks how irregular the ticks can be at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    import numpy.typing as npt

_SHARES: Final = (0.25, 0.5, 0.75)
_MIN_COMPARED: Final = 8
_LEAST_NS: Final = 1.0
"""Instants are whole nanoseconds, however even the energies of a counter without a step are."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """
    How near ticks are to the middle of their neighbours, in energy.

    Args:
        count: how many ticks were compared.
        within: shape (k,): numbers of ticks.
        distance_ns: shape (k,): within which as many of them are.
    """

    count: int
    within: npt.NDArray[np.float64]
    distance_ns: npt.NDArray[np.float64]

    def log_chance(self, jitter_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """
        Log of the most that energies as even as these can be worth for each jitter.

        A tick that comes up to j early or late adds its power times that to one interval
        and takes it from the next. Whatever the load does meanwhile, the chance that
        the two cancel to within u is at most u / j a tick: an uneven load shows nothing,
        but an even one cannot be made by uneven ticks.
        """
        best = np.zeros(len(jitter_ns))
        for within, distance_ns in zip(self.within, self.distance_ns, strict=True):
            ways = gammaln(self.count + 1) - gammaln(within + 1) - gammaln(self.count - within + 1)
            each = np.log(np.minimum(distance_ns / jitter_ns, 1.0))
            best = np.minimum(best, ways + within * each)
        return best


def steadiness(
    energy_j: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    *,
    period_ns: float,
    quantum_j: float,
) -> Steadiness:
    """
    Compare every third tick's energy with what its neighbours' let expect.

    Args:
        energy_j: shape (n,): the counter at each tick.
        number: shape (n,): which tick of the lattice each is.
        period_ns: between two ticks.
        quantum_j: the counter's step.
    """
    middle = np.arange(2, len(number) - 2)
    # Every third one, so that none is a neighbour of another: what is said of them is
    # said of ticks that know nothing of each other.
    # Where not every tick is read, those next to each other are as many apart on both sides.
    apart = number[middle + 1] - number[middle]
    whole = np.all([number[middle + k] - number[middle] == k * apart for k in (-2, -1, 2)], axis=0)
    middle = middle[whole & (number[middle] // apart % 3 == 0)]
    if len(middle) < _MIN_COMPARED:
        return Steadiness(0, np.empty(0), np.empty(0))
    span_ns = 2 * period_ns * (number[middle + 1] - number[middle])
    far_j = energy_j[middle - 2] + energy_j[middle + 2]
    near_j = energy_j[middle - 1] + energy_j[middle + 1]
    rise_j = energy_j[middle + 1] - energy_j[middle - 1]
    # On a chord lies an even load, on a cubic one that changes evenly.
    expected_j = (near_j / 2, (4 * near_j - far_j) / 6)
    # With another power than the mean at a tick the time is off by more or less, but the
    # joules are the same. Of whole quanta, up to 2 u / quantum + 1 lie within u of anything:
    # what is rounded down counts as half a quantum further off.
    distances_ns = [
        np.sort((np.abs(energy_j[middle] - each) + quantum_j / 2) / rise_j * span_ns)
        for each in expected_j
    ]
    within = np.array([np.ceil(share * len(middle)) for share in _SHARES])
    distance_ns = np.concatenate([each[within.astype(np.int64) - 1] for each in distances_ns])
    within = np.tile(within, len(distances_ns))
    return Steadiness(len(middle), within, np.maximum(distance_ns, _LEAST_NS))
