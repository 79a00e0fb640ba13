"""What a running engine says of itself beyond its token counters: version, settings, joules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import orjson

from . import launch
from .contracts import Engine
from .errors import EngineError

_MOST: Final = 300
_SECRET: Final = re.compile(r"(key|token|secret|password)$", re.IGNORECASE)
_PAIR: Final = re.compile(r"(\w+)=('[^']*'|[\w.:-]+)")
_NAMES_A_MACHINE: Final = re.compile(r"(path|host|dir|addr|url|file)$", re.IGNORECASE)


@runtime_checkable
class OnGpus(Protocol):
    """An engine that knows which GPUs it runs on."""

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """In NVML's order; empty: not known."""
        ...


@runtime_checkable
class TellsVersion(Protocol):
    """An engine whose server says its version."""

    @property
    def version_path(self) -> str:
        """Path of a JSON object; empty: none."""
        ...


@runtime_checkable
class LogsSettings(Protocol):
    """An engine that writes its effective settings into its log, and shows them nowhere else."""

    @property
    def settings_line(self) -> str:
        """Pattern whose group 1 is `key=value, …`; empty: it does not."""
        ...


@runtime_checkable
class CountsJoules(Protocol):
    """An engine that counts its GPUs' joules itself."""

    @property
    def energy_path(self) -> str | None:
        """Path of a JSON object with `total_energy_j`; None: it does not."""
        ...


def facts_of(engine: Engine, log: Path | None = None) -> dict[str, Any]:
    """
    The single values in which a running engine describes itself: version, effective settings.

    Args:
        engine: it runs.
        log: what it has printed; None: we did not start it.

    Returns:
        Empty if it has no such place or does not answer: a version is worth
        recording, but not worth failing a run. Secrets, paths and addresses are
        left out.
    """
    path = engine.version_path if isinstance(engine, TellsVersion) else ""
    said = _json(engine, path) if path else None
    found = _kept(said) if isinstance(said, dict) else {}
    pattern = engine.settings_line if isinstance(engine, LogsSettings) else ""
    if log is not None and pattern:
        settings = _kept(_logged(log, pattern))
        found |= {"settings": settings} if settings else {}
    return found


def _kept(said: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in said.items()
        if isinstance(value, str | int | float | bool)
        and not _SECRET.search(key)
        and not _NAMES_A_MACHINE.search(key)
        and not (isinstance(value, str) and value.startswith("/"))
    }
    return dict(list(kept.items())[:_MOST])


def _logged(log: Path, pattern: str) -> dict[str, str]:
    """`key=value` pairs of the first line that fits; what is nested is left out."""
    try:
        line = re.search(pattern, log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
    pairs = map(_PAIR.fullmatch, _outermost(line[1])) if line else ()
    return {pair[1]: pair[2].strip("'") for pair in pairs if pair is not None}


def _outermost(text: str) -> list[str]:
    """What commas separate, those inside brackets of any kind left alone."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [*parts, text[begin:].strip()]


def energy_j(engine: Engine) -> float | None:
    """Joules that the engine has counted on its GPUs so far; None: it does not say."""
    path = engine.energy_path if isinstance(engine, CountsJoules) else None
    said = _json(engine, path) if path else None
    value = said.get("total_energy_j") if isinstance(said, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _json(engine: Engine, path: str) -> Any:  # noqa: ANN401 - whatever the server says
    try:
        return orjson.loads(launch.scrape(engine.endpoint(None).base_url + path))
    except (EngineError, orjson.JSONDecodeError):
        return None
