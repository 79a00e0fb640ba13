"""Dynamo's real frontend with its mocker workers, in a network of its own that is only loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from heavy import runs

VENV = Path(os.environ.get("JOULEMARK_DYNAMO_VENV", runs.ROOT / ".build" / "dynamo"))
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
# Its event sockets bind all addresses; here there is none but 127.0.0.1.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x49))
os.execvp(sys.argv[1], sys.argv[1:])
"""
ALONE = ("unshare", "--net", "--map-root-user", sys.executable, "-c", LOOPBACK_UP)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> tuple[str, ...]:
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no network namespace, and its sockets bind all addresses")
    folder = tmp_path_factory.mktemp("model") / "tiny-gpt-oss"
    script = Path(__file__).with_name("tiny_model.py")
    subprocess.run([VENV / "bin" / "python", script, folder], check=True, timeout=120)
    return (
        "--engine", "dynamo", "-m", str(folder), "-s", "engine.backend=mocker",
        "-s", f"engine.python={VENV / 'bin' / 'python'}", "-s", "engine.max_model_len=1024",
        "-s", "engine.prefix_caching=false",
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["aggregated", "disaggregated"])
def test_usage_and_the_frontend_s_counter_agree_exactly(tmp_path, options, mode):
    record = runs.finish(tmp_path, VENV, *options, "-s", f"engine.mode={mode}", prefix=ALONE)
    tokens = record["tokens"]
    assert tokens["requests_failed"] == 0
    assert tokens["usage"] == tokens["server_counter"] > 12 * 20
    assert "mocker" in record["provenance"]["engine"]["weights"]
    assert record["provenance"]["engine"]["version"] == "1.6.1"
    commands = record["provenance"]["engine"]["command"]
    assert len(commands) == (2 if mode == "aggregated" else 3)


def test_a_worker_or_frontend_killed_mid_run_ends_the_run_in_order(tmp_path, options):
    record, printed = runs.kill_mid_run(
        tmp_path, VENV, *options, victim="dynamo.frontend", prefix=ALONE
    )
    runs.check_killed(record, printed)
