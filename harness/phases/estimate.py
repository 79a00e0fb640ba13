"""What a split into prefill, decode and idling says: its numbers, and what speaks against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.record import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """
    One estimated number with its 95 % interval.

    Args:
        value: J/token, or watts for the constant; never negative.
        low: at least 0.
        high: of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """
    What a token costs in each phase, as far as one server's power tells.

    The joules are those above idling, of a token at the rates of this load; where power
    does not rise in proportion to the rate, another load's are others.

    Args:
        prefill_j_per_token: of an input token that was computed; None: no bin has one.
        decode_j_per_token: of an output token, the first of an answer included; None: same.
        idle_w: drawn whether or not tokens are made.
        idle_measured_w: mean of the bins in which nothing was in flight; None: there are none.
        r2_ratio: share of the power's variance that the fit explains.
        bins: how many were fitted.
        bin_s: their length.
        left_out_ratio: share of all bins that was left out for silences.
        lag_s: by how much the power was found to come after the tokens.
        condition: of the scaled regressors; large: their effects cannot be told apart.
        findings: what speaks against trusting it.
    """

    prefill_j_per_token: Coefficient | None
    decode_j_per_token: Coefficient | None
    idle_w: Coefficient
    idle_measured_w: Coefficient | None
    r2_ratio: float
    bins: int
    bin_s: float
    left_out_ratio: float
    lag_s: float
    condition: float
    findings: tuple[Finding, ...]

    @property
    def contradicted(self) -> bool:
        """The data speak against it: it is not to be used."""
        return any(finding.severity != "info" for finding in self.findings)


def around(value: float, reach: float) -> Coefficient:
    """*value* with its interval, cut off at 0."""
    return Coefficient(value=value, low=max(value - reach, 0.0), high=value + reach)
