"""What the state of machine and sensors during a run means for its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .clock import WALL_STEP_LIMIT_S, WallAnchor
from .record import Finding

HOT_START_C: Final = 50.0
"""Our choice: a board left alone cools to 25-45 degrees; above, its leakage is another."""
_SLOWED: Final = frozenset(
    {"thermal_policy", "sw_thermal", "hw_thermal", "hw_power_brake", "board_limit"}
)
_LIMITED: Final = frozenset({"power_policy", "sync_boost"})
# Left out: `low_utilisation` counts idling, and `reliability` the top of the normal clock range.


def conditions(provenance: Mapping[str, Any], *, launched: bool) -> list[Finding]:
    """
    Findings from what was known of GPUs and clocks before and after a run.

    Args:
        provenance: of the record.
        launched: the work was started after the first look at the GPUs and had ended
            before the last, so whatever computes at either is somebody else's.

    Returns:
        Empty where nothing is wrong, and where nothing is known: `harness.checks` tells
        the two apart.
    """
    return [
        *_throttled(provenance),
        *_hot(provenance),
        *_shared(provenance, launched=launched),
        *_stepped(provenance),
    ]


def gpus(provenance: Mapping[str, Any], when: str) -> dict[str, Mapping[str, Any]]:
    """
    What each GPU said of itself.

    Args:
        provenance: of the record.
        when: `at_start` or `facts_at_stop`.
    """
    sources = provenance.get("power", {}).get(when) or {}
    return {uuid: gpu for one in sources.values() for uuid, gpu in one.get("gpus", {}).items()}


def moved_counters(provenance: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """
    Throttle counters that rose between the first look at the GPUs and the last.

    Returns:
        Counter → GPUs, idling left out; None where no counter was read at both.
    """
    before, after = gpus(provenance, "at_start"), gpus(provenance, "facts_at_stop")
    moved: dict[str, list[str]] = {}
    known = False
    for uuid, gpu in after.items():
        first = before.get(uuid, {}).get("throttle_counters") or {}
        for name, value in (gpu.get("throttle_counters") or {}).items():
            known = known or name in first
            if name in _SLOWED | _LIMITED and value > first.get(name, value):
                moved.setdefault(name, []).append(uuid)
    return moved if known else None


def wall_step_s(provenance: Mapping[str, Any]) -> float | None:
    """By how much the wall clock was set during the run, seconds; None: not recorded."""
    first, last = provenance.get("anchor"), provenance.get("anchor_at_stop")
    if not first or not last:
        return None
    expected_ns = WallAnchor(**first).wall_ns(last["t_monotonic_ns"])
    return float(last["t_wall_ns"] - expected_ns) / 1e9


def _throttled(provenance: Mapping[str, Any]) -> Iterator[Finding]:
    moved = moved_counters(provenance) or {}
    slowed = sorted(set(moved) & _SLOWED)
    if slowed:
        yield Finding(
            code="throttled",
            severity="warning",
            message=f"the GPU was slowed down during the run ({_named(moved, slowed)}; NVML does "
            "not say when): cool it, or see to its power supply, and repeat",
        )
    limited = sorted(set(moved) & _LIMITED)
    if limited:
        yield Finding(
            code="power_limited",
            severity="info",
            message=f"the GPU ran at its power limit ({_named(moved, limited)}): the numbers are "
            "those of this limit",
        )


def _named(moved: Mapping[str, list[str]], names: list[str]) -> str:
    return "; ".join(f"{name} on {', '.join(moved[name])}" for name in names)


def _hot(provenance: Mapping[str, Any]) -> Iterator[Finding]:
    hot = {
        uuid: gpu["temperature_c"]
        for uuid, gpu in gpus(provenance, "at_start").items()
        if gpu.get("temperature_c") is not None and gpu["temperature_c"] >= HOT_START_C
    }
    if hot:
        listed = ", ".join(f"{uuid} at {degrees:g} C" for uuid, degrees in hot.items())
        yield Finding(
            code="hot_start",
            severity="warning",
            message=f"the run began on a hot GPU ({listed}; limit {HOT_START_C:g}): let it cool "
            "down first, or compare only with runs that began as warm",
        )


def _shared(provenance: Mapping[str, Any], *, launched: bool) -> Iterator[Finding]:
    # A server that ran already is one process on each of its GPUs, so only a second is foreign.
    own = 0 if launched else 1
    shared: dict[str, int] = {}
    for when in ("at_start", "facts_at_stop"):
        for uuid, gpu in gpus(provenance, when).items():
            foreign = len(gpu.get("compute_pids") or ()) - own
            shared[uuid] = max(shared.get(uuid, 0), foreign)
    shared = {uuid: count for uuid, count in shared.items() if count > 0}
    if shared:
        listed = ", ".join(f"{count} on {uuid}" for uuid, count in shared.items())
        yield Finding(
            code="gpu_shared",
            severity="warning",
            message=f"other processes computed on the GPU ({listed}): their joules are in every "
            "reading, stop them and repeat",
        )


def _stepped(provenance: Mapping[str, Any]) -> Iterator[Finding]:
    step_s = wall_step_s(provenance)
    if step_s is None or abs(step_s) <= WALL_STEP_LIMIT_S:
        return
    yield Finding(
        code="wall_clock_stepped",
        severity="info",
        message=f"the wall clock was set by {step_s * 1e3:+.1f} ms during the run: dates may be "
        "off; energies and latencies are not, they use CLOCK_MONOTONIC alone",
    )
