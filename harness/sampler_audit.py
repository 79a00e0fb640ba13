"""Audits the sampler: how regular, how quick and how faulty the readings in its journal are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .timeline import Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerAudit:
    """
    How well the sampler did its work; goes into the provenance.

    Args:
        reads: channel name → readings, faults included.
        faults: channel name → readings without a value, for channels that had some.
        call_us: channel name → p50 and p99 of the duration of a read, microseconds.
        period_error_ms: p50 and p99 of how far two successive rounds of power
            readings were from the period; None with fewer than three.
        missed: rounds left out because one before them was late.
        round_robin: it ran in that class, before all other programs; None if it died.
        longest_gap_s: the longest silence of any channel; None with fewer than two readings.
        cpu_s: CPU seconds of the sampler's process once it had started; None if it died.
        wall_s: for how long it sampled; None if it died.
        power_hz: rate of power readings in force; None: there are none.
        counter_hz: rate of counter readings in force, those that are not aimed; None: none.
        aimed: channel name → of a counter whose reads are slow: `aimed_ratio` (share of the time
            for which they were aimed at expected ticks; the rest was dithered), `period_ms` and
            `one_tick_in` (one of how many was read) at the end, None if it was dithered then,
            and `given_up`: how often readings contradicted the lattice or showed none. Channels
            not in it were dithered throughout.
        facts_at_stop: source name → its facts at the end.
        fault: why the sampler ended before it was told to; None: it did not.
    """

    reads: Mapping[str, int]
    faults: Mapping[str, int]
    call_us: Mapping[str, tuple[float, float]]
    period_error_ms: tuple[float, float] | None
    missed: int
    longest_gap_s: float | None
    cpu_s: float | None
    wall_s: float | None
    power_hz: float | None
    counter_hz: float | None
    aimed: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    round_robin: bool | None = None
    facts_at_stop: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None


def audit(
    channels: Sequence[Channel],
    records: npt.NDArray[Any],
    *,
    rates_hz: Mapping[str, float],
    last: Mapping[str, Any] | None,
    fault: str | None,
) -> SamplerAudit:
    """
    How regular, how quick and how faulty the readings in a journal are.

    Args:
        channels: those of the journal's header.
        records: POWER_DTYPE rows.
        rates_hz: `power` and `counter`, as the sampler set them.
        last: the sampler's parting message; None: it died without one.
        fault: how it died.
    """
    reads: dict[str, int] = {}
    faults: dict[str, int] = {}
    call_us: dict[str, tuple[float, float]] = {}
    errors_ms: list[npt.NDArray[np.float64]] = []
    gaps_s: list[float] = []
    for number, channel in enumerate(channels):
        rows = records[records["channel"] == number]
        reads[channel.name] = len(rows)
        if bad := int(np.count_nonzero(rows["status"] != ReadStatus.OK)):
            faults[channel.name] = bad
        if len(rows):
            call_us[channel.name] = _p50_p99((rows["t_after_ns"] - rows["t_before_ns"]) / 1e3)
        steps_s = np.diff(rows["t_before_ns"]) / 1e9
        if len(steps_s):
            gaps_s.append(float(steps_s.max()))
        if channel.sense in {"instant", "average"} and "power" in rates_hz:
            # The reads made at the start to learn their cost are not on the grid.
            regular_s = steps_s[5:]
            errors_ms.append(np.abs(regular_s - 1 / rates_hz["power"]) * 1e3)
    together = np.concatenate(errors_ms) if errors_ms else np.empty(0)
    return SamplerAudit(
        reads=reads,
        faults=faults,
        call_us=call_us,
        period_error_ms=_p50_p99(together) if len(together) > 1 else None,
        missed=int(last["missed"]) if last else 0,
        longest_gap_s=max(gaps_s, default=None),
        cpu_s=float(last["cpu_s"]) if last else None,
        wall_s=float(last["wall_s"]) if last else None,
        power_hz=rates_hz.get("power"),
        counter_hz=rates_hz.get("counter"),
        aimed=last.get("aimed", {}) if last else {},
        round_robin=last.get("round_robin") if last else None,
        facts_at_stop=last["facts_at_stop"] if last else {},
        fault=fault,
    )


def _p50_p99(values: npt.NDArray[Any]) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))
