"""`joulemark watch`: on a real exporter with emulated power, on a node, on a run; pipe and pty."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import golden_run
import pytest

from harness import store
from harness.cli import _watch_view
from harness.errors import ConfigError, EngineError
from harness.journal import JournalWriter
from harness.timeline import EVENT_DTYPE
from harness.watch.exporter import Exporter, reading
from harness.watch.reading import Board, Reading, Row
from harness.watch.run import Run
from harness.watch.tail import JournalTail, LineTail

ROOT = Path(__file__).resolve().parent.parent
PAGE = """
joulemark_snapshot_timestamp_seconds {t}
joulemark_device_energy_joules_total{{uuid="GPU-1",boundary="gpu",power_kind="emulated"}} {joules}
joulemark_model_energy_joules_total{{uuid="GPU-1",model_name="m",engine="vllm",instance_id="a:1",\
state="idle",phase="mixed",method="exclusive",boundary="gpu",power_kind="emulated"}} 10
joulemark_model_energy_joules_total{{uuid="GPU-1",model_name="m",engine="vllm",instance_id="a:1",\
state="active",phase="mixed",method="exclusive",boundary="gpu",power_kind="emulated"}} {joules}
joulemark_generated_tokens_total{{model_name="m",engine="vllm",instance_id="a:1",\
power_kind="emulated"}} {tokens}
joulemark_engine_up{{model_name="m",engine="vllm",instance_id="a:1"}} {up}
joulemark_engine_running_requests{{model_name="m",engine="vllm",instance_id="a:1"}} 3
joulemark_findings{{code="power_emulated"}} 1
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "LINES": "30"}


def joulemark(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness", *arguments]


# --- arithmetic ----------------------------------------------------------------------------


def test_a_pages_counters_become_watts_and_joules_a_token():
    board = Board()
    for t, joules, tokens in ((100, 1000, 50), (101, 1300, 80), (102, 1500, 100)):
        board.take(reading(PAGE.format(t=t, joules=joules, tokens=tokens, up=1), where="x"))
    device, model = board.rows
    assert list(device.track.watts) == [300, 200]
    assert device.row.kind == "emulated"
    assert model.row.name == "m (vllm a:1)"
    assert model.track.j_per_token == 500 / 50
    assert model.rate.per_s == 25
    assert model.row.note == "3 running"
    assert board.reading.notes == ("finding: power_emulated",)


def test_a_page_read_twice_is_one_look_and_a_dead_engine_is_said_to_be():
    board = Board()
    for _ in range(3):
        board.take(reading(PAGE.format(t=5, joules=1, tokens=1, up=0), where="x"))
    assert not board.rows[0].track.watts
    assert board.rows[1].row.note == "not answering"


def test_a_page_of_something_else_is_refused():
    for text in ("up 1\n", "<html>", ""):
        with pytest.raises(ConfigError, match="not the page of `joulemark export`"):
            reading(text, where="http://x")


def test_a_password_goes_into_a_header_and_not_onto_the_screen():
    source = Exporter("http://me:s%40cret@node:9778")
    assert source.title == "http://node:9778/metrics"
    assert source._headers["Authorization"] == "Basic bWU6c0BjcmV0"
    with pytest.raises(ConfigError, match="no http URL"):
        Exporter("ftp://node")


def test_counts_start_anew_when_the_state_changes():
    board = Board()
    for t, state in ((0, "idle"), (1, "idle"), (2, "measure"), (5, "measure")):
        row = Row(name="gpu", kind="measured", joules=10.0 * t, tokens=float(t))
        board.take(Reading(t_s=t, rows=(row,), state=state))
    assert board.rows[0].track.joules == 30
    assert board.elapsed_s == 3


def test_a_tail_gives_each_whole_row_once(tmp_path):
    path = tmp_path / "lines"
    tail = LineTail(path)
    assert tail.read() == []
    path.write_bytes(b'{"a": 1}\n{"a"')
    assert tail.read() == [{"a": 1}]
    with path.open("ab") as file:
        file.write(b": 2}\n")
    assert tail.read() == [{"a": 2}]
    assert tail.read() == []


def test_a_journal_is_followed_at_any_byte(tmp_path):
    whole = tmp_path / "whole"
    writer = JournalWriter(whole, EVENT_DTYPE, {"who": "me"})
    for number in range(5):
        writer.append(golden_run._EVENT(number, number, 1, 0, 1))
    writer.close()
    data = whole.read_bytes()
    for step in (1, 7, 24, len(data)):
        part = tmp_path / f"part{step}"
        tail, seen = JournalTail(part, EVENT_DTYPE), []
        for end in range(0, len(data) + step, step):
            part.write_bytes(data[:end])
            seen += tail.read()["t_ns"].tolist()
        assert seen == [0, 1, 2, 3, 4]
        assert tail.header == {"who": "me"}


def test_a_run_folder_gives_the_golden_runs_numbers(tmp_path):
    folder = tmp_path / "run"
    golden_run.make(folder)
    with Run(folder) as run:
        found = run.read()
    assert found.ended
    (row,) = found.rows
    assert (row.name, row.kind) == ("gpu", "emulated")
    # 300 W by the counter from its first reading to its last.
    assert row.joules == pytest.approx(300 * 18.9, rel=0.01)


def test_tokens_of_a_run_are_those_of_its_measured_phase(tmp_path):
    folder = tmp_path / "run"
    golden_run.make(folder)
    marks = (folder / store.MARKS).read_bytes().splitlines(keepends=True)
    measuring = b"".join(line for line in marks if b"end" not in line and b"complete" not in line)
    (folder / store.MARKS).write_bytes(measuring)
    with Run(folder) as run:
        found = run.read()
    assert found.state == "measure"
    assert found.rows[0].tokens == golden_run.REQUESTS * golden_run.TOKENS
    assert not found.ended


class Flaky:
    """A source that answers, fails, and answers the same again."""

    title = "flaky"

    def __init__(self, *readings) -> None:
        self.readings = list(readings)

    def read(self) -> Reading:
        one = self.readings.pop(0)
        if isinstance(one, Exception):
            raise one
        return one


def test_what_was_read_before_a_failed_look_is_not_shown_as_new(capsys):
    rows = [(Row(name="gpu", kind="measured", joules=300.0 * t),) for t in range(3)]
    source = Flaky(
        Reading(t_s=0, rows=rows[0]), Reading(t_s=1, rows=rows[1]),
        EngineError("it is gone", remedy="start it"),
        Reading(t_s=2, rows=rows[2], ended=True),
    )  # fmt: skip
    _watch_view.watch(source, threading.Event(), every_s=1e-3)
    lines = capsys.readouterr().out.splitlines()
    assert [("300 W gpu" in line) for line in lines] == [False, False, True, False, True]
    assert lines[3] == "joulemark: it is gone; start it"


# --- as users run it -----------------------------------------------------------------------


@contextlib.contextmanager
def server(*arguments: str):
    """A verb that serves; gives the URL that it says it is at."""
    process = subprocess.Popen(
        joulemark(*arguments), env=environment(), stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = None
        while found is None:
            line = process.stdout.readline()
            assert line, "the server ended"
            found = re.search(r"(http://[\d.:]+)(/metrics|/v1)", line)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield found[1]
    finally:
        # As Ctrl-C does: to the command that is run on emulated GPUs, too.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def ask(engine: str) -> None:
    """Have a mock engine make twenty tokens."""
    body = b'{"model":"demo","prompt":"a b c","max_tokens":20}'
    request = urllib.request.Request(  # noqa: S310 - our own mock
        f"{engine}/v1/completions", data=body, headers={"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).read()  # noqa: S310


@pytest.fixture(scope="module")
def exporter():
    """A real daemon on an emulated GPU of 250 W, with a mock engine that is asked something."""
    if shutil.which("cc") is None:
        pytest.skip("the emulator needs a C compiler")
    with (
        server("mock", "--port", "0", "--model", "demo") as engine,
        server(
            "emulate", "--waveform", "constant:power_w=250", "--",
            sys.executable, "-m", "harness", "export", "--listen", "127.0.0.1:0",
            "--engine", f"{engine}/metrics",
        ) as url,
    ):  # fmt: skip
        done = threading.Event()

        def keep_asking() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    ask(engine)

        thread = threading.Thread(target=keep_asking)
        thread.start()
        yield url
        done.set()
        thread.join()


def on_a_pty(arguments: list[str], until: str, keys: bytes, *, limit_s: float = 60) -> tuple:
    """Run on a terminal of its own; press *keys* once *until* was seen. Exit code and screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(arguments[0], arguments, {**environment(), "TERM": "xterm-256color"})  # noqa: S606
    seen, pressed = b"", False
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        seen += data
        if not pressed and re.search(until, seen.decode(errors="replace")):
            os.write(terminal, keys)
            pressed = True
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))
    return os.waitstatus_to_exitcode(status), screen


def test_an_exporter_on_a_terminal_until_ctrl_c(exporter):
    code, screen = on_a_pty(
        joulemark("watch", exporter, "--every", "0.5"), r"(?s)EMULATED.*25\d\.\d|24\d\.\d", b"\x03"
    )
    assert code == 0, screen
    assert "gpu GPU-" in screen
    assert "EMULATED" in screen
    assert "demo (vllm" in screen
    assert re.search(r"2[45]\d\.\d", screen), screen
    assert "Traceback" not in screen


def test_an_exporter_on_a_pipe_until_sigterm(exporter):
    process = subprocess.Popen(
        joulemark("watch", exporter, "--every", "0.5"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    while not any("J/token" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    text = "".join(lines) + rest
    assert "\x1b" not in text
    assert re.search(r"2[45]\d W gpu GPU-\S+ \(EMULATED\)", text), text
    assert re.search(r"demo \(vllm [\d.:]+\) \(EMULATED\), [\d.]+ tok/s, [\d.]+ J/token", text), (
        text
    )


def test_a_node_with_modelled_power_is_labelled():
    process = subprocess.Popen(
        joulemark("watch", "--node", "--power", "cpu_model", "--every", "0.3"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = ""
    while not re.search(r"\d W cpu package", line):
        line = process.stdout.readline()
        assert line, process.stderr.read()
    assert "(MODELLED)" in line
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("http://127.0.0.1:1",),
        ("--node", "http://127.0.0.1:1"),
        ("latest", "--power", "nvml"),
        ("--node", "--power", "no_such"),
    ],
)
def test_what_cannot_be_watched_is_one_line_and_2(arguments, tmp_path):
    done = subprocess.run(
        joulemark("watch", *arguments), env=environment(), cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("joulemark: ")
    assert "Traceback" not in done.stderr


def test_a_run_that_has_ended_is_shown_once(tmp_path):
    folder = tmp_path / "runs" / "golden"
    golden_run.make(folder)
    done = subprocess.run(
        joulemark("watch", "golden"), env=environment(), cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ended: complete" in done.stdout
    assert "(EMULATED)" in done.stdout


# --- a run's own display -------------------------------------------------------------------

METERED = (
    "-s", "engine.runs_on=gpu", "-s", "power.sources=['scripted']", "-s", "power.idle_s=0.5",
    "-s", "window.min_s=1.0", "-s", "window.refuse_below_s=0.5", "--concurrency", "2",
    "--warmup-request-count", "1", "--isl", "8", "--osl", "20",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine():
    with server("mock", "--port", "0", "--model", "demo") as url:
        yield url


def test_a_nodes_joules_are_held_against_an_engines_tokens(engine):
    process = subprocess.Popen(
        joulemark("watch", "--node", "--power", "cpu_model", "--tokens-from", f"{engine}/metrics",
                  "--every", "0.3"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = ""
    while "J/token" not in line:
        ask(engine)
        line = process.stdout.readline()
        assert line, process.stderr.read()
    assert re.search(r"W cpu package \(MODELLED\), [\d.]+ tok/s, [\d.]+ J/token", line), line
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_a_run_shows_phases_watts_tokens_joules_and_the_time_left(engine, tmp_path):
    where = ("--artifact-dir", str(tmp_path / "runs"))
    code, screen = on_a_pty(
        joulemark("run", "quickstart", "-u", engine, "-m", "demo", *METERED, *where,
                  "--benchmark-duration", "600"),
        r"±[\d.]+ % so far",
        b"\x03",
        limit_s=120,
    )  # fmt: skip
    assert code == 130, screen
    assert re.search(r"loaded idle +took \d+ s", screen), screen
    assert re.search(r"warm up +took \d+ s", screen)
    assert re.search(r"measure +[█░]{24} +\d+ s", screen)
    assert re.search(r"\d+ requests done, \d+ in flight  \d+ tok/s", screen)
    assert re.search(r"\d+ W gpu \(EMULATED\)  [▁▂▃▄▅▆▇█]+  [\d.]+ J/token ±", screen)
    assert "Traceback" not in screen


def test_a_run_that_is_going_is_watched_from_beside_until_it_ends(engine, tmp_path):
    run = subprocess.Popen(
        joulemark("run", "quickstart", "-u", engine, "-m", "demo", *METERED,
                  "--benchmark-duration", "8"),
        env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stderr is not None
    # Piped, its display is lines, the last of them before the load being the phase's name.
    while not (line := run.stderr.readline()).startswith("joulemark: measure"):
        assert line, "the run ended"
    threading.Thread(target=run.communicate, daemon=True).start()
    done = subprocess.run(
        joulemark("watch", "latest", "--every", "0.5"), env=environment(), cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"measure \d+ s; \d+ W gpu \(EMULATED\), [\d.]+ tok/s, [\d.]+ J/token",
                     done.stdout), done.stdout  # fmt: skip
    assert "ended: complete" in done.stdout.splitlines()[-1]
    run.wait(timeout=60)
