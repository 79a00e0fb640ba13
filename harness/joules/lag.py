"""Tells how old the energy is that a counter shows, by its second opinion: the average power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.timeline import ReadStatus

from . import lattice
from .ticks import regular_ns

if TYPE_CHECKING:
    import numpy.typing as npt

    from harness.timeline import PowerTrace, Window

    from .counter import Knots

AVERAGED_S: Final = 1.0
"""What NVML's average power is a mean over, on architectures that offer it."""
SEEN_S: Final = 0.02
"""A lag below this is not told from none."""
_SIGMA_LIMIT_S: Final = 0.012
_SIGMA_FLOOR_S: Final = 0.007
_REACH_NS: Final = 20e9
_AGREE_S: Final = 0.012
_MIN_UPDATES: Final = 12
_STEADY_RATIO: Final = 0.01
"""A power that varies less than this shows no lag, and has none that matters."""
_GRID_S: Final = np.arange(-0.1, 0.4001, 0.005)
_EDGES_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Lag:
    """
    How old the energy is that a tick of the counter shows.

    Args:
        lag_s: seconds; 0.0: none can be seen.
        sigma_s: one standard deviation of it.
    """

    lag_s: float
    sigma_s: float


NONE: Final = Lag(0.0, 0.0)


def estimate(knots: Knots, average: PowerTrace | None, window: Window) -> Lag:
    """
    Compare a counter with the average power of the same device.

    An average over one second, read at t, is the energy from t - 1 s to t. The shift
    at which the counter's curve says the same is its lag. Only a load that changes
    can show it, and only with such a load does it matter.

    Args:
        knots: the counter's.
        average: the device's channel of sense `average`; None: there is no second opinion.
        window: what is to be measured; readings far from it are left out.

    Returns:
        NONE where the lag cannot be told from none.
    """
    if average is None or not knots.each:
        return NONE
    near = (knots.high_ns > window.start_ns - _REACH_NS) & (
        knots.low_ns < window.end_ns + _REACH_NS
    )
    numbers = lattice.numbers(knots, np.flatnonzero(near))
    placed = regular_ns(knots.low_ns[near], knots.high_ns[near], numbers)
    if placed is None:
        return NONE
    t_ns, _ = placed
    u_ns, watts = _updates(average)
    margin_ns = (AVERAGED_S + _EDGES_S) * 1e9
    usable = (u_ns > t_ns[0] + margin_ns) & (u_ns < t_ns[-1] - _EDGES_S * 1e9)
    u_ns, watts = u_ns[usable], watts[usable]
    if len(u_ns) < _MIN_UPDATES or float(np.std(watts)) < _STEADY_RATIO * float(np.mean(watts)):
        return NONE
    return _best(t_ns, knots.energy_j[near], u_ns, watts)


def _updates(power: PowerTrace) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """When a power reading was renewed, and what it then said."""
    ok = power.status == ReadStatus.OK
    t_ns = power.t_before_ns[ok].astype(np.float64)
    value = power.value[ok]
    renewed = np.flatnonzero(np.diff(value) != 0) + 1
    return (t_ns[renewed] + t_ns[renewed - 1]) / 2, value[renewed]


def _best(
    t_ns: npt.NDArray[np.float64],
    energy_j: npt.NDArray[np.float64],
    u_ns: npt.NDArray[np.float64],
    watts: npt.NDArray[np.float64],
) -> Lag:
    """
    Least squares over the shift, with the gain of one sensor against the other free.

    On a plain slope gain and shift look alike; so the fit with equal gains must say
    the same, or nothing is said.
    """

    def expected(lag_s: float) -> npt.NDArray[np.float64]:
        end_ns = u_ns + lag_s * 1e9
        later, earlier = (
            np.interp(when, t_ns, energy_j) for when in (end_ns, end_ns - AVERAGED_S * 1e9)
        )
        difference: npt.NDArray[np.float64] = (later - earlier) / AVERAGED_S
        return difference

    guesses = [expected(float(lag_s)) for lag_s in _GRID_S]
    gains = [float(guess @ watts) / max(float(guess @ guess), 1e-12) for guess in guesses]
    free, equal = (
        _minimum(
            np.array(
                [
                    float(np.sum((watts - gain * guess) ** 2))
                    for gain, guess in zip(chosen, guesses, strict=True)
                ]
            ),
            len(watts),
        )
        for chosen in (gains, [1.0] * len(gains))
    )
    if free is None or equal is None or abs(free.lag_s - equal.lag_s) > _AGREE_S:
        return NONE
    if free.sigma_s > _SIGMA_LIMIT_S or free.lag_s < max(SEEN_S, 3 * free.sigma_s):
        return NONE
    return Lag(free.lag_s, max(3 * free.sigma_s, _SIGMA_FLOOR_S))


def _minimum(misfits: npt.NDArray[np.float64], count: int) -> Lag | None:
    """The shift of least misfit and its standard deviation; None: there is no minimum."""
    at = int(np.clip(np.argmin(misfits), 1, len(_GRID_S) - 2))
    left, middle, right = misfits[at - 1 : at + 2]
    step_s = float(_GRID_S[1] - _GRID_S[0])
    bend = left - 2 * middle + right
    if bend <= 0:
        return None
    lag_s = float(_GRID_S[at]) + step_s * float(np.clip((left - right) / (2 * bend), -1, 1))
    return Lag(lag_s, float(np.sqrt(2 * middle / max(count - 2, 1) / bend)) * step_s)
