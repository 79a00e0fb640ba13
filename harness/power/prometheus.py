"""Any power or energy series of a Prometheus server: PDUs, cluster exporters, other nodes."""

from __future__ import annotations

import math
import os
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError, cause
from harness.timeline import Boundary, Channel, PowerKind, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """
    The result of a PromQL query, asked again and again; each series is a device.

    A Prometheus repeats a value until its next scrape, so its series moves as often
    as it scrapes: windows want to be many scrapes long. A series that ends is seen
    after five minutes only, unless the query says otherwise.

    Args:
        url: of the server, e.g. `http://prometheus:9090`.
        query: PromQL, giving watts or joules (times *scale*).
        quantity: what it gives: `power`, or `energy` for a counter.
        boundary: what draws it; only you can know.
        device_label: the label that tells devices apart.
        scale: what one of its units is in watts or joules, e.g. 0.001.
        power_kind: `measured`, unless the series itself is modelled or emulated.
        token_env: environment variable with a bearer token; empty: none is sent.
        period_s: how often to ask.
        timeout_s: how long one answer may take.
    """

    url: str
    query: str
    quantity: Literal["energy", "power"]
    boundary: Boundary
    device_label: str = "instance"
    scale: float = 1.0
    power_kind: PowerKind = "measured"
    token_env: str = ""
    period_s: float = 1.0
    timeout_s: float = 5.0

    def open(self) -> _Session:
        """
        Ask once and see which series there are.

        Raises:
            PowerUnavailableError: no answer, a query it refuses, or no series.
        """
        try:
            values = _ask(self)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PowerUnavailableError(
                f"{self.url} does not answer {self.query!r} ({cause(error)})",
                remedy="try the query in its own page",
            ) from error
        if not values:
            raise PowerUnavailableError(
                f"{self.query!r} gives no series now", remedy="try the query in its own page"
            )
        return _Session(self, list(values))


def _ask(options: Prometheus) -> dict[str, float]:
    """Values by device, in watts or joules."""
    arguments = urllib.parse.urlencode({"query": options.query})
    address = f"{options.url.rstrip('/')}/api/v1/query?{arguments}"
    request = urllib.request.Request(address)  # noqa: S310
    if options.token_env:
        request.add_header("Authorization", f"Bearer {os.environ.get(options.token_env, '')}")
    with urllib.request.urlopen(request, timeout=options.timeout_s) as answer:  # noqa: S310
        body = orjson.loads(answer.read())
    if body.get("status") != "success":
        msg = body.get("error", "no success")
        raise ValueError(msg)
    values: dict[str, float] = {}
    for row in body["data"]["result"]:
        labels = row["metric"]
        device = labels.get(options.device_label) or orjson.dumps(labels).decode()
        if device in values:
            msg = f"two series have {options.device_label}={device!r}: aggregate them in the query"
            raise ValueError(msg)
        values[device] = float(row["value"][1]) * options.scale
    return values


class _Session:
    """What `Prometheus.open` returns."""

    def __init__(self, options: Prometheus, devices: Sequence[str]) -> None:
        self._options = options
        self._devices = devices
        self.period_s: float | None = options.period_s
        self.calls: list[tuple[Channel, ...]] = [
            tuple(
                Channel(
                    name=f"prometheus:{device}",
                    quantity=options.quantity,
                    boundary=options.boundary,
                    device=device,
                    power_kind=options.power_kind,
                    method=f"Prometheus, {options.query}",
                    sense="counter" if options.quantity == "energy" else "instant",
                )
                for device in devices
            )
        ]

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        del call
        try:
            values = _ask(self._options)
        except TimeoutError:
            return [(math.nan, ReadStatus.TIMEOUT)] * len(self._devices)
        except (OSError, ValueError, KeyError, TypeError):
            return [(math.nan, ReadStatus.UNREACHABLE)] * len(self._devices)
        return [
            (values[device], ReadStatus.OK)
            if math.isfinite(values.get(device, math.nan))
            else (math.nan, ReadStatus.LOST)
            for device in self._devices
        ]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        return {"url": self._options.url, "query": self._options.query}

    def close(self) -> None:
        pass


PLUGIN: type[PowerSource] = Prometheus
