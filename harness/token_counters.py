"""Reads a running engine's own token counters, whichever engine it is."""

from __future__ import annotations

import contextlib
import dataclasses
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import plugins
from .errors import ConfigError, EngineError, JoulemarkError

if TYPE_CHECKING:
    from .contracts import TokenCounts

_SCRAPE_TIMEOUT_S: Final = 5.0


@dataclass(slots=True)
class TokenCounterPair:
    """
    An engine's counters, read before and after something.

    Args:
        url: of its `/metrics`; None: nothing is read.
        engine: the plugin whose dialect it is; None: found out at the first reading.
        before: the first reading.
        after: the second.
    """

    url: str | None
    engine: str | None
    before: TokenCounts | None = None
    after: TokenCounts | None = None

    def read(self) -> TokenCounts | None:
        """
        Ask the engine now.

        Raises:
            EngineError: it does not answer, or not with counters.
        """
        if self.url is None:
            return None
        text = _scrape(self.url)
        engine = self.engine or _dialect(text, self.url)
        self.engine = engine
        counts: TokenCounts = _counters(engine).read(text)
        return counts


def _scrape(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is no http URL", remedy="name the engine's /metrics")
    try:
        with urllib.request.urlopen(url, timeout=_SCRAPE_TIMEOUT_S) as answer:  # noqa: S310
            text: str = answer.read().decode()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{url} cannot be read ({error})", remedy="check that the engine runs and the port"
        ) from error
    return text


def _counters(engine: str) -> Any:  # noqa: ANN401  TokenCounters; the classes are loaded by name
    kind = plugins.load("engine", engine)
    # Only its dialect is asked for, so what it would need to start is left empty.
    blank = {
        item.name: ""
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    counters = kind(**blank).counters()
    if counters is None:
        raise ConfigError(f"engine {engine!r} counts no tokens", remedy="leave --tokens-from out")
    return counters


def _dialect(text: str, url: str) -> str:
    """The engine whose counters these are."""
    # The fake speaks the others' dialects, so it would answer for every one of them.
    for engine in (kind for kind in plugins.kinds("engine") if kind != "fake"):
        with contextlib.suppress(JoulemarkError, ImportError, TypeError, ValueError):
            _counters(engine).read(text)
            return engine
    raise EngineError(
        f"{url} has the token counters of no engine we know",
        remedy="name the engine with --engine, or the URL of its own /metrics",
    )
