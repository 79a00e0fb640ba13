"""Reads `METRIC:PERCENT%`: which metrics are judged, and what change of each matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from harness.errors import ConfigError
from harness.metrics import card_of

_FORM: Final = re.compile(r"([a-z0-9_.]+)(?::([0-9.]+)\s*%)?")
_MOST: Final = 10.0


def read_thresholds(texts: Sequence[str], default: float | None = None) -> dict[str, float]:
    """
    The thresholds that a user wrote.

    Args:
        texts: e.g. `gpu_j_per_output_token:2%`; without a number *default* is taken.
        default: a ratio.

    Returns:
        Metric → ratio, in the order written.

    Raises:
        ConfigError: not of that form, no such metric, or a threshold that is not above 0.
    """
    found = {}
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        if match is None or (match[2] is None and default is None):
            raise ConfigError(
                f"{text!r} is not METRIC:PERCENT%",
                remedy="write e.g. `gpu_j_per_output_token:2%`",
            )
        card_of(match[1])
        try:
            ratio = float(match[2]) / 100 if match[2] else float(default or 0)
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
