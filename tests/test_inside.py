"""Energy between two ticks: bends seen elsewhere, loads in step, hand-computed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from harness.joules.counter import Knots
from harness.joules.edges import Placed
from harness.joules.inside import Bends, Shapes, bends, draw_shapes, energy_j, levels
from harness.joules.steadiness import steadiness

DRAWS = 500


def knots(energies):
    """Ticks every 100 ms, each bracketed within 2 ms."""
    ticks = np.arange(len(energies)) * 1e8
    return Knots(
        low_ns=ticks - 1e6,
        high_ns=ticks + 1e6,
        energy_j=np.asarray(energies, dtype=float),
        each=True,
        fault=None,
        t_first_ns=0.0,
        t_last_ns=float(ticks[-1]),
        longest_gap_s=0.05,
    )


def exact(energies):
    """Knots whose instants are known exactly."""
    own = knots(energies)
    return Placed(np.arange(len(energies)), np.tile(own.middle_ns, (DRAWS, 1)), own.energy_j)


def test_an_even_load_has_no_bends():
    assert np.all(bends(knots(np.arange(20) * 50.0), 1e-3).share == 0)


def test_a_step_bends_as_far_as_its_levels_allow():
    """10 ticks at 100 W, 10 at 300 W: the tick at the step is 10 J below the chord, the most."""
    energies = np.concatenate((np.arange(11) * 10.0, 100 + np.arange(1, 11) * 30.0))
    found = bends(knots(energies), 0.0)
    at = int(np.argmin(np.abs(found.t_ns - 1e9)))
    assert found.share[at] == pytest.approx(-1.0, abs=1e-3)
    assert np.count_nonzero(np.abs(found.share) > 1e-9) == 1


def test_between_ticks_an_even_load_is_known_exactly():
    placed = exact(np.arange(6) * 50.0)
    own = bends(knots(np.arange(20) * 50.0), 1e-3)
    shape, _ = draw_shapes([own], np.random.default_rng(1), DRAWS)
    near_w = np.full(5, 500.0)
    known = {"near_w": near_w, "off_ratio": None, "own": own, "shapes": shape}
    best, drawn = energy_j(placed, 2.5e8, locked=np.ones(DRAWS), **known)
    assert best == pytest.approx(125.0)
    # A tenth of the load may be in step with the ticks: 0.1 * 500 W * 50 ms.
    assert drawn == pytest.approx(np.full(DRAWS, 127.5))


def test_what_hides_in_step_with_the_ticks_cancels_between_two_edges():
    placed = exact(np.arange(6) * 50.0)
    own = bends(knots(np.arange(20) * 50.0), 1e-3)
    first, second = draw_shapes([own], np.random.default_rng(1), DRAWS)
    locked = np.where(np.arange(DRAWS) % 2 == 0, 1.0, -1.0)
    near_w = np.full(5, 70.0)
    known = {"near_w": near_w, "off_ratio": None, "own": own, "locked": locked}
    _, start_j = energy_j(placed, 1.5e8, shapes=first, **known)
    _, end_j = energy_j(placed, 3.5e8, shapes=second, **known)
    assert np.std(start_j) > 1
    assert end_j - start_j == pytest.approx(np.full(DRAWS, 100.0))


@pytest.mark.parametrize(
    ("off_ratio", "hidden"), [(None, 0.85), (0.3, 0.85), (0.02, 0.4), (0.01, 0.3)]
)
def test_an_uneven_load_hides_little_if_its_readings_come_to_the_counters_mean(off_ratio, hidden):
    """500 W by the counter, readings that scatter by 30 %, of which 20 times 2 % may be in step."""
    placed = exact(np.arange(6) * 50.0)
    own = bends(knots(np.arange(20) * 50.0), 1e-3)
    shape, _ = draw_shapes([own], np.random.default_rng(1), DRAWS)
    near_w = np.array([350.0, 650.0, 480.0, 520.0])
    known = {"near_w": near_w, "own": own, "shapes": shape, "locked": np.ones(DRAWS)}
    best, drawn = energy_j(placed, 2.5e8, off_ratio=off_ratio, **known)
    # Half a tick of 100 ms.
    assert drawn - best == pytest.approx(np.full(DRAWS, hidden * 500 * 0.05))


def at_tick(off_ns, tilt, quick, locked, near_w):
    """Draws at a tick of 50 J every 100 ms, *off_ns* early or late; readings are 1 % too high."""
    own = knots(np.arange(6) * 50.0)
    placed = Placed(np.arange(6), own.middle_ns + np.array([[-off_ns], [off_ns]]), own.energy_j)
    shapes = Shapes(np.zeros(2), np.full(2, np.nan), np.full(2, tilt), np.full(2, quick))
    best, drawn = energy_j(
        placed,
        2e8,
        near_w=1.01 * np.asarray(near_w),
        off_ratio=0.01,
        own=bends(own, 1e-3),
        shapes=shapes,
        locked=np.full(2, locked),
    )
    assert best == pytest.approx(100.0)
    return drawn


@pytest.mark.parametrize(
    ("tilt", "quick", "locked", "power_w"),
    [
        # Of 420, 420 and 660 W the mean is the counter's; half of them are at most 420 W.
        (-1.0, 0.0, 0.0, 420.0),
        (0.0, 0.0, 0.0, 420.0),
        (1.0, 0.0, 0.0, 660.0),
        # A ripple that no reading shows: a tenth of 500 W; in step: 20 times 1 % of it.
        (0.0, 1.0, 0.0, 470.0),
        (0.0, 0.0, -1.0, 320.0),
        (-1.0, -1.0, -1.0, 270.0),
    ],
)
def test_at_a_tick_the_power_is_one_of_those_read_around_it(tilt, quick, locked, power_w):
    """A tick 1 ms early: the edge has a millisecond more than it says; one late: less."""
    drawn = at_tick(1e6, tilt, quick, locked, [420.0, 420.0, 660.0])
    assert drawn == pytest.approx([100 + power_w * 1e-3, 100 - power_w * 1e-3])


def test_an_edge_has_no_more_than_the_next_tick_and_no_less_than_the_last():
    assert at_tick(9e7, 1.0, 1.0, 1.0, [100.0, 900.0]) == pytest.approx([150.0, 50.0])


def test_devices_bend_together_as_they_did_before():
    """The same instant is drawn for all devices of a boundary."""
    seen = Bends(np.arange(10) * 1e8, np.linspace(-1, 1, 10))
    first, _ = draw_shapes([seen, dataclasses.replace(seen)], np.random.default_rng(1), DRAWS)
    assert set(first.when_ns) <= set(seen.t_ns)
    assert np.mean(np.isnan(first.wild)) == pytest.approx(10 / 11, abs=0.05)


def test_levels_seen_on_one_side_only_are_mirrored():
    assert levels(70.0, 375.0, 375.0) == (pytest.approx(70.0), pytest.approx(680.0))


def test_energies_as_even_as_their_quantum_leave_no_room_for_jitter():
    energies = np.floor(np.arange(60) * 50.0 * 1000) / 1000
    found = steadiness(energies, np.arange(60), period_ns=1e8, quantum_j=1e-3)
    # Half a mJ of 100 J in two ticks of 100 ms.
    assert found.distance_ns[0] == pytest.approx(0.5e-3 / 100 * 2e8)
    assert found.log_chance(np.array([1e3]))[0] == 0
    assert found.log_chance(np.array([1e5]))[0] < -40


@pytest.mark.parametrize("jitter_ns", [2e3, 5e3, 2e4])
@pytest.mark.parametrize("quanta", [0.0, 1.0, 1.5, 4.0])
def test_rounding_down_makes_near_ticks_likelier_by_half_a_quantum_at_most(jitter_ns, quanta):
    """500 W, 1 mJ: of ticks off by up to j, (u + q / 2) / (500 W * j) at most come within u."""
    off_ns = np.linspace(-jitter_ns, jitter_ns, 100_001)
    for rest_mj in (0.0, 0.3, 0.999):
        shown_mj = np.floor(50_000 + rest_mj + 500 * off_ns / 1e6)
        for expected_mj in (50_000.0, 50_000.5):
            near = np.mean(np.abs(shown_mj - expected_mj) <= quanta)
            assert near <= (quanta + 0.5) / (500 * jitter_ns / 1e6) + 1e-3


def test_uneven_energies_say_nothing_of_a_small_jitter():
    random = np.random.default_rng(1)
    energies = np.cumsum(random.uniform(20, 60, 60))
    found = steadiness(energies, np.arange(60), period_ns=1e8, quantum_j=1e-3)
    assert np.all(found.log_chance(np.array([1e3, 1e5, 1e6])) == 0)


def test_a_counter_without_a_step_says_no_more_than_a_nanosecond():
    """Perfectly even energies: the distance is nil, which no logarithm is to see."""
    found = steadiness(np.arange(60) * 50.0, np.arange(60), period_ns=1e8, quantum_j=0.0)
    assert np.all(found.distance_ns == 1.0)
    assert np.all(np.isfinite(found.log_chance(np.array([1e3]))))
