"""Checks a TOML table against a dataclass: unknown keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from .errors import ConfigError

if typing.TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


def build(kind: type[T], values: dict[str, Any], *, where: str) -> T:
    """
    A dataclass from a TOML table, every key and type checked.

    Args:
        kind: the dataclass.
        values: the table.
        where: its name in the file, for messages.

    Raises:
        ConfigError: a key the dataclass does not have, a missing one that has no
            default, or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    known_keys(where, values, list(fields))
    checked = {key: typed(f"{where}.{key}", value, hints[key]) for key, value in values.items()}
    for name, item in fields.items():
        no_default = item.default is dataclasses.MISSING
        if no_default and item.default_factory is dataclasses.MISSING and name not in checked:
            raise ConfigError(f"{where}.{name} is missing", remedy=f"set it in [{where}]")
    return kind(**checked)


def typed(where: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    """
    *value* as *hint* says, converted where TOML has no such type (int → float, list → tuple).

    Args:
        where: the key's full name, for the message.
        value: as TOML gave it.
        hint: a resolved type annotation.

    Raises:
        ConfigError: it is of another type.
    """
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return _one_of(where, value, hint)
    if origin is Literal:
        return _literal(where, value, typing.get_args(hint))
    if origin is not None:
        return _container(where, value, hint)
    return _scalar(where, value, hint)


def _one_of(where: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    refusals = []
    for option in options:
        if option is not type(None):
            try:
                return typed(where, value, option)
            except ConfigError as error:
                refusals.append(error)
    # With one real option (`X | None`) its own refusal says most.
    raise refusals[0] if len(refusals) == 1 else _wrong(where, value, hint)


def _literal(where: str, value: Any, options: tuple[Any, ...]) -> Any:  # noqa: ANN401
    if value in options:
        return value
    names = [str(option) for option in options]
    raise ConfigError(f"{where} is {value!r}", remedy=_suggestion(str(value), names))


def _container(where: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        if len(kinds) == len(value):
            return tuple(typed(where, item, kind) for item, kind in zip(value, kinds, strict=True))
    elif typing.get_origin(hint) is not tuple and isinstance(value, dict):
        return {key: typed(f"{where}.{key}", item, options[1]) for key, item in value.items()}
    raise _wrong(where, value, hint)


def _scalar(where: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    if hint is Any:
        return value
    # In Python a bool is an int; in a configuration it is not.
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _wrong(where, value, hint)


def _wrong(where: str, value: Any, hint: Any) -> ConfigError:  # noqa: ANN401
    return ConfigError(f"{where} is {value!r}", remedy=f"give {_spelt(hint)}")


def _spelt(hint: Any) -> str:  # noqa: ANN401
    """A type in a person's words."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "a string",
        bool: "true or false",
        Path: "a path, as a string",
    }
    if hint in words:
        return words[hint]
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_spelt(option) for option in options)
    if origin is tuple:
        return f"a list, each item {_spelt(options[0])}"
    return "a table" if origin else str(hint)


def known_keys(where: str, values: dict[str, Any], known: list[str]) -> None:
    """
    Refuse keys that nothing would read.

    Raises:
        ConfigError: naming the key, the nearest known one, and all of them.
    """
    for key in values:
        if key not in known:
            raise unknown("key", key, known, where=f" in [{where}]")


def unknown(what: str, name: str, known: Iterable[str], *, where: str = "") -> ConfigError:
    """The error for a name that is not among *known*."""
    return ConfigError(f"there is no {what} {name!r}{where}", remedy=_suggestion(name, list(known)))


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return guess + (f"choose one of: {', '.join(known)}" if known else "it takes none")
