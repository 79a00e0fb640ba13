"""Prefill and decode on GPUs of their own: each role's joules are counted and sum to the whole."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import golden_run
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from harness import pipeline, plugins, report
from harness.cli import list as list_verb
from harness.emulator import build, make, waveform
from harness.emulator.model import SensorModel
from harness.errors import ConfigError
from harness.journal import JournalWriter
from harness.record import RunRecord
from harness.timeline import POWER_DTYPE, Channel

ROOT = Path(__file__).resolve().parent.parent
S = 10**9
WATTS = {"GPU-a": 400.0, "GPU-b": 100.0, "GPU-c": 60.0}
_POWER = struct.Struct("<qqdHH4x").pack


def recorded(
    folder: Path, *, roles: dict, devices: dict[str, int | None], cached: str = "0"
) -> RunRecord:
    """
    The golden run (83.3 output and 41.7 input tokens a second), on GPUs of constant power.

    Args:
        folder: empty.
        roles: as an engine's facts say them.
        devices: name, a key of WATTS → the index its source says; None: it says none.
        cached: of each request's 10 input tokens, as JSON.
    """
    golden_run.make(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["provenance"]["engine"]["gpus_by_role"] = roles
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rows = (folder / "requests.jsonl").read_text()
    rows = rows.replace('"cached_tokens":0', f'"cached_tokens":{cached}')
    (folder / "requests.jsonl").write_text(rows)
    gpus = {
        name: {} if index is None else {"index": index, "name": "made up"}
        for name, index in devices.items()
    }
    facts = {"at_start": {"nvml": {"driver": "made up", "gpus": gpus}}}
    mark = {"mark": "provenance", "t_ns": golden_run.START, "about": "power", "facts": facts}
    with (folder / "marks.jsonl").open("a") as file:
        file.write(json.dumps(mark) + "\n")
    _meter(folder / "power.journal", list(devices))
    return pipeline.finish(folder)


def _meter(path: Path, devices: list[str]) -> None:
    channels = [
        Channel(
            name=f"made-up:{device}", quantity="energy", boundary="gpu", device=device,
            power_kind="emulated", method="made up", quantum=0.001, sense="counter",
        )
        for device in devices
    ]  # fmt: skip
    path.unlink()
    journal = JournalWriter(
        path, POWER_DTYPE, {"channels": [dataclasses.asdict(c) for c in channels], "sources": []}
    )
    for place in range(20 * 19):
        t_ns = golden_run.START - 7 * S + place * 50_000_000
        ticked = (t_ns + 7_000_000) // golden_run.TICK_NS * golden_run.TICK_NS
        for number, device in enumerate(devices):
            joules = WATTS[device] * (ticked - golden_run.START + 8 * S) / 1e9
            journal.append(_POWER(t_ns + number, t_ns + 20_000, round(joules, 3), number, 0))
    journal.close()


def codes(record: RunRecord) -> set[str]:
    return {finding.code for finding in record.findings}


def test_each_role_has_its_own_joules_per_token(tmp_path):
    """By hand: a round of 0.96 s takes 40 input and gives 80 output tokens, at 400 W and 100 W."""
    record = recorded(
        tmp_path / "run", roles={"prefill": [0], "decode": [3]}, devices={"GPU-a": 0, "GPU-b": 3}
    )
    found = {key: value.value for key, value in record.metrics.items()}
    assert found["gpu_prefill_average_w"] == pytest.approx(400, rel=0.005)
    assert found["gpu_decode_average_w"] == pytest.approx(100, rel=0.005)
    assert found["gpu_average_w"] == pytest.approx(500, rel=0.005)
    assert found["gpu_prefill_j_per_input_token"] == pytest.approx(400 * 0.96 / 40, rel=0.03)
    assert found["gpu_prefill_j_per_computed_token"] == found["gpu_prefill_j_per_input_token"]
    assert found["gpu_decode_j_per_output_token"] == pytest.approx(100 * 0.96 / 80, rel=0.03)
    (window, _) = record.windows
    assert [role["role"] for role in window["roles"]] == ["prefill", "decode"]
    assert [role["devices"] for role in window["roles"]] == [["GPU-a"], ["GPU-b"]]
    parts = sum(role["average_w"] for role in window["roles"])
    assert parts == pytest.approx(window["energies"][0]["average_w"], rel=1e-3)
    for key in found:
        if "_prefill_" in key or "_decode_" in key:
            value = record.metrics[key]
            assert value.low <= value.value <= value.high


def test_cached_input_is_left_out_of_what_was_computed(tmp_path):
    record = recorded(
        tmp_path / "run", roles={"prefill": [0], "decode": [1]},
        devices={"GPU-a": 0, "GPU-b": 1}, cached="6",
    )  # fmt: skip
    whole = record.metrics["gpu_prefill_j_per_input_token"].value
    assert record.metrics["gpu_prefill_j_per_computed_token"].value == pytest.approx(whole * 10 / 4)


def test_a_server_that_does_not_say_what_was_cached_leaves_that_number_out(tmp_path):
    record = recorded(
        tmp_path / "run", roles={"prefill": [0], "decode": [1]},
        devices={"GPU-a": 0, "GPU-b": 1}, cached="null",
    )  # fmt: skip
    assert "gpu_prefill_j_per_input_token" in record.metrics
    assert "gpu_prefill_j_per_computed_token" not in record.metrics
    assert "cached_input_unknown" in codes(record)


@pytest.mark.parametrize("roles", [{}, {"both": [0, 1]}, {"prefill": [0, 1], "decode": [1]}])
def test_roles_that_share_gpus_are_not_split(tmp_path, roles):
    record = recorded(tmp_path / "run", roles=roles, devices={"GPU-a": 0, "GPU-b": 1})
    assert not [key for key in record.metrics if "_prefill_" in key or "_decode_" in key]
    assert "roles" not in record.windows[0]
    assert not codes(record) & {"roles_not_metered", "device_without_role"}


def test_a_meter_that_does_not_say_which_gpu_is_which_is_named(tmp_path):
    record = recorded(
        tmp_path / "run", roles={"prefill": [0], "decode": [5]}, devices={"GPU-a": 0, "GPU-b": None}
    )
    assert "gpu_energy_j" in record.metrics
    assert "gpu_decode_energy_j" not in record.metrics
    (finding,) = [f for f in record.findings if f.code == "roles_not_metered"]
    assert "which device is GPU 5" in finding.message


def test_a_device_of_no_role_is_in_the_total_alone(tmp_path):
    record = recorded(
        tmp_path / "run", roles={"prefill": [0], "decode": [1]},
        devices={"GPU-a": 0, "GPU-b": 1, "GPU-c": 2},
    )  # fmt: skip
    assert record.metrics["gpu_average_w"].value == pytest.approx(560, rel=0.005)
    assert record.metrics["gpu_decode_average_w"].value == pytest.approx(100, rel=0.005)
    assert "device_without_role" in codes(record)


@pytest.mark.parametrize("kind", ["fake", "attach"])
@pytest.mark.parametrize(("prefill", "decode"), [((0,), ()), ((), (1,)), ((0, 1), (1, 2))])
def test_roles_that_make_no_sense_are_refused(kind, prefill, decode):
    options = {"url": "http://127.0.0.1:1"} if kind == "attach" else {}
    with pytest.raises(ConfigError, match="name GPUs for both, and none twice"):
        plugins.load("engine", kind)(model="m", prefill_gpus=prefill, decode_gpus=decode, **options)


def test_a_deployment_that_runs_already_can_say_its_roles():
    engine = plugins.load("engine", "attach")(
        url="http://127.0.0.1:1", model="m", runs_on="gpu", prefill_gpus=(4, 5), decode_gpus=(6,)
    )
    assert engine.gpu_indices == (4, 5, 6)
    assert engine.facts()["gpus_by_role"] == {"prefill": (4, 5), "decode": (6,)}


CONFIG = """
[engine]
kind = "fake"
ttft_s = 0.05
itl_s = 0.01
prefill_gpus = [2]
decode_gpus = [0, 1]
[workload]
isl_tokens = 64
osl_tokens = 16
[load]
concurrency = 4
request_count = 100
[power]
sources = ["nvml"]
idle_s = 0.5
[window]
kind = "run"
min_s = 1.0
refuse_below_s = 1.0
"""


def test_a_run_on_emulated_gpus_finds_the_true_joules_of_each_role(tmp_path):
    """Three GPUs whose true energy is known; the engine is the mock, the power emulated."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    world = make.make_world(
        [
            waveform.square(low_w=90.0, high_w=300.0, period_s=1.7),
            waveform.constant(power_w=120.0),
            waveform.square(low_w=200.0, high_w=650.0, period_s=0.9, phase_s=0.2),
        ],
        seed=4,
    )
    environment = build.environment(
        world.write(tmp_path / "world.txt"), library=build.build(tmp_path / "library")
    )
    (tmp_path / "roles.toml").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "roles.toml", "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["power_kind"] == "emulated"
    (folder,) = (tmp_path / "runs").iterdir()
    requests = pq.read_table(folder / "requests.parquet").to_pandas()
    models = [SensorModel(world, gpu) for gpu in range(3)]
    (window, _) = record["windows"]
    for role, gpus in (("prefill", [2]), ("decode", [0, 1])):
        (row,) = [each for each in window["roles"] if each["role"] == role]
        start, end = row["start_ns"], row["end_ns"]
        truth_j = sum(models[gpu].true_energy_j(start, end) for gpu in gpus)
        value = record["metrics"][f"gpu_{role}_energy_j"]
        assert value["value"] == pytest.approx(truth_j, rel=0.02)
        assert value["low"] <= truth_j <= value["high"]
        inside = requests[(requests["t_first_ns"] >= start) & (requests["t_first_ns"] < end)]
        if role == "prefill":
            per_token = record["metrics"]["gpu_prefill_j_per_input_token"]["value"]
            assert per_token * int(inside["isl_tokens"].sum()) == pytest.approx(value["value"])
        else:
            per_token = record["metrics"]["gpu_decode_j_per_output_token"]["value"]
            assert per_token == pytest.approx(truth_j / (100 * 16), rel=0.05)


def test_an_inferencex_row_has_the_joules_of_each_role_under_its_names(tmp_path):
    """Whole run of 9.603 s: 400 input, 800 output tokens; prefill has two GPUs, 400 and 60 W."""
    recorded(
        tmp_path / "run", roles={"prefill": [0, 2], "decode": [1]},
        devices={"GPU-a": 0, "GPU-b": 1, "GPU-c": 2},
    )  # fmt: skip
    record = pipeline.with_window(tmp_path / "run", "run")
    exporter = plugins.load("exporter", "inferencex")()
    row = json.loads(exporter.export(record, tmp_path / "run").read_text())
    assert row["disagg"] is True
    assert (row["num_prefill_gpu"], row["num_decode_gpu"]) == (2, 1)
    assert "prefill_gpu_energy_j" not in row, "emulated joules are in no other tool's file"
    assert row["input_tput_per_gpu"] == pytest.approx(400 / 9.603 / 2)
    assert row["output_tput_per_gpu"] == pytest.approx(800 / 9.603)
    text = record.to_json().decode().replace('"emulated"', '"measured"')
    row = json.loads(
        exporter.export(
            RunRecord.from_json(text.encode(), where="test"), tmp_path / "run"
        ).read_text()
    )
    assert row["prefill_gpu_energy_j"] == pytest.approx(460 * 9.603, rel=0.02)
    assert row["prefill_avg_power_w"] == pytest.approx(230, rel=0.005)
    assert row["prefill_joules_per_input_token"] == pytest.approx(row["prefill_gpu_energy_j"] / 400)
    assert row["decode_avg_power_w"] == pytest.approx(100, rel=0.005)
    assert row["decode_joules_per_output_token"] == pytest.approx(row["decode_gpu_energy_j"] / 800)


def test_the_report_and_the_list_name_the_roles_and_the_whole(tmp_path):
    folder = tmp_path / "runs" / "run"
    folder.parent.mkdir()
    record = recorded(
        folder, roles={"prefill": [0], "decode": [1]}, devices={"GPU-a": 0, "GPU-b": 1}
    )
    keys = [row.key for row in report.summary(record)]
    assert keys.index("gpu_prefill_j_per_input_token") < keys.index("gpu_energy_j")
    listed = CliRunner().invoke(
        list_verb.COMMAND, ["runs", "--artifact-dir", str(folder.parent)], standalone_mode=False
    )
    assert listed.output.count("J/token") == 1, listed.output
