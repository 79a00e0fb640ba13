"""The run record: what a run found, immutable, and the only thing later steps may read."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from .errors import StoreError

SCHEMA_VERSION: Final = 1
"""
Version of `run.json`.

History: 1 (0.1.0), the first. A reader refuses a version it does not know.
"""

Severity = Literal["info", "warning", "invalid"]
Status = Literal["complete", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    Something a reader of the numbers has to know.

    Args:
        code: a stable word in snake_case, for programs.
        severity: `info`; `warning`: read the number with care; `invalid`: do not use it.
        message: for people: what, how large, what to do.
    """

    code: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """
    One number with what is known about its error.

    Args:
        value: the number, finite.
        low: lower end of the interval; None where no honest interval can be given.
        high: upper end; None together with low.
        unit: e.g. `J/token`.
        n: how many observations stand behind it (requests, gaps, tokens, samples).
        interval: what low and high cover, in a few words; None without them.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str
    n: int
    interval: str | None = None

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                msg = f"a metric must be finite or absent, not {number}"
                raise ValueError(msg)
        if (self.low is None) != (self.high is None):
            msg = "a metric has both ends of its interval or neither"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """
    What a run found; the contract of `run.json`.

    Args:
        run_id: the folder's name.
        status: `incomplete` if the run was cut short; the numbers are then of what was recorded.
        power_kind: the least trusted kind among the channels used; None without power.
        config: the whole effective configuration.
        provenance: machine, versions, engine, sensors, client audit.
        tokens: output tokens counted three ways, see `docs/metrics.md`.
        windows: each with its name, edges, energy by boundary and validity.
        metrics: keys of the catalogue; absent means not available, and a finding says why.
        findings: in the order they arose.
    """

    run_id: str
    status: Status
    power_kind: str | None
    config: dict[str, Any]
    provenance: dict[str, Any]
    tokens: dict[str, Any]
    windows: list[dict[str, Any]]
    metrics: dict[str, MetricValue]
    findings: list[Finding] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def load_window(self) -> dict[str, Any] | None:
        """Of `windows`, the one that the run's numbers are of; None where none was found."""
        return next((one for one in self.windows if one["name"] != "loaded_idle"), None)

    def power_kinds_of(self, boundary: str) -> set[str]:
        """The kinds of power behind one boundary's joules, over all windows; empty without any."""
        return {
            energy["power_kind"]
            for window in self.windows
            for energy in window["energies"]
            if energy["boundary"] == boundary
        }

    def to_json(self) -> bytes:
        """The bytes of `run.json`: UTF-8, two-space indent, one trailing newline."""
        ordered = {"schema_version": self.schema_version} | dataclasses.asdict(self)
        return orjson.dumps(ordered, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> RunRecord:
        """
        Read a record back.

        Args:
            data: the bytes of a `run.json`.
            where: its path, for the error message.

        Raises:
            StoreError: not JSON, not a record, or of a version this program does not know.
        """
        try:
            raw = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise StoreError(
                f"{where} is not JSON ({error})",
                remedy="run `joulemark recompute` on its folder",
            ) from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{where} has schema_version {version!r}, this program reads {SCHEMA_VERSION}",
                remedy="use the joulemark that wrote it, or `joulemark recompute` its folder",
            )
        try:
            raw["metrics"] = {key: MetricValue(**value) for key, value in raw["metrics"].items()}
            raw["findings"] = [Finding(**finding) for finding in raw["findings"]]
            return cls(**raw)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{where} is not a run record ({error})",
                remedy="run `joulemark recompute` on its folder",
            ) from error
