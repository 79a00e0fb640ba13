"""Tells from the energies of successive ticks how irregular the ticks can be at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    import numpy.typing as npt

_SHARES: Final = (0.25, 0.5, 0.75)
_MIN_TRIPLES: Final = 8


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
    Compare each second tick's energy with the mean of its neighbours'.

    Args:
        energy_j: shape (n,): the counter at each tick.
        number: shape (n,): which tick of the lattice each is.
        period_ns: between two ticks.
        quantum_j: the counter's step.
    """
    middle = np.arange(1, len(number) - 1)
    # Every second one: a tick that is late is so for both of its intervals.
    middle = middle[(number[middle + 1] - number[middle - 1] == 2) & (number[middle] % 2 == 0)]  # noqa: PLR2004
    if len(middle) < _MIN_TRIPLES:
        return Steadiness(0, np.empty(0), np.empty(0))
    rise_j = energy_j[middle + 1] - energy_j[middle - 1]
    off_j = np.abs(energy_j[middle] - (energy_j[middle + 1] + energy_j[middle - 1]) / 2)
    # With another power than the mean at a tick the time is off by more or less, but the
    # joules are the same. Three values rounded down are off by a quantum at most.
    distance_ns = np.sort((off_j + quantum_j) / rise_j * 2 * period_ns)
    within = np.array([np.ceil(share * len(middle)) for share in _SHARES])
    return Steadiness(len(middle), within, distance_ns[within.astype(np.int64) - 1])
