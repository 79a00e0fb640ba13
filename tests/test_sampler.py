"""The sampler's process: it writes, ends with its parent, and what it wrote stays readable."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.aside import be_on_time
from harness.emulator import build, make, waveform
from harness.errors import ConfigError, PowerUnavailableError, StoreError
from harness.integrate import traces, window_energies
from harness.journal import read_journal
from harness.power.scripted import Scripted
from harness.sampler import Sampler
from harness.timeline import POWER_DTYPE, ReadStatus, Window

ROOT = Path(__file__).resolve().parent.parent


def wait_for(condition, *, seconds=20.0):
    """Wait until something outside this process has happened."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def rows(path):
    try:
        return len(read_journal(path, POWER_DTYPE)[1])
    except StoreError:
        return 0


def test_what_is_sampled_integrates_to_the_truth(tmp_path):
    """A 2 s square wave between two announced edges, through process, journal and arithmetic."""
    options = {"waveform": "square", "devices": 2}
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", options)])
    channels = sampler.start()
    start_ns = sampler.mark()
    wait_for(lambda: time.perf_counter_ns() > start_ns + 1_300_000_000)
    end_ns = sampler.mark()
    audit = sampler.stop()
    header, records, torn = read_journal(tmp_path / "p.jmj", POWER_DTYPE)
    assert torn == 0
    assert [channel["name"] for channel in header["channels"]] == [c.name for c in channels]
    (energy,) = window_energies(
        traces(header, records), Window(name="w", start_ns=start_ns, end_ns=end_ns, planned=True)
    )
    source = Scripted(waveform="square")
    truth_j = 2 * (
        source.true_energy_j(energy.window.end_ns) - source.true_energy_j(energy.window.start_ns)
    )
    assert energy.power_kind == "emulated"
    assert energy.energy_j == pytest.approx(truth_j, rel=0.02)
    assert energy.low_j - 0.01 * truth_j <= truth_j <= energy.high_j + 0.01 * truth_j
    assert sum(audit.reads.values()) == len(records)
    assert audit.fault is None
    assert audit.faults == {}
    assert audit.aimed == {}
    assert audit.cpu_s is not None


def test_stamps_of_a_channel_go_forward(tmp_path):
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {}), ("cpu_model", {})])
    sampler.start()
    wait_for(lambda: rows(tmp_path / "p.jmj") > 100)
    sampler.stop()
    header, records, _ = read_journal(tmp_path / "p.jmj", POWER_DTYPE)
    for trace in traces(header, records):
        assert np.all(np.diff(trace.t_before_ns) > 0)
        assert np.all(trace.t_after_ns >= trace.t_before_ns)


def test_an_announced_edge_is_read_in_a_burst(tmp_path):
    """From the mark on a millisecond apart, through one tick, for no longer than 150 ms."""
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {})], counter_hz=1.0)
    sampler.start()
    wait_for(lambda: rows(tmp_path / "p.jmj") > 250)
    t_ns = sampler.mark()
    audit = sampler.stop()
    assert audit.counter_hz == 1.0
    _, records, _ = read_journal(tmp_path / "p.jmj", POWER_DTYPE)
    burst = records[(records["channel"] == 0) & (records["t_before_ns"] >= t_ns)]
    # Polled once a second otherwise, so that these are the burst's.
    assert len(burst) >= 2
    assert burst["t_before_ns"][-1] - t_ns < 250_000_000
    steps_ms = np.diff(burst["t_before_ns"]) / 1e6
    assert 0.9 < np.median(steps_ms) < 5
    ticks = np.flatnonzero(np.diff(burst["value"]))
    # It ends with the tick: nothing but a poll due in that very millisecond may follow.
    assert len(ticks) == 1
    assert ticks[0] >= len(burst) - 3
    assert burst["t_before_ns"][-2] - t_ns < 150_000_000


def test_a_source_that_does_not_open_leaves_no_file(tmp_path):
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {"fail": "the meter is unplugged"})])
    with pytest.raises(PowerUnavailableError, match="the meter is unplugged"):
        sampler.start()
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(ConfigError, match="wavform"):
        Sampler(tmp_path / "p.jmj", [("scripted", {"wavform": "square"})]).start()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_not_written_over(tmp_path):
    path = tmp_path / "p.jmj"
    path.write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        Sampler(path, [("scripted", {})]).start()
    assert path.read_text() == "mine"


def test_the_newest_watts_are_known(tmp_path):
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {"high_w": 123.0, "devices": 2})])
    sampler.start()
    watts = wait_for(sampler.latest_w)
    sampler.stop()
    assert watts == {"gpu": 246.0}


def test_a_sampler_that_was_killed_is_audited_all_the_same(tmp_path):
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {})])
    sampler.start()
    wait_for(lambda: rows(tmp_path / "p.jmj") > 100)
    assert sampler._process is not None
    sampler._process.send_signal(signal.SIGKILL)
    sampler._process.wait()
    sampler.mark()
    audit = sampler.stop()
    assert audit.fault == "exit code -9"
    assert audit.round_robin is None
    assert audit.cpu_s is None
    assert sum(audit.reads.values()) > 100


def test_a_lost_device_is_recorded_as_lost(tmp_path):
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", {"lost_after_s": 0.4})])
    sampler.start()
    wait_for(
        lambda: any(
            row["channel"] == 0 and row["status"] == ReadStatus.LOST
            for row in read_journal(tmp_path / "p.jmj", POWER_DTYPE)[1]
        )
    )
    audit = sampler.stop()
    assert audit.faults["scripted:0:energy"] > 0


PARENT = """
import sys, time
from pathlib import Path
from harness.sampler import Sampler
sampler = Sampler(Path(sys.argv[1]), [("scripted", {})])
sampler.start()
print(sampler._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_sampler_ends_with_its_parent_and_its_journal_stays(tmp_path, how):
    path = tmp_path / "p.jmj"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        wait_for(lambda: rows(path) > 50)
        parent.send_signal(how)
        parent.wait()
    # A process that nobody waits for any more is gone from /proc, or a zombie of init's.
    wait_for(lambda: not _runs(pid))
    header, records, torn = read_journal(path, POWER_DTYPE)
    assert torn == 0
    assert len(records) > 50
    assert header["channels"][0]["power_kind"] == "emulated"


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_reading_that_takes_long_lowers_the_rate(tmp_path):
    """Sixteen devices whose reads take a while are not read 50 times a second at any cost."""
    pieces = tuple((0.001, float(k)) for k in range(4000))
    options = {"waveform": "trace", "trace": pieces, "devices": 4}
    sampler = Sampler(tmp_path / "p.jmj", [("scripted", options)], power_hz=200.0)
    sampler.start()
    audit = sampler.stop()
    assert audit.power_hz is not None
    assert audit.power_hz < 200


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_slow_calls_take_no_more_than_a_twentieth_of_the_time(tmp_path, monkeypatch):
    """Four GPUs whose calls take 2 ms each: a round is 8 ms, so a period is at least 160 ms."""
    made = make.make_world([waveform.constant(power_w=300.0)], gpus=4)
    made = dataclasses.replace(made, power_latency_s=0.002, energy_latency_s=0.002)
    library = build.build(tmp_path / "library")
    environment = build.environment(made.write(tmp_path / "world.txt"), library=library)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sampler = Sampler(tmp_path / "p.jmj", [("nvml", {})], power_hz=50.0, counter_hz=5.0)
    sampler.start()
    audit = sampler.stop()
    assert audit.power_hz is not None
    assert audit.counter_hz is not None
    # Whoever shares this machine can only make it slower.
    assert audit.power_hz <= 1 / 0.160
    assert audit.counter_hz <= 5.0
    assert min(p50 for p50, _ in audit.call_us.values()) >= 2000
    # What is slow is aimed where it can be, and the audit says of each whether it was.
    assert len(audit.aimed) == 4
    for one in audit.aimed.values():
        assert one.keys() == {"aimed_ratio", "period_ms", "one_tick_in", "given_up"}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_slow_counter_has_its_tick_after_an_edge_announced_just_before_the_end(
    tmp_path, monkeypatch
):
    made = make.make_world([waveform.constant(power_w=300.0)], gpus=1)
    made = dataclasses.replace(made, energy_latency_s=0.003)
    library = build.build(tmp_path / "library")
    environment = build.environment(made.write(tmp_path / "world.txt"), library=library)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "p.jmj"
    sampler = Sampler(path, [("nvml", {})])
    channels = sampler.start()
    number = next(k for k, one in enumerate(channels) if one.quantity == "energy")
    wait_for(lambda: rows(path) > 300)
    t_ns = sampler.mark()
    audit = sampler.stop()
    _, records, _ = read_journal(path, POWER_DTYPE)
    counter = records[records["channel"] == number]
    before = counter["value"][counter["t_after_ns"] <= t_ns][-1]
    after = counter["value"][counter["t_before_ns"] >= t_ns]
    # 30 J a tick.
    assert after[-1] - before >= 29.9
    assert audit.fault is None


def test_plugins_that_do_not_exist_are_named(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'nvml'"):
        Sampler(tmp_path / "p.jmj", [("nvmll", {})]).start()


def test_the_audit_says_whether_the_sampler_went_before_other_programs(tmp_path):
    sampler = Sampler(tmp_path / "power.jmj", [("scripted", {})])
    sampler.start()
    process = sampler._process
    assert process is not None
    policy = os.sched_getscheduler(process.pid) & ~os.SCHED_RESET_ON_FORK
    assert sampler.stop().round_robin is (policy == os.SCHED_RR)
    assert not be_on_time(os.sched_get_priority_max(os.SCHED_RR) + 1)
