"""One result row as InferenceX aggregates them, with joules if they were measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.record import RunRecord

from . import _requests as requests

_POWER_SCHEMA: Final = 2
_PERCENTILES: Final = (("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceX:
    """
    Fields as in InferenceX utils/process_result.py and aggregate_power.py.

    What only their runners know (`hw`, `precision`, `recipe_fingerprint`), and what
    our options do not say (context parallelism), is null, to be filled in.
    Joules are of the whole run, their window, and only where measured;
    `power_valid` is 0 otherwise and `joulemark_power_kind` says what there was.
    """

    file_name: str = "inferencex.json"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        path = folder / self.file_name
        write_atomically(path, orjson.dumps(row(record, folder), option=orjson.OPT_INDENT_2))
        return path


def row(record: RunRecord, folder: Path) -> dict[str, Any]:
    """The row; seconds and tokens a second."""
    found = requests.totals(folder)
    engine, load = record.config["engine"], record.config["load"]
    workload = record.config["workload"]
    gpus = requests.devices(record)
    total = found.input_tokens + found.output_tokens
    roles = record.provenance["engine"].get("gpus_by_role") or {}
    apart = {role: len(own) for role, own in roles.items() if role in {"prefill", "decode"}}
    result: dict[str, Any] = {
        "hw": None,
        "conc": load.get("concurrency"),
        "image": engine.get("image") or None,
        "model": engine.get("model"),
        "infmax_model_prefix": None,
        "framework": record.provenance["engine"]["engine"],
        "precision": None,
        "spec_decoding": "none",
        "disagg": bool(apart) or engine.get("mode") == "disaggregated",
        "recipe_fingerprint": None,
        "isl": workload.get("isl_tokens") or _nominal(workload, 0),
        "osl": workload.get("osl_tokens") or _nominal(workload, 1),
        "is_multinode": False,
        "tp": engine.get("tensor_parallel_size"),
        "pp": engine.get("pipeline_parallel_size"),
        "dcp_size": None,
        "pcp_size": None,
        "ep": engine.get("expert_parallel_size"),
        "dp_attention": engine.get("dp_attention", engine.get("attention_dp", False)),
        "tput_per_gpu": _each(total, found.duration_s, gpus),
        # As there: by the GPUs of the role alone, where the roles are apart.
        "output_tput_per_gpu": _each(
            found.output_tokens, found.duration_s, apart.get("decode", gpus)
        ),
        "input_tput_per_gpu": _each(
            found.input_tokens, found.duration_s, apart.get("prefill", gpus)
        ),
    }
    for role, count in apart.items():
        result[f"num_{role}_gpu"] = count
        result[f"{role}_tp"] = engine.get("tensor_parallel_size")
        result[f"{role}_num_workers"] = engine.get(f"{role}_workers")
    for name, seconds in found.seconds.items():
        result |= _statistics(name, seconds)
    # As there: each statistic of the interactivity is one over that of TPOT.
    result |= {
        key.replace("tpot", "intvty"): 1 / value
        for key, value in _statistics("tpot", found.seconds["tpot"]).items()
        if value > 0
    }
    return result | _power(record, found)


def _statistics(name: str, seconds: requests.Floats) -> dict[str, float]:
    if not len(seconds):
        return {}
    found = {
        f"mean_{name}": float(seconds.mean()),
        f"median_{name}": float(np.median(seconds)),
        f"std_{name}": float(seconds.std()),
    }
    return found | {
        f"{label}_{name}": float(np.percentile(seconds, percent)) for label, percent in _PERCENTILES
    }


def _power(record: RunRecord, found: requests.Totals) -> dict[str, Any]:
    energy = requests.run_energy(record)
    head = {
        "power_valid": int(energy is not None),
        "power_metric_schema_version": _POWER_SCHEMA,
        "joulemark_power_kind": record.power_kind,
        "joulemark_run_id": record.run_id,
    }
    if energy is None:
        return head
    joules, seconds = energy["energy_j"], energy["duration_s"]
    return (
        head
        | _roles(record, found)
        | {
            "avg_power_w": joules / seconds / len(energy["devices"]),
            "avg_total_gpu_power_w": joules / seconds,
            "total_gpu_energy_j": joules,
            "joules_per_output_token": joules / found.output_tokens,
            "joules_per_input_token": joules / found.input_tokens,
            "joules_per_total_token": joules / (found.input_tokens + found.output_tokens),
            "joules_per_successful_query": joules / found.completed,
        }
    )


def _roles(record: RunRecord, found: requests.Totals) -> dict[str, float]:
    """Role by role over the whole window, idling included; nothing where roles share GPUs."""
    denominators = {
        "prefill": ("prefill_joules_per_input_token", found.input_tokens),
        "decode": ("decode_joules_per_output_token", found.output_tokens),
    }
    result: dict[str, float] = {}
    for role, energy in requests.role_energies(record).items():
        key, count = denominators[role]
        joules = energy["energy_j"]
        result |= {
            f"{role}_gpu_energy_j": joules,
            f"{role}_avg_power_w": joules / energy["duration_s"] / len(energy["devices"]),
            key: joules / count,
        }
    return result


def _nominal(workload: dict[str, Any], place: int) -> int | None:
    lengths = {"1k1k": (1024, 1024), "1k8k": (1024, 8192), "8k1k": (8192, 1024)}
    scenario = lengths.get(str(workload.get("scenario")))
    return None if scenario is None else scenario[place]


def _each(tokens: int, seconds: float, gpus: int | None) -> float | None:
    return None if not gpus else tokens / seconds / gpus


PLUGIN: type[Exporter] = InferenceX
