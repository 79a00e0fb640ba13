"""A point to be priced: tokens a second and watts of one device, from a run, a table or by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import ConfigError, StoreError
from harness.record import Finding, MetricValue, RunRecord
from harness.roofline.fit import MeasuredPoint

from . import formulas as cost
from .catalogue import Catalogue, Figure, Source

BOUNDARIES: Final = ("gpu", "gpu_module", "cpu_package", "node", "chassis")
"""Which joules of a run are priced: the first there is."""
RATES: Final = {"output": "output_throughput_tok_per_s", "total": "total_throughput_tok_per_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    What was measured, for one device.

    Args:
        label: for the reader.
        basis: which tokens are counted: `output` or `total`.
        boundary: what the joules were drawn by.
        power_kind: `measured`, `modelled`, `emulated`, or `given` by hand.
        devices: it was averaged over.
        tok_per_s: of one device.
        device_w: of one device.
        source: of the numbers.
        device_w_low: lower end of its interval.
        device_w_high: upper end.
        idle_w: engine loaded, no request; None if unknown, like all below.
        wall_w: AC power per device, by a meter.
        parts_w: host's parts per device, by RAPL.
        fans_w: per device.
        accelerator: key of the catalogue.
        model: name.
        interactivity_tok_per_s: of one user.
        input_tokens: of a request.
        output_tokens: of a request.
        batch: sequences running, on average.
        findings: what a reader has to know.
    """

    label: str
    basis: str
    boundary: str
    power_kind: str
    devices: int
    tok_per_s: float
    device_w: float
    source: Source
    device_w_low: float | None = None
    device_w_high: float | None = None
    idle_w: float | None = None
    wall_w: float | None = None
    parts_w: float | None = None
    fans_w: float | None = None
    accelerator: str | None = None
    model: str | None = None
    interactivity_tok_per_s: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    batch: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def j_per_token(self) -> float:
        """Joules of the boundary per token of the basis, while serving."""
        return self.device_w / self.tok_per_s

    def figure(self, value: float, low: float | None = None, high: float | None = None) -> Figure:
        """A number of this point, with the point as its source."""
        return Figure(
            value=value,
            source=self.source,
            low=value if low is None else low,
            high=value if high is None else high,
        )


def read_record(folder: Path) -> RunRecord:
    """
    The record of a run folder.

    Raises:
        StoreError: no `run.json` there, or not one.
    """
    path = folder / "run.json" if folder.is_dir() else folder
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror})", remedy="give a run's folder"
        ) from error
    return RunRecord.from_json(data, where=str(path))


def of_run(record: RunRecord, catalogue: Catalogue, *, basis: str = "output") -> Point:
    """
    The point a run measured.

    Its tokens a second are those between the ticks of the energy, which are up to some ticks off
    the window of `output_throughput_tok_per_s`: a percent or two of a short one.

    A wall meter (`node`) or RAPL beside the GPU is taken as the host's power; modelled CPU power
    is not.

    Raises:
        ConfigError: the run has no throughput or no energy to price.
    """
    metrics = record.metrics
    rate = metrics.get(RATES[basis])
    boundary = next((one for one in BOUNDARIES if f"{one}_average_w" in metrics), None)
    if rate is None or boundary is None or rate.value == 0:
        lacking = "energy" if rate is not None and rate.value else f"{basis} throughput"
        raise ConfigError(
            f"run {record.run_id} has no {lacking} to price",
            remedy="see its findings with `joulemark show`, or give the numbers by options",
        )
    row = _energy_row(record, boundary)
    devices = max(len(row.get("devices", ())), 1)
    watts = metrics[f"{boundary}_average_w"]
    # Of the same instants as the watts, from tick to tick: their ratio is the record's J/token.
    joules = metrics.get(f"{boundary}_j_per_{basis}_token")
    tok_per_s = watts.value / joules.value if joules is not None else rate.value
    gpu = boundary.startswith("gpu")
    accelerator = _accelerator(record, catalogue)
    return Point(
        label=record.run_id,
        basis=basis,
        boundary=boundary,
        power_kind=str(row.get("power_kind") or record.power_kind),
        devices=devices,
        tok_per_s=tok_per_s / devices,
        device_w=watts.value / devices,
        device_w_low=None if watts.low is None else watts.low / devices,
        device_w_high=None if watts.high is None else watts.high / devices,
        source=Source(
            key="run",
            title=f"run {record.run_id}",
            where="run.json",
            date="the run's own",
            grade=str(row.get("power_kind") or record.power_kind),
        ),
        idle_w=_per_device(metrics.get(f"{boundary}_loaded_idle_w"), devices),
        wall_w=_measured_w(record, ("node", "chassis"), devices) if gpu else None,
        parts_w=_measured_w(record, ("cpu_package", "cpu_dram"), devices, add=True)
        if gpu
        else None,
        accelerator=accelerator if gpu else None,
        model=_model(record),
        interactivity_tok_per_s=_value(metrics.get("interactivity_tok_per_s.p50")),
        input_tokens=_value(metrics.get("isl_tokens.mean")),
        output_tokens=_value(metrics.get("osl_tokens.mean")),
        findings=_trust(record, row, boundary),
        batch=_in_flight(record),
    )


def _in_flight(record: RunRecord) -> float | None:
    """
    Requests in flight in a closed loop, as the client delivered them; None: it was no closed loop.

    Rate over interactivity would say fewer where an engine stands still between its answers.
    """
    load = record.config.get("load") or {}
    audit = record.provenance.get("client_measure") or {}
    return audit.get("delivered_concurrency") if load.get("pattern") == "concurrency" else None


def of_numbers(
    *,
    tok_per_s: float,
    j_per_token: float | None,
    device_w: float | None,
    source: Source,
    **more: Any,  # noqa: ANN401  # passed on to Point, which types them
) -> Point:
    """
    A point given by hand: tokens a second, and joules per token or watts.

    Raises:
        ConfigError: neither or both of joules and watts, or a value out of range.
    """
    cost.require("tok_per_s", tok_per_s, above=True)
    if (j_per_token is None) == (device_w is None):
        raise ConfigError(
            "joules per token and watts are two ways to say one thing",
            remedy="give exactly one of --j-per-token and --device-w",
        )
    if device_w is None and j_per_token is not None:
        device_w = cost.require("j_per_token", j_per_token) * tok_per_s
    return Point(
        **{"label": "given", "basis": "output", "boundary": "gpu", "power_kind": "given"} | more,
        devices=1,
        tok_per_s=tok_per_s,
        device_w=cost.require("device_w", device_w or 0.0, above=True),
        source=source,
    )


def of_published(measured: MeasuredPoint, source: Source, *, input_tokens: float) -> Point:
    """One of ML.ENERGY's points of gpt-oss-120b."""
    name = f"{measured.accelerator} x{measured.devices}, batch {measured.batch:.0f}, vLLM"
    return Point(
        label=f"ML.ENERGY v3: {name}",
        basis="output",
        boundary="gpu",
        power_kind="measured",
        devices=measured.devices,
        tok_per_s=measured.tok_per_s / measured.devices,
        # Joules and tokens are what was published per token; watts follow from them.
        device_w=measured.j_per_token * measured.tok_per_s / measured.devices,
        source=source,
        accelerator=measured.accelerator,
        model="openai/gpt-oss-120b",
        interactivity_tok_per_s=1e3 / measured.median_itl_ms,
        input_tokens=input_tokens,
        output_tokens=measured.output_tokens,
        batch=measured.batch,
    )


def _energy_row(record: RunRecord, boundary: str) -> dict[str, Any]:
    for window in record.windows:
        for row in window.get("energies", ()):
            if row.get("boundary") == boundary:
                found: dict[str, Any] = row
                return found
    return {}


def _per_device(metric: MetricValue | None, devices: int) -> float | None:
    return None if metric is None else metric.value / devices


def _value(metric: MetricValue | None) -> float | None:
    return None if metric is None else metric.value


def _measured_w(
    record: RunRecord, boundaries: tuple[str, ...], devices: int, *, add: bool = False
) -> float | None:
    found = [
        record.metrics[f"{one}_average_w"].value
        for one in boundaries
        if f"{one}_average_w" in record.metrics
        and _energy_row(record, one).get("power_kind") == "measured"
    ]
    if not found:
        return None
    return (sum(found) if add else found[0]) / devices


def _accelerator(record: RunRecord, catalogue: Catalogue) -> str | None:
    power = record.provenance.get("power")
    sources = power.get("at_start", {}) if isinstance(power, dict) else {}
    names = {
        str(facts.get("name"))
        for source in sources.values()
        if isinstance(source, dict)
        for facts in (source.get("gpus") or {}).values()
    }
    found = {one.key for name in names if (one := catalogue.recognise(name)) is not None}
    return found.pop() if len(found) == 1 and len(names) == 1 else None


def _model(record: RunRecord) -> str | None:
    engine = record.config.get("engine")
    model = engine.get("model") if isinstance(engine, dict) else None
    return None if model is None else str(model)


def _trust(record: RunRecord, row: dict[str, Any], boundary: str) -> tuple[Finding, ...]:
    found = [finding for finding in record.findings if finding.severity == "invalid"]
    kind = row.get("power_kind") or record.power_kind
    if kind != "measured":
        found.append(
            Finding(
                code="power_not_measured",
                severity="warning",
                message=f"the {boundary} power of this run is {kind}, not measured: "
                "so is every joule and dollar below",
            )
        )
    if boundary == "gpu_module":
        found.append(
            Finding(
                code="module_holds_cpu",
                severity="warning",
                message="the metered module holds a CPU, which nameplate host power counts again",
            )
        )
    return tuple(found)
