"""The JSON that `vllm bench serve --save-result` writes, for its own plots and comparisons."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.record import RunRecord

from . import _requests as requests


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmBench:
    """
    One flat object; fields as in vllm/benchmarks/serve.py.

    All requests of the measured phase count, ramp and drain included, as there;
    so the throughput is below that of our steady window. Ours differ in one
    definition: vLLM's TTFT ends with the first chunk, also an empty one.
    """

    file_name: str = "vllm_bench.json"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        path = folder / self.file_name
        write_atomically(path, orjson.dumps(document(record, folder), option=orjson.OPT_INDENT_2))
        return path


def document(record: RunRecord, folder: Path) -> dict[str, Any]:
    """The object; percentiles are numpy's linear ones, as vLLM's are."""
    found = requests.totals(folder)
    load = record.config["load"]
    anchor = record.provenance["anchor"]
    started_s = (anchor["t_wall_ns"] + found.t_start_ns - anchor["t_monotonic_ns"]) / 1e9
    stamp = dt.datetime.fromtimestamp(started_s, dt.UTC)
    model = record.config["engine"].get("model")
    result: dict[str, Any] = {
        "date": stamp.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": f"openai-{load.get('endpoint_type') or 'default'}",
        "backend": record.provenance["engine"]["engine"],
        "label": record.run_id,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": found.completed + found.failed,
        "request_rate": load.get("request_rate_per_s") or "inf",
        "burstiness": load.get("burstiness", 1.0),
        "max_concurrency": load.get("concurrency"),
        "duration": found.duration_s,
        "completed": found.completed,
        "failed": found.failed,
        "total_input_tokens": found.input_tokens,
        "total_output_tokens": found.output_tokens,
        "request_throughput": found.completed / found.duration_s,
        "request_goodput": None,
        "output_throughput": found.output_tokens / found.duration_s,
        "total_token_throughput": (found.input_tokens + found.output_tokens) / found.duration_s,
    }
    for name, seconds in found.seconds.items():
        if not len(seconds):
            continue
        ms = seconds * 1e3
        result[f"mean_{name}_ms"] = float(ms.mean())
        result[f"median_{name}_ms"] = float(np.median(ms))
        result[f"std_{name}_ms"] = float(ms.std())
        for percent in (50, 90, 95, 99):
            result[f"p{percent}_{name}_ms"] = float(np.percentile(ms, percent))
    return result


PLUGIN: type[Exporter] = VllmBench
