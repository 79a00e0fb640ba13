"""Run folders as `joulemark run` leaves them, made by hand for the cost tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.record import MetricValue, RunRecord

H100 = "NVIDIA H100 80GB HBM3"


def record(
    *,
    run_id: str = "run-1",
    power_kind: str = "measured",
    boundary: str = "gpu",
    devices: int = 1,
    device_name: str | None = H100,
    model: str | None = "openai/gpt-oss-120b",
    extra: dict[str, float] | None = None,
    extra_kind: str = "measured",
) -> RunRecord:
    """A run of 2000 output and 4000 total tokens a second and 600 W, each device."""
    numbers = {
        "output_throughput_tok_per_s": 2000.0 * devices,
        "total_throughput_tok_per_s": 4000.0 * devices,
        "interactivity_tok_per_s.p50": 40.0,
        "isl_tokens.mean": 300.0,
        "osl_tokens.mean": 1000.0,
        f"{boundary}_loaded_idle_w": 120.0 * devices,
        **(extra or {}),
    }
    metrics = {
        key: MetricValue(value=value, low=None, high=None, unit="x", n=1)
        for key, value in numbers.items()
    }
    watts = 600.0 * devices
    metrics[f"{boundary}_average_w"] = MetricValue(
        value=watts, low=watts * 0.99, high=watts * 1.02, unit="W", n=9, interval="metering"
    )
    names = [f"GPU-{index}" for index in range(devices)]
    rows: list[dict[str, Any]] = [
        {"boundary": boundary, "power_kind": power_kind, "devices": names}
    ]
    rows += [
        {"boundary": key.removesuffix("_average_w"), "power_kind": extra_kind, "devices": ["x"]}
        for key in extra or {}
        if key.endswith("_average_w")
    ]
    gpus = {} if device_name is None else {name: {"name": device_name} for name in names}
    return RunRecord(
        run_id=run_id,
        status="complete",
        power_kind=power_kind,
        config={"engine": {"kind": "vllm", "model": model}},
        provenance={"power": {"at_start": {"nvml": {"gpus": gpus}}}},
        tokens={},
        windows=[{"name": "steady", "energies": rows}],
        metrics=metrics,
    )


def folder(path: Path, made: RunRecord) -> str:
    """Write it where `joulemark cost` looks, and return the folder's name."""
    place = path / made.run_id
    place.mkdir()
    (place / "run.json").write_bytes(made.to_json())
    return str(place)
