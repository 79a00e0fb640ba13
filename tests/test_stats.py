"""The comparison's statistics: hand-computed cases, properties, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.stats.bootstrap import bootstrap_logs, request_spread
from harness.stats.effects import effect, holm, permutation_p

values = st.lists(st.floats(0.5, 2.0), min_size=3, max_size=8)


def differing(sample) -> bool:
    return bool(np.std(np.log(sample)) > 1e-6)


def test_the_p_value_is_that_of_scipys_welch_test():
    base, cand = [1.0, 1.1, 1.05, 0.98], [1.2, 1.3, 1.15]
    found = effect(base, cand)
    expected = scipy_stats.ttest_ind(np.log(cand), np.log(base), equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.ratio == pytest.approx(scipy_stats.gmean(cand) / scipy_stats.gmean(base))


def test_the_interval_holds_welchs():
    base, cand = [1.0, 1.1, 1.05, 0.98], [1.2, 1.3, 1.15]
    found = effect(base, cand)
    expected = scipy_stats.ttest_ind(np.log(cand), np.log(base), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= math.exp(interval.low) * (1 + 1e-9)
    assert found.high >= math.exp(interval.high) * (1 - 1e-9)


def test_separated_runs_have_the_permutation_p_of_counting():
    """Five and five, all of one below all of the other: 2 of 252 arrangements are as extreme."""
    base, cand = np.log([1, 2, 3, 4, 5.0]), np.log([11, 12, 13, 14, 15.0])
    rng = np.random.default_rng(0)
    assert permutation_p(base, cand, alpha=0.05, rng=rng) == pytest.approx(2 / 252)


def test_three_runs_a_side_are_too_few_for_a_permutation_test():
    rng = np.random.default_rng(0)
    assert permutation_p(np.arange(3.0), np.arange(3.0) + 9, alpha=0.05, rng=rng) is None
    assert permutation_p(np.arange(4.0), np.arange(4.0) + 9, alpha=0.05, rng=rng) == 2 / 70


def test_drawn_permutations_agree_with_scipys():
    rng = np.random.default_rng(5)
    base, cand = rng.normal(0, 1, 10), rng.normal(0.8, 1, 10)
    expected = scipy_stats.ttest_ind(
        base, cand, equal_var=False,
        method=scipy_stats.PermutationMethod(n_resamples=20_000, rng=np.random.default_rng(1)),
    ).pvalue  # fmt: skip
    assert permutation_p(base, cand, alpha=0.05, rng=rng) == pytest.approx(expected, abs=0.01)


def test_one_run_a_side_has_a_ratio_and_no_interval():
    found = effect([2.0], [3.0])
    assert found.ratio == pytest.approx(1.5)
    assert found.low is None
    assert found.p is None
    assert found.missing is not None


def test_identical_runs_are_not_taken_for_certainty():
    found = effect([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    assert found.p is None
    assert "identical" in str(found.missing)


@pytest.mark.parametrize("bad", [[], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_values_that_have_no_logarithm_are_refused(bad):
    with pytest.raises(ValueError, match="above 0"):
        effect(bad, [1.0, 2.0])


@given(values, values, st.floats(0.01, 100))
def test_the_unit_does_not_matter(base, cand, factor):
    if not differing(base) or not differing(cand):
        return
    one = effect(base, cand, draws=200)
    other = effect(np.multiply(base, factor), np.multiply(cand, factor), draws=200)
    assert other.ratio == pytest.approx(one.ratio)
    assert other.low == pytest.approx(one.low)
    assert other.p == pytest.approx(one.p)


@given(values, values)
def test_swapping_the_sides_inverts_the_ratio(base, cand):
    if not differing(base) or not differing(cand):
        return
    one, other = effect(base, cand, draws=200), effect(cand, base, draws=200)
    assert other.ratio == pytest.approx(1 / one.ratio)
    assert other.p == pytest.approx(one.p)


@given(values, values)
def test_the_interval_holds_the_ratio_and_the_inner_one(base, cand):
    if not differing(base) or not differing(cand):
        return
    found = effect(base, cand, draws=400)
    assert None not in (found.low, found.high, found.inner_low, found.inner_high)
    assert found.low <= found.inner_low <= found.ratio <= found.inner_high <= found.high


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    assert all(one <= 1 for one in adjusted)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    # No less powerful than Bonferroni.
    assert all(
        after <= min(1.0, before * len(p_values)) + 1e-12
        for before, after in zip(p_values, adjusted, strict=True)
    )


def test_requests_widen_the_interval_where_runs_alone_look_too_sure():
    """Two runs a side that happen to agree, each of a few scattered requests."""
    rng = np.random.default_rng(2)
    runs = [rng.lognormal(0, 0.5, 30) for _ in range(4)]
    spread = [
        request_spread(one, lambda x: np.median(x, axis=-1), draws=500, rng=rng) for one in runs
    ]
    base, cand = np.array([0.0, 0.001]), np.array([0.0, 0.001])
    alone = bootstrap_logs(base, cand, draws=2000, rng=rng)
    both = bootstrap_logs(base, cand, draws=2000, rng=rng, spread=(spread[:2], spread[2:]))
    assert both.std() > 10 * alone.std()
    assert abs(both.mean()) < 0.02


def test_the_same_seed_gives_the_same_interval():
    base, cand = [1.0, 1.1, 1.05, 0.98], [1.2, 1.3, 1.15]
    assert effect(base, cand, seed=3) == effect(base, cand, seed=3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """400 seeded comparisons of five with five; the benchmark does thousands."""
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(400):
        found = effect(
            np.exp(rng.normal(0, 0.02, 5)), np.exp(rng.normal(0.05, 0.02, 5)), seed=trial, draws=500
        )
        hits += found.low <= math.exp(0.05) <= found.high
    assert hits / 400 > 0.92
