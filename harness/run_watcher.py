"""Whoever wants to see how a run goes: its phases, its load and its watts, while it lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .load.progress import LoadProgress


class RunWatcher(Protocol):
    """Told of a run's progress; called from the run's own thread."""

    def phase(self, name: str, *, seconds: float | None, requests: int | None) -> None:
        """A phase begins; how long it will be, in time or requests, where that is known."""
        ...

    def tick(self) -> None:
        """Nothing new, but time went by while waiting."""
        ...

    def follow(
        self,
        progress: LoadProgress,
        watts: Callable[[], Mapping[str, float]],
        kinds: Mapping[str, str],
    ) -> None:
        """
        What to look at until the next phase, from another thread if need be.

        Args:
            progress: of the load.
            watts: boundary -> watts just now.
            kinds: boundary -> measured, modelled or emulated.
        """
        ...
