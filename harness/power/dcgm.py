"""Energy and power of GPUs from a dcgm-exporter that runs already."""

from __future__ import annotations

import math
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from prometheus_client.parser import text_string_to_metric_families

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError, cause
from harness.timeline import Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Series = tuple[str, str]
_Sense = Literal["counter", "instant", "average"]

_METRICS: Final[Mapping[str, tuple[_Sense, float]]] = {
    # Name → sense and what one of its units is in joules or watts.
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("counter", 1e-3),
    "DCGM_FI_DEV_POWER_USAGE": ("average", 1.0),
    "DCGM_FI_DEV_BOARD_POWER_WATTS": ("average", 1.0),
    "DCGM_FI_DEV_POWER_USAGE_INSTANT": ("instant", 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dcgm:
    """
    The series of dcgm-exporter's `/metrics`, one GPU each.

    The exporter asks DCGM every 30 s unless told otherwise (`--collect-interval`),
    so its counter ticks that slowly and windows are moved to those ticks: start
    the exporter with `--collect-interval 1000`, or measure for minutes. On MIG it
    repeats the whole GPU's value for each slice; here it is counted once.

    Args:
        url: the exporter's `/metrics`.
        devices: UUIDs or indices; empty: all it shows.
        period_s: how often to ask it.
        timeout_s: how long one answer may take.
        stale_after_s: if nothing changes for so long, readings count as stale.
    """

    url: str = "http://localhost:9400/metrics"
    devices: tuple[str, ...] = ()
    period_s: float = 1.0
    timeout_s: float = 2.0
    stale_after_s: float = 90.0

    def open(self) -> _Session:
        """
        Ask once and see which GPUs there are.

        Raises:
            PowerUnavailableError: no answer, or none with energy or power in it.
        """
        try:
            values = _scrape(self.url, self.timeout_s)
        except (OSError, ValueError) as error:
            raise PowerUnavailableError(
                f"{self.url} cannot be read ({cause(error)})",
                remedy="start dcgm-exporter, or correct [power.dcgm] url",
            ) from error
        chosen = [key for key in values if not self.devices or key[1] in self.devices]
        # The old name is an alias of the new one: of two of one sense, keep one.
        unique = {(_METRICS[key[0]][0], key[1]): key for key in chosen}
        if not unique:
            raise PowerUnavailableError(
                f"{self.url} shows neither energy nor power"
                + (f" of {', '.join(self.devices)}" if self.devices else ""),
                remedy="add DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION to the exporter's list of fields",
            )
        return _Session(self, list(unique.values()))


def _scrape(url: str, timeout_s: float) -> dict[_Series, float]:
    """Values by metric and GPU, in joules and watts."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310
        text = answer.read().decode()
    values: dict[_Series, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser gives counters the suffix they ought to have.
            name = sample.name.removesuffix("_total")
            if name in _METRICS:
                labels = sample.labels
                device = labels.get("UUID") or labels.get("uuid") or labels.get("gpu", "")
                values[name, device] = sample.value * _METRICS[name][1]
    return values


class _Session:
    """What `Dcgm.open` returns."""

    def __init__(self, options: Dcgm, series: Sequence[_Series]) -> None:
        self._options = options
        self._series = series
        self._last: tuple[float, dict[_Series, float]] = (time.monotonic(), {})
        self.period_s: float | None = options.period_s
        self.calls: list[tuple[Channel, ...]] = [tuple(_channel(key) for key in series)]

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        del call
        try:
            values = _scrape(self._options.url, self._options.timeout_s)
        except TimeoutError:
            return [(math.nan, ReadStatus.TIMEOUT)] * len(self._series)
        except (OSError, ValueError):
            return [(math.nan, ReadStatus.UNREACHABLE)] * len(self._series)
        now_s = time.monotonic()
        t_changed_s, last = self._last
        if values != last:
            self._last = (now_s, values)
        elif now_s - t_changed_s > self._options.stale_after_s:
            return [(math.nan, ReadStatus.STALE)] * len(self._series)
        return [
            (values[key], ReadStatus.OK) if key in values else (math.nan, ReadStatus.LOST)
            for key in self._series
        ]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        return {"url": self._options.url, "devices": sorted({key[1] for key in self._series})}

    def close(self) -> None:
        pass


def _channel(key: _Series) -> Channel:
    metric, device = key
    sense, unit = _METRICS[metric]
    return Channel(
        name=f"dcgm:{device}:{sense}",
        quantity="energy" if sense == "counter" else "power",
        boundary="gpu",
        device=device,
        power_kind="measured",
        method=f"dcgm-exporter, {metric}",
        quantum=unit if sense == "counter" else None,
        sense=sense,
    )


PLUGIN: type[PowerSource] = Dcgm
