"""Schedules are seeded, keep their mean rate, and refuse what is impossible."""

from __future__ import annotations

import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.arrivals import Arrivals, RateSegment, due_offsets_s, slot_delays_s
from harness.errors import ConfigError

OPEN = st.sampled_from(["constant", "poisson", "gamma"])


def first(arrivals: Arrivals, count: int, seed: int = 1) -> list[float]:
    return list(islice(due_offsets_s(arrivals, seed=seed), count))


def test_a_constant_rate_is_evenly_spaced_from_zero():
    assert first(Arrivals(pattern="constant", request_rate_per_s=4.0), 4) == [0, 0.25, 0.5, 0.75]


@given(OPEN, st.floats(0.01, 1e4), st.integers(0, 2**31))
def test_a_schedule_repeats_with_its_seed_and_never_goes_back(pattern, rate, seed):
    arrivals = Arrivals(pattern=pattern, request_rate_per_s=rate)
    times = first(arrivals, 50, seed)
    assert times == first(arrivals, 50, seed)
    assert all(math.isfinite(t) and t >= 0 for t in times)
    assert all(b >= a for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("pattern", "burstiness", "spread"),
    [("constant", 1.0, 0.0), ("poisson", 1.0, 1.0), ("gamma", 4.0, 0.5), ("gamma", 0.25, 2.0)],
)
def test_mean_and_spread_of_the_gaps_are_what_the_names_say(pattern, burstiness, spread):
    """A gamma gap's coefficient of variation is 1/sqrt(shape)."""
    arrivals = Arrivals(pattern=pattern, request_rate_per_s=10.0, burstiness=burstiness)
    times = first(arrivals, 20_001)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.1, rel=0.06)
    assert deviation / mean == pytest.approx(spread, abs=0.06)


def test_a_ramp_issues_the_integral_of_its_rate():
    """From 0 to 20/s over 10 s is 100 requests, half of them after 10/sqrt(2) s."""
    profile = (RateSegment(duration_s=10, start_per_s=0, end_per_s=20),)
    times = first(Arrivals(pattern="constant", profile=profile), 120)
    assert sum(t < 10 for t in times) == 100
    assert times[50] == pytest.approx(10 / math.sqrt(2))
    assert times[110] == pytest.approx(10 + 10 / 20)


def test_steps_change_the_spacing_at_their_edge():
    profile = (
        RateSegment(duration_s=2, start_per_s=1, end_per_s=1),
        RateSegment(duration_s=1, start_per_s=4, end_per_s=4),
    )
    times = first(Arrivals(pattern="constant", profile=profile), 9)
    assert times == pytest.approx([0, 1, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5])


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=4
    ),
    st.integers(0, 1000),
)
def test_any_profile_gives_a_schedule_that_never_goes_back(parts, seed):
    segments = [RateSegment(duration_s=d, start_per_s=a, end_per_s=b) for d, a, b in parts]
    segments.append(RateSegment(duration_s=1, start_per_s=1, end_per_s=1))
    times = first(Arrivals(pattern="poisson", profile=tuple(segments)), 100, seed)
    assert all(b >= a for a, b in pairwise(times))
    assert all(map(math.isfinite, times))


def test_max_is_due_at_once():
    assert first(Arrivals(pattern="max"), 3) == [0, 0, 0]


def test_slots_of_a_closed_loop_start_spread_over_the_ramp_up():
    assert slot_delays_s(Arrivals(pattern="concurrency", concurrency=4, ramp_up_s=2.0)) == [
        0,
        0.5,
        1,
        1.5,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pattern": "concurrency"},
        {"pattern": "concurrency", "concurrency": 0},
        {"pattern": "concurrency", "concurrency": 2, "request_rate_per_s": 1.0},
        {"pattern": "poisson"},
        {"pattern": "poisson", "request_rate_per_s": 0.0},
        {"pattern": "poisson", "request_rate_per_s": math.inf},
        {"pattern": "gamma", "request_rate_per_s": 1.0, "burstiness": 0.0},
        {"pattern": "trace", "time_scale": -1.0},
        {"pattern": "concurrency", "concurrency": 1, "ramp_up_s": -1.0},
        {"pattern": "sometimes"},
        {
            "pattern": "constant",
            "profile": (RateSegment(duration_s=1, start_per_s=1, end_per_s=0),),
        },
    ],
)
def test_impossible_arrivals_are_refused_with_a_remedy(wrong):
    with pytest.raises(ConfigError) as error:
        Arrivals(**wrong)
    assert error.value.remedy


def test_an_impossible_segment_is_refused():
    with pytest.raises(ConfigError, match="-1"):
        RateSegment(duration_s=-1, start_per_s=1, end_per_s=1)


@pytest.mark.parametrize(
    "arrivals", [Arrivals(pattern="trace"), Arrivals(pattern="concurrency", concurrency=1)]
)
def test_patterns_without_a_schedule_say_so(arrivals):
    with pytest.raises(ConfigError, match=arrivals.pattern):
        next(due_offsets_s(arrivals, seed=0))
