"""Picks out of a source's facts what the exposition shows: limits, temperature, throttling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_GAUGES: Final = {
    "device_power_limit_watts": "power_limit_w",
    "device_temperature_celsius": "temperature_c",
}
_NOT_THROTTLING: Final = {"low_utilisation"}


@dataclass(slots=True)
class FactsFollower:
    """
    Facts of all devices, look after look.

    Args:
        gauges: device → metric name without prefix → value.
        about: device → name, driver and MIG mode, for its info series.
        throttles: (device, reason) → how often its raw counter was found moved.
        pids: device → processes that compute on it.
    """

    gauges: dict[str, dict[str, float]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    throttles: dict[tuple[str, str], int] = field(default_factory=dict)
    pids: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _raw: dict[tuple[str, str], int] = field(default_factory=dict)

    def advance(self, facts: Mapping[str, Any]) -> None:
        """Take one look into account; facts of sources without GPUs say nothing here."""
        for uuid, gpu in facts.get("gpus", {}).items():
            self.gauges[uuid] = {
                name: float(gpu[key]) for name, key in _GAUGES.items() if gpu.get(key) is not None
            }
            self.about[uuid] = {
                "device_name": str(gpu.get("name") or ""),
                "driver_version": str(facts.get("driver") or ""),
                "mig_mode": "" if gpu.get("mig_mode") is None else str(gpu["mig_mode"]),
            }
            self.pids[uuid] = tuple(gpu.get("compute_pids") or ())
            for reason, raw in (gpu.get("throttle_counters") or {}).items():
                if reason not in _NOT_THROTTLING:
                    self._throttle((uuid, reason), raw)

    def _throttle(self, key: tuple[str, str], raw: int) -> None:
        # Units of the raw counters differ between drivers: that it moved is all that is sure.
        self.throttles.setdefault(key, 0)
        if key in self._raw and raw > self._raw[key]:
            self.throttles[key] += 1
        self._raw[key] = raw
