"""
Joules of a piece of Python code, in three lines.

    from harness.meter import metered
    with metered() as meter:
        work()
    print(meter.joules)
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import CoverageError
from .integrate import WindowEnergy, traces, window_energies
from .journal import read_journal
from .measure import LEAD_S, sensors
from .sampler import Sampler
from .timeline import POWER_DTYPE, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TAIL_S: Final = 0.2


@dataclass(slots=True)
class Meter:
    """
    What `metered` gives; filled when its block ends.

    Args:
        energies: one a boundary, with interval, method, cross-checks and findings.
    """

    energies: list[WindowEnergy] = field(default_factory=list)

    @property
    def joules(self) -> dict[str, float]:
        """Boundary → joules. Boundaries contain each other, so never add them."""
        return {energy.boundary: energy.energy_j for energy in self.energies}

    @property
    def power_kind(self) -> str | None:
        """Of the least trusted energy; None before the block has ended."""
        order = ("measured", "modelled", "emulated")
        kinds = [energy.power_kind for energy in self.energies]
        return max(kinds, key=order.index, default=None)


@contextlib.contextmanager
def metered(
    sources: Sequence[tuple[str, Mapping[str, Any]]] | None = None,
    *,
    devices: Sequence[str] = (),
    pids: Sequence[int] | None = None,
) -> Iterator[Meter]:
    """
    Meter the block of a `with` statement.

    Edges are announced to the sampler, so blocks from about half a second on are
    metered to a percent, from five seconds on to a few tenths of one. GPU work must
    have ended when the block does: synchronise before leaving it.

    Args:
        sources: kinds and options of power sources; None: the sensors found here.
        devices: GPUs to meter if *sources* is None; empty: all that are visible.
        pids: processes whose CPU time counts, for modelled power; None: this one.

    Yields:
        The meter; its `joules` are there once the block has ended. If the block
        raises, they are those up to then.

    Raises:
        PowerUnavailableError: nothing can be read here.
        CoverageError: the block was shorter than a tick of every counter.
    """
    chosen = list(sources) if sources is not None else sensors(devices)
    meter = Meter()
    with tempfile.TemporaryDirectory(prefix="joulemark-") as folder:
        journal = Path(folder) / "power.jmj"
        sampler = Sampler(journal, chosen)
        sampler.start()
        sampler.watch([os.getpid()] if pids is None else pids)
        time.sleep(LEAD_S)
        start_ns = sampler.mark()
        failed = True
        try:
            yield meter
            failed = False
        finally:
            end_ns = sampler.mark()
            time.sleep(_TAIL_S)
            sampler.stop()
            header, records, _ = read_journal(journal, POWER_DTYPE)
            window = Window(name="block", start_ns=start_ns, end_ns=end_ns, planned=True)
            # The block's own error matters more than that it was short.
            with contextlib.suppress(*((CoverageError,) if failed else ())):
                meter.energies = window_energies(traces(header, records), window)
