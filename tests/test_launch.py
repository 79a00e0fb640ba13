"""Engines start, answer and end, all of them, whatever happens to the harness."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from harness import launch
from harness.contracts import LaunchSpec
from harness.errors import EngineError

# A server that also starts a worker in a session of its own, as real engines do,
# and that ignores SIGTERM when asked to.
SERVER = textwrap.dedent(
    """
    import http.server, signal, subprocess, sys
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                              start_new_session=True)
    open(sys.argv[2], "w").write(str(worker.pid))
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
        def log_message(self, *_): pass
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
)


def spec(tmp_path: Path, code: str = SERVER, *more: str, timeout_s: float = 30) -> LaunchSpec:
    port = launch.free_port("127.0.0.1")
    pid_file = str(tmp_path / "worker.pid")
    return LaunchSpec(
        argv=[sys.executable, "-c", code, str(port), pid_file, *more],
        ready_url=f"http://127.0.0.1:{port}/health",
        host="127.0.0.1",
        port=port,
        ready_timeout_s=timeout_s,
    )


def wait_gone(pids: list[int], within_s: float = 20) -> None:
    gone = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], within_s)
    assert not gone[1], f"still running: {gone[1]}"


def tree(running: launch.RunningEngine) -> list[int]:
    (guard,) = running.pids
    return [guard, *(child.pid for child in psutil.Process(guard).children(recursive=True))]


@pytest.mark.parametrize("more", [(), ("stubborn",)])
def test_stop_ends_the_engine_and_its_workers(tmp_path: Path, more):
    with launch.RunningEngine(spec(tmp_path, SERVER, *more), tmp_path / "log") as running:
        pids = [*tree(running), int((tmp_path / "worker.pid").read_text())]
        assert len(set(pids)) >= 3
    wait_gone(pids)


def test_the_engine_does_not_survive_a_harness_killed_by_sigkill(tmp_path: Path):
    code = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(launch.__file__).parent.parent)!r})
        from pathlib import Path
        from harness import launch
        from harness.contracts import LaunchSpec
        given = {spec(tmp_path)!r}
        running = launch.RunningEngine(given, Path({str(tmp_path / "log")!r}))
        running.start()
        print(*running.pids, flush=True)
        time.sleep(600)
        """
    )
    harness = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert harness.stdout
    guard = int(harness.stdout.readline())
    pids = [guard, *(child.pid for child in psutil.Process(guard).children(recursive=True))]
    pids.append(int((tmp_path / "worker.pid").read_text()))
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    wait_gone(pids)


def test_the_engine_does_not_survive_its_guard_either(tmp_path: Path):
    running = launch.RunningEngine(spec(tmp_path), tmp_path / "log")
    running.start()
    (guard,) = running.pids
    engine = [child.pid for child in psutil.Process(guard).children()]
    worker = int((tmp_path / "worker.pid").read_text())
    os.kill(guard, signal.SIGKILL)
    wait_gone([pid for pid in engine if pid != worker])
    with pytest.raises(EngineError, match="ended by signal 9"):
        running.check()
    running.stop()
    psutil.Process(worker).kill()


def test_a_port_in_use_is_named_with_the_remedy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=rf"127.0.0.1:{port}: Address already in use.*stop"):
            launch.check_port("127.0.0.1", port)


def test_an_engine_that_ends_at_once_shows_the_telling_line_of_its_log(tmp_path: Path):
    code = "import sys; print('warming'); print('fatal error: no such GPU'); print(); sys.exit(7)"
    with (
        pytest.raises(EngineError, match=r"ended with code 7: fatal error: no such GPU; read"),
        launch.RunningEngine(spec(tmp_path, code), tmp_path / "log"),
    ):
        pass


def test_a_program_that_is_not_there_is_said_to_be(tmp_path: Path):
    given = spec(tmp_path)
    missing = LaunchSpec(
        argv=["/no/such/engine"], ready_url=given.ready_url, host=given.host, port=given.port
    )
    with (
        pytest.raises(EngineError, match="/no/such/engine"),
        launch.RunningEngine(missing, tmp_path / "log"),
    ):
        pass


def test_an_engine_that_never_answers_is_given_up_and_ended(tmp_path: Path):
    given = spec(tmp_path, "import time; time.sleep(600)", timeout_s=0.3)
    running = launch.RunningEngine(given, tmp_path / "log")
    with pytest.raises(EngineError, match=r"did not answer .* within 0.3 s"), running:
        pass
    wait_gone(running.pids)


def test_nobody_at_an_address_is_named():
    port = launch.free_port("127.0.0.1")
    with pytest.raises(EngineError, match=rf"cannot connect to http://127.0.0.1:{port}.*refused"):
        launch.check_listening(f"http://127.0.0.1:{port}")


def test_a_name_that_does_not_resolve_is_named():
    with pytest.raises(EngineError, match=r"cannot connect to http://no-such-host\.invalid"):
        launch.check_listening("http://no-such-host.invalid:80")


def test_waiting_for_the_engine_can_be_broken_off(tmp_path: Path):
    began = time.monotonic()

    def give_up() -> None:
        raise KeyboardInterrupt

    running = launch.RunningEngine(
        spec(tmp_path, "import time; time.sleep(600)"), tmp_path / "log", tick=give_up
    )
    with pytest.raises(KeyboardInterrupt), running:
        pass
    wait_gone(running.pids)
    assert time.monotonic() - began < 60
