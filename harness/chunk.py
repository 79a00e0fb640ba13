"""What one JSON chunk of a streamed answer says, whichever engine worded it."""

from __future__ import annotations

import re
from typing import Any, Final

_MAX_COUNT: Final = 2**31 - 1
_PLAIN: Final = re.compile(rb"[ !#-\[\]-~]+")
is_plain: Final = re.compile(rb"[ !#-\[\]-~]+").fullmatch
"""Matches ASCII that stands for itself between the quotes of a JSON string; not empty."""
_KEYS: Final = ("content", "text", "reasoning_content", "reasoning")


def surroundings(payload: bytes, chunk: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """
    What stands before and after the text of a chunk that says nothing but that text.

    A later chunk with the same surroundings and other plain text means the same
    with that text, so it need not be parsed: half of the client's work on the
    streams of most engines. Running counts differ from chunk to chunk, so
    chunks with counts are always parsed.

    Args:
        payload: the chunk's bytes.
        chunk: the same, parsed.

    Returns:
        The bytes before the text, its opening quote included, and those after
        it; None if it is not certain where the text stands.
    """
    choices = chunk.get("choices")
    if "usage" in chunk or "timings" in chunk or not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    delta = choice.get("delta", choice) if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        return None
    for key in _KEYS:
        text = delta.get(key)
        if isinstance(text, str) and text and chars_of(choice) == len(text):
            name = b'"%s"' % key.encode()
            before, mark, after = payload.partition(name + b':"')
            value, quote, rest = after.partition(b'"')
            # The name occurs once and is no part of an escaped string: this is the place.
            certain = mark and payload.count(name) == 1 and not before.endswith(b"\\")
            if certain and quote and is_plain(value) and value.decode() == text:
                return before + mark, quote + rest
    return None


def chars_of(choice: dict[str, Any]) -> int:
    """Characters of output in one choice: text, reasoning and tool calls."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return _length(choice.get("text"))
    chars = _length(delta.get("content"))
    # Both names are in use for one thing; a server that sends both repeats itself.
    chars += _length(delta.get("reasoning_content")) or _length(delta.get("reasoning"))
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                chars += _length(function.get("name")) + _length(function.get("arguments"))
    return chars


def _length(text: object) -> int:
    return len(text) if isinstance(text, str) else 0


def count_of(value: object) -> int | None:
    """A count of tokens; None for anything that is not one."""
    if type(value) is int and 0 <= value <= _MAX_COUNT:
        return value
    return None


def error_text(document: object) -> str:
    """The message in an error document, in whichever of the usual shapes it comes."""
    if isinstance(document, dict):
        error = document.get("error", document)
        if isinstance(error, dict):
            for key in ("message", "detail"):
                if error.get(key):
                    return str(error[key])
        return str(error)
    return str(document)
