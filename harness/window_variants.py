"""Other people's windows, so that a stored run can be compared with results on their own terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .record import Finding
from .timeline import EventKind, Window
from .window import Found

if TYPE_CHECKING:
    import pandas as pd


def ml_energy_window(
    events: npt.NDArray[Any], requests: pd.DataFrame, *, max_num_seqs: int | None
) -> Found:
    """
    The steady state of the ML.ENERGY benchmark, from one run's events.

    It begins when *max_num_seqs* requests have sent their first token, and ends
    when all but *max_num_seqs* + 1 have finished. Unlike ours it does not wait
    until each slot has turned over, so the first requests' prefill is in it, and
    it tests neither length nor trend.

    Source: ml-energy/benchmark mlenergy/llm/benchmark.py, class RequestTracker.

    Args:
        events: EVENT_DTYPE of the measured phase.
        requests: rows of RequestTrace of the same phase; failed ones finish, too.
        max_num_seqs: the server's batch limit there; here the concurrency. None:
            not known, and then there is no such window.
    """
    if max_num_seqs is None:
        return _none("the load has no concurrency, which stands for max_num_seqs there")
    chunks = events[events["kind"] == EventKind.CHUNK]
    _, first = np.unique(chunks["request"], return_index=True)
    # Events are in order of time within a request, so its first is its earliest.
    firsts = np.sort(chunks["t_ns"][first])
    ended = np.sort(requests["t_end_ns"].dropna().to_numpy(np.int64))
    finishing = len(requests) - max_num_seqs - 1
    if len(firsts) < max_num_seqs or finishing < 1 or len(ended) < finishing:
        return _none(
            f"it needs {max_num_seqs} requests with a first token and {max_num_seqs + 2} in all, "
            f"and there are {len(firsts)} and {len(requests)}"
        )
    start, end = int(firsts[max_num_seqs - 1]), int(ended[finishing - 1])
    if end <= start:
        return _none("its end would come before its beginning: send more requests a slot")
    return Found(window=Window(name="ml_energy", start_ns=start, end_ns=end), findings=())


def _none(why: str) -> Found:
    message = f"there is no window as ML.ENERGY draws it: {why}"
    return Found(
        window=None,
        findings=(Finding(code="no_ml_energy_window", severity="warning", message=message),),
    )
