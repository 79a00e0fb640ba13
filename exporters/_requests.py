"""A run's requests as other load generators report them: all that succeeded, from send to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from harness.errors import StoreError
from harness.record import RunRecord
from harness.timeline import EventKind

Floats = npt.NDArray[np.float64]
_NS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """
    The measured phase from the first request sent to the last one's end.

    Args:
        duration_s: of that.
        t_start_ns: CLOCK_MONOTONIC of the first request sent.
        t_end_ns: of the last one's end.
        completed: requests that succeeded; all that follows is of these.
        failed: the others.
        input_tokens: as the server counted them.
        output_tokens: as the server counted them.
        isl_tokens: shape (completed,).
        osl_tokens: shape (completed,).
        seconds: `ttft`, `tpot`, `e2el`: one a request; `itl`: every gap between chunks.
    """

    duration_s: float
    t_start_ns: int
    t_end_ns: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    isl_tokens: Floats
    osl_tokens: Floats
    seconds: dict[str, Floats]


def totals(folder: Path) -> Totals:
    """
    Read a finished run's tables.

    Raises:
        StoreError: they are not there, or no request of the run succeeded.
    """
    try:
        requests = pq.read_table(folder / "requests.parquet").to_pandas()
        events = pq.read_table(folder / "tokens.parquet").to_pandas()
    except OSError as error:
        raise StoreError(
            f"{folder} has no finished tables ({error})",
            remedy=f"run `joulemark recompute {folder}` first",
        ) from error
    measured = requests[requests["phase"] == "measure"]
    good = measured[measured["error_kind"].isna()].dropna(
        subset=["t_sent_ns", "t_first_ns", "t_last_ns", "osl_tokens", "isl_tokens"]
    )
    if not len(good):
        raise StoreError(
            f"no request of {folder.name} succeeded", remedy="export a run that has results"
        )
    columns = {
        name: good[name].to_numpy(np.int64)
        for name in ("t_sent_ns", "t_first_ns", "t_last_ns", "t_end_ns", "isl_tokens", "osl_tokens")
    }
    start, end = int(columns["t_sent_ns"].min()), int(columns["t_end_ns"].max())
    several = columns["osl_tokens"] > 1
    decode = (columns["t_last_ns"] - columns["t_first_ns"])[several] / _NS
    return Totals(
        duration_s=(end - start) / _NS,
        t_start_ns=start,
        t_end_ns=end,
        completed=len(good),
        failed=len(measured) - len(good),
        input_tokens=int(columns["isl_tokens"].sum()),
        output_tokens=int(columns["osl_tokens"].sum()),
        isl_tokens=columns["isl_tokens"].astype(np.float64),
        osl_tokens=columns["osl_tokens"].astype(np.float64),
        seconds={
            "ttft": (columns["t_first_ns"] - columns["t_sent_ns"]) / _NS,
            "tpot": decode / (columns["osl_tokens"][several] - 1),
            "itl": _gaps_s(events, good["request"].to_numpy(np.int64)),
            "e2el": (columns["t_last_ns"] - columns["t_sent_ns"]) / _NS,
        },
    )


def _gaps_s(events: pd.DataFrame, requests: npt.NDArray[np.int64]) -> Floats:
    chunks = events[(events["kind"] == EventKind.CHUNK) & events["request"].isin(requests)]
    ordered = chunks.sort_values(["request", "t_ns"], kind="stable")
    same = ordered["request"].to_numpy()[1:] == ordered["request"].to_numpy()[:-1]
    gaps: Floats = np.diff(ordered["t_ns"].to_numpy(np.int64))[same] / _NS
    return gaps


def run_energy(record: RunRecord) -> dict[str, Any] | None:
    """
    Energy of all GPUs over the whole run, if it was measured.

    Returns:
        The entry of the record's window `run` at the boundary of the GPU (or its
        module); None: another window, other power than measured, or not valid.
    """
    found = _measured(record, "energies")
    return found[0] if found else None


def role_energies(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The same by role, where prefill and decode have GPUs of their own; else empty."""
    return {energy["role"]: energy for energy in _measured(record, "roles")}


def _measured(record: RunRecord, key: str) -> list[dict[str, Any]]:
    for window in record.windows:
        if window["name"] != "run" or not window["energy_valid"]:
            continue
        for boundary in ("gpu", "gpu_module"):
            found = [
                energy
                for energy in window.get(key, ())
                if energy["boundary"] == boundary and energy["power_kind"] == "measured"
            ]
            if found:
                return found
    return []


def devices(record: RunRecord) -> int | None:
    """GPUs of the engine, or those metered; None: not known."""
    gpus = record.provenance.get("engine", {}).get("gpus")
    if gpus:
        return len(gpus)
    energy = run_energy(record)
    return None if energy is None else len(energy["devices"])
