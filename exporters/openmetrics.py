"""OpenMetrics text of one run's numbers, for a textfile collector or a push gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Record(record))
        path = folder / self.file_name
        write_atomically(path, generate_latest(registry))  # type: ignore[no-untyped-call]
        return path


class _Record(Collector):
    """A record as prometheus-client wants to be handed metrics."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    def collect(self) -> Iterator[Metric]:
        record = self._record
        yield InfoMetricFamily(
            "joulemark_run",
            "The run that the other series are of.",
            {
                "run_id": record.run_id,
                "status": record.status,
                "power_kind": record.power_kind or "none",
                "engine": str(record.provenance["engine"]["engine"]),
                "engine_version": str(record.provenance["engine"]["version"]),
                "joulemark_version": str(record.provenance["joulemark"]),
            },
        )
        families: dict[str, GaugeMetricFamily] = {}
        for key, value in record.metrics.items():
            card = card_of(key)
            stem, _, statistic = key.partition(".")
            kind = _kind(record, stem)
            name = _name(stem, kind)
            if name not in families:
                labels = ["run_id", *(["power_kind"] if kind else []), "statistic"]
                # The formula is the help text: a scraped number must say what it is.
                families[name] = GaugeMetricFamily(name, card.formula, labels=labels)
            own = [record.run_id, *([kind] if kind else [])]
            families[name].add_metric([*own, statistic or "value"], value.value)
            if value.low is not None and value.high is not None:
                families[name].add_metric([*own, f"{statistic or 'value'}_low"], value.low)
                families[name].add_metric([*own, f"{statistic or 'value'}_high"], value.high)
        yield from families.values()


def _kind(record: RunRecord, stem: str) -> str | None:
    """The power kind behind a metric; None for metrics that hold no energy."""
    boundary = boundary_of(stem)
    if boundary is None:
        return None
    kinds = record.power_kinds_of(boundary)
    return kinds.pop() if len(kinds) == 1 else (record.power_kind or "unknown")


def _name(stem: str, kind: str | None) -> str:
    for pattern, words in _WORDS:
        stem = re.sub(pattern, words, stem)
    mark = f"{kind}_" if kind not in {None, "measured"} else ""
    return f"joulemark_run_{mark}{stem}"


PLUGIN: type[Exporter] = OpenMetrics
