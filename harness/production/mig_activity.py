"""Reads MIG instances' activity from a dcgm-exporter that has profiling fields."""

from __future__ import annotations

import re
from typing import Final

_LINE: Final = re.compile(
    r"^DCGM_FI_PROF_GR_ENGINE_ACTIVE\{(?P<labels>[^\n]*)\} (?P<value>\S+)", re.MULTILINE
)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SLICES: Final = 7
"""Compute slices of a whole GPU."""


def activity(exposition: str) -> dict[tuple[str, int], float]:
    """
    How busy each MIG instance is, 0 to 1 of its own slice.

    Args:
        exposition: a dcgm-exporter's.

    Returns:
        (UUID of the GPU, GPU instance) → activity; instances that report none are missing.
    """
    found: dict[tuple[str, int], float] = {}
    for match in _LINE.finditer(exposition):
        labels = dict(_LABEL.findall(match["labels"]))
        instance = labels.get("GPU_I_ID", "")
        if instance.isdecimal() and "UUID" in labels:
            found[labels["UUID"], int(instance)] = float(match["value"])
    return found


def weight(active_ratio: float, slices: int) -> float:
    """An instance's part of the whole GPU's work: its activity times its share of slices."""
    return active_ratio * slices / _SLICES
