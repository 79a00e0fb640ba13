"""What a snapshot is made of: devices, engines, and how much the ones use the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.timeline import Boundary, PowerKind

from .attribution import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """
    What is metered as one.

    Args:
        uuid: its identity.
        boundary: what its joules were drawn by.
        power_kind: measured, modelled or emulated.
        source: the power source's name.
        method: one sentence saying where the joules come from.
        wraps_at_j: where its counter starts again; None: it does not.
        facts: name, driver and so on, for the info series.
    """

    uuid: str
    boundary: Boundary
    power_kind: PowerKind
    source: str
    method: str
    wraps_at_j: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much an engine's processes use one device; None: not readable."""

    sm_ratio: float | None = None
    mig_ratio: float | None = None
    memory_bytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReading:
    """
    One look at an engine.

    Args:
        owner: the instance and its model.
        devices: UUIDs of the devices it runs on.
        tokens: cumulative counters by kind; None: it did not answer.
        running: requests in progress; None: it does not say.
        wasted: cumulative counters of tokens for nobody, by reason.
        phase_s: cumulative busy seconds by phase; empty: it does not say.
        role: of an engine that does one phase only.
        usage: by device.
    """

    owner: Owner
    devices: tuple[str, ...]
    tokens: Mapping[str, float] | None
    running: float | None = None
    wasted: Mapping[str, float] = field(default_factory=dict)
    phase_s: Mapping[str, float] = field(default_factory=dict)
    role: Literal["prefill", "decode"] | None = None
    usage: Mapping[str, Usage] = field(default_factory=dict)
