"""Tells an engine's steps that read prompts from those that do not, by the client's stamps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.store import RawRun
from harness.timeline import EventKind

APART_NS = 3_000_000
"""Tokens that reached the client closer together are of one step. A step of a model worth
measuring takes longer, and the tokens of one are sent within a millisecond or two."""


def of_window(raw: RawRun, start_ns: int, end_ns: int) -> dict[str, Any] | None:
    """
    Steps whose tokens came in [start, end).

    A step in which some request's first token came has read a prompt.

    Returns:
        `plain_ms` and `prompt_ms`: how long after the step before it each came, of steps without
        and with a prompt; None: fewer than two steps.
    """
    pieces = raw.events[raw.events["kind"] == EventKind.CHUNK]
    pieces = pieces[np.argsort(pieces["t_ns"], kind="stable")]
    _, firsts = np.unique(pieces["request"], return_index=True)
    first = np.zeros(len(pieces), bool)
    first[firsts] = True
    inside = (pieces["t_ns"] >= start_ns) & (pieces["t_ns"] < end_ns)
    t_ns, first = pieces["t_ns"][inside], first[inside]
    begins = np.flatnonzero(np.diff(t_ns, prepend=start_ns - APART_NS) >= APART_NS)
    if len(begins) <= 1:
        return None
    reads = np.logical_or.reduceat(first, begins)[1:]
    took_ms = np.diff(t_ns[begins]) / 1e6
    return {"plain_ms": took_ms[~reads].tolist(), "prompt_ms": took_ms[reads].tolist()}


def pooled(found: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """
    Steps of several runs of one load together.

    Returns:
        `plain_ms` and `prompt_ms` (medians; None: there were none), `prompt_ratio` (steps with a
        prompt, of all) and `prompt_time_ratio` (the time they took, of all); None: no steps.
    """
    plain = [took for one in found for took in one["plain_ms"]]
    prompt = [took for one in found for took in one["prompt_ms"]]
    if not plain and not prompt:
        return None
    return {
        "steps": len(plain) + len(prompt),
        "plain_ms": statistics.median(plain) if plain else None,
        "prompt_ms": statistics.median(prompt) if prompt else None,
        "prompt_ratio": len(prompt) / (len(plain) + len(prompt)),
        "prompt_time_ratio": sum(prompt) / (sum(plain) + sum(prompt)),
    }
