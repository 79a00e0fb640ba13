"""Words and sparklines of what goes on, the same for every live view."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness.live import Track

_BARS: Final = "▁▂▃▄▅▆▇█"
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def sparkline(values: Iterable[float], cells: int = 24) -> str:
    """
    The last values as bars, from 0 to their highest, so that a steady draw looks steady.

    >>> sparkline([0, 1, 2, 4])
    '▁▃▅█'
    """
    shown = list(values)[-cells:]
    top = max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[round(max(0.0, one) / top * (len(_BARS) - 1))] for one in shown)


def watts_text(name: str, watts: float | None, kind: str) -> str:
    """
    The newest power of a meter; anything but a measured one says so in capitals.

    >>> watts_text("cpu package", 6.04, "modelled")
    '6 W cpu package (MODELLED)'
    """
    value = "? W" if watts is None else f"{_digits(watts)} W"
    return f"{value} {name}" + ("" if kind == "measured" else f" ({kind.upper()})")


def joules_text(track: Track) -> str:
    """Joules a token so far, with how well that is known; empty while there is none."""
    value = track.j_per_token
    if value is None:
        return ""
    half = track.half_width_ratio
    known = "(uncertainty not known yet)" if half is None else f"±{_digits(100 * half)} %"
    return f"{value:.4g} J/token {known} so far"


def span(seconds: float) -> str:
    """
    A length of time as people say it.

    >>> span(7.4), span(75), span(7260)
    ('7 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"


def _digits(value: float) -> str:
    two = 10.0
    return f"{value:,.0f}" if abs(value) >= two else f"{value:.1f}".removesuffix(".0")
