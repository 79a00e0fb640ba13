"""The tick lattice: found through brackets, numbered with gaps, refused where there is none."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.joules import folding, lattice

DRAWS = 400


def brackets(period_ns, phase_ns, reads_ns):
    """What polling at *reads_ns* sees of a counter that ticks regularly."""
    number = np.floor((reads_ns - phase_ns) / period_ns)
    moved = np.flatnonzero(np.diff(number) > 0) + 1
    ticks = phase_ns + number[moved] * period_ns
    return reads_ns[moved - 1], reads_ns[moved], ticks


def polls(seconds, hertz=20.0):
    rounds = np.arange(seconds * hertz)
    return (rounds + (rounds * 0.6180339887498949) % 1.0) / hertz * 1e9


@given(
    period_ms=st.floats(85, 150),
    phase=st.floats(0, 1),
    seconds=st.integers(4, 20),
    seed=st.integers(0, 2**32),
)
def test_the_true_tick_is_among_the_drawn_ones(period_ms, phase, seconds, seed):
    low, high, ticks = brackets(period_ms * 1e6, phase * period_ms * 1e6, polls(seconds))
    found = lattice.fit(low, high, np.random.default_rng(seed), DRAWS)
    assert found is not None
    wanted = np.array([0, len(ticks) // 2])
    drawn = found.draw_ns(np.random.default_rng(seed), wanted, low[wanted], high[wanted])
    assert np.all(np.abs(drawn.mean(axis=0) - ticks[wanted]) < 4 * drawn.std(axis=0) + 1e5)
    assert np.all(drawn.std(axis=0) < 30e6)
    assert abs(found.period_s - period_ms / 1e3) < 0.02 * period_ms / 1e3


def test_more_ticks_narrow_the_phase():
    """30 s of polls every 50 ms know a tick to well under a millisecond."""
    widths = []
    for seconds in (4, 30):
        low, high, _ = brackets(100.3e6, 31e6, polls(seconds))
        found = lattice.fit(low, high, np.random.default_rng(1), DRAWS)
        assert found is not None
        at = np.array([len(low) // 2])
        drawn = found.draw_ns(np.random.default_rng(1), at, low[at], high[at])
        widths.append(float(np.std(drawn)))
    assert widths[1] < widths[0]
    assert widths[1] < 0.7e6


def test_ticks_that_were_not_seen_get_a_number_all_the_same():
    reads = polls(10)
    reads = reads[(reads < 3e9) | (reads > 3.4e9)]
    low, high, ticks = brackets(100e6, 7e6, reads)
    assert np.max(np.diff(ticks)) > 150e6
    found = lattice.fit(low, high, np.random.default_rng(1), DRAWS)
    assert found is not None
    assert np.array_equal(np.diff(found.number), np.rint(np.diff(ticks) / 100e6))


def test_irregular_ticks_are_on_no_lattice():
    random = np.random.default_rng(5)
    ticks = np.cumsum(random.uniform(20e6, 300e6, 60))
    assert lattice.fit(ticks - 1e5, ticks + 1e5, random, DRAWS) is None


def test_too_few_ticks_say_nothing():
    ticks = np.arange(lattice.MIN_TICKS - 1) * 1e8
    assert lattice.fit(ticks - 1e6, ticks + 1e6, np.random.default_rng(1), DRAWS) is None


def test_narrow_brackets_show_that_ticks_jitter():
    random = np.random.default_rng(3)
    ticks = np.arange(60) * 1e8 + random.uniform(-3e6, 3e6, 60)
    found = lattice.fit(ticks - 2e5, ticks + 2e5, random, DRAWS)
    assert found is not None
    assert np.median(found.jitter_ns) >= 1e6


def test_jittering_ticks_seen_by_slow_polls_are_not_numbered_as_twice_as_many():
    """A lattice of half the period fits nearly anything, but nothing moved at half its ticks."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        ticks = np.arange(60) * 1e8 + random.uniform(-5e6, 5e6, 60)
        reads = polls(6) + random.exponential(1e5, 120)
        moved = np.searchsorted(reads, ticks[(ticks > reads[0]) & (ticks < reads[-1])])
        moved = moved[moved > 0]
        found = lattice.fit(reads[moved - 1], reads[moved], random, DRAWS)
        assert found is not None
        assert abs(found.period_s - 0.1) < 0.002


def test_an_even_rise_shows_that_ticks_are_even():
    """Wide brackets alone allow a jitter of a millisecond; energies as even as these do not."""
    low, high, ticks = brackets(100e6, 3e6, polls(5))
    jitters = []
    for energy in (None, np.floor(ticks / 1e9 * 500 * 1000) / 1000):
        found = lattice.fit(
            low, high, np.random.default_rng(2), DRAWS, energy_j=energy, quantum_j=1e-3
        )
        assert found is not None
        jitters.append(float(np.quantile(found.jitter_ns, 0.95)))
    assert jitters[0] > 1e5
    assert jitters[1] < 5e4


def test_jittering_ticks_cannot_be_called_even_by_their_energies():
    random = np.random.default_rng(4)
    ticks = np.arange(60) * 1e8 + random.uniform(-3e6, 3e6, 60)
    found = lattice.fit(
        ticks - 2e5, ticks + 2e5, random, DRAWS, energy_j=ticks / 1e9 * 500, quantum_j=1e-3
    )
    assert found is not None
    assert np.median(found.jitter_ns) >= 1e6


def test_the_same_seed_draws_the_same():
    low, high, _ = brackets(100e6, 3e6, polls(5))
    first, second = (lattice.fit(low, high, np.random.default_rng(9), DRAWS) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.x_ns, second.x_ns)


def test_ticks_are_found_where_reads_are_farther_apart_than_ticks():
    # The dearer a read, the fewer: shifted ones are then up to 1.6 periods of their grid apart,
    # and two ticks may fall between two of them. (Before folding.py: 144 wrong, 83 not found.)
    draw = np.random.default_rng(5)
    wrong = missing = 0
    for _ in range(300):
        reads = polls(12, draw.uniform(11, 17))
        phase, start = draw.random(), draw.random()
        low, high, ticks = brackets(100e6, phase * 100e6, reads + start * 1e8)
        energy = 12.0 * np.rint((ticks - ticks[0]) / 100e6)
        found = lattice.fit(low, high, np.random.default_rng(1), DRAWS, energy_j=energy)
        if found is None:
            missing += 1
            continue
        wanted = np.array([0, len(ticks) // 2, len(ticks) - 1])
        drawn = found.draw_ns(np.random.default_rng(1), wanted, low[wanted], high[wanted])
        off_ns = np.abs(drawn.mean(axis=0) - ticks[wanted])
        wrong += bool(np.any(off_ns > 4 * drawn.std(axis=0) + 1e5))
    assert wrong <= 20
    assert missing <= 20


def test_a_numbering_is_claimed_only_if_no_other_is_as_even():
    one, other = np.arange(6), np.array([0, 1, 2, 4, 5, 6])
    even = 12.0 * other
    assert np.array_equal(folding.likeliest([one, other], even), other)
    assert folding.likeliest([one, other], None) is None
    assert folding.likeliest([one, other], 12.0 * np.array([0, 1, 2.2, 2.9, 4.4, 5])) is None
    assert folding.likeliest([], even) is None
