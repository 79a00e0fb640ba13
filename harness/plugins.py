"""Finds plugins: the folder is the registry, the file name is the kind."""

from __future__ import annotations

import ast
import difflib
import importlib
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError

FOLDERS: Final = {
    "engine": "harness.engines",
    "power": "harness.power",
    "workload": "workloads",
    "exporter": "exporters",
}
"""Kind of plugin → the package whose files are the plugins."""


def _folder(group: str) -> Path:
    package = importlib.import_module(FOLDERS[group])
    return Path(package.__path__[0])


def kinds(group: str) -> dict[str, str]:
    """
    What a folder offers, without importing any of it.

    Args:
        group: a key of FOLDERS.

    Returns:
        File name without `.py` → the first line of its docstring, sorted by name.
    """
    found = {}
    for path in sorted(_folder(group).glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = text.partition("\n")[0]
    return found


def load(group: str, kind: str) -> type[Any]:
    """
    The plugin class of one file, imported only now.

    Raises:
        ConfigError: there is no such file; the message lists those there are.
    """
    known = kinds(group)
    if kind not in known:
        close = difflib.get_close_matches(kind, known, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"there is no {group} {kind!r}",
            remedy=f"{guess}choose one of: {', '.join(known)}",
        )
    module = importlib.import_module(f"{FOLDERS[group]}.{kind}")
    plugin: type[Any] = module.PLUGIN
    return plugin
