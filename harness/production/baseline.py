"""Learns what a device draws with a model loaded and no request running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SETTLE_S: Final = 5.0
"""After the last request the clocks and the memory are still up; that is not idle yet."""
_ENOUGH_S: Final = 5.0
_MEMORY_S: Final = 600.0
"""Older idle time than this fades, so that a new driver or power cap is learnt."""


@dataclass(slots=True)
class Baseline:
    """
    Loaded-idle watts of one device with one set of models on it.

    Args:
        idle_s: seconds of idleness so far, since the last request.
        observed_s: settled idle seconds that stand behind *watts*.
        watts: their mean; only meaningful once enough of them were observed.
    """

    idle_s: float = 0.0
    observed_s: float = 0.0
    watts: float = 0.0

    def observe(self, energy_uj: int, seconds: float, *, idle: bool) -> None:
        """
        Take one covered interval into account.

        Args:
            energy_uj: metered, microjoules.
            seconds: covered by it.
            idle: no tenant had a request running or moved a token in it.
        """
        self.idle_s = self.idle_s + seconds if idle else 0.0
        if self.idle_s < _SETTLE_S or seconds <= 0:
            return
        kept_s = min(self.observed_s, _MEMORY_S)
        self.watts = (self.watts * kept_s + energy_uj / 1e6) / (kept_s + seconds)
        self.observed_s += seconds

    def known_w(self) -> float | None:
        """The baseline in watts; None: too little idle time was seen."""
        return self.watts if self.observed_s >= _ENOUGH_S else None
