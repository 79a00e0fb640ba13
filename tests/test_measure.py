"""`joulemark measure`: the command's own exit code and output, and what it drew."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.clock import WallAnchor
from harness.emulator import build, make, waveform
from harness.emulator.model import SensorModel
from harness.emulator.world import Fault
from harness.errors import ConfigError
from harness.measure import read_window

ROOT = Path(__file__).resolve().parent.parent
MODEL = ("measure", "--power", "cpu_model")


@pytest.fixture
def run(tmp_path):
    """Run the command line as a user does, in an empty folder."""
    (tmp_path / "here").mkdir()

    def call(*arguments, environment=None, prefix=(), **options):
        return subprocess.run(
            [*prefix, sys.executable, "-m", "harness", *arguments],
            cwd=tmp_path / "here",
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **options,
        )

    return call


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    return build.build(tmp_path_factory.mktemp("library"))


def test_the_exit_code_and_the_output_are_the_commands(run):
    done = run(*MODEL, "--", "sh", "-c", "echo out; echo err >&2; sleep 0.2; exit 7")
    assert done.returncode == 7
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr
    assert "cpu_package_energy_j" in done.stderr
    assert "modelled" in done.stderr


def test_a_signal_that_ends_the_command_is_passed_on_as_shells_do(run):
    assert run(*MODEL, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_arguments_behind_the_command_are_the_commands(run):
    done = run(*MODEL, "-q", "sh", "-c", 'echo "$@"', "sh", "--json", "-o", "x")
    assert done.stdout == "--json -o x\n"


def test_a_command_that_forks_is_waited_for_and_its_children_are_counted(run):
    burn = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.5: pass"
    done = run(*MODEL, "--json", "--", "sh", "-c", f"{sys.executable} -c '{burn}' & wait")
    record = json.loads(done.stdout)
    facts = record["provenance"]["power"]["facts_at_stop"]["cpu_model"]
    assert facts["cpu_s"] > 0.45
    assert record["power_kind"] == "modelled"
    assert record["metrics"]["cpu_package_energy_j"]["low"] is None


def test_it_works_under_nohup_and_in_a_pipe(run, tmp_path):
    # Long enough for two readings of the model, which is asked each millisecond at an edge.
    command = ("sh", "-c", "echo out; sleep 0.2")
    done = run(*MODEL, "-o", "record.json", "--", *command, prefix=("nohup",))
    assert done.returncode == 0
    assert "out\n" in done.stdout
    assert json.loads((tmp_path / "here" / "record.json").read_text())["status"] == "complete"


def test_standard_input_reaches_the_command(run):
    assert run(*MODEL, "-q", "--", "cat", input="hello").stdout == "hello"


def test_without_a_sensor_there_is_one_sentence_and_nothing_else(run, tmp_path):
    if Path("/sys/class/powercap/intel-rapl:0/energy_uj").exists() or shutil.which("nvidia-smi"):
        pytest.skip("this machine has a sensor")
    done = run("measure", "--", "sh", "-c", "echo ran > ran.txt")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no energy sensor" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_command_that_does_not_exist_is_refused_before_anything_is_metered(run):
    done = run(*MODEL, "--", "no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


def test_raw_readings_are_kept_when_asked_for(run, tmp_path):
    run(*MODEL, "--keep", "kept", "--", "true")
    assert {path.name for path in (tmp_path / "here" / "kept").iterdir()} == {
        "power.jmj",
        "run.json",
    }


def emulated(tmp_path, library, **changes):
    made = make.make_world(
        [waveform.square(low_w=70.0, high_w=680.0, period_s=2.0, phase_s=0.3)], seed=2, **changes
    )
    return made, build.environment(made.write(tmp_path / "world.txt"), library=library)


def test_emulated_joules_are_the_true_ones_and_say_what_they_are(run, tmp_path, library):
    made, environment = emulated(tmp_path, library)
    done = run("measure", "--json", "-q", "--", "sleep", "2", environment=environment)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["power_kind"] == "emulated"
    (window,) = record["windows"]
    energy = next(e for e in window["energies"] if e["boundary"] == "gpu")
    truth_j = SensorModel(made, 0).true_energy_j(energy["start_ns"], energy["end_ns"])
    value = record["metrics"]["gpu_energy_j"]
    assert value["value"] == pytest.approx(truth_j, rel=0.01)
    assert value["low"] <= value["value"] <= value["high"]


def test_a_gpu_that_is_lost_leaves_a_marked_record(run, tmp_path, library):
    made = make.make_world([waveform.constant(power_w=300.0)], seed=2)
    start_s = (time.perf_counter_ns() - made.origin_ns) / 1e9
    # Late enough for a start on a busy machine, and before the command ends.
    lost = Fault(kind="lost", start_s=start_s + 6.0)
    import dataclasses  # noqa: PLC0415

    made = dataclasses.replace(made, faults=(lost,))
    environment = build.environment(made.write(tmp_path / "world.txt"), library=library)
    done = run("measure", "--json", "-q", "--", "sleep", "7", environment=environment)
    record = json.loads(done.stdout)
    assert done.returncode == 0
    assert "device_lost" in {finding["code"] for finding in record["findings"]}
    assert record["windows"][0]["energy_valid"] is False
    value = record["metrics"]["gpu_energy_j"]["value"]
    assert 0 < value < 300 * 7


@pytest.fixture
def engine():
    """An engine's /metrics whose counter grows by 1000 tokens between two readings."""
    counts = iter(range(0, 10**6, 1000))

    class Own(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            count = next(counts)
            self.send_response(200)
            self.end_headers()
            for name, value in (("tokens_predicted", count), ("prompt_tokens", 2 * count)):
                line = f"# TYPE llamacpp:{name}_total counter\nllamacpp:{name}_total {value}\n"
                self.wfile.write(line.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_engines_own_counters_give_joules_per_token(run, engine):
    done = run(*MODEL, "--json", "-q", "--tokens-from", engine, "--", "sleep", "0.5")
    record = json.loads(done.stdout)
    assert record["tokens"]["generated"] == 1000
    assert record["config"]["engine"] == "llama_cpp"
    metrics = record["metrics"]
    joules = metrics["cpu_package_energy_j"]["value"]
    assert metrics["cpu_package_j_per_output_token"]["value"] == pytest.approx(joules / 1000)
    assert metrics["cpu_package_j_per_total_token"]["value"] == pytest.approx(joules / 3000)


def test_an_engine_that_does_not_answer_is_said_before_the_command_runs(run, tmp_path):
    done = run(*MODEL, "--tokens-from", "http://127.0.0.1:9/metrics", "--", "touch", "ran")
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_a_window_of_the_commands_own_is_metered(run):
    code = (
        "import json, time\n"
        "time.sleep(0.6)\n"
        "start = time.time()\n"
        "time.sleep(0.7)\n"
        "json.dump({'start_s': start, 'end_s': time.time()}, open('w.json', 'w'))\n"
        "time.sleep(0.2)"
    )
    window = ("--window-from", "w.json")
    done = run(*MODEL, "--json", "-q", *window, "--", sys.executable, "-c", code)
    (found,) = json.loads(done.stdout)["windows"]
    assert found["name"] == "file"
    assert found["duration_s"] == pytest.approx(0.7, abs=0.2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"start_ns": 5000000000, "end_ns": 7000000000}', 2.0),
        ('{"start_s": 100.5, "end_s": 102}', 1.5),
        ('{"start": "1970-01-01T00:01:40Z", "end": "1970-01-01T00:01:43Z"}', 3.0),
    ],
)
def test_a_window_can_be_told_on_either_clock(tmp_path, text, seconds):
    path = tmp_path / "w.json"
    path.write_text(text)
    anchor = WallAnchor(t_monotonic_ns=5_000_000_000, t_wall_ns=100_000_000_000, uncertainty_ns=0)
    window = read_window(path, anchor)
    assert window.duration_s == pytest.approx(seconds)
    assert window.start_ns in {5_000_000_000, 5_500_000_000}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"start_s": 3, "end_s": 2}', '{"start": "1970-01-01", "end": "x"}']
)
def test_a_window_file_that_says_no_window_is_refused(tmp_path, text):
    path = tmp_path / "w.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"w\.json"):
        read_window(path, WallAnchor.now())
