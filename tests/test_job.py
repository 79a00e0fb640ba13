"""Slurm's prolog and epilog: what a job drew, by a real daemon; and that no job fails for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from servers import serving

from harness.emulator import build, make, waveform
from harness.job.account import Job, account
from harness.job.readings import Counter, Reading

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy" / "slurm" / "joulemark-job.sh"
JOULEMARK = Path(sys.executable).with_name("joulemark")
OSL = 30


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def slurm(folder: Path, context: str, *, url: str, **changes: str | None) -> float:
    """
    Run the script as slurmd does: no PATH, SLURM_* and little else.

    Returns:
        Seconds it took; it must always end with 0.
    """
    (folder / "conf").write_text(
        f"JOULEMARK={changes.pop('program', None) or JOULEMARK}\n"
        f"JOULEMARK_JOB_OPTIONS='--exporter {url} --state-dir {folder}/state"
        + (f" --out-dir {folder}/out'\n" if context == "epilog_slurmd" else "'\n")
        + f"JOULEMARK_TIMEOUT_S={changes.pop('timeout_s', None) or 60}\n"
    )
    environment = {
        "SLURM_SCRIPT_CONTEXT": context, "SLURM_JOB_ID": "742", "SLURMD_NODENAME": "n1",
        "SLURM_JOB_USER": "a", "SLURM_JOB_GID": "12345", "CUDA_VISIBLE_DEVICES": "0",
        "JOULEMARK_JOB_CONF": str(folder / "conf"), **changes,
    }  # fmt: skip
    began_s = time.monotonic()
    done = subprocess.run(
        [SCRIPT], env={key: value for key, value in environment.items() if value is not None},
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout + done.stderr == ""
    return time.monotonic() - began_s


def document(folder: Path) -> dict:
    found: dict = json.loads((folder / "out" / "742.n1.json").read_text())
    return found


def codes(found: dict) -> set[str]:
    return {one["code"] for one in found["findings"]}


def scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback
        return str(answer.read().decode())


def until(what: str, ready) -> None:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.1)  # the daemon takes its snapshots when it does
    pytest.fail(f"not in 60 s: {what}")


@contextlib.contextmanager
def node(folder: Path, power: str, *, engine: str = "", environment=None):
    """A real exporter with a mock engine; yields their ports."""
    ports = free_port(), free_port()
    (folder / "exporter.toml").write_text(
        f'[exporter]\nlisten = "127.0.0.1:{ports[0]}"\nsnapshot_s = 0.2\n{power}\n'
        f'[[engine]]\nurl = "http://127.0.0.1:{ports[1]}/metrics"\nmodel_name = "m"\n{engine}'
    )
    env = {**(environment or os.environ), "PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        for verb in (["mock", "--port", str(ports[1])], ["export", "--config", "exporter.toml"]):
            process = subprocess.Popen(
                [sys.executable, "-m", "harness", *verb], cwd=folder, env=env,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
        url = f"http://127.0.0.1:{ports[0]}/metrics"
        until("an engine that is up", lambda: 'joulemark_engine_up{model_name="m"' in scraped(url))
        yield url, ports[1]


def generate(port: int, count: int) -> None:
    body = json.dumps({"prompt": "a b c", "max_tokens": OSL}).encode()
    fields = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v1/completions"
    for _ in range(count):
        request = urllib.request.Request(url, body, fields)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            answer.read()


def generated(url: str) -> float:
    lines = scraped(url).splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("joulemark_generated_tokens_total{")
    )


def test_a_job_has_its_joules_and_its_tokens_and_nobody_elses(tmp_path):
    """300 W throughout; tokens from before the job are not the job's."""
    with node(tmp_path, '[power]\nsources = ["scripted"]\n[power.scripted]\nhigh_w = 300.0') as at:
        url, engine = at
        generate(engine, 1)
        until("the tokens before the job", lambda: generated(url) == OSL)
        slurm(tmp_path, "prolog_slurmd", url=url)
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        generate(engine, 4)
        until("the job's tokens", lambda: generated(url) == 5 * OSL)
        slurm(tmp_path, "epilog_slurmd", url=url)
    found = document(tmp_path)
    assert found["source"] == "exporter"
    assert codes(found) <= {"devices_of_the_node", "uncovered"}
    (energy,) = found["energies"]
    assert energy["power_kind"] == "emulated"
    assert energy["boundary"] == "gpu"
    # A snapshot is up to 0.2 s old at each end, later under load.
    assert energy["energy_j"] == pytest.approx(300 * found["duration_s"], abs=300 * 1.5)
    assert energy["output_tokens"] == 4 * OSL
    assert energy["j_per_output_token"] == energy["energy_j"] / (4 * OSL)
    (model,) = found["models"]
    assert model["output_tokens"] == 4 * OSL
    assert 0 < model["energy_j"] <= energy["energy_j"] * (1 + 1e-9)
    assert not list((tmp_path / "state").iterdir())
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    out = (tmp_path / "out" / "742.n1.json").stat()
    assert stat.S_IMODE(out.st_mode) == 0o640
    if os.geteuid() == 0:
        assert (out.st_uid, out.st_gid) == (0, 12345)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.skipif(
    os.path.exists("/proc/driver/nvidia/version"),  # noqa: PTH110 - at import, one call
    reason="a real driver is loaded: the emulator refuses, as it should",
)
def test_slurms_gpu_numbers_choose_the_devices_and_nvml_serves_where_the_daemon_is_gone(tmp_path):
    """Three GPUs of 100, 200 and 400 W; the job has the last, and the engine runs there."""
    shapes = [waveform.constant(power_w=watts) for watts in (100, 200, 400)]
    world = make.make_world(shapes, seed=5)
    world = dataclasses.replace(world, origin_ns=world.origin_ns - 100 * 10**9)
    library = build.build(tmp_path / "library")
    environment = build.environment(world.write(tmp_path / "world.txt"), library=library)
    own = {key: environment[key] for key in ("LD_LIBRARY_PATH", build.WORLD_VARIABLE)}
    uuid = world.gpus[2].device_uuid
    power, engine = '[power]\nsources = ["nvml"]', f'devices = ["{uuid}"]\n'
    gpus = {"SLURM_JOB_GPUS": "2", **own}
    with node(tmp_path, power, engine=engine, environment=environment) as (url, port):
        slurm(tmp_path, "prolog_slurmd", url=url, **gpus)
        state = (tmp_path / "state" / "742.json").read_bytes()
        generate(port, 3)
        until("the job's tokens", lambda: generated(url) == 3 * OSL)
        slurm(tmp_path, "epilog_slurmd", url=url, **gpus)
        found = document(tmp_path)
        assert found["source"] == "exporter"
        assert [one["uuid"] for one in found["devices"]] == [uuid]
        (energy,) = found["energies"]
        assert energy["energy_j"] == pytest.approx(400 * found["duration_s"], abs=400 * 1.5)
        assert energy["output_tokens"] == 3 * OSL
    (tmp_path / "state" / "742.json").write_bytes(state)
    slurm(tmp_path, "epilog_slurmd", url=url, **gpus)
    found = document(tmp_path)
    assert found["source"] == "nvml"
    assert "exporter_silent" in codes(found)
    (energy,) = found["energies"]
    assert energy["energy_j"] == pytest.approx(400 * found["duration_s"], abs=400 * 1.5)
    assert energy["power_kind"] == "emulated"
    assert energy["output_tokens"] is None
    assert energy["j_per_output_token"] is None


def test_without_daemon_and_gpu_the_job_has_a_document_that_says_so(tmp_path):
    nowhere = f"http://127.0.0.1:{free_port()}/metrics"
    slurm(tmp_path, "prolog_slurmd", url=nowhere)
    slurm(tmp_path, "epilog_slurmd", url=nowhere)
    found = document(tmp_path)
    assert found["energies"] == []
    assert {"exporter_silent", "no_energy"} <= codes(found)
    slurm(tmp_path, "epilog_slurmd", url=nowhere)
    found = document(tmp_path)
    assert codes(found) == {"begin_missing"}
    assert found["duration_s"] is None


def test_a_daemon_that_hangs_costs_the_job_its_limit_and_no_more(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"
        took_s = slurm(tmp_path, "prolog_slurmd", url=url, timeout_s="1")
    assert took_s < 30
    assert not (tmp_path / "state" / "742.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"program": "/no/such/program"},
        {"program": "/bin/false"},
        {"SLURM_JOB_ID": "../../../tmp/x"},
        {"SLURM_JOB_ID": None},
        {"SLURM_SCRIPT_CONTEXT": "prolog_task"},
        {"SLURM_SCRIPT_CONTEXT": None},
    ],
    ids=str,
)
def test_nothing_that_is_wrong_fails_a_job_or_leaves_a_file(tmp_path, changes):
    slurm(tmp_path, "prolog_slurmd", url="http://127.0.0.1:1/", **changes)
    assert {path.name for path in tmp_path.rglob("*")} <= {"conf"}


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    slurm(tmp_path, "prolog_slurmd", url="http://127.0.0.1:1/")
    assert not list((tmp_path / "state").iterdir())
    (tmp_path / "state").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    slurm(tmp_path, "prolog_slurmd", url="http://127.0.0.1:1/")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_secret_is_sent_to_the_daemon_from_a_file(tmp_path, joulemark, monkeypatch):
    seen = []

    def answer(handler, _):
        seen.append(handler.headers["Authorization"])

    with serving(answer) as url:
        # The server answers POST only: what matters here is that nothing is raised for it.
        (tmp_path / "h").write_text("Authorization: Basic abc\n")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        done = joulemark("job", "begin", "--exporter", url, "--headers", "h", "--state-dir", "s")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "s" / "7.json").read_text())
    assert "answers 501" in kept["exposition_fault"]


# --- arithmetic, by hand --------------------------------------------------------------------

LABELS = 'uuid="{uuid}",boundary="gpu",power_kind="measured"'
OWNER = 'model_name="m",engine="vllm",instance_id="{who}"'


def exposition(joules: dict[str, float], models=(), tokens=(), *, extra: str = "") -> str:
    """
    A daemon's word.

    Args:
        joules: by device.
        models: (device, instance, joules).
        tokens: (instance, output tokens).
        extra: more lines.
    """
    lines = [
        f"joulemark_device_energy_joules_total{{{LABELS.format(uuid=uuid)}}} {value}"
        for uuid, value in joules.items()
    ]
    for state in ("active", "idle"):
        lines += [
            f"joulemark_model_energy_joules_total{{{LABELS.format(uuid=uuid)},"
            f'{OWNER.format(who=who)},state="{state}"}} {value / 2}'
            for uuid, who, value in models
        ]
    for who, value in tokens:
        own = OWNER.format(who=who)
        lines += [
            f'joulemark_generated_tokens_total{{{own},power_kind="measured"}} {value}',
            f'joulemark_computed_tokens_total{{{own},power_kind="measured"}} {2 * value}',
        ]
    return "\n".join([*lines, extra]) + "\n"


def reading(t_s: float, text: str | None, *counters: tuple[str, int | None, float]) -> Reading:
    return Reading(
        t_s=t_s, exposition=text, exposition_fault=None if text else "it was away",
        counters=tuple(
            Counter(uuid=uuid, minor=minor, boundary="gpu", power_kind="measured", energy_j=joules)
            for uuid, minor, joules in counters
        ),
        counters_fault=None if counters else "no NVML",
    )  # fmt: skip


def of(gpus, begin, end):
    return account(Job(job_id="1", node="n", gpus=gpus), begin, end)


def test_joules_per_token_of_a_job_by_hand():
    """
    GPU b gains 700 J: 600 J of instance y and 100 J of nobody; y makes 200 tokens.

    3.5 J a token for the job, 3 J a token for the model; GPU a is another job's.
    """
    minors = (("a", 1, 0.0), ("b", 0, 0.0))
    begin = exposition({"a": 10, "b": 300}, [("b", "y", 200), ("a", "x", 5)], [("y", 50)])
    end = exposition({"a": 90, "b": 1000}, [("b", "y", 800), ("a", "x", 80)], [("y", 250)])
    found = of(("0",), reading(0, begin, *minors), reading(70, end, *minors))
    assert found["findings"] == []
    assert found["duration_s"] == 70
    assert found["energies"] == [
        {"boundary": "gpu", "power_kind": "measured", "energy_j": 700.0, "output_tokens": 200.0,
         "j_per_output_token": 3.5}
    ]  # fmt: skip
    (model,) = found["models"]
    assert model["instance_id"] == "y"
    assert model["energy_j"] == 600
    assert model["j_per_output_token"] == 3
    assert model["computed_input_tokens"] == 400
    assert model["cached_input_tokens"] is None


def test_an_engine_that_the_job_started_began_at_zero():
    end = exposition({"a": 100}, [("a", "new", 90)], [("new", 10)])
    found = of(None, reading(0, exposition({"a": 40})), reading(9, end))
    assert found["models"][0]["j_per_output_token"] == 9
    assert found["energies"][0]["j_per_output_token"] == 6
    assert codes(found) == {"devices_of_the_node"}


def test_an_engine_over_several_jobs_devices_has_no_tokens_of_this_job():
    minors = (("a", 0, 0.0), ("b", 1, 0.0))
    begin = exposition({"a": 0, "b": 0})
    end = exposition({"a": 50, "b": 60}, [("a", "x", 50), ("b", "x", 60)], [("x", 10)])
    found = of(("0",), reading(0, begin, *minors), reading(9, end, *minors))
    assert codes(found) == {"engine_spans_jobs"}
    assert found["energies"][0]["energy_j"] == 50
    assert found["energies"][0]["j_per_output_token"] is None


def test_a_daemon_that_began_anew_without_state_is_replaced_by_nvml():
    lost = 'joulemark_findings{code="state_not_kept"} 1\nprocess_start_time_seconds '
    begin = reading(0, exposition({"a": 10}, extra=f"{lost}1"), ("a", 0, 1000.0))
    end = reading(9, exposition({"a": 50}, extra=f"{lost}2"), ("a", 0, 1400.0))
    found = of(("0",), begin, end)
    assert codes(found) == {"exporter_restarted"}
    assert found["source"] == "nvml"
    assert found["energies"][0]["energy_j"] == 400
    # With its state kept, a restart is only time that was not metered.
    keeps = reading(9, exposition({"a": 50}, extra="process_start_time_seconds 2\n"
                    'joulemark_device_uncovered_seconds_total{uuid="a",reason="daemon_down"} 3'),
                    ("a", 0, 1400.0))  # fmt: skip
    found = of(("0",), begin, keeps)
    assert codes(found) == {"uncovered"}
    assert found["energies"][0]["energy_j"] == 40
    assert found["devices"][0]["uncovered_s"] == 3


def test_a_counter_that_went_back_gives_no_joules_and_no_zero():
    found = of(
        None, reading(0, exposition({"a": 50, "b": 1})), reading(9, exposition({"a": 10, "b": 9}))
    )
    assert found["energies"][0]["energy_j"] is None
    assert found["devices"][1]["energy_j"] == 8
    assert "counter_not_usable" in codes(found)


def test_devices_that_cannot_be_told_have_no_joules():
    begin, end = reading(0, exposition({"a": 0, "b": 0})), reading(9, exposition({"a": 5, "b": 7}))
    found = of(("0",), begin, end)
    assert found["energies"] == []
    assert codes(found) == {"devices_not_known"}
    mig = (("a", None, 0.0), ("b", 1, 0.0))
    begin, end = reading(0, begin.exposition, *mig), reading(9, end.exposition, *mig)
    assert codes(of(("1",), begin, end)) == {"devices_not_known"}
    # A UUID needs no number.
    assert of(("b",), begin, end)["energies"][0]["energy_j"] == 7


def test_what_is_no_exposition_is_said_so():
    found = of(None, reading(0, "<html>"), reading(9, "<html>"))
    assert "exporter_silent" in codes(found)
    assert found["energies"] == []
