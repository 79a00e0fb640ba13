"""Bad input: exit code 2 and one line that says what, where and what to do; never a traceback."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from servers import cut, error_500, good, serving

from harness import launch

QUICK = ("-s", "power.idle_s=0", "-s", "load.request_count=3", "--concurrency", "1",
         "-s", "load.warmup_request_count=2")  # fmt: skip


def complaint(done) -> str:
    """The one line that names the problem, from a run that must have failed as it should."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("joulemark: ")]
    errors = [line for line in lines if "; " in line]
    assert len(errors) == 1, done.stderr
    return errors[0].removeprefix("joulemark: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "quickstrat"), "no preset or configuration file 'quickstrat'; did you mean"),
        (("run", "quickstart", "-s", "load.concurency=1"), "did you mean 'concurrency'"),
        (("run", "quickstart", "-s", "load"), "not of the form section.key=value"),
        (("run", "quickstart", "--engine", "vlm"), "no engine 'vlm'; did you mean 'vllm'"),
        (("run", "quickstart", "--concurrency", "0"), "load.concurrency is 0, below 1"),
        (("run", "quickstart", "--model", "/no/such.gguf"), "there is no model '/no/such.gguf'"),
        (("run", "quickstart", "-u", "localhost:1", "-m", "x"), "not an http or https address"),
        (("show", "nosuchrun"), "there is no run 'nosuchrun'"),
        (("recompute", "/"), "there is no run '/'"),
        (("model", "fetch", "gpt-9"), "there is no model 'gpt-9' to fetch"),
    ],
)
def test_bad_words_on_the_command_line(joulemark, arguments, message):
    assert message in complaint(joulemark(*arguments))


def test_a_run_without_power_has_no_split(joulemark, tmp_path):
    golden = Path(__file__).parent / "golden" / "run"
    shutil.copytree(golden, tmp_path / "run", ignore=shutil.ignore_patterns("power.*"))
    assert "recorded no power" in complaint(joulemark("decompose", "run"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runn",), "No such command 'runn'"),
        (("run",), "Missing argument 'CONFIG|PRESET'"),
        (("run", "quickstart", "--concurrency", "many"), "'many' is not a valid integer"),
        (("list", "engine"), "'engine' is not one of"),
    ],
)
def test_bad_usage_is_explained(joulemark, arguments, message):
    done = joulemark(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use(joulemark, model):
    assert model
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = joulemark("run", "quickstart", "--engine", "llama_cpp", "-s", f"engine.port={port}")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in complaint(done)


def test_a_corrupt_model_file(joulemark, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(2000))
    done = joulemark("run", "quickstart", "--model", "bad.gguf", *QUICK)
    said = complaint(done)
    assert "could not load" in said
    assert "bad.gguf" in said
    assert "model fetch" in said


def test_a_url_where_nobody_listens(joulemark):
    port = launch.free_port("127.0.0.1")
    done = joulemark("run", "quickstart", "--url", f"http://127.0.0.1:{port}", "--model", "m")
    assert f"cannot connect to http://127.0.0.1:{port}: Connection refused" in complaint(done)


@pytest.mark.parametrize(
    ("answer", "kind", "detail"),
    [(error_500, "http_500", "CUDA out of memory"), (cut, "cut", "")],
)
def test_a_server_that_fails_every_request(joulemark, tmp_path, answer, kind, detail):
    with serving(answer) as url:
        done = joulemark("run", "quickstart", "--url", url, "--model", "m", *QUICK)
    said = complaint(done)
    assert kind in said
    assert detail in said
    assert "what was recorded is in" in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert '"incomplete"' in (folder / "run.json").read_text()


def test_a_server_that_fails_some_requests_is_a_finding_not_an_error(joulemark):
    def sometimes(handler, number):
        (error_500 if number % 5 == 3 else good)(handler, number)

    with serving(sometimes) as url:
        done = joulemark(
            "run", "quickstart", "--url", url, "--model", "m", "--concurrency", "2",
            "-s", "load.request_count=20", "-s", "power.idle_s=0", "--osl", "4",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 of 20 requests failed (http_500 4)" in done.stderr + done.stdout


def test_an_unwritable_artifact_folder(joulemark, tmp_path):
    (tmp_path / "file").write_text("")
    done = joulemark("run", "quickstart", "--artifact-dir", "file/runs", "--engine", "llama_cpp")
    assert "cannot make the run folder" in complaint(done)


def test_a_power_source_that_is_not_there_leaves_nothing_behind(joulemark, tmp_path, model):
    assert model
    done = joulemark(
        "run", "quickstart", "--engine", "llama_cpp", "-s", 'power.sources=["redfish"]',
        "-s", "power.redfish.url=http://127.0.0.1:9",
    )  # fmt: skip
    assert complaint(done)
    assert not list((tmp_path / "runs").iterdir())


def test_an_open_loop_reports_latency_from_the_due_time_too(joulemark):
    with serving(good) as url:
        done = joulemark(
            "run", "quickstart", "--url", url, "--model", "m", "--request-rate", "40",
            "--request-count", "60", "--osl", "4", "--json",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"ttft_from_due_s.p99"' in done.stdout
    assert '"power_elsewhere"' in done.stdout
    assert '"no_server_counter"' in done.stdout
