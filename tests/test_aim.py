"""Reads aimed at ticks: on real readings played back, on simulated counters, and when they fail."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import slow_reads as slow
from benchmarks.gpu import polls
from harness import ticking
from harness.aim import Aim
from harness.emulator.model import SensorModel
from harness.integrate import window_energies
from harness.joules import counter, following
from harness.timeline import PowerTrace, Window
from harness.turns import Aims

FOLDER = Path(__file__).parents[1] / "docs" / "measurements" / "2026-11-26-h100"
SECOND = 1_000_000_000


@dataclass
class Clockwork:
    """A counter that ticks every *period_ns*, from *changes_ns* on every *then_ns*."""

    power_w: float = 400.0
    period_ns: float = 100e6
    changes_ns: float = math.inf
    then_ns: float = 93e6
    read_ns: int = 3_300_000
    lost_from_ns: float = math.inf
    lost_until_ns: float = math.inf

    def tick_ns(self, t_ns):
        """The last tick at or before an instant."""
        if t_ns < self.changes_ns:
            return math.floor(t_ns / self.period_ns) * self.period_ns
        last = math.floor(self.changes_ns / self.period_ns) * self.period_ns
        return last + math.floor((t_ns - last) / self.then_ns) * self.then_ns

    def read(self, t_ns):
        if self.lost_from_ns <= t_ns < self.lost_until_ns:
            return self.read_ns, math.nan
        return self.read_ns, self.power_w * self.tick_ns(t_ns + self.read_ns // 2) / 1e9


def power_of(path) -> PowerTrace:
    """Field 186, as it was read beside the counter."""
    with np.load(path) as found:
        rows = found["power"]
    channel = dataclasses.replace(
        slow.trace([(0, 1, 0.0)]).channel, quantity="power", quantum=None, sense="instant"
    )
    status = np.zeros(len(rows), "u2")
    return PowerTrace(channel, rows[:, 0], rows[:, 1], rows[:, 2] / 1e3, status)


@pytest.mark.parametrize("number", [1, 2])
def test_a_real_counter_is_known_as_well_from_half_of_the_reads(number):
    """The card's own readings played back: the same windows, aimed and dithered."""
    path = FOLDER / f"counter-polls-{number}.npz"
    device, power = slow.recorded(path), power_of(path)
    begin, end = int(device.start_ns[0]), int(device.start_ns[-1])
    starts = np.linspace(begin + 4e9, end - 7e9, 8).astype(int)
    halves, runs = {}, {}
    for way, sample in (("dithered", slow.dithered), ("aimed", slow.aimed)):
        runs[way] = sample([device], begin, end)
        trace = slow.trace(runs[way].reads[0])
        halves[way] = []
        for start in starts:
            window = Window(name="w", start_ns=int(start), end_ns=int(start) + 5 * SECOND)
            (energy,) = window_energies([trace, power], window)
            edges = [energy.window.start_ns, energy.window.end_ns]
            before, after = np.interp(edges, device.tick_ns[1:], device.tick_j[1:])
            assert energy.low_j <= after - before <= energy.high_j
            assert energy.energy_j == pytest.approx(after - before, rel=0.0005)
            halves[way].append((energy.high_j - energy.low_j) / 2 / energy.energy_j)
    assert runs["aimed"].aims.all_aims[0].losses == 0
    assert runs["aimed"].reads_hz < 0.65 * runs["dithered"].reads_hz
    assert runs["aimed"].busy_ratio < 0.6 * runs["dithered"].busy_ratio
    # The card's load was on and off, so that its energies say nothing of how even ticks are.
    assert np.median(halves["aimed"]) <= 1.6 * np.median(halves["dithered"])
    assert np.median(halves["aimed"]) < 0.0012
    # All that back-to-back reads saw, but for one or two.
    values = {value for _, _, value in runs["aimed"].reads[0]}
    assert len(values) >= len(device.tick_j) - 3


@pytest.mark.parametrize("number", [1, 2])
def test_the_lattice_of_aimed_reads_is_that_of_all_reads(number):
    path = FOLDER / f"counter-polls-{number}.npz"
    device = slow.recorded(path)
    found = slow.aimed([device], int(device.start_ns[0]), int(device.start_ns[-1]))
    (aim,) = found.aims.all_aims
    assert aim.ticks is not None
    ticks = device.tick_ns[1:]
    low_ns, high_ns = aim.ticks.span_ns(aim.ticks.at)
    assert np.min(np.abs(ticks - (low_ns + high_ns) / 2)) < 5e6
    assert aim.ticks.period_ns == pytest.approx(np.median(np.diff(ticks)), abs=2e4)
    (knots,) = counter.stretches(polls.trace(path, "measured"))
    (fewer,) = counter.stretches(slow.trace(found.reads[0]))
    assert abs(len(fewer.energy_j) - len(knots.energy_j)) <= 3


def test_eight_counters_take_the_budget():
    """Once it has learned: a tenth of a core."""
    random = np.random.default_rng(3)
    world = slow.worlds(random, "decode", 8)
    models = [SensorModel(world, k) for k in range(8)]
    devices = [slow.Modelled(model, 3_300_000, random) for model in models]
    found = slow.aimed(devices, 5 * SECOND, 35 * SECOND)
    late = [
        after - before
        for reads in found.reads
        for before, after, _ in reads
        if before > 20 * SECOND
    ]
    assert sum(late) / 15e9 < 0.12
    # All read the same ticks: whichever is an edge, each has one next to it.
    last = [reads[-1][0] for reads in found.reads]
    assert max(last) - min(last) < 0.6 * SECOND
    window = Window(name="w", start_ns=24 * SECOND, end_ns=29 * SECOND)
    counters = [slow.trace(reads, str(k)) for k, reads in enumerate(found.reads)]
    (energy,) = window_energies([*counters, *slow.power_traces(found, models)], window)
    edges = energy.window.start_ns, energy.window.end_ns
    truth = sum(model.true_energy_j(*edges) for model in models)
    assert energy.low_j <= truth <= energy.high_j
    assert energy.high_j - energy.low_j < 0.03 * truth


def test_an_announced_edge_has_the_ticks_around_it():
    """The one before it and two after, of each counter, though one in several is read else."""
    marks = [20 * SECOND + 31_000_000]
    devices = [Clockwork(read_ns=4_000_000 + 10_000 * k) for k in range(8)]
    found = slow.aimed(devices, 5 * SECOND, 22 * SECOND, marks)
    for reads in found.reads:
        shown = {round(value / 40) for _, _, value in reads}
        assert {200, 201, 202} <= shown
    assert not found.aims.busy


def test_the_first_read_of_a_burst_may_show_a_tick_long_past_and_does_not_end_it():
    one = Aim(grid_ns=50_000_000, begun_ns=0)
    one.took(0, 3_000_000, 1.0)
    one.announce(10_000_000)
    one.took(11_000_000, 14_000_000, 2.0)
    assert one.busy
    one.took(15_000_000, 18_000_000, 2.0)
    assert one.busy
    one.took(19_000_000, 22_000_000, 3.0)
    assert not one.busy


@pytest.mark.parametrize("load", ["constant", "decode"])
def test_ticks_that_jitter_are_not_aimed_at_for_long(load):
    held = 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        world = slow.worlds(random, load, 1, jitter_s=0.005)
        model = SensorModel(world, 0)
        found = slow.aimed([slow.Modelled(model, 3_300_000, random)], 5 * SECOND, 45 * SECOND)
        (aim,) = found.aims.all_aims
        assert aim.losses >= 1
        start = 30 * SECOND
        window = Window(name="w", start_ns=start, end_ns=start + 5 * SECOND)
        traces = [slow.trace(found.reads[0]), *slow.power_traces(found, [model])]
        (energy,) = window_energies(traces, window)
        truth = model.true_energy_j(energy.window.start_ns, energy.window.end_ns)
        held += energy.low_j <= truth <= energy.high_j
    assert held >= 4


def test_a_period_that_changes_ends_the_aiming_and_is_found_again():
    device = Clockwork(changes_ns=15 * SECOND)
    found = slow.aimed([device], 5 * SECOND, 40 * SECOND)
    (aim,) = found.aims.all_aims
    assert aim.losses >= 1
    assert aim.ticks is not None
    assert aim.ticks.period_ns == pytest.approx(93e6, abs=2e5)
    (knots,) = counter.stretches(slow.trace(found.reads[0]))
    # Whatever it is taken for: each tick is in its bracket, and the joules are the counter's.
    for start, end in ((12, 18), (8, 13), (30, 36), (14, 32)):
        window = Window(name="w", start_ns=start * SECOND, end_ns=end * SECOND)
        (energy,) = window_energies([slow.trace(found.reads[0])], window)
        truth = 400.0 * (energy.window.end_ns - energy.window.start_ns) / 1e9
        assert energy.low_j <= truth <= energy.high_j
        assert energy.high_j - energy.low_j < 0.1 * truth
    assert len(knots.energy_j) > 200


def test_a_device_that_does_not_answer_is_read_at_dithered_times():
    device = Clockwork(lost_from_ns=10 * SECOND, lost_until_ns=12 * SECOND)
    found = slow.aimed([device], 5 * SECOND, 14 * SECOND)
    (aim,) = found.aims.all_aims
    assert (aim.ticks, aim.losses) == (None, 1)
    begun = np.array([before for before, _, _ in found.reads[0] if before > 10.2 * SECOND])
    assert np.median(np.diff(begun)) == pytest.approx(aim.grid_ns, rel=0.7)
    assert len(begun) > 40


def test_a_counter_that_stands_still_is_never_aimed_at():
    found = slow.aimed([Clockwork(power_w=0.0)], 5 * SECOND, 15 * SECOND)
    (aim,) = found.aims.all_aims
    assert aim.ticks is None
    assert aim.facts(15 * SECOND, 1)["aimed_ratio"] == 0
    assert found.busy_ratio < 0.16


def test_reads_that_outlast_the_ticks_are_never_aimed():
    found = slow.aimed([Clockwork(read_ns=130_000_000)], 5 * SECOND, 25 * SECOND)
    assert found.aims.all_aims[0].aimed_s(25 * SECOND) < 2


def test_a_read_is_begun_when_it_is_due_and_looked_at_again_when_none_is():
    aims = Aims([Aim(grid_ns=50_000_000, begun_ns=0)], most_hz=20, busy_ratio=0.1)
    now = 1_000_000
    for _ in range(8):
        assert aims.choose(now) == 0
        aims.took(0, now, now + 4_000_000, 7.0)
        assert aims.next_ns > now
        assert aims.choose(aims.next_ns - 1) is None
        now = max(now + 4_000_000, aims.next_ns)


def test_of_two_that_are_due_the_one_that_is_sooner_too_late_is_read():
    one, other = (Aim(grid_ns=50_000_000, begun_ns=0, open_ns=t, seek_at_ns=9) for t in (1, 2))
    one.close_ns, other.close_ns = 8, 7
    assert Aims([one, other], most_hz=20, busy_ratio=0.1).choose(3) == 1


@settings(max_examples=60, deadline=None)
@given(
    period_ms=st.floats(60, 150),
    phase=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    often=st.floats(0.2, 3.0),
)
def test_a_regular_tick_is_always_where_the_readings_allow_it(period_ms, phase, seed, often):
    """Reads at any times, of any lengths, some far apart: nothing true is ever excluded."""
    random = np.random.default_rng(seed)
    period, first = period_ms * 1e6, phase * period_ms * 1e6

    def shown(t_ns):
        return math.floor((t_ns - first) / period)

    brackets = []
    for k in range(3):
        tick = first + (k + 1) * period
        brackets.append((tick - random.uniform(1e5, 8e6), tick + random.uniform(1e5, 8e6)))
    ticks = ticking.begin(brackets, slack_ns=2e5)
    assert ticks is not None
    t, value = brackets[-1][1] + 1e5, shown(brackets[-1][1])
    for _ in range(300):
        t += random.exponential(often * period)
        took = random.uniform(1e6, 20e6)
        new = shown(t + took * random.random())
        assert ticks.follow(t, t + took, changed=new != value)
        value, t = new, t + took
        if ticks.at is not None:
            assert ticks.at == value - 1
        low, high = ticks.span_ns(value)
        assert low <= first + (value + 1) * period <= high


def test_ticks_off_the_lattice_leave_no_lattice():
    brackets = [(k * 1e8 - 2e6, k * 1e8 + 2e6) for k in range(3)]
    ticks = ticking.begin(brackets, slack_ns=2e5)
    assert ticks is not None
    assert ticks.follow(2.5e8, 2.53e8, changed=False)
    # The next one is due at 300 ms, give or take 10: it is still not there.
    assert not ticks.follow(3.3e8, 3.33e8, changed=False)
    assert ticking.begin([(0, 1e6), (1e8, 1.01e8), (2.3e8, 2.31e8)], slack_ns=2e5) is None


@pytest.mark.parametrize("stride", [1, 3, 4])
def test_ticks_that_were_not_read_are_counted(stride):
    """Three seen one by one, then one read late in every so many, and one around some."""
    random = np.random.default_rng(stride)
    reads = [(k * 8e6, 3e6) for k in range(45)]
    number = 4
    while number < 400:
        if number < 40 or number // stride % 8 == 0:
            reads.append((number * 1e8 + random.uniform(-5e6, 2e6), 3.3e6))
        reads.append((number * 1e8 + random.uniform(5e7, 9e7), random.uniform(2e6, 5e6)))
        number += stride if number >= 40 else 1
    before = np.array([start for start, _ in reads]).astype(np.int64)
    after = before + np.array([took for _, took in reads]).astype(np.int64)
    truth = np.floor((before + after) / 2 / 1e8).astype(np.int64)
    moved = np.flatnonzero(np.diff(truth) > 0) + 1
    found = following.followed(before, after, moved)
    assert found is not None
    known = found != following.UNKNOWN
    assert np.mean(known) > 0.95
    off = found[known] - truth[moved][known]
    assert len(set(off.tolist())) == 1


def test_numbers_are_not_used_where_no_lattice_passes():
    """What was numbered by mistake keeps the brackets that were seen."""
    at = np.arange(40) * 1e8
    knots = counter.Knots(
        low_ns=at - 2e6,
        high_ns=at + 2e6,
        energy_j=np.arange(40.0),
        each=True,
        fault=None,
        t_first_ns=-1e8,
        t_last_ns=4e9,
        longest_gap_s=0.1,
        low_took_ns=np.full(40, 3e6),
        high_took_ns=np.full(40, 3e6),
        followed=following.APART + np.arange(40),
    )
    kept = following.accepted(knots, 1e9, 3e9, 12e9)
    assert kept.number is not None
    wrong = knots.followed.copy()
    wrong[20:] += 1
    other = following.accepted(dataclasses.replace(knots, followed=wrong), 1e9, 3e9, 12e9)
    assert other.number is None
    assert np.array_equal(other.low_ns, knots.low_ns)
