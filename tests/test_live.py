"""What the live views show, by hand-computed numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli._live_text import joules_text, span, sparkline, watts_text
from harness.live import BATCH_S, Rate, Track
from harness.stats.ratio import ratio_half_width


def test_watts_and_joules_a_token_of_counters():
    track = Track()
    for second in range(4):
        track.add(float(second), 100.0 + 50 * second, 10.0 * second)
    assert list(track.watts) == [50.0] * 3
    assert (track.joules, track.tokens, track.j_per_token) == (150.0, 30.0, 5.0)
    assert track.half_width_ratio is None, "two batches say nothing"


def test_a_power_is_integrated_by_trapezoids():
    track = Track()
    for t_s, watts in ((0.0, 10.0), (1.0, 20.0), (3.0, 20.0)):
        track.add_watts(t_s, watts, t_s)
    assert track.joules == 15 + 40
    assert track.j_per_token == pytest.approx(55 / 3)


def test_a_silence_is_not_bridged():
    for silence in ([(1.0, None)], []):
        track = Track()
        for t_s, watts in [(0.0, 10.0), (0.5, 10.0), *silence, (60.0, 10.0), (61.0, 10.0)]:
            track.add_watts(t_s, watts, 0.0)
        assert track.joules == 10


def test_counters_that_went_back_start_anew():
    track = Track()
    for t_s, joules, tokens in ((0, 5, 5), (1, 9, 9), (2, 1, 9), (3, 2, 10)):
        track.add(t_s, joules, tokens)
    assert (track.joules, track.tokens) == (1, 1)


def test_no_token_is_no_number():
    track = Track()
    track.add(0, 0, 0)
    assert track.j_per_token is None
    track.add(1, 5, 0)
    assert track.j_per_token is None
    assert joules_text(track) == ""


def test_the_uncertainty_is_that_of_the_batches():
    track = Track()
    joules, pattern = 0.0, (1.0, 2.0, 1.0, 2.0, 1.5)
    track.add(0.0, 0.0, 0.0)
    for place, step in enumerate(pattern, 1):
        joules += step
        track.add(place * BATCH_S, joules, float(place))
    # Residuals of the ratio 1.5: -.5, .5, -.5, .5, 0; t of 4 degrees of freedom: 2.776445.
    half = 2.776445 * math.sqrt(5 / 4 * 1.0) / 5
    assert track.half_width_ratio == pytest.approx(half / 1.5, rel=1e-6)
    assert joules_text(track) == "1.5 J/token ±41 % so far"
    assert ratio_half_width([1.0] * 4, [1.0] * 4) is None
    assert ratio_half_width([1.0] * 5, [0.0] * 5) is None


@given(st.lists(st.floats(0.1, 10), min_size=5, max_size=30), st.floats(0.1, 10))
def test_joules_in_proportion_to_tokens_leave_no_uncertainty(tokens, ratio):
    half = ratio_half_width([ratio * one for one in tokens], tokens)
    assert half == pytest.approx(0, abs=1e-9 * ratio)


def test_the_rate_is_of_the_last_seconds():
    rate = Rate(over_s=5)
    for second in range(20):
        rate.add(second, second * (1 if second < 10 else 3))
    assert rate.per_s == 3
    rate.add(20, 0)
    assert rate.per_s is None, "a counter that went back says nothing yet"


def test_words():
    assert sparkline([0, 1, 2, 4]) == "▁▃▅█"
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert len(sparkline(range(100), cells=10)) == 10
    assert watts_text("gpu", 1234.4, "measured") == "1,234 W gpu"
    assert watts_text("gpu", None, "emulated") == "? W gpu (EMULATED)"
    assert (span(7.4), span(75), span(7260)) == ("7 s", "1 min 15 s", "2 h 1 min")
