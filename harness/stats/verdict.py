"""From effects to words: better, same, worse, or cannot tell and how many more runs it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy import special

from .effects import ALPHA, Effect, holm

Word = Literal["better", "same", "worse", "cannot tell"]
Direction = Literal["lower", "higher"]
_POWER: Final = 0.8
MOST_RUNS: Final = 1_000
"""More runs than this a side are not worth naming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """
    One metric with its verdict.

    Args:
        word: the verdict.
        effect: what it rests on.
        threshold_ratio: the smallest change that matters, e.g. 0.02.
        p_adjusted: Holm's, over all metrics judged together; None without a p-value.
        reason: one sentence.
        more_runs: about how many more runs a side would settle it, with 80 %
            chance if the truth is as it looks; None: it is settled, or it cannot be said.
    """

    word: Word
    effect: Effect
    threshold_ratio: float
    p_adjusted: float | None
    reason: str
    more_runs: int | None = None


def judge(
    effects: Sequence[Effect],
    thresholds: Sequence[float],
    better: Sequence[Direction],
    *,
    alpha: float = ALPHA,
) -> list[Judged]:
    """
    Judge metrics together.

    - *worse*, *better*: the change is real (Holm-adjusted Welch p at most
      alpha, the permutation test agrees, the interval excludes no change), and the
      best estimate of it is at least the threshold.
    - *same*: the inner interval lies within the threshold on both sides: two
      one-sided tests at alpha each (Schuirmann 1987). This needs data; a test
      that failed is never evidence of sameness.
    - *cannot tell*: everything else.

    Args:
        effects: one a metric.
        thresholds: the smallest change that matters, as a ratio above 0, one a metric.
        better: which way is an improvement, one a metric.
        alpha: rate of false *worse* or *better*, over all metrics together.
    """
    tested = [place for place, one in enumerate(effects) if one.p is not None]
    adjusted = holm([p for one in effects if (p := one.p) is not None])
    by_place = dict(zip(tested, adjusted, strict=True))
    return [
        _judge(
            one,
            threshold,
            direction,
            p_adjusted=by_place.get(place),
            metrics=len(tested),
            alpha=alpha,
        )
        for place, (one, threshold, direction) in enumerate(
            zip(effects, thresholds, better, strict=True)
        )
    ]


def overall(words: Sequence[Word]) -> Word:
    """
    One word for all judged metrics.

    Any *worse* is worse; else any *cannot tell* is that; else any *better* is
    better; else same. Nothing judged is *cannot tell*.
    """
    for word in ("worse", "cannot tell", "better", "same"):
        if word in words:
            return word
    return "cannot tell"


def more_runs(one: Effect, threshold_ratio: float, *, alpha: float, metrics: int) -> int | None:
    """
    About how many more runs a side would settle it, if truth and scatter are as they look.

    Returns:
        At least 1; None where there is no scatter to go by, or more than
        MOST_RUNS would be needed.
    """
    sd = one.sd
    if sd is None or not sd:
        return None
    shift, limit = abs(math.log(one.ratio)), math.log1p(threshold_ratio)
    have = min(one.n_base, one.n_cand)
    # Beyond the threshold: until the change is significant; within it: until it is shown to be.
    distance = shift if shift >= limit else limit - shift
    level = alpha / max(1, metrics) / 2 if shift >= limit else alpha
    for n in range(max(2, have + 1), have + MOST_RUNS + 1):
        freedom = 2 * n - 2
        reach = special.stdtrit(freedom, 1 - level) + special.stdtrit(freedom, _POWER)
        if distance >= float(reach) * sd * math.sqrt(2 / n):
            return n - have
    return None


def _judge(
    one: Effect,
    threshold: float,
    direction: Direction,
    *,
    p_adjusted: float | None,
    metrics: int,
    alpha: float,
) -> Judged:
    def say(word: Word, reason: str) -> Judged:
        more = None
        if word == "cannot tell":
            more = more_runs(one, threshold, alpha=alpha, metrics=metrics)
        return Judged(
            word=word,
            effect=one,
            threshold_ratio=threshold,
            p_adjusted=p_adjusted,
            reason=reason,
            more_runs=more,
        )

    if (
        one.low is None
        or one.high is None
        or one.inner_low is None
        or one.inner_high is None
        or p_adjusted is None
    ):
        return say("cannot tell", one.missing or "there is no interval")
    limit = 1 + threshold
    if 1 / limit <= one.inner_low and one.inner_high <= limit:
        return say("same", f"shown to differ by less than {threshold:.3g} either way")
    excludes = one.low > 1 or one.high < 1
    permuted = one.p_permutation is None or one.p_permutation <= alpha
    if not (p_adjusted <= alpha and excludes and permuted):
        why = (
            "the runs differ by more than the change"
            if p_adjusted > alpha
            else "the t test sees a change, but interval or permutation test does not"
        )
        return say("cannot tell", f"no change is shown, and none is excluded: {why}")
    if max(one.ratio, 1 / one.ratio) < limit:
        return say("cannot tell", "there is a change, but whether it reaches the threshold is open")
    worse = (one.ratio > 1) == (direction == "lower")
    return say("worse" if worse else "better", "a change that is real and reaches the threshold")
