"""Every metric the daemon exports, with labels and meaning; the reference is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SEMANTICS_VERSION: Final = "1"
"""Changes when a definition does; history: 1 (0.1.0), the first."""

_OWNER: Final = ("model_name", "engine", "instance_id")
_METER: Final = ("uuid", "boundary", "power_kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """
    One family.

    Args:
        name: as exposed in the text format.
        kind: counter names end in `_total`, info names in `_info`.
        labels: in the order of the exposition.
        help: what it means, in one sentence or two.
    """

    name: str
    kind: Literal["counter", "gauge", "info"]
    labels: tuple[str, ...] = ()
    help: str


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=f"joulemark_{name}_total", kind="counter", labels=labels, help=text)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=f"joulemark_{name}", kind="gauge", labels=labels, help=text)


def _info(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name=f"joulemark_{name}_info", kind="info", labels=labels, help=text)


METRICS: Final[tuple[Metric, ...]] = (
    _counter(
        "device_energy_joules", _METER, "Energy metered on a device that models' joules are of."
    ),
    _gauge("device_power_watts", (*_METER, "sense"), "Newest power reading of a device."),
    _gauge("device_power_limit_watts", ("uuid",), "Power cap in force."),
    _gauge("device_provisioned_watts", ("uuid",), "All-in power reserved for it, as configured."),
    _gauge(
        "device_idle_power_watts",
        ("uuid", "models"),
        "Loaded-idle baseline: measured with these models loaded and no request running.",
    ),
    _gauge(
        "device_idle_observed_seconds",
        ("uuid", "models"),
        "Idle seconds that stand behind the baseline.",
    ),
    _counter("device_covered_seconds", ("uuid",), "Time whose energy was metered."),
    _counter(
        "device_uncovered_seconds",
        ("uuid", "reason"),
        "Time whose energy is not known and was not guessed.",
    ),
    _counter(
        "device_energy_resets", ("uuid",), "How often the device's own counter went back."
    ),
    _counter(
        "device_throttle_changes",
        ("uuid", "reason"),
        "How often a look at the driver's throttle counter found it moved.",
    ),
    _gauge("device_temperature_celsius", ("uuid",), "Temperature of the device."),
    _info(
        "device",
        ("uuid", "device_name", "driver_version", "source", "boundary", "power_kind", "mig_mode"),
        "What a device is and how it is metered.",
    ),
    _counter(
        "host_energy_joules",
        _METER,
        "Energy metered beside the devices; overlaps with them or each other, so never add it.",
    ),
    _counter(
        "model_energy_joules",
        ("uuid", *_OWNER, "state", "phase", "method", "boundary", "power_kind"),
        "Energy of a device that belongs to a model; with the unattributed it sums to the device.",
    ),
    _counter(
        "unattributed_energy_joules",
        (*_METER, "reason"),
        "Energy of a device that belongs to no model: the residual of the attribution.",
    ),
    _gauge(
        "conservation_error_ratio",
        ("uuid",),
        "Device energy less its parts, over device energy; 0 up to rounding, or a defect.",
    ),
    _counter("computed_tokens", (*_OWNER, "power_kind"), "Input tokens run through the model."),
    _counter("cached_tokens", (*_OWNER, "power_kind"), "Input tokens served from a prefix cache."),
    _counter("generated_tokens", (*_OWNER, "power_kind"), "Output tokens."),
    _counter(
        "wasted_tokens",
        (*_OWNER, "reason"),
        "Tokens computed for nobody; their energy stays in the model's.",
    ),
    _counter(
        "uncovered_tokens",
        (*_OWNER, "kind"),
        "Tokens whose energy was not metered; in no other token counter here.",
    ),
    _gauge("engine_up", _OWNER, "1: the last scrape of the engine gave its counters."),
    _gauge("engine_running_requests", _OWNER, "Requests in progress, as the engine says."),
    _counter("engine_restarts", _OWNER, "How often an engine's counters went back."),
    _gauge("engine_scrape_seconds", _OWNER, "Duration of the last scrape of the engine."),
    _info(
        "engine",
        (*_OWNER, "token_clock", "role"),
        "When the engine moves its counters: at each iteration, or at the end of a request.",
    ),
    _counter(
        "cost",
        (*_OWNER, "component", "currency", "power_kind"),
        "Money: energy, facility (PUE less 1) and device hours; empty labels: of no model.",
    ),
    _counter(
        "emissions_grams",
        (*_OWNER, "component", "power_kind"),
        "CO2 equivalent: energy, facility (PUE less 1) and what making the device took, by hours.",
    ),
    _gauge("electricity_price_per_kwh", ("currency",), "Price in force."),
    _gauge("carbon_intensity_grams_per_kwh", (), "Carbon intensity in force."),
    _gauge("pue_ratio", (), "Facility energy over IT energy, as configured."),
    _gauge("snapshot_timestamp_seconds", (), "When the last snapshot was taken, Unix time."),
    _gauge(
        "snapshot_skew_seconds", (), "Largest distance between a meter's reading and a scrape."
    ),
    _gauge("snapshot_duration_seconds", (), "How long the last snapshot took."),
    _counter("snapshots", (), "Snapshots taken."),
    _counter("snapshots_missed", (), "Snapshots left out because one before them was late."),
    _gauge("source_up", ("source",), "1: the power source has given a value lately."),
    _counter("state_saves_failed", (), "State files that could not be written."),
    _gauge("findings", ("code",), "1: something a reader of these numbers has to know."),
    _info("semantics", ("version",), "Version of the definitions of these metrics."),
    _info("build", ("version",), "Version of joulemark."),
    Metric(
        name="process_cpu_seconds_total", kind="counter", help="CPU time of the daemon."
    ),
    Metric(name="process_resident_memory_bytes", kind="gauge", help="Memory of the daemon."),
    Metric(
        name="process_start_time_seconds", kind="gauge", help="When it started, Unix time."
    ),
)  # fmt: skip

BY_NAME: Final = {metric.name: metric for metric in METRICS}

_HEAD: Final = """\
# Metrics of `joulemark export`

Made by `docs/build.py` from `harness/production/metric_set.py`; definitions have version
{version} (`joulemark_semantics_info`). Ratios such as joules per token are not exported: they are
recording rules over these counters (`dashboards/rules/`), so that they stay right when summed over
a fleet. `power_kind` is `measured`, `modelled` or `emulated`; rules keep it apart.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    """`docs/production-metrics.md`."""
    rows = [
        f"| `{one.name}` | {one.kind} | {' '.join(f'`{name}`' for name in one.labels)}"
        f" | {one.help} |\n"
        for one in METRICS
    ]
    return _HEAD.format(version=SEMANTICS_VERSION) + "".join(rows)
