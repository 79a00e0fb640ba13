"""Tells a read that is one whole chunk of HTTP's chunked coding from any other."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 2048
"""A longer read is left to the parser."""


def _first_lines() -> tuple[tuple[tuple[bytes, ...], int], ...]:
    found: list[tuple[tuple[bytes, ...], int]] = [((), 0)] * LONGEST
    for inside in range(1, LONGEST):
        small, large = b"%x\r\n" % inside, b"%X\r\n" % inside
        size = len(small) + inside + len(b"\r\n")
        if size < LONGEST:
            found[size] = ((small, large), len(small))
    return tuple(found)


FIRST_LINES: Final = _first_lines()
"""
What a whole chunk of this many bytes begins with, in small and in large letters; and its length.

A read of that size with that beginning and CRLF at its end is one whole chunk.
"""
