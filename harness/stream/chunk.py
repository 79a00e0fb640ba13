"""What one JSON chunk of a streamed answer says, whichever engine worded it."""

from __future__ import annotations

from typing import Any, Final

MAX_COUNT: Final = 2**31 - 1
TEXT_KEYS: Final = ("content", "text", "reasoning_content", "reasoning")


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
    if type(value) is int and 0 <= value <= MAX_COUNT:
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
