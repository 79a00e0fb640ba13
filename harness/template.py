"""What two chunks of one stream have in common, so that the second need not be parsed as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .chunk import MAX_COUNT, TEXT_KEYS, chars_of, count_of

if TYPE_CHECKING:
    from collections.abc import Callable

is_plain: Final = re.compile(rb"[ !#-\[\]-~]+").fullmatch
"""Matches ASCII that stands for itself between the quotes of a JSON string; not empty."""
_COUNTS: Final = {"usage": "completion_tokens", "timings": "predicted_n"}
_FREE: Final = (
    "total_tokens",
    "predicted_ms",
    "predicted_per_token_ms",
    "predicted_per_second",
)
"""Numbers that change from chunk to chunk and that nobody here reads."""
_NUMBER: Final = rb"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,20})?"
_COUNT: Final = rb"(0|[1-9]\d{0,9})"
_OPENING: Final = b"data: "
_CLOSING: Final = b"\n\n"


@dataclass(frozen=True, slots=True)
class Template:
    """
    A chunk that says nothing but its text, and how many tokens there are by now, if it does.

    Another chunk with the same bytes around another plain text, and another
    count in the same place, means the same with that text and that count.

    Args:
        before: `data: ` and the payload up to the text, its opening quote included.
        after: from the text's closing quote to the end of the event; None: it varies.
        tail: matches what comes after the text and finds the count; None: it does not vary.
        usage: the count is the usage's, hence the answer's as well.
    """

    before: bytes
    after: bytes | None
    tail: Callable[[bytes, int, int], re.Match[bytes] | None] | None
    usage: bool

    def read(self, data: bytes, start: int, end: int) -> tuple[int, int | None] | None:
        """
        Read one event, with its empty line.

        Returns:
            Characters of text, and the running count, None without one; or None:
            data[start:end] is no event with these surroundings.
        """
        if not data.startswith(self.before, start, end):
            return None
        start += len(self.before)
        if self.after is not None:
            if not data.endswith(self.after, start, end):
                return None
            end -= len(self.after)
            return (end - start, None) if is_plain(data, start, end) else None
        assert self.tail is not None  # noqa: S101 - one of the two is there
        quote = data.find(b'"', start, end)
        found = self.tail(data, quote, end) if quote > start else None
        if found is None or not is_plain(data, start, quote):
            return None
        count = int(found[1])
        return (quote - start, count) if count <= MAX_COUNT else None


def learn(payload: bytes, chunk: dict[str, Any]) -> Template | None:
    """
    The template of a chunk.

    Args:
        payload: the chunk's bytes.
        chunk: the same, parsed.

    Returns:
        None if it is not certain where the text and the count stand.
    """
    key = _text_key(chunk)
    if key is None:
        return None
    mark = b'"%s":"' % key.encode()
    before, _, rest = payload.partition(mark)
    text, quote, after = rest.partition(b'"')
    # The name occurs once and is no part of an escaped string: this is the place.
    if payload.count(b'"%s"' % key.encode()) != 1 or before.endswith(b"\\"):
        return None
    if not quote or not is_plain(text) or _text(chunk, key) != text.decode():
        return None
    start = _OPENING + before + mark
    counted = [name for name in _COUNTS if isinstance(chunk.get(name), dict)]
    if not counted:
        return Template(start, quote + after + _CLOSING, None, usage=False)
    name = _COUNTS[counted[0]]
    said = count_of(chunk[counted[0]].get(name))
    pattern = _pattern(after, name)
    certain = len(counted) == 1 and payload.count(b'"%s"' % name.encode()) == 1
    if said is None or pattern is None or not certain:
        return None
    tail = _compiled(quote + pattern + re.escape(_CLOSING))
    whole = quote + after + _CLOSING
    found = tail(whole, 0, len(whole))
    if found is None or int(found[1]) != said:
        return None
    return Template(start, None, tail, usage=counted[0] == "usage")


def _text_key(chunk: dict[str, Any]) -> str | None:
    """The name of the chunk's only text; None: there are several, or other output."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    delta = choice.get("delta", choice)
    if not isinstance(delta, dict) or isinstance(choice.get("finish_reason"), str):
        return None
    for key in TEXT_KEYS:
        text = delta.get(key)
        if isinstance(text, str) and text and chars_of(choice) == len(text):
            return key
    return None


def _text(chunk: dict[str, Any], key: str) -> object:
    choice = chunk["choices"][0]
    return choice.get("delta", choice)[key]


def _pattern(after: bytes, count_name: str) -> bytes | None:
    """*after* with its changing numbers left open; None: the count is not there, once."""
    names = (count_name, *_FREE)
    either = b"|".join(name.encode() for name in names)
    parts: list[bytes] = []
    end = counts = 0
    for found in re.finditer(rb'(?<!\\)"(%s)":(%s)(?=[,}])' % (either, _NUMBER), after):
        parts.append(re.escape(after[end : found.start(2)]))
        is_count = found[1].decode() == count_name
        counts += is_count
        parts.append(_COUNT if is_count else _NUMBER)
        end = found.end()
    parts.append(re.escape(after[end:]))
    return b"".join(parts) if counts == 1 else None


@lru_cache(maxsize=256)
def _compiled(pattern: bytes) -> Callable[[bytes, int, int], re.Match[bytes] | None]:
    # Streams of one engine differ before their text, not behind it.
    return re.compile(pattern).fullmatch
