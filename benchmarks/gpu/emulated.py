"""The emulated GPU of a dry run: what it is made of, and a power that follows a mock engine."""

from __future__ import annotations

import threading
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from harness.emulator import build, make, waveform
from harness.emulator.live import LiveWriter
from harness.emulator.model import SensorModel
from harness.emulator.reader import read
from harness.emulator.world import WORLD_VARIABLE
from harness.errors import ConfigError
from harness.exposition import Exposition

from .devices import LIVE_VARIABLE, PRETENDED_W

DRIVER = Path("/proc/driver/nvidia/version")
LAG_S, NOISE_W, CALL_S, ENERGY_CALL_S = 0.05, 1.0, 30e-6, 3e-3
"""Put in, so that the protocol has something to find; reads of the energy are as slow as an H100's,
so that they are aimed at ticks as there."""
PREFILL_J, DECODE_J = 0.02, 0.15
"""What a computed input token and an output token draw on the emulated GPU: made up."""
_PERIOD_S = 0.05


def environment(folder: Path) -> dict[str, str]:
    """
    Make the world and the library; what a process needs in order to see them.

    Raises:
        ConfigError: a real driver is loaded here, or there is no C compiler.
    """
    if DRIVER.exists():
        raise ConfigError(
            f"a real NVIDIA driver is loaded here ({DRIVER})", remedy="leave DRY out, or unload it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    live, file = folder / "live", folder / "world.txt"
    live.touch()
    if file.exists():
        # What was recorded before is compared with the truth of the world it was recorded in.
        return build.environment(file, library=build.build()) | {LIVE_VARIABLE: str(live)}
    world = make.make_world([waveform.live(live, idle_w=PRETENDED_W["idle"])], seed=9)
    world = make.with_sensors(world, lag_s=LAG_S, noise_w=NOISE_W)
    world = replace(world, power_latency_s=CALL_S, energy_latency_s=ENERGY_CALL_S)
    world.write(file)
    return build.environment(file, library=build.build()) | {LIVE_VARIABLE: str(live)}


def true_energy_j(world_file: str, start_ns: int, end_ns: int) -> float:
    """Joules that the emulated GPU really drew."""
    return SensorModel(read(Path(world_file)), 0).true_energy_j(start_ns, end_ns)


@dataclass(slots=True)
class Follower:
    """
    Lets the emulated power follow a mock engine's own token counters, in a thread.

    Args:
        url: the mock's `/metrics`.
        live: the emulator's live file.
    """

    url: str
    live: Path
    _done: threading.Event | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(self._done,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._done is not None
        assert self._thread is not None
        self._done.set()
        self._thread.join()

    def _follow(self, done: threading.Event) -> None:
        writer = LiveWriter(self.live)
        last: tuple[float, float, float] | None = None
        while not done.wait(_PERIOD_S):
            try:
                with urllib.request.urlopen(self.url, timeout=2) as answer:  # noqa: S310 - our own
                    metrics = Exposition(answer.read().decode())
            except OSError:
                continue  # not up yet, or gone
            now = (
                time.perf_counter(),
                metrics.total("vllm:prompt_tokens_total"),
                metrics.total("vllm:generation_tokens_total"),
            )
            if last is not None:
                seconds = now[0] - last[0]
                joules = (now[1] - last[1]) * PREFILL_J + (now[2] - last[2]) * DECODE_J
                writer.set_power_w(PRETENDED_W["idle"] + joules / seconds)
            last = now
        writer.set_power_w(PRETENDED_W["idle"])
        writer.close()


def world_file(variables: dict[str, str]) -> str | None:
    """The world's file, if *variables* are those of a dry run."""
    return variables.get(WORLD_VARIABLE)
