"""What a run's latency could have been by chance: a statistic over its requests, resampled."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness import store
from harness.latency import request_latencies, sent_in
from harness.stats.bootstrap import request_spread

from .sets import StoredRun

Floats = npt.NDArray[np.float64]
_DRAWS: Final = 400


def latencies_of(run: StoredRun) -> Mapping[str, Floats]:
    """Latencies of a run's requests, those its metrics are of; empty where not at hand."""
    if run.folder is None or not run.record.windows:
        return {}
    window = run.record.windows[0]
    sealed = run.folder / "requests.parquet"
    requests = pd.read_parquet(sealed) if sealed.exists() else store.load(run.folder).requests
    measured = requests[requests["phase"] == "measure"]
    return request_latencies(sent_in(measured, window["start_ns"], window["end_ns"]))


def spread_of(
    runs: Sequence[Mapping[str, Floats]], key: str, rng: np.random.Generator
) -> list[Floats]:
    """
    Each run's metric over resampled requests, for `stats.effects`.

    Args:
        runs: for each run what `latencies_of` gave.
        key: of the metric, e.g. `ttft_s.p99`.
        rng: the source of chance.

    Returns:
        One array of draws a run; empty where a run's requests are not at hand.
    """
    stem, _, name = key.partition(".")
    found = []
    for latencies in runs:
        values = latencies.get(stem)
        if not name or values is None or len(values) < 2:  # noqa: PLR2004 - nothing to resample
            return []
        found.append(request_spread(values, _statistic(name), draws=_DRAWS, rng=rng))
    return found


def _statistic(name: str) -> Any:  # noqa: ANN401 - a partial of numpy's overloads
    if name == "mean":
        return functools.partial(np.mean, axis=-1)
    return functools.partial(np.quantile, q=int(name.removeprefix("p")) / 100, axis=-1)
