"""The JSON that AIPerf writes (`profile_export_aiperf.json`), for tools that read it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.record import RunRecord

from . import _requests as requests

_PERCENTILES: Final = (1, 5, 25, 50, 75, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class AiPerf:
    """
    A table of metrics by their AIPerf 0.13 names, each with its unit.

    What AIPerf calls inter-token latency is our TPOT; every gap between chunks
    is its inter-chunk latency. Energy is in its units: millijoules a token.
    """

    file_name: str = "profile_export_aiperf.json"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        path = folder / self.file_name
        write_atomically(path, orjson.dumps(document(record, folder), option=orjson.OPT_INDENT_2))
        return path


def document(record: RunRecord, folder: Path) -> dict[str, Any]:
    """The object."""
    found = requests.totals(folder)
    anchor = record.provenance["anchor"]

    def wall(t_ns: int) -> str:
        seconds = (anchor["t_wall_ns"] + t_ns - anchor["t_monotonic_ns"]) / 1e9
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()

    tpot = found.seconds["tpot"]
    result: dict[str, Any] = {
        "request_throughput": _one(found.completed / found.duration_s, "requests/sec"),
        "request_count": _one(found.completed, "requests"),
        "error_request_count": _one(found.failed, "requests"),
        "benchmark_duration": _one(found.duration_s, "sec"),
        "output_token_throughput": _one(found.output_tokens / found.duration_s, "tokens/sec"),
        "total_token_throughput": _one(
            (found.input_tokens + found.output_tokens) / found.duration_s, "tokens/sec"
        ),
        "total_output_tokens": _one(found.output_tokens, "tokens"),
        "total_isl": _one(found.input_tokens, "tokens"),
        "request_latency": _spread(found.seconds["e2el"] * 1e3, "ms"),
        "time_to_first_token": _spread(found.seconds["ttft"] * 1e3, "ms"),
        "inter_token_latency": _spread(tpot * 1e3, "ms"),
        "inter_chunk_latency": _spread(found.seconds["itl"] * 1e3, "ms"),
        "output_token_throughput_per_user": _spread(1 / tpot[tpot > 0], "tokens/sec/user"),
        "input_sequence_length": _spread(found.isl_tokens, "tokens"),
        "output_sequence_length": _spread(found.osl_tokens, "tokens"),
    }
    energy = requests.run_energy(record)
    if energy is not None:
        joules = energy["energy_j"]
        total = found.input_tokens + found.output_tokens
        result |= {
            "nvidia_total_gpu_energy": _one(joules, "J"),
            "nvidia_average_gpu_power": _one(joules / energy["duration_s"], "W"),
            "nvidia_energy_per_output_token": _one(joules / found.output_tokens * 1e3, "mJ"),
            "nvidia_energy_per_total_token": _one(joules / total * 1e3, "mJ"),
            "nvidia_energy_per_request": _one(joules / found.completed, "J"),
            "nvidia_output_tokens_per_joule": _one(found.output_tokens / joules, "tokens/J"),
        }
    return {
        **{key: value for key, value in result.items() if value is not None},
        "input_config": record.config,
        "was_cancelled": record.status != "complete",
        "error_summary": [],
        "start_time": wall(found.t_start_ns),
        "end_time": wall(found.t_end_ns),
    }


def _one(value: float, unit: str) -> dict[str, Any]:
    return {"unit": unit, "avg": value}


def _spread(values: requests.Floats, unit: str) -> dict[str, Any] | None:
    if not len(values):
        return None
    percentiles = {f"p{percent}": float(np.percentile(values, percent)) for percent in _PERCENTILES}
    return {
        "unit": unit,
        "avg": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        "std": float(values.std()),
        **percentiles,
    }


PLUGIN: type[Exporter] = AiPerf
