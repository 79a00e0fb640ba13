"""What stands around a measurement and can spoil it: clocks, neighbours, settings, containers."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .clock import WALL_STEP_LIMIT_S, WallAnchor

if TYPE_CHECKING:
    from collections.abc import Mapping


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


def clock(anchor: WallAnchor) -> Remark:
    """Whether the wall clock was stepped since *anchor*."""
    now = WallAnchor.now()
    step_s = (now.t_wall_ns - anchor.wall_ns(now.t_monotonic_ns)) / 1e9
    if abs(step_s) > WALL_STEP_LIMIT_S:
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


def surroundings() -> list[Remark]:
    """Load, virtual machine, container, environment."""
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


def of_gpu(name: str, gpu: Mapping[str, Any]) -> list[Remark]:
    """What the facts of one GPU say against trusting its joules."""
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
