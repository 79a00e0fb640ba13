"""Reads single numbers out of a Prometheus text exposition, however large it is."""

from __future__ import annotations

import re
from typing import Final

from .errors import EngineError

_SAMPLE: Final = re.compile(r'(?:\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\})?[ \t]+(\S+)')
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_NAME: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t{]", re.MULTILINE)
_ESCAPED: Final = re.compile(r"\\(.)")

Series = tuple[dict[str, str], float]
"""One line: its labels and its value."""


class Exposition:
    """
    The samples of one scrape, each looked for when it is asked for.

    A server's exposition has thousands of lines of which a handful matter, and
    the production daemon reads one sixteen times a second. So nothing is parsed
    beforehand: a name is searched for in the text, and only its lines are read.

    Args:
        text: the body of a `/metrics` response.
    """

    __slots__ = ("_found", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[str, list[Series]] = {}

    def series(self, name: str) -> list[Series]:
        """
        Every line of one metric.

        Args:
            name: the sample's full name, with `_total` where it has one.

        Raises:
            EngineError: a line of that name is not in the Prometheus text format.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> list[Series]:
        text, found = self._text, []
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            # Not in a comment, not in a label, not the beginning of a longer name.
            if (not at or text[at - 1] == "\n") and text[end : end + 1] in {"{", " ", "\t"}:
                found.append(self._read(name, end))
            at = text.find(name, end)
        return found

    def _read(self, name: str, end: int) -> Series:
        sample = _SAMPLE.match(self._text, end)
        try:
            value = float(sample[2]) if sample else None
        except ValueError:
            value = None
        if sample is None or value is None:
            line = self._text[end : end + 60].partition("\n")[0]
            raise EngineError(
                f"the engine's metrics are not a Prometheus exposition ({name}{line})",
                remedy="check that the URL is the engine's own /metrics",
            )
        labels = {key: _unescaped(text) for key, text in _LABEL.findall(sample[1] or "")}
        return labels, value

    def total_or_none(self, name: str, **labels: str) -> float | None:
        """
        Sum over all series of *name* whose labels match; None if there is none.

        Args:
            name: the sample's full name.
            labels: values that must match.
        """
        matching = [
            value
            for have, value in self.series(name)
            if all(have.get(key) == wanted for key, wanted in labels.items())
        ]
        return sum(matching) if matching else None

    def total(self, name: str, **labels: str) -> float:
        """
        The same, where a missing counter is an error.

        Raises:
            EngineError: no such series; the message names its nearest relatives.
        """
        value = self.total_or_none(name, **labels)
        if value is None:
            family = name.partition(":")[0]
            have = {key for key in _NAME.findall(self._text) if key.startswith(family)}
            raise EngineError(
                f"the engine's metrics have no {name}"
                + (f" (they have {', '.join(sorted(have)[:5])}, …)" if have else ""),
                remedy="check the engine's version and that its metrics are switched on",
            )
        return value


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
