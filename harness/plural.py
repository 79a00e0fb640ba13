"""Counts in words: one run, but two runs."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """
    A count with its noun.

    Args:
        count: how many.
        one: the noun for one.
        many: for any other count; None: *one* with an s.

    >>> counted(1, "run"), counted(0, "run"), counted(20, "series", "series")
    ('1 run', '0 runs', '20 series')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"
