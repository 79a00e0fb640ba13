"""Opens the power sources that a recording was told to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import plugins
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .contracts import PowerSession


def open_sources(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, PowerSession]:
    """
    Open them in order.

    Args:
        sources: kind of a file in harness/power, and the options of its dataclass.

    Returns:
        Kind → session; the second of a kind is `KIND-1`, and so on.

    Raises:
        ConfigError: there is no such kind, or it has no such option.
        PowerUnavailableError: one cannot be opened.
    """
    sessions: dict[str, PowerSession] = {}
    for kind, options in sources:
        try:
            source = plugins.load("power", kind)(**options)
        except TypeError as error:
            raise ConfigError(
                f"the options of power source {kind!r} do not fit ({error})",
                remedy=f"see `joulemark list power` and harness/power/{kind}.py",
            ) from error
        name = kind if kind not in sessions else f"{kind}-{len(sessions)}"
        sessions[name] = source.open()
    return sessions
