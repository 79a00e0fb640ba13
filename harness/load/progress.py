"""How far a load is: counts that the load loop writes and a display reads as it goes."""

from __future__ import annotations


class LoadProgress:
    """
    How far the load is, for a display; written by the load loop, read by anyone.

    `output_tokens` runs ahead of what is certain: a chunk without a running
    count is taken for one token until the request's usage corrects it.
    """

    __slots__ = ("failed", "finished", "in_flight", "output_tokens", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.finished = 0
        self.failed = 0
        self.in_flight = 0
        self.output_tokens = 0
