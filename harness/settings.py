"""What a run can be told: one frozen dataclass a section of its TOML file."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from . import plugins
from .contracts import EndpointType, Engine, Workload
from .errors import ConfigError
from .schema import unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """
    How requests are issued: `[load]`.

    Args:
        pattern: `concurrency` keeps that many requests in flight (closed loop);
            the others issue by a schedule (open loop) at request_rate_per_s, and
            `trace` at the instants that the workload's own data give.
        concurrency: requests in flight; with an open loop, the most allowed.
        request_rate_per_s: requests a second of an open loop.
        burstiness: shape of the gamma distribution; 1 is Poisson.
        request_count: stop issuing after so many. None: no limit.
        requests_per_slot: stop issuing after so many times the concurrency, as
            InferenceX does (10). None: no limit.
        duration_s: stop issuing after so long. None: no limit.
        warmup_request_count: requests sent first, which enter no metric.
            None: twice the concurrency; none of a trace, whose start it would use up.
        request_timeout_s: deadline of one request.
        endpoint_type: None: the one the engine does best.
        fixed_length: ask for answers of exactly the requested length.
        extra_body: JSON fields added to every request, e.g. reasoning_effort.
        time_scale: a trace's instants are multiplied by it; 0.5 plays twice as fast.
        max_failures_in_a_row: give up after so many failures with no success between.
        client_processes: load loops that share the load, each in a process of its own.
        client_cpus: cores those processes are bound to, in turn; empty: not bound.
    """

    pattern: Literal["concurrency", "constant", "poisson", "gamma", "max", "trace"] = "concurrency"
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burstiness: float = 1.0
    request_count: int | None = None
    requests_per_slot: int | None = None
    duration_s: float | None = None
    warmup_request_count: int | None = None
    request_timeout_s: float = 300.0
    endpoint_type: EndpointType | None = None
    fixed_length: bool = True
    extra_body: dict[str, Any] = field(default_factory=dict)
    time_scale: float = 1.0
    max_failures_in_a_row: int = 20
    client_processes: int = 1
    client_cpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _at_least("load.concurrency", self.concurrency, 1)
        _at_least("load.client_processes", self.client_processes, 1)
        _at_least("load.request_count", self.request_count, 1)
        _at_least("load.warmup_request_count", self.warmup_request_count, 0)
        _at_least("load.requests_per_slot", self.requests_per_slot, 1)
        _positive("load.time_scale", self.time_scale)
        _positive("load.request_rate_per_s", self.request_rate_per_s)
        _positive("load.duration_s", self.duration_s)
        _positive("load.burstiness", self.burstiness)
        _positive("load.request_timeout_s", self.request_timeout_s)
        if self.count is None and self.duration_s is None:
            raise ConfigError(
                "load has neither request_count nor duration_s, so it would never end",
                remedy="set one of them, e.g. `--request-count 100`",
            )
        open_loop = self.pattern in {"constant", "poisson", "gamma"}
        if open_loop and self.request_rate_per_s is None:
            raise ConfigError(
                f"load.pattern {self.pattern!r} needs a rate",
                remedy="set load.request_rate_per_s, e.g. `--request-rate 2`",
            )
        if not open_loop and self.request_rate_per_s is not None:
            raise ConfigError(
                f"load.pattern {self.pattern!r} does not use load.request_rate_per_s",
                remedy="set load.pattern to constant, poisson or gamma, or remove the rate",
            )
        if self.pattern == "concurrency" and self.concurrency is None:
            raise ConfigError(
                "load.pattern 'concurrency' needs load.concurrency",
                remedy="set it, e.g. `--concurrency 4`",
            )

    @property
    def count(self) -> int | None:
        """Requests to issue at most; None: no limit."""
        per_slot = None
        if self.requests_per_slot is not None and self.concurrency is not None:
            per_slot = self.requests_per_slot * self.concurrency
        return min((n for n in (self.request_count, per_slot) if n is not None), default=None)

    @property
    def warmup_count(self) -> int:
        """Requests sent first, which enter no metric."""
        if self.warmup_request_count is not None:
            return self.warmup_request_count
        return 0 if self.pattern == "trace" else 2 * (self.concurrency or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerConfig:
    """
    Where joules are read: `[power]`; one table `[power.NAME]` sets a source's own options.

    Args:
        sources: names of power sources; `auto` takes NVML for an engine on a
            GPU, else RAPL, else the CPU model.
        power_hz: readings of power a second.
        counter_hz: readings of energy counters a second.
        idle_s: how long the loaded engine is metered without requests.
        options: a source's own options, by its name.
    """

    sources: tuple[str, ...] = ("auto",)
    power_hz: float = 50.0
    counter_hz: float = 20.0
    idle_s: float = 3.0
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive("power.power_hz", self.power_hz)
        _positive("power.counter_hz", self.counter_hz)
        if self.idle_s < 0:
            raise ConfigError(
                f"power.idle_s is {self.idle_s}, below 0", remedy="set it to 0 or more seconds"
            )
        known = plugins.kinds("power")
        for name in self.sources:
            if name != "auto" and name not in known:
                raise unknown("power source", name, ["auto", *known])
        for name in self.options:
            if name not in known:
                raise unknown("table power", name, known)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """
    Which stretch of the run the numbers are of: `[window]`.

    Args:
        kind: `steady`: from when every slot has turned over once until the load
            falls; `run`: from the first request sent to the last response's end;
            `ml_energy`: as the ML.ENERGY benchmark draws it.
        min_s: a shorter window is flagged.
        refuse_below_s: a window shorter than this gives no energy number.
        force: give it all the same, flagged invalid.
    """

    kind: Literal["steady", "run", "ml_energy"] = "steady"
    min_s: float = 30.0
    refuse_below_s: float = 5.0
    force: bool = False

    def __post_init__(self) -> None:
        _positive("window.min_s", self.min_s)
        _positive("window.refuse_below_s", self.refuse_below_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostConfig:
    """
    What energy costs: `[cost]`.

    Args:
        usd_per_kwh: price of electricity. The default is the US industrial mean
            of 2025, 8.61 cents (EIA Electric Power Monthly, table 5.6.A).
        pue: facility energy over IT energy; 1.0 prices only what was metered.
        provisioned_w: all-in power reserved for what runs the engine, host and
            network share included, in watts. None: not known, and then no
            throughput per provisioned megawatt is given.
    """

    usd_per_kwh: float = 0.0861
    pue: float = 1.0
    provisioned_w: float | None = None

    def __post_init__(self) -> None:
        _positive("cost.provisioned_w", self.provisioned_w)
        if self.usd_per_kwh < 0:
            raise ConfigError(
                f"cost.usd_per_kwh is {self.usd_per_kwh}, below 0",
                remedy="set the price of a kilowatt-hour in US dollars",
            )
        if self.pue < 1:
            raise ConfigError(
                f"cost.pue is {self.pue}, below 1",
                remedy="PUE is facility energy over IT energy, so it is at least 1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """
    Everything a run depends on.

    Args:
        name: goes into the run's id.
        seed: of the workload and the arrivals.
        artifact_dir: run folders are made below it.
        engine_kind: `auto`, or the name of an engine plugin.
        engine: the engine's options; None with `auto`.
        workload_kind: the name of a workload plugin.
        workload: its options.
    """

    name: str
    seed: int
    artifact_dir: Path
    engine_kind: str
    engine: Engine | None
    workload_kind: str
    workload: Workload
    load: LoadConfig
    power: PowerConfig
    window: WindowConfig
    cost: CostConfig

    def as_json(self) -> dict[str, Any]:
        """The effective configuration, as it goes into the record; no secrets are in it."""
        engine = _without_secrets(dataclasses.asdict(self.engine)) if self.engine else {}  # type: ignore[call-overload]
        return {
            "name": self.name,
            "seed": self.seed,
            "engine": {"kind": self.engine_kind, **engine},
            "workload": {"kind": self.workload_kind, **dataclasses.asdict(self.workload)},  # type: ignore[call-overload]
            "load": dataclasses.asdict(self.load),
            "power": dataclasses.asdict(self.power) | {"sources": list(self.power.sources)},
            "window": dataclasses.asdict(self.window),
            "cost": dataclasses.asdict(self.cost),
        }


def _at_least(where: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{where} is {value}, below {least}", remedy=f"set at least {least}")


def _positive(where: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise ConfigError(f"{where} is {value}", remedy="set a finite number above 0")


_SECRETS: Final = re.compile(r"(authorization|key|token|secret|password)$", re.IGNORECASE)


def _without_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """The same table with every key and every header that holds a secret said to be just `set`."""
    return {
        key: _without_secrets(value)
        if isinstance(value, dict)
        else "set"
        if _SECRETS.search(key) and value
        else value
        for key, value in values.items()
    }
