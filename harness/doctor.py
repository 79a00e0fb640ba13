"""Finds out what can be metered on this machine, how well, and what stands in the way."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import plugins
from .clock import WallAnchor
from .errors import ConfigError, JoulemarkError
from .integrate import traces
from .journal import read_journal
from .sampler import Sampler
from .sampler_audit import SamplerAudit
from .surroundings import Remark, clock, of_gpu, surroundings
from .timeline import POWER_DTYPE, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .timeline import PowerTrace

LISTEN_S: Final = 3.0
"""How long each source is sampled: some thirty ticks of an H100's counter."""
_PERIOD_ERROR_LIMIT_MS: Final = 2.0
_READ_SHARE_LIMIT: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReport:
    """
    How one channel behaved while it was listened to.

    Args:
        name: the channel's.
        boundary: what draws what it reads.
        quantity: `energy` or `power`.
        sense: `counter`, `instant`, `average` or `mean`.
        power_kind: measured, modelled or emulated.
        method: where the number comes from.
        reads: readings made.
        faults: readings without a value.
        call_us: p50 and p99 of one call, microseconds.
        tick_s: median time between changes of the value; None: it changed less
            than three times.
        watts: mean over the time listened to; None: no two good readings.
    """

    name: str
    boundary: str
    quantity: str
    sense: str
    power_kind: str
    method: str
    reads: int
    faults: int
    call_us: tuple[float, float] | None
    tick_s: float | None
    watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """
    One power source tried.

    Args:
        kind: its file in harness/power.
        summary: that file's first line.
        problem: why it cannot be used; None: it can.
        channels: what it reads.
        period_error_ms: p50 and p99 of the sampler's timing.
        cpu_share: the sampler's CPU time over the time listened.
        facts: what the source says of its devices.
    """

    kind: str
    summary: str
    problem: str | None = None
    channels: tuple[ChannelReport, ...] = ()
    period_error_ms: tuple[float, float] | None = None
    cpu_share: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """
    What can be trusted on this machine.

    Args:
        verdict: one sentence.
        power_kind: of the best source found.
        sources: every source tried, the best first.
        remarks: about clock, sampler, devices and surroundings.
    """

    verdict: str
    power_kind: str
    sources: tuple[SourceReport, ...]
    remarks: tuple[Remark, ...]


def examine(
    sources: Sequence[tuple[str, Mapping[str, Any]]] | None = None, *, listen_s: float = LISTEN_S
) -> Diagnosis:
    """
    Try the power sources one after the other and look at what surrounds them.

    Args:
        sources: kinds and options; None: every source that needs no options.
        listen_s: how long to sample each.
    """
    anchor = WallAnchor.now()
    summaries = plugins.kinds("power")
    chosen = sources
    if chosen is None:
        order = {"nvml": 0, "rapl": 1, "hwmon": 2, "cpu_model": 9}
        chosen = [(kind, {}) for kind in sorted(order.keys() & summaries, key=order.__getitem__)]
    reports = [
        _try_source(kind, options, summaries.get(kind, ""), listen_s) for kind, options in chosen
    ]
    remarks = [clock(anchor), *surroundings()]
    for report in reports:
        remarks += _of_source(report)
    usable = [report for report in reports if report.channels]
    rank = {"measured": 0, "emulated": 1, "modelled": 2}
    kind = min((_kind(report) for report in usable), key=rank.__getitem__, default="none")
    return Diagnosis(
        verdict=_verdict(kind, usable),
        power_kind=kind,
        sources=tuple(sorted(reports, key=lambda report: report.problem is not None)),
        remarks=tuple(remarks),
    )


def _kind(report: SourceReport) -> str:
    return report.channels[0].power_kind


def _try_source(
    kind: str, options: Mapping[str, Any], summary: str, listen_s: float
) -> SourceReport:
    with tempfile.TemporaryDirectory(prefix="joulemark-doctor-") as folder:
        journal = Path(folder) / "power.jmj"
        sampler = Sampler(journal, [(kind, options)])
        try:
            sampler.start()
        except ConfigError:
            raise
        except JoulemarkError as error:
            return SourceReport(kind=kind, summary=summary, problem=str(error))
        sampler.watch([os.getpid()])
        time.sleep(listen_s)
        audit = sampler.stop()
        header, records, _ = read_journal(journal, POWER_DTYPE)
    return SourceReport(
        kind=kind,
        summary=summary,
        problem=audit.fault,
        channels=tuple(_channel(trace, audit) for trace in traces(header, records)),
        period_error_ms=audit.period_error_ms,
        cpu_share=audit.cpu_s / audit.wall_s if audit.cpu_s and audit.wall_s else None,
        facts=audit.facts_at_stop.get(kind, {}),
    )


def _channel(trace: PowerTrace, audit: SamplerAudit) -> ChannelReport:
    ok = trace.status == ReadStatus.OK
    t_ns, value = trace.t_before_ns[ok], trace.value[ok]
    changes_ns = t_ns[1:][np.diff(value) != 0]
    enough = 3
    watts: float | None = None
    if len(t_ns) > 1 and trace.channel.quantity == "energy":
        watts = float((value[-1] - value[0]) / (t_ns[-1] - t_ns[0]) * 1e9)
    elif len(t_ns) > 1:
        watts = float(np.mean(value))
    return ChannelReport(
        name=trace.channel.name,
        boundary=trace.channel.boundary,
        quantity=trace.channel.quantity,
        sense=trace.channel.sense,
        power_kind=trace.channel.power_kind,
        method=trace.channel.method,
        reads=audit.reads[trace.channel.name],
        faults=audit.faults.get(trace.channel.name, 0),
        call_us=audit.call_us.get(trace.channel.name),
        tick_s=float(np.median(np.diff(changes_ns))) / 1e9 if len(changes_ns) > enough else None,
        watts=watts,
    )


def _of_source(report: SourceReport) -> list[Remark]:
    remarks = []
    error_ms = report.period_error_ms
    if error_ms is not None and error_ms[1] > _PERIOD_ERROR_LIMIT_MS:
        remarks.append(
            Remark(
                code="sampler_jitter",
                weight="note",
                message=(
                    f"{report.kind}: the sampler was up to {error_ms[1]:.1f} ms off its period"
                    f" (p99), the aim is {_PERIOD_ERROR_LIMIT_MS:.0f} ms; leave it a core"
                ),
            )
        )
    remarks += [
        Remark(
            code="faults",
            weight="problem",
            message=f"{channel.name}: {channel.faults} of {channel.reads} readings failed",
        )
        for channel in report.channels
        if channel.faults
    ]
    for uuid, gpu in report.facts.get("gpus", {}).items():
        remarks += of_gpu(f"{gpu.get('name') or 'GPU'} {uuid}", gpu)
    return remarks


def _verdict(kind: str, usable: Sequence[SourceReport]) -> str:
    boundaries = sorted(
        {c.boundary for report in usable if _kind(report) == kind for c in report.channels}
    )
    what = ", ".join(boundaries)
    if kind == "measured":
        return f"Energy can be measured here, of: {what}."
    if kind == "emulated":
        return f"An emulator is loaded: joules of {what} are made up, to test with, never results."
    if kind == "modelled":
        return (
            "No energy sensor can be read here: joules will be modelled from CPU time, which"
            " shows how the tool works and decides nothing."
        )
    return "No energy sensor can be read here, and nothing to model from."
