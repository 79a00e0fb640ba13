"""Verdicts: what each word needs, what a failed test is never called, how often one may look."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.change import changes
from harness.stats.effects import Effect, effect
from harness.stats.sequential import e_value, reach_t, sequential
from harness.stats.verdict import judge, more_runs, overall

ROUND = [0.99, 1.0, 1.01, 1.005, 0.995]


def word(base, cand, threshold=0.02, better="lower") -> str:
    return judge([effect(base, cand)], [threshold], [better])[0].word


def test_the_four_words():
    assert word(ROUND, np.multiply(ROUND, 1.05)) == "worse"
    assert word(ROUND, np.multiply(ROUND, 0.95)) == "better"
    assert word(ROUND, np.multiply(ROUND, 1.05), better="higher") == "better"
    assert word(ROUND, np.multiply(ROUND, 1.0005)) == "same"
    assert word(ROUND, [0.9, 1.0, 1.1, 1.05, 0.95]) == "cannot tell"


def test_a_failed_test_is_not_sameness():
    """Wide scatter, no difference at all in the means: nothing is shown."""
    (found,) = judge([effect([0.8, 1.0, 1.25], [0.81, 1.0, 1.24])], [0.02], ["lower"])
    assert found.word == "cannot tell"
    assert found.more_runs is None or found.more_runs > 10


def test_a_real_change_below_the_threshold_is_same_if_shown_and_open_if_not():
    sharp = np.exp(np.array([-1, -0.5, 0, 0.5, 1]) * 1e-3)
    assert word(sharp, sharp * 1.01) == "same"
    (found,) = judge([effect(ROUND, np.multiply(ROUND, 1.017))], [0.02], ["lower"])
    assert found.p_adjusted is not None
    assert found.p_adjusted < 0.05
    assert found.word == "cannot tell"
    assert "threshold" in found.reason


def test_one_run_against_one_cannot_tell_however_far_apart():
    (found,) = judge([effect([1.0], [5.0])], [0.02], ["lower"])
    assert found.word == "cannot tell"
    assert found.more_runs is None


def test_many_metrics_raise_the_bar():
    """A change that is significant alone is not among forty metrics that did not change."""
    base, cand = ROUND, np.multiply(ROUND, 1.021) * np.array([1, 1, 1.01, 0.99, 1.0])
    alone = judge([effect(base, cand)], [0.02], ["lower"])[0]
    assert alone.word == "worse"
    others = [effect(ROUND, ROUND[::-1]) for _ in range(39)]
    among = judge([effect(base, cand), *others], [0.02] * 40, ["lower"] * 40)[0]
    assert among.word == "cannot tell"


def test_the_permutation_test_can_veto():
    vetoed = Effect(
        ratio=1.1, low=1.05, high=1.15, inner_low=1.06, inner_high=1.14, p=0.001,
        p_permutation=0.2, sd_base=0.01, sd_cand=0.01, n_base=5, n_cand=5,
    )  # fmt: skip
    assert judge([vetoed], [0.02], ["lower"])[0].word == "cannot tell"


def test_overall_says_the_worst():
    assert overall(["same", "worse", "cannot tell"]) == "worse"
    assert overall(["same", "cannot tell", "better"]) == "cannot tell"
    assert overall(["same", "better"]) == "better"
    assert overall(["same"]) == "same"
    assert overall([]) == "cannot tell"


def test_more_runs_is_enough_and_not_far_too_many():
    rng = np.random.default_rng(8)
    sample = np.exp(0.03 * scipy_normal_scores(4))
    one = effect(sample, sample * 1.03)
    more = more_runs(one, 0.02, alpha=0.05, metrics=1)
    assert more is not None
    n = 4 + more
    hits = sum(
        effect(
            np.exp(rng.normal(0, one.sd, n)),
            np.exp(rng.normal(math.log(1.03), one.sd, n)),
            seed=trial,
            draws=200,
        ).p
        <= 0.05
        for trial in range(150)
    )
    assert 0.65 < hits / 150 < 0.95


def scipy_normal_scores(n: int) -> np.ndarray:
    scores = np.linspace(-1, 1, n)
    return scores / scores.std(ddof=1)


def test_e_value_reaches_one_over_alpha_at_reach_t():
    for n in (4, 6, 20):
        assert e_value(reach_t(n, 0.05), n) == pytest.approx(20)
    assert reach_t(2, 0.05) == math.inf


def test_two_pairs_never_decide():
    found = sequential([0.5, 0.51], threshold_ratio=0.02, better="lower")
    assert found.word == "cannot tell"
    assert found.low is None


def test_looking_after_every_pair_keeps_the_error_rate():
    """1,000 series without a change, looked at 29 times each, with nothing to call same."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(1000):
        pairs = rng.normal(0, 0.05, 30)
        for n in range(2, 31):
            if sequential(pairs[:n], threshold_ratio=1e-6, better="lower").word != "cannot tell":
                wrong += 1
                break
    assert wrong / 1000 <= 0.05


def test_a_sequential_test_finds_what_is_there_and_in_which_direction():
    rng = np.random.default_rng(4)
    pairs = rng.normal(math.log(1.2), 0.03, 8)
    assert sequential(pairs, threshold_ratio=0.02, better="lower").word == "worse"
    assert sequential(pairs, threshold_ratio=0.02, better="higher").word == "better"
    assert sequential(-pairs, threshold_ratio=0.02, better="lower").word == "better"
    assert sequential(rng.normal(0, 0.004, 12), threshold_ratio=0.02, better="lower").word == "same"


def test_change_points_are_found_where_they_are():
    rng = np.random.default_rng(6)
    level = np.r_[np.zeros(15), np.full(12, 0.08), np.zeros(10)]
    found = changes(np.exp(level + rng.normal(0, 0.015, 37)))
    assert [one.index for one in found] == [15, 27]
    assert found[0].effect.ratio == pytest.approx(1.083, abs=0.02)


def test_a_level_series_has_few_change_points():
    rng = np.random.default_rng(7)
    wrong = sum(bool(changes(np.exp(rng.normal(0, 0.02, 30)))) for _ in range(200))
    assert wrong / 200 <= 0.08


def test_a_step_between_levels_without_scatter_is_found():
    assert [one.index for one in changes([1.0] * 5 + [1.1] * 5)] == [5]
    assert changes([1.0] * 10) == []
    assert changes([1.0, 2.0, 3.0]) == []
