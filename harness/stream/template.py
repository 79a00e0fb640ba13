"""What two chunks of one stream have in common, so that the second need not be parsed as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .chunk import TEXT_KEYS, chars_of, count_of

if TYPE_CHECKING:
    from collections.abc import Callable

not_plain: Final = re.compile(rb"[^ !#-\[\]-~]").search
"""Finds a byte that does not stand for itself between the quotes of a JSON string."""
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
_CRLF: Final = b"\r\n"


@dataclass(frozen=True, slots=True)
class Ending:
    """
    What comes after the text, from its closing quote on; shared by all streams that end alike.

    Args:
        constant: the bytes; None: they vary.
        length: of them.
        counted: matches what varies, and finds the running count; None: it does not vary.
    """

    constant: bytes | None
    length: int
    counted: Callable[[bytes, int], re.Match[bytes] | None] | None


@dataclass(frozen=True, slots=True)
class Template:
    """
    A chunk that says nothing but its text, and how many tokens there are by now, if it does.

    Another chunk with the same bytes around another plain text, and another
    count in the same place, means the same with that text and that count.

    Args:
        before: `data: ` and the payload up to the text, its opening quote included.
        text_at: the length of that.
        bare: the rest of the event.
        chunked: the same with the CRLF that ends an HTTP chunk.
        usage: the count is the usage's, hence the answer's as well.
    """

    before: bytes
    text_at: int
    bare: Ending
    chunked: Ending
    usage: bool


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
    name = b'"%s"' % key.encode()
    colon = b':"' if name + b':"' in payload else b': "'
    before, mark, rest = payload.partition(name + colon)
    text, quote, after = rest.partition(b'"')
    # The name occurs once and is no part of an escaped string: this is the place.
    once = payload.count(name) == 1 and not before.endswith(b"\\")
    if not once or not quote or not_plain(text) or _text(chunk, key) != text.decode():
        return None
    start = _OPENING + before + mark
    ending = quote + after + _CLOSING
    places = [place for place in _COUNTS if isinstance(chunk.get(place), dict)]
    if not places:
        return Template(start, len(start), *_constant(ending), usage=False)
    count = _COUNTS[places[0]]
    if len(places) > 1 or payload.count(b'"%s"' % count.encode()) != 1:
        return None
    bare, chunked = _counted(_pattern(ending, count))
    found = bare.counted(ending, 0) if bare.counted else None
    if found is None or not found[1] or int(found[1]) != count_of(chunk[places[0]].get(count)):
        return None
    return Template(start, len(start), bare, chunked, usage=places[0] == "usage")


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


def _pattern(ending: bytes, count_name: str) -> bytes:
    """*ending* with its changing numbers left open; the count's is the first group."""
    either = b"|".join(name.encode() for name in (count_name, *_FREE))
    parts: list[bytes] = []
    end = 0
    for found in re.finditer(rb'(?<!\\)"(%s)": ?(%s)(?=[,}])' % (either, _NUMBER), ending):
        parts.append(re.escape(ending[end : found.start(2)]))
        parts.append(_COUNT if found[1].decode() == count_name else _NUMBER)
        end = found.end()
    return b"".join([*parts, re.escape(ending[end:]), b"()"])


# Streams of one engine differ before their text, not behind it: they share their endings.


@lru_cache(maxsize=256)
def _constant(ending: bytes) -> tuple[Ending, Ending]:
    chunked = ending + _CRLF
    return Ending(ending, len(ending), None), Ending(chunked, len(chunked), None)


@lru_cache(maxsize=256)
def _counted(pattern: bytes) -> tuple[Ending, Ending]:
    bare, chunked = re.compile(pattern), re.compile(pattern + _CRLF)
    return Ending(None, 0, bare.fullmatch), Ending(None, 0, chunked.fullmatch)
