"""Reads `METRIC:PERCENT%`: which metrics are judged, and what change of each matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from harness.errors import ConfigError
from harness.metrics import card_of

_FORM: Final = re.compile(r"([a-z0-9_.]+):([0-9.]+)\s*%")
_MOST: Final = 10.0
_DEFAULTS: Final = {"j_per": 0.02, "throughput": 0.02, "tpot_s": 0.03, "p99": 0.10, "p95": 0.10}
_OTHER: Final = 0.05


def default_threshold(key: str) -> float:
    """The smallest relative change of a metric that matters, unless the user says otherwise."""
    for part, threshold in _DEFAULTS.items():
        if part in key:
            return threshold
    return _OTHER


def read_thresholds(texts: Sequence[str]) -> dict[str, float]:
    """
    The thresholds that a user wrote.

    Args:
        texts: e.g. `gpu_j_per_output_token:2%`.

    Returns:
        Metric → ratio, in the order written.

    Raises:
        ConfigError: not of that form, no such metric, or a threshold that is not above 0.
    """
    found = {}
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ConfigError(
                f"{text!r} is not METRIC:PERCENT%",
                remedy="write e.g. `gpu_j_per_output_token:2%`",
            )
        card_of(match[1])
        try:
            ratio = float(match[2]) / 100
        except ValueError as error:
            raise ConfigError(
                f"{match[2]!r} in {text!r} is not a number", remedy="write e.g. `2%`"
            ) from error
        if not 0 < ratio < _MOST:
            raise ConfigError(
                f"the threshold in {text!r} is not between 0 and {100 * _MOST:.0f} %",
                remedy="set the smallest change that matters to you; equality to 0 cannot be shown",
            )
        found[match[1]] = ratio
    return found
