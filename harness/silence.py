"""Finds stretches in which several requests were in flight and none of them got a token."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LEAST_S: Final = 0.5
"""A shorter wait for the next token is not called a silence."""
_SEVERAL: Final = 2


def silences(
    token_ns: npt.NDArray[np.int64],
    sent_ns: npt.NDArray[np.int64],
    ended_ns: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """
    Stretches without a token in which two or more requests were in flight all of the time.

    A single request is silent while its prompt is read, so one in flight says nothing.
    Seen of vLLM on an H100: stretches of mostly 1.3 to 1.8 s at the watts of an idle
    engine, more than half of the window, in runs of which some showed neither trend nor step.

    Args:
        token_ns: when output came.
        sent_ns: when each request was sent.
        ended_ns: when each request ended.

    Returns:
        Shape (n, 2), int64: start and end of each stretch of 0.5 s or more, ascending.
    """
    times = np.concatenate([sent_ns, ended_ns])
    steps = np.concatenate([np.ones(len(sent_ns), int), -np.ones(len(ended_ns), int)])
    # At the same instant an end comes before the send that it made room for, and leaves no gap.
    order = np.argsort(times, kind="stable")
    times, several = times[order], np.cumsum(steps[order]) >= _SEVERAL
    turns = np.flatnonzero(np.diff(several, prepend=False, append=False))
    tokens = np.sort(token_ns)
    found = []
    for first, last in turns.reshape(-1, 2):
        start, end = times[first], times[min(last, len(times) - 1)]
        inside = tokens[np.searchsorted(tokens, start) : np.searchsorted(tokens, end)]
        edges = np.concatenate(([start], inside, [end]))
        long = np.flatnonzero(np.diff(edges) >= LEAST_S * 1e9)
        found.append(np.column_stack([edges[long], edges[long + 1]]))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)
