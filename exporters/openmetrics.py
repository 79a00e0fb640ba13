"""OpenMetrics text of one run's numbers, for a textfile collector or a push gateway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.metrics import boundary_of, card_of
from harness.record import RunRecord

# The catalogue's units to the base units, spelt out, that Prometheus asks for.
_WORDS: Final = (
    (r"_tok_per_s_per_mw_", "_tokens_per_second_per_megawatt_"),
    (r"_usd_per_mtok_output$", "_usd_per_million_output_tokens"),
    (r"_tok_per_s$", "_tokens_per_second"),
    (r"_rps$", "_requests_per_second"),
    (r"_j_per_", "_joules_per_"),
    (r"_j$", "_joules"),
    (r"_w$", "_watts"),
    (r"_s$", "_seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMetrics:
    """
    Gauges of a finished run.

    The name of an energy metric that was not measured says so
    (`joulemark_run_modelled_…`), so that no query over the measured ones can
    take it in.
    """

    file_name: str = "openmetrics.txt"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        path = folder / self.file_name
        write_atomically(path, text(families(record)))
        return path


class _Families(Collector):
    """Ready-made families as prometheus-client wants to be handed them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def registry_of(families: Iterable[Metric]) -> CollectorRegistry:
    """A registry that holds these families and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return registry


def text(families: Iterable[Metric]) -> bytes:
    """The families as OpenMetrics text, with its end mark."""
    return generate_latest(registry_of(families))  # type: ignore[no-any-return, no-untyped-call]


def families(record: RunRecord, *, t_s: float | None = None) -> Iterator[Metric]:
    """
    The numbers of a record.

    Args:
        record: of the run.
        t_s: Unix time that each sample is stamped with; None: no stamp.
    """
    info = InfoMetricFamily("joulemark_run", "The run that the other series are of.")
    info.add_metric((), about(record), timestamp=t_s)
    yield info
    found: dict[str, GaugeMetricFamily] = {}
    for key, value in record.metrics.items():
        card = card_of(key)
        stem, _, statistic = key.partition(".")
        boundary = boundary_of(stem)
        kind = None if boundary is None else kind_of(record, boundary)
        name = series_name(stem, kind)
        if name not in found:
            labels = ["run_id", *(["power_kind"] if kind else []), "statistic"]
            # The formula is the help text: a scraped number must say what it is.
            found[name] = GaugeMetricFamily(name, card.formula, labels=labels)
        own = [record.run_id, *([kind] if kind else [])]
        said = statistic or "value"
        found[name].add_metric([*own, said], value.value, timestamp=t_s)
        if value.low is not None and value.high is not None:
            found[name].add_metric([*own, f"{said}_low"], value.low, timestamp=t_s)
            found[name].add_metric([*own, f"{said}_high"], value.high, timestamp=t_s)
    yield from found.values()


def about(record: RunRecord) -> dict[str, str]:
    """The labels of `joulemark_run_info`."""
    engine = record.provenance["engine"]
    return {
        "run_id": record.run_id,
        "status": record.status,
        "power_kind": record.power_kind or "none",
        "engine": str(engine["engine"]),
        "engine_version": str(engine["version"]),
        "joulemark_version": str(record.provenance["joulemark"]),
    }


def kind_of(record: RunRecord, boundary: str) -> str:
    """The power kind behind a boundary's numbers; the least trusted one where there are two."""
    kinds = record.power_kinds_of(boundary)
    return kinds.pop() if len(kinds) == 1 else (record.power_kind or "unknown")


def series_name(stem: str, kind: str | None) -> str:
    """
    The name of a series, which says so if its joules were not measured.

    >>> series_name("gpu_power_w", "modelled")
    'joulemark_run_modelled_gpu_power_watts'
    >>> series_name("output_throughput_tok_per_s", None)
    'joulemark_run_output_throughput_tokens_per_second'
    """
    for pattern, words in _WORDS:
        stem = re.sub(pattern, words, stem)
    mark = f"{kind}_" if kind not in {None, "measured"} else ""
    return f"joulemark_run_{mark}{stem}"


PLUGIN: type[Exporter] = OpenMetrics
