"""Says what a reader of the daemon's numbers has to know, each as a stable word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .devices import Metered
from .engines import EnginePool
from .node import OVERFLOW, Node

MEANINGS: Final = {
    "power_modelled": "joules are computed from CPU time, not metered",
    "power_emulated": "joules are made up for a test",
    "owners_overflow": "more model instances than exporter.max_owners: the rest share a series a "
    "model, new models one",
    "engine_devices_unknown": "an engine's devices are not known, so its tokens have no joules: "
    "set `devices` or `pid`",
    "engine_not_readable": "an engine does not answer, or with no known token counters",
    "model_name_unknown": "an engine does not name its model: set `model_name`",
    "state_not_kept": "no exporter.state_file: counters start at 0 at each start",
    "downtime_unknown": "the wall clock was set back across a reboot: the time without the "
    "daemon is in no account",
}
"""Code → what it means; the table in docs/production.md."""


@dataclass(slots=True)
class Findings:
    """
    Findings that do not follow from the account.

    Args:
        state_kept: there is a state file.
        downtime_known: the time between the last save and the start is accounted for.
    """

    state_kept: bool
    downtime_known: bool = True

    def codes(self, node: Node, metered: Sequence[Metered], pool: EnginePool) -> tuple[str, ...]:
        """All that hold now, sorted."""
        engines = list(pool.engines.values())
        kinds = {one.device.power_kind for one in metered if one.attributed}
        holds = {
            **{f"power_{kind}": kind in kinds for kind in ("modelled", "emulated")},
            "owners_overflow": any(
                owner.instance_id == OVERFLOW.instance_id for owner, _ in node.books.tokens
            ),
            "engine_devices_unknown": any(
                not one.reading.devices for one in node.instances.values()
            ),
            "engine_not_readable": any(one.counts is None for one in engines),
            "model_name_unknown": any(
                one.owner is not None and one.owner.model_name == "unknown" for one in engines
            ),
            "state_not_kept": not self.state_kept,
            "downtime_unknown": not self.downtime_known,
        }
        return tuple(sorted(code for code, true in holds.items() if true))
