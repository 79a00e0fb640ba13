from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness import plugins
from harness.errors import PowerUnavailableError
from harness.production.devices import choose, open_sources
from harness.production.reader import SourceReader
from harness.production.settings import MeterConfig
from harness.timeline import Boundary, Channel, ReadStatus

LIMIT_S = 10.0


def channel(name: str, quantity: str, boundary: Boundary, device: str, sense: str) -> Channel:
    return Channel(
        name=name, quantity=quantity, boundary=boundary, device=device, sense=sense,
        power_kind="emulated", method="test", quantum=1.0,
    )  # fmt: skip


ENERGY = channel("g:energy", "energy", "gpu", "g", "counter")
BOARD = channel("g:board", "power", "gpu", "g", "instant")
MEMORY = channel("g:memory", "power", "gpu_memory", "g", "instant")
PACKAGE = channel("cpu:0", "energy", "cpu_package", "cpu0", "counter")
WATTS = channel("w", "power", "gpu", "w", "instant")


@dataclass
class Session:
    """A power source that says what it is told to."""

    calls: Sequence[Sequence[Channel]]
    answers: dict[int, list[tuple[float, ReadStatus]]]
    period_s: float | None = None
    reads: list[int] = field(default_factory=list)

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        self.reads.append(call)
        return self.answers[call]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@dataclass
class Source:
    session: Session

    def open(self) -> Session:
        return self.session


def ask(reader: SourceReader) -> None:
    """Wait until the counters were read for us."""
    done = threading.Event()
    reader.ask(done.set)
    assert done.wait(LIMIT_S)


def test_watts_say_what_they_are_of_and_a_failed_one_is_missing():
    ok = ReadStatus.OK
    session = Session(
        calls=[(ENERGY,), (BOARD, MEMORY)],
        answers={0: [(7.0, ok)], 1: [(300.0, ok), (40.0, ok)]},
    )
    reader = SourceReader("test", Source(session), power_hz=100)
    reader.start()
    try:
        while 1 not in session.reads:
            ask(reader)
        ask(reader)
        shown = {key: value for key, (_, value) in reader.watts.items()}
        # The memory's own watts must not pass for the board's.
        assert shown == {("g", "gpu", "instant"): 300.0, ("g", "gpu_memory", "instant"): 40.0}
        assert reader.readings["g:energy"].energy_j == 7.0
        session.answers[1] = [(300.0, ok), (float("nan"), ReadStatus.TIMEOUT)]
        session.reads.clear()
        while session.reads.count(1) < 2:
            ask(reader)
        assert reader.watts.keys() == {("g", "gpu", "instant")}
    finally:
        reader.stop()


def test_counters_are_read_when_asked_for_and_a_lost_one_is_a_reading():
    session = Session(calls=[(ENERGY,)], answers={0: [(float("nan"), ReadStatus.LOST)]})
    reader = SourceReader("test", Source(session), power_hz=0.1)
    reader.start()
    try:
        ask(reader)
        reading = reader.readings["g:energy"]
    finally:
        reader.stop()
    assert (reading.energy_j, reading.status) == (None, ReadStatus.LOST)


def test_a_device_without_a_counter_gets_one_from_its_watts():
    session = Session(calls=[(WATTS,)], answers={0: [(100.0, ReadStatus.OK)]})
    reader = SourceReader("test", Source(session), power_hz=100)
    reader.start()
    try:
        while len(session.reads) < 5:
            ask(reader)
        ask(reader)
        reading = reader.readings["w"]
    finally:
        reader.stop()
    assert reading.energy_j is not None
    # 100 W over four to a few more hundredths of a second.
    assert reading.energy_j > 100 * 0.01


def with_sources(monkeypatch, **there: Session) -> list[SourceReader]:
    def load(family: str, kind: str) -> Any:
        @dataclass(frozen=True)
        class Kind:
            def open(self) -> Session:
                if kind not in there:
                    raise PowerUnavailableError(f"no {kind}", remedy="none")
                return there[kind]

        assert family == "power"
        return Kind

    monkeypatch.setattr(plugins, "load", load)
    return open_sources(MeterConfig(), power_hz=20)


def test_every_meter_of_a_node_is_read_and_only_the_gpus_are_attributed(monkeypatch):
    nvml = Session(calls=[(ENERGY,)], answers={})
    rapl = Session(calls=[(PACKAGE,)], answers={})
    readers = with_sources(monkeypatch, nvml=nvml, rapl=rapl)
    found = {one.device.uuid: one.attributed for one in choose(readers, ())}
    assert found == {"g": True, "cpu0": False}


def test_without_a_gpu_the_cpu_is_attributed_and_without_a_meter_its_model(monkeypatch):
    package = Session(calls=[(PACKAGE,)], answers={})
    (rapl,) = with_sources(monkeypatch, rapl=package)
    assert [one.attributed for one in choose([rapl], ())] == [True]
    (model,) = with_sources(monkeypatch, cpu_model=package)
    assert model.name == "cpu_model"
    with pytest.raises(PowerUnavailableError, match=r"no nvml; .*no rapl; .*no cpu_model"):
        with_sources(monkeypatch)
