"""Threads beside the sampler's loop: woken, ended, and never in anybody's way."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import threading
import time

import numpy as np
import pytest
from stub_session import StubSession

from harness.aside import Aside
from harness.emulator import build, make, waveform
from harness.integrate import traces
from harness.journal import read_journal
from harness.power.hwmon import Hwmon
from harness.power.rapl import Rapl
from harness.power.scripted import Scripted
from harness.rounds import Call, Round
from harness.sampler import Sampler
from harness.schedule import aimed
from harness.timeline import POWER_DTYPE, ReadStatus

LONG_S = 20.0
SECOND = 1_000_000_000


def never():
    """An instant that no test lives to see."""
    return time.perf_counter_ns() + 10**12


class Gate:
    """A turn that says when it is in, and goes on when it is let."""

    def __init__(self):
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, sink):
        self.entered.release()
        assert self.let.acquire(timeout=LONG_S)
        sink.append(b"read")
        return never()


def test_who_wakes_it_during_a_turn_gets_another_one():
    gate = Gate()
    aside = Aside(gate)
    aside.start()
    assert gate.entered.acquire(timeout=LONG_S)
    aside.wake()
    gate.let.release()
    assert gate.entered.acquire(timeout=LONG_S)
    gate.let.release()
    aside.end([])


def test_what_was_read_before_a_fault_is_kept_and_the_fault_is_raised():
    def turn(sink):
        sink.append(b"read")
        raise ZeroDivisionError("in the thread")

    aside, kept = Aside(turn), []
    aside.start()
    aside._thread.join()
    with pytest.raises(ZeroDivisionError, match="in the thread"):
        aside.drain(kept)
    assert kept == [b"read"]
    with pytest.raises(ZeroDivisionError):
        aside.end(kept)


def test_the_last_turn_is_waited_for():
    gate, kept = Gate(), []
    aside = Aside(gate, patience_s=LONG_S)
    aside.start()
    assert gate.entered.acquire(timeout=LONG_S)
    ending = threading.Thread(target=aside.end, args=(kept,))
    ending.start()
    gate.let.release()
    ending.join()
    assert kept == [b"read"]
    assert not aside._thread.is_alive()


def test_a_last_turn_that_does_not_end_is_said_if_it_mattered():
    gate = Gate()
    needed, other = Aside(gate, patience_s=0.01), Aside(gate)
    for aside in (needed, other):
        aside.start()
        assert gate.entered.acquire(timeout=LONG_S)
    other.end([])
    with pytest.raises(TimeoutError, match="had not returned"):
        needed.end([])
    gate.let.release(2)


class Counter(StubSession):
    """Ticks every 100 ms, and reads only when it is let."""

    def __init__(self):
        super().__init__()
        self.gate = Gate()
        self.free = False

    def read(self, call):
        del call
        if not self.free:
            self.gate([])
        else:
            time.sleep(0.001)
        return [(float(time.perf_counter_ns() // 100_000_000), ReadStatus.OK)]


def test_a_mark_during_a_slow_read_does_not_wait_and_gets_its_tick():
    session, kept = Counter(), []
    call = Call(session=session, index=0, channels=session.calls[0], first_channel=0)
    one = aimed([Round([call])], 20.0, 50_000_000, 0.1)
    one.aside.start()
    assert session.gate.entered.acquire(timeout=LONG_S)
    assert not one.busy
    t_ns = time.perf_counter_ns()
    # The read is going on all the while.
    one.mark(t_ns)
    assert one.busy
    session.free = True
    session.gate.let.release()
    deadline_s = time.monotonic() + LONG_S
    while one.busy:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    one.aside.end(kept)
    rows = np.frombuffer(b"".join(kept), POWER_DTYPE)
    assert rows["t_before_ns"][0] < t_ns < rows["t_after_ns"][0]
    assert rows["value"][-1] > t_ns // 100_000_000


def test_an_edge_is_not_waited_for_without_end():
    session = Counter()
    call = Call(session=session, index=0, channels=session.calls[0], first_channel=0)
    one = aimed([Round([call])], 20.0, 50_000_000, 0.1)
    one.mark(time.perf_counter_ns() - 2 * SECOND)
    assert not one.busy


@pytest.fixture
def emulated(tmp_path, monkeypatch):
    """Give this process and its children a GPU of 300 W whose counter takes so long."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")

    def emulate(read_s, *, spin=False):
        made = make.make_world([waveform.constant(power_w=300.0)], gpus=1)
        made = dataclasses.replace(made, energy_latency_s=read_s, spin=spin)
        library = build.build(tmp_path / "library")
        environment = build.environment(made.write(tmp_path / "world.txt"), library=library)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return emulate


def sampled(path):
    """Counter and instant power in a journal."""
    header, records, torn = read_journal(path, POWER_DTYPE)
    assert torn == 0
    by_sense = {trace.channel.sense: trace for trace in traces(header, records)}
    return by_sense["counter"], by_sense["instant"]


@pytest.mark.parametrize("spin", [False, True])
def test_power_is_read_while_a_counter_is(tmp_path, emulated, spin):
    """A read takes three times as long as power's period: it has power's readings within it."""
    emulated(0.06, spin=spin)
    sampler = Sampler(tmp_path / "j", [("nvml", {})])
    sampler.start()
    sampler.mark()
    deadline_s = time.monotonic() + LONG_S
    while True:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
        # The first five were made at the start, to learn what they cost.
        if len(sampled(tmp_path / "j")[0].t_before_ns) >= 5 + 4:
            break
    audit = sampler.stop()
    counter, power = sampled(tmp_path / "j")
    begun = [
        np.count_nonzero((power.t_before_ns > before) & (power.t_after_ns < after))
        for before, after in zip(counter.t_before_ns, counter.t_after_ns, strict=True)
    ]
    assert not any(begun[:5])
    assert np.mean(np.array(begun[5:]) > 0) > 0.5
    # Both threads read what the sensors say.
    assert audit.faults == {}
    assert audit.fault is None
    assert set(np.round(power.value, 3)) == {300.0}
    ticks = np.diff(counter.value) / 30
    assert ticks == pytest.approx(np.round(ticks))


def test_a_read_that_outlasts_the_end_is_in_the_journal(tmp_path, emulated):
    """Told to stop as soon as it has started, when the thread's first read has just begun."""
    emulated(0.06)
    sampler = Sampler(tmp_path / "j", [("nvml", {})])
    sampler.start()
    audit = sampler.stop()
    assert audit.fault is None
    assert len(audit.aimed) == 1
    assert len(sampled(tmp_path / "j")[0].t_before_ns) >= 5 + 1


FAULTY = """
import threading, time
from harness.power import scripted
read = scripted._Session.read
def faulty(self, call):
    if call % 2 == 0:
        time.sleep(0.001)
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError("the counter fell off")
    return read(self, call)
scripted._Session.read = faulty
"""


def test_an_exception_in_the_thread_ends_the_sampler_with_its_words(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    sampler = Sampler(tmp_path / "j", [("scripted", {})])
    sampler.start()
    assert sampler._process is not None
    # It ends without being told to.
    sampler._process.wait(timeout=LONG_S)
    audit = sampler.stop()
    assert audit.fault == "exit code 1: ZeroDivisionError: the counter fell off"
    assert audit.cpu_s is None
    assert audit.reads["scripted:0:energy"] == 5


def rapl(folder):
    for number in range(2):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(f"package-{number}")
        (zone / "energy_uj").write_text(f"{number + 1}000000\n")
        (zone / "max_energy_range_uj").write_text("9000000")
    return Rapl(root=folder).open(), [1.0, 2.0]


def hwmon(folder):
    for number in range(2):
        chip = folder / f"hwmon{number}"
        chip.mkdir()
        (chip / "name").write_text("amd_energy")
        (chip / "energy1_input").write_text(f"{number + 1}000000")
        (chip / "energy1_label").write_text("Esocket0")
    return Hwmon(root=folder).open(), [1.0, 2.0]


def scripted(folder):
    del folder
    # Its counter moves once in a thousand seconds, by more than none.
    return Scripted(high_w=300.0, tick_s=1e6, quantum_j=1e12).open(), [0.0, 300.0]


def recording(folder):
    sampler = Sampler(folder / "power.jmj", [("scripted", {"tick_s": 1e6, "quantum_j": 1e12})])
    sampler.start()
    sampler.stop()
    return Scripted(recording=str(folder / "power.jmj")).open(), [0.0, 300.0]


@pytest.mark.parametrize("source", [rapl, hwmon, scripted, recording])
def test_one_call_of_a_session_may_be_made_during_another(tmp_path, source):
    """Each in a thread of its own, as often as they like: each says what is its own."""
    session, expected = source(tmp_path)
    found = [set(), set()]

    def read(call):
        for _ in range(2000):
            ((value, _),) = session.read(call)
            # A recording that has been played to its end.
            if not math.isnan(value):
                found[call].add(value)

    threads = [threading.Thread(target=read, args=(call,)) for call in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    assert found == [{expected[0]}, {expected[1]}]
