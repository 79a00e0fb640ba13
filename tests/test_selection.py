"""What `auto` chooses: the engine runs on what is metered, and the record says why."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness import config, selection
from harness.errors import PowerUnavailableError

LOAD = {"concurrency": 1, "request_count": 1}


def select(opens: set[str], monkeypatch, **sections) -> selection.Selection:
    """Select on a machine where just the sources *opens* can be read."""
    monkeypatch.setattr(selection, "_opens", lambda kind, _: kind in opens)
    return selection.select(config.parse({"load": LOAD, **sections}, name="t"))


def codes(chosen: selection.Selection) -> list[str]:
    return [finding.code for finding in chosen.findings]


def test_without_sensors_the_cpu_engine_is_metered_by_the_model_and_said_to_be(monkeypatch):
    chosen = select(set(), monkeypatch)
    assert (chosen.engine_kind, chosen.sources) == ("llama_cpp", ("cpu_model",))
    assert codes(chosen) == ["power_modelled"]
    assert "to measure it" in chosen.findings[0].message


def test_rapl_is_taken_where_it_can_be_read(monkeypatch):
    chosen = select({"rapl"}, monkeypatch)
    assert (chosen.engine_kind, chosen.sources) == ("llama_cpp", ("rapl",))
    assert codes(chosen) == []


def test_a_gpu_without_an_engine_for_it_is_not_metered_for_a_cpu_engine(monkeypatch):
    monkeypatch.setattr(selection.importlib.util, "find_spec", lambda _: None)
    chosen = select({"nvml", "rapl"}, monkeypatch)
    assert (chosen.engine_kind, chosen.sources) == ("llama_cpp", ("rapl",))
    assert codes(chosen) == ["gpu_not_used"]


@pytest.mark.parametrize("installed", ["vllm", "transformers"])
def test_a_gpu_with_an_engine_for_it_is_used_and_metered(monkeypatch, installed):
    monkeypatch.setattr(
        selection.importlib.util, "find_spec", lambda name: True if name == installed else None
    )
    chosen = select({"nvml"}, monkeypatch)
    assert (chosen.engine_kind, chosen.sources) == (installed, ("nvml",))
    assert chosen.engine.runs_on == "gpu"
    assert codes(chosen) == []


def test_a_gpu_engine_where_nvml_reads_nothing_is_refused(monkeypatch):
    with pytest.raises(PowerUnavailableError, match="NVML reads none"):
        select({"rapl"}, monkeypatch, engine={"kind": "vllm", "model": "m"})


def test_a_cpu_engine_metered_by_nvml_on_request_gets_the_finding(monkeypatch):
    chosen = select({"nvml"}, monkeypatch, power={"sources": ["nvml"]})
    assert codes(chosen) == ["gpu_idle_joules"]


@pytest.mark.parametrize(("opens", "sources"), [(set(), ()), ({"nvml"}, ("nvml",))])
def test_an_engine_that_may_be_elsewhere_gets_a_finding(monkeypatch, opens, sources):
    engine = {"kind": "attach", "url": "http://127.0.0.1:1", "model": "m"}
    chosen = select(opens, monkeypatch, engine=engine)
    assert chosen.sources == sources
    assert codes(chosen) == ["power_elsewhere"]


@pytest.mark.engine
def test_emulated_joules_are_labelled_in_everything_that_shows_them(
    joulemark, tmp_path: Path, model
):
    """The real nvidia-ml-py against the emulator, the real engine, the whole command line."""
    assert model
    done = joulemark(
        "emulate", "--waveform", "constant:power_w=321", "--",
        sys.executable, "-m", "harness", "run", "quickstart", "--json",
        "-s", 'power.sources=["nvml"]', "-s", "window.refuse_below_s=0.2", "-s", "power.idle_s=1",
        "--concurrency", "2", "--request-count", "10", "--isl", "4", "--osl", "12",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["power_kind"] == "emulated"
    assert record["metrics"]["gpu_average_w"]["value"] == pytest.approx(321, rel=0.01)
    assert "gpu_idle_joules" in {finding["code"] for finding in record["findings"]}
    (folder,) = (tmp_path / "runs").iterdir()
    assert 'power_kind="measured"' not in (folder / "openmetrics.txt").read_text()
    assert "(gpu, EMULATED)" in (folder / "report.md").read_text()
    assert "(gpu, EMULATED)" in done.stderr
