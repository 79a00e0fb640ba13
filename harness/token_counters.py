"""Reads a running engine's own token counters, whichever engine it is."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import plugins
from .dialects import ALL, spoken
from .errors import ConfigError, EngineError, cause

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
        if self.engine is None:
            self.engine, counts = spoken(text)
            return counts
        plugins.load("engine", self.engine)
        counters = ALL.get(self.engine)
        if counters is None:
            raise ConfigError(
                f"engine {self.engine!r} counts no tokens", remedy="leave --tokens-from out"
            )
        return counters.read(text)


def _scrape(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is no http URL", remedy="name the engine's /metrics")
    try:
        with urllib.request.urlopen(url, timeout=_SCRAPE_TIMEOUT_S) as answer:  # noqa: S310
            text: str = answer.read().decode()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{url} cannot be read ({cause(error)})",
            remedy="check that the engine runs and the port",
        ) from error
    return text
