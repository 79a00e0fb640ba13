"""One scrape of an engine in one meaning for all engines, with what may be shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness import plugins
from harness.dialects import ALL, spoken
from harness.engine_activity import activity

if TYPE_CHECKING:
    from harness.contracts import TokenCounters

_MAX_NAME: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounts:
    """
    One scrape in one meaning for all engines.

    Args:
        engine: whose dialect it was.
        model_name: as the labels say; None: they do not, or say several.
        token_clock: when the engine moves its counters.
        tokens: cumulative by kind; a kind it does not count is missing.
        running: requests in progress; None: it does not say.
        wasted: cumulative tokens for nobody, by reason.
        phase_s: cumulative busy seconds by phase.
    """

    engine: str
    model_name: str | None
    token_clock: str
    tokens: Mapping[str, float]
    running: float | None
    wasted: Mapping[str, float] = field(default_factory=dict)
    phase_s: Mapping[str, float] = field(default_factory=dict)


def dialect(engine: str) -> TokenCounters | None:
    """
    The token counters of an engine plugin; None: it has none.

    Raises:
        ConfigError: there is no such plugin.
    """
    plugins.load("engine", engine)
    return ALL.get(engine)


def dialects() -> dict[str, TokenCounters]:
    """Every dialect there is, by engine."""
    return dict(ALL)


def read(body: bytes, known: Mapping[str, TokenCounters]) -> EngineCounts:
    """
    The counts in an exposition.

    Args:
        body: of any size.
        known: dialects to try, in order.

    Raises:
        EngineError: it speaks none of them.
    """
    text = body.decode("utf-8", "replace")
    engine, counts = spoken(text, known)
    said = activity(engine, text)
    tokens = {
        kind: value
        for kind in ("computed", "cached", "generated")
        if (value := getattr(counts, kind)) is not None
    }
    return EngineCounts(
        engine=engine,
        model_name=None if said.model_name is None else _shown(said.model_name),
        token_clock=ALL[engine].updated,
        tokens=tokens,
        running=said.running,
        wasted=said.wasted,
        phase_s=said.phase_s,
    )


def _shown(name: str) -> str:
    """A path of weights is nobody's business who may read metrics."""
    return (name.rsplit("/", 1)[-1] if name.startswith("/") else name)[:_MAX_NAME]
