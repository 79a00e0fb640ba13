"""The cost formulas, one function each: joules to dollars, water and carbon, refusing nonsense."""

from __future__ import annotations

import math
from typing import Final

from .errors import ConfigError

JOULES_PER_KWH: Final = 3.6e6


def _require(value: float, *, name: str, low: float, what: str) -> None:
    if not math.isfinite(value) or value < low:
        raise ConfigError(f"{name} is {value}, the least possible is {low:g}", remedy=what)


def energy_usd_per_mtok(j_per_token: float, usd_per_kwh: float, *, pue: float = 1.0) -> float:
    """
    What the energy of a million tokens costs (formula F5 of `docs/cost.md`).

    Args:
        j_per_token: joules per token at the boundary that *pue* multiplies.
        usd_per_kwh: delivered price, demand charges included.
        pue: facility power over IT power; 1 leaves the boundary as it is.

    Returns:
        US dollars per million tokens, energy only.

    Raises:
        ConfigError: a negative or non-finite input, or a PUE under 1.

    >>> round(energy_usd_per_mtok(0.36, 0.10, pue=1.5), 4)
    0.015
    """
    _require(j_per_token, name="j_per_token", low=0.0, what="give joules per token, measured")
    _require(usd_per_kwh, name="usd_per_kwh", low=0.0, what="give a price in dollars per kWh")
    _require(pue, name="pue", low=1.0, what="give facility power divided by IT power")
    return j_per_token * 1e6 / JOULES_PER_KWH * usd_per_kwh * pue
