"""Looks at this node's own sensors, with a sampler but without an exporter."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from harness import measure
from harness.errors import EngineError
from harness.sampler import Sampler
from harness.token_counters import TokenCounterPair

from .reading import Reading, Row

_HZ: Final = 5.0
"""Enough for the eye; the journal of an hour is then 0.6 MB a channel."""


class Node:
    """
    What the sensors of this machine read.

    Args:
        power: sources; empty: the sensors there are.
        tokens_from: a running engine's `/metrics`; None: joules alone.

    Raises:
        PowerUnavailableError: nothing can be read here.
    """

    title = "this node"

    def __init__(self, *, power: Sequence[str] = (), tokens_from: str | None = None) -> None:
        named: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in power]
        self._sources = named or measure.sensors()
        self._tokens = TokenCounterPair(tokens_from, None)
        self._kinds: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="joulemark-watch-")
        self._sampler = Sampler(
            Path(self._folder.name) / "power.journal",
            self._sources,
            power_hz=_HZ,
            counter_hz=_HZ,
        )
        try:
            channels = self._sampler.start()
        except BaseException:
            self._folder.cleanup()
            raise
        self._kinds = {channel.boundary: channel.power_kind for channel in channels}
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.stop()
        self._folder.cleanup()

    def read(self) -> Reading:
        """The newest watts, and the tokens counted so far."""
        notes = []
        tokens = None
        try:
            counts = self._tokens.read()
            tokens = None if counts is None else counts.generated
        except EngineError as error:
            notes.append(error.problem)
        watts = self._sampler.latest_w()
        return Reading(
            t_s=time.monotonic(),
            rows=tuple(
                Row(
                    name=boundary.replace("_", " "),
                    kind=kind,
                    watts=watts.get(boundary),
                    tokens=tokens,
                )
                for boundary, kind in self._kinds.items()
            ),
            notes=tuple(notes),
        )
