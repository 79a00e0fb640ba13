"""Turns one energy counter's readings into metered microjoules and covered or uncovered time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from harness.timeline import ReadStatus

from .split import microjoules

if TYPE_CHECKING:
    from collections.abc import Mapping

Why = Literal["start", "gap", "reset", "lost", "fault", "implausible", "daemon_down"]
"""Why a stretch of time has no joules."""

_BREAKS: Final = {
    ReadStatus.LOST,
    ReadStatus.RESET_REQUIRED,
    ReadStatus.DRIVER_MISMATCH,
    ReadStatus.UNINITIALISED,
}
"""After these the counter cannot be trusted to have gone on where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    One look at a counter.

    Args:
        t_ns: CLOCK_MONOTONIC of the reading.
        energy_j: joules since an arbitrary zero; None unless status is OK.
        status: why there is no value.
        epoch: changes where a counter that is integrated from power has a gap.
    """

    t_ns: int
    energy_j: float | None
    status: ReadStatus = ReadStatus.OK
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    What one reading settled.

    Args:
        energy_uj: microjoules metered over *covered_ns*.
        covered_ns: nanoseconds the energy was drawn in.
        uncovered_ns: nanoseconds whose energy is not known.
        why: of the uncovered time; None: there is none.
    """

    energy_uj: int = 0
    covered_ns: int = 0
    uncovered_ns: int = 0
    why: Why | None = None


@dataclass(slots=True)
class Meter:
    """
    The account of one energy counter; every nanosecond is covered or uncovered, once.

    A missed reading is bridged by the counter itself, up to *max_gap_ns*; a longer
    silence, a step back, a lost device or a step no device can make is time without
    joules. Time still waiting for its verdict is in neither account.

    Args:
        max_gap_ns: the longest time between two good readings that counts as covered.
        max_power_w: more than any device draws; a faster counter is corrupt.
        wraps_at_j: where the counter starts again at 0; None: it does not.
        since_ns: time is accounted for up to here; None: nothing was read yet.
        base: the last good reading; None: the next one starts anew.
        why_next: the reason, if the next stretch turns out uncovered.
    """

    max_gap_ns: int
    max_power_w: float = 100_000.0
    wraps_at_j: float | None = None
    since_ns: int | None = None
    base: Reading | None = None
    why_next: Why = "start"
    resets: int = 0
    total_uj: int = 0
    covered_ns: int = 0
    uncovered_ns: dict[Why, int] | None = None

    def advance(self, reading: Reading) -> Step:
        """
        Take one reading into account.

        Args:
            reading: later than all before it; an older one is ignored.
        """
        if self.since_ns is None:
            self.since_ns = reading.t_ns
        newest = self.base.t_ns if self.base is not None else self.since_ns
        if reading.t_ns < newest:
            return Step()
        step = self._good(reading) if reading.energy_j is not None else self._bad(reading)
        self.total_uj += step.energy_uj
        self.covered_ns += step.covered_ns
        if step.why is not None:
            self.uncovered_ns = self.uncovered_ns or {}
            self.uncovered_ns[step.why] = self.uncovered_ns.get(step.why, 0) + step.uncovered_ns
        return step

    def _good(self, reading: Reading) -> Step:
        base, self.base = self.base, reading
        if base is None:
            return self._uncovered(reading.t_ns, self.why_next)
        gap_ns = reading.t_ns - base.t_ns
        if reading.epoch != base.epoch or gap_ns > self.max_gap_ns:
            return self._uncovered(reading.t_ns, "gap")
        energy_uj = microjoules(reading.energy_j or 0.0) - microjoules(base.energy_j or 0.0)
        if energy_uj < 0 and self.wraps_at_j is not None:
            wrapped_uj = energy_uj + microjoules(self.wraps_at_j)
            # Just reset is near 0, but so is just wrapped: only a small step can be a wrap.
            energy_uj = wrapped_uj if -energy_uj * 2 > microjoules(self.wraps_at_j) else energy_uj
        if energy_uj < 0:
            self.resets += 1
            return self._uncovered(reading.t_ns, "reset")
        # A counter that ticks ten times a second may show two ticks in no time.
        if energy_uj > self.max_power_w * (gap_ns / 1e9 + 1.0) * 1e6:
            return self._uncovered(reading.t_ns, "implausible")
        since_ns = self.since_ns if self.since_ns is not None else base.t_ns
        self.since_ns = reading.t_ns
        return Step(energy_uj=energy_uj, covered_ns=reading.t_ns - since_ns)

    def _bad(self, reading: Reading) -> Step:
        broken = reading.status in _BREAKS
        if broken or self.base is None or reading.t_ns - self.base.t_ns > self.max_gap_ns:
            self.base = None
            self.why_next = "lost" if broken else "fault"
            return self._uncovered(reading.t_ns, self.why_next)
        return Step()

    def _uncovered(self, t_ns: int, why: Why) -> Step:
        since_ns = self.since_ns if self.since_ns is not None else t_ns
        self.since_ns = t_ns
        return Step(uncovered_ns=t_ns - since_ns, why=why) if t_ns > since_ns else Step()

    def uncovered_by(self) -> Mapping[Why, int]:
        """Nanoseconds without joules, by reason."""
        return self.uncovered_ns or {}
