"""Sees when the streams of a closed loop send together, turn after turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .latency import sent_in
from .record import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd

    from .timeline import Window

TOGETHER: Final = 0.1
"""Sent within so much of a residence (half before, half after) is sent together. Of streams that
know nothing of each other, so many of the others do."""
IN_STEP_RATIO: Final = 0.5
"""Nine runs of equal lengths on a real H100 gave 0.50 to 1.00, 13 of lengths from 0.8 up 0.06 to
0.20, at 8, 64 and 128 streams."""
_FEWEST_STREAMS: Final = 4
_TURNS: Final = 1.5
"""With fewer requests a slot their common beginning is most of what is seen."""


def together_ratio(sent_ns: npt.NDArray[np.int64], residence_s: float, streams: int) -> float:
    """
    How many of the other streams send when one does: 0.1 by chance, 1.0 in step.

    Args:
        sent_ns: shape (n,), ascending: when requests were sent, n of one or more.
        residence_s: from sending to the end of the answer, the mean.
        streams: of the closed loop, two or more.

    >>> turns_ns = np.repeat(np.arange(5) * 1_000_000_000, 8)
    >>> together_ratio(turns_ns, 1.0, 8)
    1.0
    """
    half_ns = TOGETHER / 2 * residence_s * 1e9
    first = np.searchsorted(sent_ns, sent_ns - half_ns, side="left")
    last = np.searchsorted(sent_ns, sent_ns + half_ns, side="right")
    return float((last - first - 1).mean()) / (streams - 1)


def in_step_findings(
    window: Window, requests: pd.DataFrame, load: Mapping[str, Any]
) -> list[Finding]:
    """
    Says so where the streams of a closed loop are in step; what was measured is true of them.

    An engine then reads all prompts in a few steps and decodes undisturbed in all others, as it
    does for no real users. On an H100 with vLLM 64 streams in step took 0.305 J a token, and
    0.371 when their lengths differed by up to a fifth.

    Args:
        window: of the measurement.
        requests: rows of RequestTrace of the measured phase.
        load: the run's `[load]`.
    """
    streams = load["concurrency"]
    if load["pattern"] != "concurrency" or streams is None or streams < _FEWEST_STREAMS:
        return []
    inside = sent_in(requests, window.start_ns, window.end_ns).dropna(subset=["t_end_ns"])
    # An engine that only reads prompts answers those that it has read in one step together.
    if len(inside) < _TURNS * streams or inside["osl_tokens"].le(1).any():
        return []
    residence_s = float((inside["t_end_ns"] - inside["t_sent_ns"]).mean()) / 1e9
    sent_ns = np.sort(inside["t_sent_ns"].to_numpy(np.int64))
    ratio = together_ratio(sent_ns, residence_s, streams)
    if ratio < IN_STEP_RATIO:
        return []
    return [
        Finding(
            code="streams_in_step",
            severity="info",
            message=f"the {streams} streams send in step: when one does, {ratio:.0%} of the others "
            f"do within {TOGETHER:.0%} of a request's time ({TOGETHER:.0%} by chance). Answers of "
            "equal length keep them so, and prompts are read in a few steps that disturb no "
            "other's decoding: joules per token and latencies hold for such a load only. Let "
            "lengths differ (workload.range_ratio = 0.8)",
        )
    ]
