"""Calibrates the verdicts by simulation: seeded, a thousand comparisons a cell, known truth."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy import stats as scipy_stats

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.stats.bootstrap import bootstrap_logs  # noqa: E402
from harness.stats.change import changes  # noqa: E402
from harness.stats.effects import effect  # noqa: E402 - the checkout, installed or not
from harness.stats.sequential import sequential  # noqa: E402
from harness.stats.verdict import judge  # noqa: E402

Floats = npt.NDArray[np.float64]
SD: Final = 0.01
THRESHOLD: Final = 0.02
ANY: Final = 1e-6
"""A threshold so small that every change that is called real counts: the raw error rate."""


def standard(kind: str, count: int, rng: np.random.Generator) -> Floats:
    """Noise of *count* runs in order of time, standard deviation about 1."""
    if kind == "heavy tails (t, 3 df)":
        return rng.standard_t(3, count) / math.sqrt(3)
    if kind == "skewed (lognormal)":
        raw = rng.lognormal(0, 0.8, count)
        mean, variance = math.exp(0.32), (math.exp(0.64) - 1) * math.exp(0.64)
        return (raw - mean) / math.sqrt(variance)
    if kind.startswith("autocorrelated"):
        noise = rng.normal(size=count)
        out = np.empty(count)
        out[0] = noise[0]
        for place in range(1, count):
            out[place] = 0.6 * out[place - 1] + 0.8 * noise[place]
        return out
    if kind.startswith("drifting"):
        return rng.normal(size=count) + np.linspace(-1.5, 1.5, count)
    return rng.normal(size=count)


KINDS: Final = {
    "normal": "blocks",
    "heavy tails (t, 3 df)": "blocks",
    "skewed (lognormal)": "blocks",
    "autocorrelated (0.6), base first": "blocks",
    "autocorrelated (0.6), ABBA": "turns",
    "drifting (3 sd), base first": "blocks",
    "drifting (3 sd), ABBA": "turns",
}


def sides(kind: str, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Noise of base and candidate: one after the other, or in turns."""
    noise = standard(kind, 2 * n, rng)
    if KINDS[kind] == "blocks":
        return noise[:n], noise[n:]
    first = np.array([place % 4 in {0, 3} for place in range(2 * n)])
    if first.sum() != n:
        first[-1] = not first[-1]
    return noise[first], noise[~first]


def fixed(trials: int) -> Iterator[str]:
    """Tables for comparisons of a fixed number of runs."""
    alarms: dict[tuple[str, int], Counter[str]] = {}
    for shift, title in ((0.0, "no change"), (0.03, "a true change of 3 %")):
        yield f"\n{title}; run-to-run sd 1 %, threshold 2 %, {trials} comparisons a cell\n"
        yield "| noise | n + n | worse | better | same | cannot tell | any alarm at threshold 0 "
        yield "| 95 % interval covers |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
        for kind in KINDS:
            for n in (3, 5, 10):
                counts, raw, covered = cell(kind, n, shift, trials)
                alarms[kind, n] = counts
                shown = " | ".join(
                    f"{counts[word] / trials:.1%}"
                    for word in ("worse", "better", "same", "cannot tell")
                )
                yield f"| {kind} | {n} + {n} | {shown} | {raw / trials:.1%} "
                yield f"| {covered / trials:.1%} |\n"


def cell(kind: str, n: int, shift: float, trials: int) -> tuple[Counter[str], int, int]:
    """Verdicts, alarms without a threshold, and intervals that hold the truth."""
    rng = np.random.default_rng([n, round(1000 * shift), *kind.encode()])
    counts: Counter[str] = Counter()
    raw = covered = 0
    for trial in range(trials):
        base, cand = sides(kind, n, rng)
        one = effect(np.exp(SD * base), np.exp(math.log1p(shift) + SD * cand), seed=trial)
        counts[judge([one], [THRESHOLD], ["lower"])[0].word] += 1
        raw += judge([one], [ANY], ["lower"])[0].word in {"worse", "better"}
        assert one.low is not None
        assert one.high is not None
        covered += one.low <= 1 + shift <= one.high
    return counts, raw, covered


def sameness(trials: int) -> Iterator[str]:
    """How often equality is shown, against the theory of two one-sided t tests."""
    yield f'\n"same" where nothing changed, normal noise, {trials} comparisons a cell\n'
    yield "| sd | n + n | same | theory |\n|---:|---:|---:|---:|\n"
    for sd in (0.01, 0.02):
        for n in (3, 5, 8, 12, 20):
            rng = np.random.default_rng([n, round(1000 * sd), 7])
            found = 0
            for trial in range(trials):
                one = effect(np.exp(rng.normal(0, sd, n)), np.exp(rng.normal(0, sd, n)), seed=trial)
                found += judge([one], [THRESHOLD], ["lower"])[0].word == "same"
            yield f"| {sd:.0%} | {n} + {n} | {found / trials:.1%} | {tost_power(n, sd):.1%} |\n"


def tost_power(n: int, sd: float) -> float:
    """Chance that two one-sided pooled t tests show equality within the threshold."""
    freedom, error = 2 * n - 2, sd * math.sqrt(2 / n)
    reach = float(special.stdtrit(freedom, 0.95))
    shares = (np.arange(20_000) + 0.5) / 20_000
    scatter = np.sqrt(scipy_stats.chi2.ppf(shares, freedom) / freedom)
    room = (math.log1p(THRESHOLD) - reach * error * scatter) / error
    return float(np.where(room > 0, 2 * special.ndtr(room) - 1, 0).mean())


def families(trials: int) -> Iterator[str]:
    """Wrong alarms among four metrics that share half of their noise."""
    yield f"\nfour metrics without a change, correlated 0.5, 5 + 5 runs, {trials} comparisons\n"
    rng = np.random.default_rng(44)
    wrong = 0
    for trial in range(trials):
        noise = math.sqrt(0.5) * (rng.normal(size=(4, 10)) + rng.normal(size=(1, 10)))
        effects = [effect(np.exp(SD * x[:5]), np.exp(SD * x[5:]), seed=trial) for x in noise]
        words = {one.word for one in judge(effects, [ANY] * 4, ["lower"] * 4)}
        wrong += bool(words & {"worse", "better"})
    yield f"at least one wrong *worse* or *better* at threshold 0: {wrong / trials:.1%}\n"


def intervals(trials: int) -> Iterator[str]:
    """Coverage of a plain percentile bootstrap, which is why ours is not one."""
    yield f"\ncoverage of a plain 95 % percentile bootstrap over runs, {trials} comparisons\n"
    yield "| noise | n + n | covers |\n|---|---:|---:|\n"
    for kind in list(KINDS)[:3]:
        for n in (3, 5, 10):
            rng = np.random.default_rng([n, 5])
            hits = 0
            for _ in range(trials):
                base, cand = sides(kind, n, rng)
                low, high = np.quantile(
                    bootstrap_logs(base, cand, draws=1000, rng=rng), [0.025, 0.975]
                )
                hits += bool(low <= 0 <= high)
            yield f"| {kind} | {n} + {n} | {hits / trials:.1%} |\n"


def looks(trials: int) -> Iterator[str]:
    """The sequential test of `joulemark regress`, looked at after every pair, up to 20."""
    yield f"\nregress: one metric, up to 20 pairs, a look after each, {trials} series a cell\n"
    yield "| noise | change | threshold | worse | better | same | open | median runs |\n"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|\n"
    for kind in ("normal", *list(KINDS)[1:3], *[one for one in KINDS if one.endswith("ABBA")]):
        for shift, threshold in ((0.0, ANY), (0.0, THRESHOLD), (0.03, THRESHOLD), (0.2, THRESHOLD)):
            rng = np.random.default_rng([round(1000 * shift), *kind.encode()])
            counts: Counter[str] = Counter()
            runs = []
            for _ in range(trials):
                word, pairs = one_series(kind, shift, threshold, rng)
                counts[word] += 1
                runs.append(2 * pairs)
            shown = " | ".join(
                f"{counts[word] / trials:.1%}"
                for word in ("worse", "better", "same", "cannot tell")
            )
            yield f"| {kind} | {shift:.0%} | {threshold:.2g} | {shown} | {np.median(runs):.0f} |\n"


def one_series(
    kind: str, shift: float, threshold: float, rng: np.random.Generator
) -> tuple[str, int]:
    """Pairs in ABBA or BAAB order by lot, until the verdict is firm."""
    noise = SD * standard(kind, 40, rng).reshape(20, 2)
    flips = np.repeat(rng.random(10) < 0.5, 2) ^ (np.arange(20) % 2 == 1)
    log_ratios = np.where(flips, noise[:, 0] - noise[:, 1], noise[:, 1] - noise[:, 0])
    log_ratios += math.log1p(shift)
    for pairs in range(2, 21):
        found = sequential(log_ratios[:pairs].tolist(), threshold_ratio=threshold, better="lower")
        if found.word != "cannot tell":
            return found.word, pairs
    return "cannot tell", 20


def levels(trials: int) -> Iterator[str]:
    """Change points of `joulemark history`: 30 runs, a step in the middle or none."""
    yield f"\nhistory: 30 runs, normal noise of 1 %, {trials} series a cell\n"
    yield "| step at run 15 | a change found | found within 1 run of it |\n|---:|---:|---:|\n"
    for step in (0.0, 0.01, 0.02, 0.03):
        rng = np.random.default_rng(round(1000 * step) + 3)
        found = near = 0
        for _ in range(trials):
            logs = rng.normal(0, SD, 30) + np.where(np.arange(30) >= 15, math.log1p(step), 0)
            at = [one.index for one in changes(np.exp(logs).tolist())]
            found += bool(at)
            near += any(abs(one - 15) <= 1 for one in at)
        yield f"| {step:.0%} | {found / trials:.1%} | {near / trials:.1%} |\n"


PARTS: Final[dict[str, Callable[[int], Iterator[str]]]] = {
    "fixed": fixed,
    "same": sameness,
    "families": families,
    "intervals": intervals,
    "looks": looks,
    "levels": levels,
}


def main() -> None:
    """Print the tables, each part's as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--part", choices=PARTS, action="append")
    given = parser.parse_args()
    for name in given.part or PARTS:
        started = time.monotonic()
        for text in PARTS[name](given.trials):
            print(text, end="", flush=True)
        print(f"({name}: {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
