"""Turns uncertain inputs into an interval of the answer and a ranking of what matters most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from harness.errors import ConfigError

from .split import CostInputs, Split, split

DRAWS: Final = 2000
COVERAGE: Final = 0.90
"""Share of the draws inside the interval: from the 5th to the 95th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The least and the most an input may be; its central value is in the inputs."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """
    What one input does to an output, the others at their central values.

    Args:
        name: the input.
        at_low: the output with the input at its low end; None if no such site can be.
        at_high: same, at its high end.
    """

    name: str
    at_low: float | None
    at_high: float | None

    @property
    def width(self) -> float:
        """How far the two ends lie apart; 0 where one end cannot be."""
        if self.at_low is None or self.at_high is None:
            return 0.0
        return abs(self.at_high - self.at_low)


def intervals(
    inputs: CostInputs, ranges: Mapping[str, Range], *, seed: int = 0, draws: int = DRAWS
) -> dict[str, tuple[float, float]]:
    """
    Ninety per cent intervals of every number of the split, by seeded Monte Carlo.

    Each ranged input is drawn on its own from a triangle with its peak at the central value.
    A draw that cannot be (electrical loss above all overhead) is drawn again.

    Returns:
        Name of a number in `Split` to (5th, 95th percentile); absent where the number is.

    Raises:
        ConfigError: a range that leaves out its central value, or hardly a draw that can be.
    """
    for name, span in ranges.items():
        centre: float = getattr(inputs, name)
        if not span.low <= centre <= span.high:
            raise ConfigError(
                f"{name} is {centre:g}, outside its own range {span.low:g} to {span.high:g}",
                remedy="widen the range",
            )
    generator = np.random.default_rng(seed)
    columns: dict[str, list[float]] = {}
    accepted = 0
    for attempt in range(4 * draws):
        del attempt
        result = _try(
            inputs, {k: _draw(generator, getattr(inputs, k), r) for k, r in ranges.items()}
        )
        if result is None:
            continue
        for name in Split.__dataclass_fields__:
            value = getattr(result, name)
            if isinstance(value, float):
                columns.setdefault(name, []).append(value)
        accepted += 1
        if accepted == draws:
            break
    else:
        raise ConfigError(
            f"only {accepted} of {4 * draws} draws from the ranges can be",
            remedy="narrow the ranges of pue and electrical_loss_ratio",
        )
    tail = 100 * (1 - COVERAGE) / 2
    return {
        name: (float(np.percentile(values, tail)), float(np.percentile(values, 100 - tail)))
        for name, values in columns.items()
    }


def tornado(inputs: CostInputs, ranges: Mapping[str, Range], output: str) -> list[Bar]:
    """
    Move each input alone to its two ends.

    Args:
        inputs: the central values.
        ranges: of the inputs to move.
        output: a number of `Split`, e.g. `total_usd_per_mtok`.

    Returns:
        One bar an input, the widest first.
    """
    bars = [
        Bar(
            name=name,
            at_low=_output(inputs, {name: span.low}, output),
            at_high=_output(inputs, {name: span.high}, output),
        )
        for name, span in ranges.items()
    ]
    return sorted(bars, key=lambda bar: bar.width, reverse=True)


def _draw(generator: np.random.Generator, centre: float, span: Range) -> float:
    if span.low == span.high:
        return centre
    return float(generator.triangular(span.low, centre, span.high))


def _try(inputs: CostInputs, changes: Mapping[str, Any]) -> Split | None:
    try:
        return split(replace(inputs, **changes))
    except ConfigError:
        return None


def _output(inputs: CostInputs, changes: Mapping[str, Any], output: str) -> float | None:
    result = _try(inputs, changes)
    return None if result is None else getattr(result, output)
