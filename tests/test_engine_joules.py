"""What an engine counts on its GPUs is read, and held against what we counted meanwhile."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import golden_run
import pytest

from harness import live_facts, pipeline, plugins
from harness.record import Finding, RunRecord


def recorded(folder: Path, *, theirs_j: float | None) -> RunRecord:
    """The golden run: 300 W over the 11 s of its measured phase, 3,300 J."""
    golden_run.make(folder)
    if theirs_j is not None:
        facts = {"total_energy_j": theirs_j, "over": "measure_start to measure_end"}
        mark = {"mark": "provenance", "t_ns": 0, "about": "engine_energy", "facts": facts}
        with (folder / "marks.jsonl").open("a") as file:
            file.write(json.dumps(mark) + "\n")
    return pipeline.finish(folder)


def finding(record: RunRecord) -> Finding | None:
    found = [f for f in record.findings if f.code.startswith("engine_energy")]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("theirs_j", "code", "said"),
    [
        (3300.0, "engine_energy_agrees", "+0.0%"),
        (3300.0 * 0.98, "engine_energy_agrees", "-2.0%"),
        (3300.0 * 2, "engine_energy_disagrees", "+100.0%, the limit is 3%; are the same GPUs"),
        (3300.0 * 0.95, "engine_energy_disagrees", "-5.0%"),
    ],
)
def test_both_numbers_are_in_one_finding(tmp_path, theirs_j, code, said):
    found = finding(recorded(tmp_path / "run", theirs_j=theirs_j))
    assert found is not None
    assert found.code == code
    assert found.severity == ("info" if code.endswith("_agrees") else "warning")
    assert said in found.message
    assert "emulated" in found.message


def test_an_engine_that_counts_no_joules_is_not_compared(tmp_path):
    assert finding(recorded(tmp_path / "run", theirs_j=None)) is None


@pytest.mark.parametrize(
    ("status", "body", "joules"),
    [
        (200, {"total_energy_j": 12.5, "query_time": 1.0}, 12.5),
        (503, {"error": "Energy monitoring is not available"}, None),
        (200, {"detail": "Not Found"}, None),
    ],
)
def test_tensorrt_llm_s_page_is_read_and_its_absence_fails_nothing(status, body, joules):
    """The shapes are those of its serve/openai_server.py."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/energy_metrics"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kind = plugins.load("engine", "tensorrt_llm")
        engine = kind(model="m", port=server.server_address[1])
        assert live_facts.energy_j(engine) == joules
        silent = kind(model="m", port=server.server_address[1], energy_metrics=False)
        assert live_facts.energy_j(silent) is None
        server.shutdown()
