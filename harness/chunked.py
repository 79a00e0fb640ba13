"""Tells a read that is one whole chunk of HTTP's chunked coding, and nothing else."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 2048
"""A longer read is left to the parser."""


def _heads() -> tuple[tuple[bytes, bytes, int] | None, ...]:
    found: list[tuple[bytes, bytes, int] | None] = [None] * LONGEST
    for inside in range(1, LONGEST):
        small, large = b"%x\r\n" % inside, b"%X\r\n" % inside
        size = len(small) + inside + len(b"\r\n")
        if size < LONGEST:
            found[size] = (small, large, len(small))
    return tuple(found)


_HEADS: Final = _heads()
"""For each size of a whole chunk its first line, in small and in large letters, and its length."""


def inside(data: bytes) -> int:
    """
    Where the content of the chunk begins; it ends two bytes before the end of *data*.

    Returns:
        0: *data* is not exactly one chunk with a plain first line and some content.

    Examples:
        >>> inside(b"5\\r\\nhello\\r\\n"), inside(b"5\\r\\nhello\\r\\n5"), inside(b"0\\r\\n\\r\\n")
        (3, 0, 0)
    """
    size = len(data)
    head = _HEADS[size] if size < LONGEST else None
    if head is None or not data.startswith(head[:2]) or not data.endswith(b"\r\n"):
        return 0
    return head[2]
