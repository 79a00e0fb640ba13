"""A finished run as time series with dates: watts, tokens a second, and when its window was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from exporters.openmetrics import about, families, series_name
from harness.clock import WallAnchor
from harness.errors import StoreError
from harness.integrate import traces
from harness.tokens import token_times

from .steps import step_powers_w

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from harness.record import RunRecord
    from harness.store import RawRun

ACTIVE: Final = "joulemark_run_active"
PHASE: Final = "joulemark_run_phase"
_MS: Final = 1_000_000

_PHASES: Final = (
    ("engine_start", ("engine_start",), "engine_ready"),
    ("loaded_idle", ("loaded_idle_start",), "loaded_idle_end"),
    ("warm_up", ("loaded_idle_end", "engine_ready"), "measure_start"),
    ("measure", ("measure_start",), "measure_end"),
)
"""A phase, the marks of which the first that is there begins it, and the mark that ends it."""

_ABOUT: Final = {
    ACTIVE: "1 within the window that the run's numbers are of, 0 before and after it",
    PHASE: "1 within a phase of the run, 0 before and after it",
    "power": "mean power of one device over the step that ends at this instant",
    "tokens": "output tokens that arrived in the step that ends at this instant, over its length",
}


def series(record: RunRecord, raw: RawRun, *, step_s: float) -> Iterator[Metric]:
    """
    Everything of a run that a store of metrics can hold, each sample with its date.

    Steps end at whole multiples of *step_s* of the wall clock, as computed from the
    run's one anchor. A step that the readings do not cover has no sample: a gap
    stays a gap.

    Args:
        record: computed from *raw*.
        raw: what the run recorded.
        step_s: seconds between samples.

    Raises:
        StoreError: the run recorded nothing that has a date.
    """
    anchor = WallAnchor(**record.provenance["anchor"])
    edges_ns = _edges_ns(raw, anchor, step_s)
    t_ms = [anchor.wall_ns(int(edge)) // _MS for edge in edges_ns]
    ends_ms = t_ms[1:]
    yield from _active(record, anchor, t_ms)
    yield from _phases(record, raw, anchor, t_ms)
    yield from _power(record, raw, edges_ns, ends_ms)
    yield from _tokens(record, raw, edges_ns, ends_ms)
    for family in families(record, t_s=t_ms[-1] / 1e3):
        yield _info(record, t_ms) if family.type == "info" else family


def _edges_ns(raw: RawRun, anchor: WallAnchor, step_s: float) -> npt.NDArray[np.int64]:
    """Edges of the steps, on the run's clock: from before the first mark to after the last."""
    stamps = [mark["t_ns"] for mark in raw.marks]
    for recorded in (raw.events["t_ns"], raw.power["t_before_ns"]):
        stamps += [int(recorded.min()), int(recorded.max())] if len(recorded) else []
    if not stamps:
        raise StoreError(
            f"{raw.folder} recorded nothing that has a date", remedy="push a run that began"
        )
    step_ns = round(step_s * 1e3) * _MS
    first = anchor.wall_ns(min(stamps)) // step_ns
    last = -(-anchor.wall_ns(max(stamps)) // step_ns)
    offset_ns = anchor.wall_ns(0)
    return np.arange(first, max(last, first + 1) + 1, dtype=np.int64) * step_ns - offset_ns


def _info(record: RunRecord, t_ms: list[int]) -> Metric:
    """At every step, so that other series can be joined with it at any instant of the run."""
    family = InfoMetricFamily("joulemark_run", "The run that the other series are of.")
    for instant in t_ms:
        family.add_metric((), about(record), timestamp=instant / 1e3)
    return family


def _active(record: RunRecord, anchor: WallAnchor, t_ms: list[int]) -> Iterator[Metric]:
    window = record.load_window
    if window is None:
        return
    # The edges that joules and tokens were counted between, where there are joules.
    edges = (window["energies"] or [window])[0]
    start_ms, end_ms = (anchor.wall_ns(edges[key]) // _MS for key in ("start_ns", "end_ns"))
    labels = {
        "run_id": record.run_id,
        "run": str(record.config["name"]),
        "engine": str(record.provenance["engine"]["engine"]),
        "model": str(record.config["engine"].get("model", "")),
        "window": window["name"],
        "power_kind": record.power_kind or "none",
    }
    family = GaugeMetricFamily(ACTIVE, _ABOUT[ACTIVE], labels=list(labels))
    _add_span(family, list(labels.values()), t_ms, start_ms, end_ms)
    yield family


def _phases(
    record: RunRecord, raw: RawRun, anchor: WallAnchor, t_ms: list[int]
) -> Iterator[Metric]:
    at_ms = {mark["mark"]: anchor.wall_ns(mark["t_ns"]) // _MS for mark in raw.marks}
    family = GaugeMetricFamily(PHASE, _ABOUT[PHASE], labels=("run_id", "phase"))
    for phase, begins, ends in _PHASES:
        if phase == "warm_up" and "loaded_idle_start" in at_ms and begins[0] not in at_ms:
            continue  # cut short while the engine idled: it was never warmed up
        start_ms = next((at_ms[mark] for mark in begins if mark in at_ms), None)
        # What was cut short lasted until the recording's end.
        end_ms = at_ms.get(ends, t_ms[-1])
        if start_ms is not None and start_ms < end_ms:
            _add_span(family, [record.run_id, phase], t_ms, start_ms, end_ms)
    if family.samples:
        yield family


def _add_span(
    family: GaugeMetricFamily, labels: list[str], t_ms: list[int], start_ms: int, end_ms: int
) -> None:
    """1 from the start to the end, to the millisecond, and 0 at the steps around it."""
    for instant in sorted({*t_ms, start_ms, end_ms}):
        inside = float(start_ms <= instant < end_ms)
        family.add_metric(labels, inside, timestamp=instant / 1e3)


def _power(
    record: RunRecord, raw: RawRun, edges_ns: npt.NDArray[np.int64], ends_ms: list[int]
) -> Iterator[Metric]:
    found: dict[str, GaugeMetricFamily] = {}
    channels = traces(raw.power_header, raw.power) if raw.power_header else []
    for channel, watts in step_powers_w(channels, edges_ns):
        name = series_name(f"{channel.boundary}_power_w", channel.power_kind)
        if name not in found:
            labels = ("run_id", "power_kind", "device")
            found[name] = GaugeMetricFamily(name, _ABOUT["power"], labels=labels)
        own = [record.run_id, channel.power_kind, channel.device]
        for t_ms, value in zip(ends_ms, watts.tolist(), strict=True):
            if not math.isnan(value):
                found[name].add_metric(own, value, timestamp=t_ms / 1e3)
    yield from (family for family in found.values() if family.samples)


def _tokens(
    record: RunRecord, raw: RawRun, edges_ns: npt.NDArray[np.int64], ends_ms: list[int]
) -> Iterator[Metric]:
    """The client's own count, warm-up included; steps before the first request have none."""
    tokens = token_times(raw.events, raw.requests)
    if not len(tokens.t_ns):
        return
    counts, _ = np.histogram(tokens.t_ns, bins=edges_ns, weights=tokens.tokens)
    rates = counts / (np.diff(edges_ns) / 1e9)
    first_ns, last_ns = int(raw.events["t_ns"].min()), int(raw.events["t_ns"].max())
    within = (edges_ns[1:] > first_ns) & (edges_ns[:-1] <= last_ns)
    name = series_name("output_tok_per_s", None)
    family = GaugeMetricFamily(name, _ABOUT["tokens"], labels=("run_id",))
    for t_ms, rate, known in zip(ends_ms, rates.tolist(), within.tolist(), strict=True):
        if known:
            family.add_metric([record.run_id], rate, timestamp=t_ms / 1e3)
    yield family


_SECTION: Final = f"""\
## In a store of metrics

`joulemark push` and the file `openmetrics.txt` of a run use these names. Every series has the label
`run_id`; a name of joules or watts that were not measured says so after `joulemark_run_`
(`joulemark_run_emulated_gpu_power_watts`), beside the label `power_kind`.

| series | labels | samples | meaning |
|---|---|---|---|
| `{ACTIVE}` | `run` `engine` `model` `window` `power_kind` | each step | {_ABOUT[ACTIVE]} |
| `{PHASE}` | `phase`: {", ".join(f"`{phase}`" for phase, *_ in _PHASES)} | each step | \
{_ABOUT[PHASE]} |
| `joulemark_run_{{boundary}}_power_watts` | `power_kind` `device` | each step | {_ABOUT["power"]} |
| `joulemark_run_output_tokens_per_second` | | each step | {_ABOUT["tokens"]} |
| `joulemark_run_info` | `status` `power_kind` `engine` `engine_version` `joulemark_version` \
| each step | 1; what the run was |
| `joulemark_run_…`, a metric of the table above with its unit spelt out \
| `statistic`, `power_kind` for joules | one, at the end | the record's number; `statistic` is \
`value`, `mean` or `p50` …, and the same with `_low` and `_high` for the interval |

The last row's names: `gpu_j_per_output_token` is `joulemark_run_gpu_joules_per_output_token`,
`output_throughput_tok_per_s` is `joulemark_run_output_throughput_tokens_per_second`. `run` is the
configuration's name, `window` which window the numbers are of.
"""


def section() -> str:
    """What `docs/metrics.md` says of these series."""
    return _SECTION
