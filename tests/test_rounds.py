"""Rounds of calls, and when they are due: grids, bursts, and the audit of what they wrote."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from stub_session import CHANNEL, StubSession

from harness.rounds import Call, Round, rounds_of
from harness.sampler_audit import audit
from harness.schedule import BURST_STEP_NS, Burst, Grid, first_reads
from harness.timeline import POWER_DTYPE, ReadStatus

OK = ReadStatus.OK


class Session(StubSession):
    """Reads what it was told to, one list of values a call."""

    def __init__(self, *calls):
        super().__init__(len(calls))
        self.script = [list(values) for values in calls]
        self.log = []

    def read(self, call):
        self.log.append(call)
        value = self.script[call].pop(0)
        return [(value, ReadStatus.LOST if math.isnan(value) else OK)]


class Batched(Session):
    """Offers batches; logs what happens in which order."""

    def batch(self, calls):
        return Together(self, calls)


class Together:
    """Returns from its bare calls where the values are, and reads them when asked."""

    def __init__(self, session, calls):
        self._session = session
        self.asks = [lambda call=call: session.log.append(call) or call for call in calls]

    def answers(self, returned):
        self._session.log.append("answers")
        return [self._session.script[call].pop(0) for call in returned], [OK] * len(returned)


class Sink:
    """Keeps what was appended."""

    def __init__(self):
        self.blocks = []

    def append(self, records):
        self.blocks.append(np.frombuffer(records, POWER_DTYPE))


def calls_of(session, first_channel=0):
    found = []
    for index, channels in enumerate(session.calls):
        found.append(
            Call(session=session, index=index, channels=channels, first_channel=first_channel)
        )
        first_channel += len(channels)
    return found


def test_a_round_is_one_block_with_a_row_a_channel():
    session, sink = Session([1.5], [math.nan]), Sink()
    session.calls[0] = (CHANNEL, replace(CHANNEL, name="p"))
    session.read = lambda call: [(1.5, OK), (2.5, OK)] if call == 0 else [(math.nan, 3)]
    before_ns = time.perf_counter_ns()
    Round(calls_of(session, first_channel=4)).run(sink)
    after_ns = time.perf_counter_ns()
    (rows,) = sink.blocks
    assert rows["channel"].tolist() == [4, 5, 6]
    assert rows["status"].tolist() == [0, 0, ReadStatus.LOST]
    assert rows["value"].tolist()[:2] == [1.5, 2.5]
    assert math.isnan(rows["value"][2])
    stamps = np.column_stack([rows["t_before_ns"], rows["t_after_ns"]])
    # Both channels of the first call have its stamps; the second call came after it.
    assert stamps[0].tolist() == stamps[1].tolist()
    assert before_ns <= stamps[0, 0] <= stamps[0, 1] <= stamps[2, 0] <= stamps[2, 1] <= after_ns


def test_the_calls_of_a_batch_are_made_before_any_answer_is_read():
    session, sink = Batched([1.0, 3.0], [2.0, 4.0]), Sink()
    (one,) = rounds_of(calls_of(session))
    one.run(sink)
    one.run(sink)
    assert session.log == [0, 1, "answers"] * 2
    assert [rows["value"].tolist() for rows in sink.blocks] == [[1.0, 2.0], [3.0, 4.0]]


def test_sessions_do_not_share_a_round():
    first, second = Session([1.0]), Batched([2.0], [3.0])
    rounds = rounds_of([*calls_of(first), *calls_of(second, first_channel=1)])
    assert [len(one.calls) for one in rounds] == [1, 2]


def burst_of(session, **options):
    now_ns = time.perf_counter_ns()
    return Burst(
        rounds_of(calls_of(session)),
        until_ns=options.pop("until_ns", now_ns + 10**12),
        due_ns=now_ns,
        **options,
    )


def test_a_burst_goes_on_until_each_counter_has_ticked_within_it():
    """What was read before the edge does not count: only a change during the burst is its tick."""
    session, sink = Session([5.0, 5.0, 6.0], [7.0, 8.0]), Sink()
    burst = burst_of(session)
    burst.run(sink)
    assert [len(one.calls) for one in burst.rounds] == [2]
    burst.run(sink)
    # The second has ticked and is left alone from now on.
    assert [[call.index for call in one.calls] for one in burst.rounds] == [[0]]
    burst.run(sink)
    assert burst.rounds == []
    assert session.log == [0, 1, 0, 1, 0]
    assert [rows["channel"].tolist() for rows in sink.blocks] == [[0, 1], [0, 1], [0]]


def test_a_counter_that_is_lost_ends_its_burst():
    burst = burst_of(Session([5.0, math.nan]))
    burst.run(Sink())
    burst.run(Sink())
    assert burst.rounds == []


def test_a_burst_reads_a_millisecond_apart_and_ends_at_its_limit():
    burst = burst_of(Session([5.0] * 9))
    due_ns = burst.due_ns
    burst.run(Sink())
    assert burst.due_ns >= due_ns + BURST_STEP_NS
    burst.until_ns = burst.due_ns + BURST_STEP_NS // 2
    burst.due_ns += BURST_STEP_NS // 4
    assert burst.rounds
    burst.run(Sink())
    assert burst.rounds == []


def test_a_whole_burst_does_not_end_with_a_tick():
    burst = burst_of(Session([5.0, 6.0, 7.0]), whole=True)
    for _ in range(3):
        burst.run(Sink())
    assert burst.rounds


def test_power_is_due_regularly_and_counters_at_every_phase():
    period_ns = 100_000_000
    due_ns: dict[bool, list[int]] = {}
    for dithered in (False, True):
        grid = Grid(rounds_of(calls_of(Session([0.0] * 99))), period_ns, dithered=dithered)
        # So far in the future that no round can be late.
        grid.begin(2 * time.perf_counter_ns() + 10**12)
        due_ns[dithered] = []
        for _ in range(50):
            due_ns[dithered].append(grid.due_ns - grid.origin_ns)
            grid.run(Sink())
        assert grid.missed == 0
    assert due_ns[False] == [number * period_ns for number in range(50)]
    # By hand: 0.618… of a period more each time, without the whole periods.
    assert [round(due / 1e6, 1) for due in due_ns[True][:4]] == [0.0, 161.8, 223.6, 385.4]
    phases = np.sort(np.array(due_ns[True]) % period_ns)
    # Fifty phases are nowhere in 100 ms further apart than 2 ms times the golden ratio and a bit.
    assert np.diff(phases).max() < 4_000_000


def test_rounds_that_are_late_are_left_out_and_counted():
    grid = Grid(rounds_of(calls_of(Session([0.0]))), 10**12, dithered=False)
    grid.begin(time.perf_counter_ns() - 3_500 * 10**9)
    grid.run(Sink())
    # Round 0 was made at 3.5 periods; rounds 1 and 2 are over, round 3 is still to be made.
    assert grid.missed == 2
    assert grid.number == 3


def test_the_cost_of_a_read_is_the_median_of_five_which_are_kept():
    session, sink = Session([1.0] * 5), Sink()
    (one,) = rounds_of(calls_of(session))
    began_ns = time.perf_counter_ns()
    found = first_reads(one, sink)
    assert 0 < found.cost_s <= (time.perf_counter_ns() - began_ns) / 1e9
    assert len(sink.blocks) == 5


@pytest.mark.parametrize(
    ("values", "continuous"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], True),
        ([1.0, 1.0, 1.0, 2.0, 2.0], False),
        ([1.0, 2.0, 3.0, 3.0, 4.0], False),
        ([1.0] * 5, False),
        ([math.nan] * 5, True),
    ],
)
def test_a_counter_that_moves_from_each_read_to_the_next_has_no_ticks(values, continuous):
    (one,) = rounds_of(calls_of(Session(values)))
    assert first_reads(one, Sink()).continuous == continuous


def test_the_audit_says_how_long_reads_take_how_regular_and_how_often_missed():
    """Twelve power readings of 40 us, 20 ms apart but for one that came 3 ms late."""
    begin_ns = np.arange(12) * 20_000_000
    begin_ns[9] += 3_000_000
    records = np.zeros(12, POWER_DTYPE)
    records["t_before_ns"], records["t_after_ns"] = begin_ns, begin_ns + 40_000
    records["status"][11] = ReadStatus.TIMEOUT
    power = replace(CHANNEL, name="p", quantity="power", sense="instant")
    found = audit(
        [power],
        records,
        rates_hz={"power": 50.0},
        last={"missed": 4, "cpu_s": 0.01, "wall_s": 2.0, "facts_at_stop": {}},
        fault=None,
    )
    assert found.reads == {"p": 12}
    assert found.faults == {"p": 1}
    assert found.call_us["p"] == pytest.approx((40.0, 40.0))
    # Steps 5 to 10 are looked at: 20, 20, 20, 23, 17 and 20 ms.
    assert found.period_error_ms == pytest.approx((0.0, 3.0))
    assert found.longest_gap_s == pytest.approx(0.023)
    assert found.missed == 4
