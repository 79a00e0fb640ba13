"""Waits before a run until the machine is as cool as it was before the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from . import plugins
from .errors import PowerUnavailableError
from .record import Finding

TOLERANCE_C: Final = 2.0
_POLL_S: Final = 1.0


class Cooldown:
    """
    Called before each run: remembers the first temperatures, and waits for them.

    Args:
        temperatures: device → degrees Celsius; empty where none can be read.
        rest_s: the least pause between runs.
        patience_s: how long to wait for the temperature at most.
        wait: sleeps so many seconds; True: the user wants to end.
    """

    def __init__(
        self,
        temperatures: Callable[[], Mapping[str, float]],
        *,
        rest_s: float,
        patience_s: float,
        wait: Callable[[float], bool],
    ) -> None:
        self._temperatures = temperatures
        self._rest_s = rest_s
        self._patience_s = patience_s
        self._wait = wait
        self._first: Mapping[str, float] | None = None

    def __call__(self) -> list[Finding]:
        """Wait, and say what could not be had."""
        if self._first is None:
            self._first = self._temperatures()
            return [] if self._first else [_unknown(self._rest_s)]
        waited_s = 0.0
        if self._rest_s and self._wait(self._rest_s):
            return []
        while self._first and waited_s < self._patience_s:
            now = self._temperatures()
            if all(
                now.get(name, limit) <= limit + TOLERANCE_C for name, limit in self._first.items()
            ):
                return []
            if self._wait(_POLL_S):
                return []
            waited_s += _POLL_S
        if not self._first:
            return []
        message = (
            f"after {self._patience_s:g} s a GPU was still over {TOLERANCE_C:g} degrees warmer "
            "than before the first run: wait longer, or begin warm"
        )
        return [Finding(code="hot_start", severity="warning", message=message)]


def gpu_temperatures() -> dict[str, float]:
    """Degrees Celsius of each GPU that NVML shows; empty without any."""
    try:
        session = plugins.load("power", "nvml")().open()
    except PowerUnavailableError:
        return {}
    try:
        gpus = session.facts().get("gpus", {})
    finally:
        session.close()
    return {
        uuid: float(facts["temperature_c"])
        for uuid, facts in gpus.items()
        if facts.get("temperature_c") is not None
    }


def _unknown(rest_s: float) -> Finding:
    message = (
        "no temperature can be read here, so runs were started after a fixed pause of "
        f"{rest_s:g} s, not at a like temperature"
    )
    return Finding(code="start_temperature_unknown", severity="info", message=message)
