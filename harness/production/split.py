"""Splits whole microjoules by weights so that the parts sum to the whole exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MICROJOULES_PER_JOULE: Final = 1_000_000
_SCALE: Final = 1 << 53


def microjoules(energy_j: float) -> int:
    """
    Joules as whole microjoules.

    The ledger counts in whole numbers because sums of them are exact: a counter
    that grows for a year in floats drifts away from the sum of its parts.
    """
    return round(energy_j * MICROJOULES_PER_JOULE)


def split(amount: int, weights: Sequence[float]) -> list[int]:
    """
    Divide *amount* in the ratio of *weights*, by largest remainders.

    Args:
        amount: what to divide, not negative.
        weights: shape (n,), finite, none negative, at least one positive.

    Returns:
        Shape (n,); sums to *amount* exactly; each within 1 of its exact share.

    Raises:
        ValueError: the weights give no ratio, or the amount is negative.

    >>> split(10, [1, 1, 1])
    [4, 3, 3]
    """
    if amount < 0:
        msg = f"{amount} cannot be divided: it is negative"
        raise ValueError(msg)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        msg = f"{list(weights)!r} gives no ratio to divide by"
        raise ValueError(msg)
    largest = max(weights)
    whole = [round(weight / largest * _SCALE) for weight in weights]
    total = sum(whole)
    parts = [amount * weight // total for weight in whole]
    order = sorted(range(len(whole)), key=lambda i: (-(amount * whole[i] % total), i))
    for i in order[: amount - sum(parts)]:
        parts[i] += 1
    return parts
