# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""What a board is made of, and the variables and selectors that boards share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

OF_MODEL: Final = '{cluster=~"$cluster",model_name=~"$model",power_kind=~"$power_kind"}'
OF_CLUSTER: Final = '{cluster=~"$cluster",power_kind=~"$power_kind"}'
OF_NODE: Final = '{cluster=~"$cluster",instance=~"$instance"}'
OF_NODE_BY_KIND: Final = '{cluster=~"$cluster",instance=~"$instance",power_kind=~"$power_kind"}'

CLUSTER: Final = "label_values(joulemark_snapshot_timestamp_seconds, cluster)"
KIND: Final = "label_values(joulemark_device_energy_joules_total, power_kind)"
MODEL: Final = "label_values(joulemark_model_energy_joules_total, model_name)"
INSTANCE: Final = (
    'label_values(joulemark_snapshot_timestamp_seconds{cluster=~"$cluster"}, instance)'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    One panel.

    Args:
        title: what is shown.
        note: what it means and what to beware of; the panel's description.
        unit: Grafana's id of it.
        queries: (PromQL, legend).
        kind: how it is drawn.
        width: of 24 columns.
        rare: it is empty on a healthy node, or one without that hardware.
    """

    title: str
    note: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat", "table", "statetimeline"] = "timeseries"
    width: int = 12
    rare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """
    One dashboard.

    Args:
        uid: stable, so that links and an import over it work.
        title: its name.
        about: one sentence.
        variables: name → the query that fills it.
        rows: titles with their panels.
        runs_marked: benchmark runs are shown as annotations.
    """

    uid: str
    title: str
    about: str
    variables: dict[str, str] = field(default_factory=dict)
    rows: tuple[tuple[str, tuple[Panel, ...]], ...] = ()
    runs_marked: bool = True
