"""Kills engines and the exporter at random on a failing emulated GPU, and checks every scrape."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "harness"]
WAITING_S = 7.0
"""Time whose verdict is open: the longest gap that is bridged (5 s), a snapshot, a scrape."""
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Process:
    """A command that is started, killed and started again."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it anew."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=quiet, stderr=quiet
        )
        self.starts += 1

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def scrape(url: str) -> Series | None:
    """All counters and gauges; None: it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            text = answer.read().decode()
    except OSError:
        return None
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(series: Series, name: str) -> dict[str, float]:
    """Sums of one metric by device."""
    found: dict[str, float] = {}
    for (of, labels), value in series.items():
        if of == name:
            uuid = dict(labels)["uuid"]
            found[uuid] = found.get(uuid, 0.0) + value
    return found


def complaints(before: Series, now: Series) -> Iterator[str]:
    """What must never be."""
    for key, value in now.items():
        if not math.isfinite(value):
            yield f"{key} is {value}"
        kept = key[0].startswith("joulemark_") and key[0].endswith("_total")
        own = ("joulemark_snapshots", "joulemark_state", "joulemark_device_throttle")
        if kept and not key[0].startswith(own) and value < before.get(key, value):
            yield f"{key} went back from {before[key]} to {value}"
    device = total(now, "joulemark_device_energy_joules_total")
    models = total(now, "joulemark_model_energy_joules_total")
    nobody = total(now, "joulemark_unattributed_energy_joules_total")
    for uuid, energy_j in device.items():
        parts_j = models.get(uuid, 0.0) + nobody.get(uuid, 0.0)
        if abs(energy_j - parts_j) > 1e-9 * max(energy_j, 1.0):
            yield f"{uuid}: {energy_j} J are not {parts_j} J"


def build(folder: Path, seed: int, seconds: float) -> dict[str, str]:
    """An emulated pair of GPUs whose faults are spread over the run; the environment to see it."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    now_s = time.perf_counter()
    faults = []
    for kind, gpu in (("lost", 0), ("reset", 1), ("lost", 1)):
        at_s = now_s + dice.uniform(0.2, 0.8) * seconds
        text = f"{kind}:gpu={gpu},at_s={at_s:.1f}"
        faults += ["--fault", text + (f",until_s={at_s + 6:.1f}" if kind == "lost" else "")]
    command = [*PROGRAM, "emulate", "--gpus", "2", *faults, "build", "--out", str(folder / "emu")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {
        **environment,
        "LD_LIBRARY_PATH": str(folder / "emu"),
        "JOULEMARK_EMULATOR": str(folder / "emu" / "world.txt"),
    }


def request(port: int) -> None:
    """One answer of an engine, if it is there."""
    body = b'{"prompt": "a", "max_tokens": 20}'
    fields = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v1/completions"
    asked = urllib.request.Request(url, body, fields)
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(asked, timeout=5) as answer,  # noqa: S310 - loopback
    ):
        answer.read()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            found.append(int(sock.getsockname()[1]))
    return found


def main() -> int:
    """Run, and print what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)  # noqa: S311 - no secret
    wrong: list[str] = []
    scrapes = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = build(folder, options.seed, options.seconds)
        *ports, port = free_ports(3)
        (folder / "e.toml").write_text(
            f'[exporter]\nlisten = "127.0.0.1:{port}"\nstate_file = "{folder}/state"\n'
            '[power]\nsources = ["nvml"]\n[cost]\nprice_per_kwh = 0.1\n'
            + "".join(
                f'[[engine]]\nurl = "http://127.0.0.1:{engine}/metrics"\ndevices = {uuids}\n'
                for engine, uuids in zip(ports, devices(environment), strict=True)
            )
        )
        engines = [
            Process([*PROGRAM, "mock", "--port", str(one), "--model", f"m{place}"], environment)
            for place, one in enumerate(ports)
        ]
        exporter = Process([*PROGRAM, "export", "--config", f"{folder}/e.toml"], environment)
        every = [*engines, exporter]
        for process in every:
            process.start()
        began_s = time.monotonic()
        before: Series = {}
        first: Series = {}
        first_s = last_s = 0.0
        try:
            while time.monotonic() - began_s < options.seconds:
                for engine in ports:
                    request(engine)
                now = scrape(f"http://127.0.0.1:{port}/metrics")
                if now:
                    scrapes, last_s = scrapes + 1, time.monotonic()
                    first, first_s = (first, first_s) if first else (now, last_s)
                    wrong += complaints(before, now)
                    before |= now
                if dice.random() < 0.04:
                    victim = dice.choice(every)
                    victim.kill()
                    time.sleep(dice.uniform(0.1, 3))
                    victim.start()
                time.sleep(0.5)
        finally:
            for process in every:
                process.kill()
    wrong += unaccounted(first, before, last_s - first_s)
    print(f"{options.seconds:.0f} s, {scrapes} scrapes, {len(wrong)} complaints")
    print(f"engines started {sum(one.starts for one in engines)}, exporter {exporter.starts} times")
    tell(before, wrong)
    return 1 if wrong else 0


def accounted_s(series: Series) -> dict[str, float]:
    """Time of each device that is covered or uncovered."""
    covered = total(series, "joulemark_device_covered_seconds_total")
    uncovered = total(series, "joulemark_device_uncovered_seconds_total")
    return {uuid: seconds + uncovered.get(uuid, 0.0) for uuid, seconds in covered.items()}


def unaccounted(first: Series, last: Series, span_s: float) -> Iterator[str]:
    """Every second between the first and the last scrape must be in one account or the other."""
    before, after = accounted_s(first), accounted_s(last)
    for uuid, seconds in after.items():
        own_s = seconds - before.get(uuid, 0.0)
        print(f"{uuid}: {own_s:.1f} s accounted for, {span_s:.1f} s between first and last scrape")
        if abs(own_s - span_s) > WAITING_S:
            yield f"{uuid}: {own_s:.1f} s of {span_s:.1f} s are in an account"


def tell(series: Series, wrong: list[str]) -> None:
    """Print where the time went, and what was wrong."""
    covered = total(series, "joulemark_device_covered_seconds_total")
    for uuid, seconds in covered.items():
        print(f"  {uuid[:12]} {'covered':12} {seconds:8.1f} s")
    for (name, labels), value in series.items():
        if name == "joulemark_device_uncovered_seconds_total" and value > 0:
            words = dict(labels)
            print(f"  {words['uuid'][:12]} {words['reason']:12} {value:8.1f} s")
    for text in wrong[:10]:
        print(text)


def devices(environment: dict[str, str]) -> list[str]:
    """One TOML list of UUIDs an engine: each has a GPU."""
    code = (
        "import pynvml as n; n.nvmlInit();"
        "print(*[n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(i)) for i in range(2)])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [f'["{uuid}"]' for uuid in done.stdout.split()]


if __name__ == "__main__":
    sys.exit(main())
