"""Finds out what can be metered on this machine, how well, and what stands in the way."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from . import plugins
from .clock import WallAnchor
from .errors import ConfigError, JoulemarkError
from .integrate import traces
from .journal import read_journal
from .sampler import Sampler, SamplerAudit
from .timeline import POWER_DTYPE, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .timeline import PowerTrace

LISTEN_S: Final = 3.0
"""How long each source is sampled: some thirty ticks of an H100's counter."""
_WALL_STEP_LIMIT_S: Final = 0.001
_PERIOD_ERROR_LIMIT_MS: Final = 2.0
_READ_SHARE_LIMIT: Final = 0.05

Weight = Literal["good", "note", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """
    One thing found out about the machine.

    Args:
        code: a stable word, for programs.
        weight: `good`, `note` (know it), `problem` (mend it or mistrust the numbers).
        message: for people, with what to do where something can be done.
    """

    code: str
    weight: Weight
    message: str


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
    remarks = [_clock(anchor), *_surroundings()]
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


def _clock(anchor: WallAnchor) -> Remark:
    now = WallAnchor.now()
    step_s = (now.t_wall_ns - anchor.wall_ns(now.t_monotonic_ns)) / 1e9
    if abs(step_s) > _WALL_STEP_LIMIT_S:
        return Remark(
            code="wall_clock_steps",
            weight="note",
            message=(
                f"the wall clock moved by {step_s * 1e3:.1f} ms against the monotonic one: dates in"
                " reports may be off; energies are not, they use CLOCK_MONOTONIC alone"
            ),
        )
    return Remark(
        code="clock",
        weight="good",
        message=f"CLOCK_MONOTONIC and the wall clock kept within {abs(step_s) * 1e6:.0f} us",
    )


def _surroundings() -> list[Remark]:
    remarks = []
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    if load > cores / 2:
        remarks.append(
            Remark(
                code="machine_busy",
                weight="problem",
                message=(
                    f"the load average is {load:.1f} on {cores} cores: something else runs here;"
                    " stop it before measuring"
                ),
            )
        )
    hypervisor = "hypervisor" in _text(Path("/proc/cpuinfo"))
    container = Path("/.dockerenv").exists() or "containerd" in _text(Path("/proc/1/cgroup"))
    if hypervisor or container:
        where = "a virtual machine" if hypervisor else "a container"
        remarks.append(
            Remark(
                code="virtual",
                weight="note",
                message=(
                    f"this is {where}: CPU sensors (RAPL, hwmon) are usually hidden, and"
                    " neighbours share what is metered"
                ),
            )
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        remarks.append(
            Remark(
                code="cuda_visible_devices",
                weight="note",
                message=(
                    f"CUDA_VISIBLE_DEVICES={visible!r}: only these GPUs are metered, numbered as"
                    " nvidia-smi does; set CUDA_DEVICE_ORDER=PCI_BUS_ID so that CUDA agrees"
                ),
            )
        )
    if platform.system() != "Linux":
        remarks.append(
            Remark(code="not_linux", weight="problem", message="only Linux is supported and tested")
        )
    return remarks


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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
        remarks += _of_gpu(f"{gpu.get('name') or 'GPU'} {uuid}", gpu)
    return remarks


def _of_gpu(name: str, gpu: Mapping[str, Any]) -> list[Remark]:
    remarks = []
    others = [pid for pid in gpu.get("compute_pids") or () if pid != os.getpid()]
    if others:
        remarks.append(
            Remark(
                code="other_tenants",
                weight="problem",
                message=(
                    f"{name}: {len(others)} processes compute on it ({others[:5]}); their joules"
                    " are in every reading, stop them before measuring"
                ),
            )
        )
    if gpu.get("persistence_mode") == 0:
        remarks.append(
            Remark(
                code="no_persistence",
                weight="note",
                message=(
                    f"{name}: persistence mode is off, so the driver may unload and its energy"
                    " counter start again; `sudo nvidia-smi -pm 1`"
                ),
            )
        )
    if gpu.get("mig_mode"):
        remarks.append(
            Remark(
                code="mig",
                weight="problem",
                message=(
                    f"{name}: MIG is on; a slice has no sensor, joules are those of the whole GPU"
                    " and of all its slices' tenants"
                ),
            )
        )
    limit, default = gpu.get("power_limit_w"), gpu.get("power_limit_default_w")
    if limit is not None and default is not None and limit != default:
        remarks.append(
            Remark(
                code="power_capped",
                weight="note",
                message=f"{name}: capped at {limit:.0f} W, the default is {default:.0f} W",
            )
        )
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
