"""Ends a long verb in order at Ctrl-C or SIGTERM; a second Ctrl-C ends it at once."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ending(stop: threading.Event, what: str) -> Iterator[None]:
    """
    Set *stop* at the first such signal.

    Args:
        stop: looked at by whatever runs.
        what: is being ended, for the message.
    """

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        click.echo(f"\njoulemark: {signal.Signals(number).name}: ending {what}", err=True)

    previous = {number: signal.signal(number, on_signal) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
