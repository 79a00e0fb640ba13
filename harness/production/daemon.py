"""The daemon's loop: read the meters, scrape the engines, book the pair, save, once a period."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import resource
import time
from pathlib import Path
from typing import Final

from harness.errors import ConfigError, StoreError
from harness.timeline import ReadStatus

from . import state_file
from .devices import Metered, choose, open_sources
from .discovery import Files, pods
from .engines import EnginePool
from .exposition_text import text
from .findings import Findings
from .gpu_facts import FactsFollower
from .meter import Reading
from .node import Node
from .page import Minute, page
from .reader import read_counters
from .rows import Live, rows
from .settings import DaemonConfig, EngineConfig
from .tenancy import Tenancy

_LOG: Final = logging.getLogger(__name__)
_STALE_W_NS: Final = 5_000_000_000
_READY_PERIODS: Final = 10
_PAGE: Final = resource.getpagesize()


class Daemon:
    """
    Everything of one node; `run` until told to stop.

    Args:
        config: checked settings.

    Raises:
        PowerUnavailableError: no power source opens.
        StoreError: the state file cannot be used.
        ConfigError: settings that contradict what is here.
    """

    def __init__(self, config: DaemonConfig) -> None:
        self._config = config
        settings = config.exporter
        self._readers = open_sources(config.power, power_hz=settings.power_hz)
        self._metered = choose(self._readers, config.power.boundaries)
        gap_ns = round(max(config.power.max_gap_s, 2 * settings.snapshot_s) * 1e9)
        self.node = Node(
            tariff=config.cost,
            max_gap_ns=gap_ns,
            silent_after_ns=round(config.attribution.silent_after_s * 1e9),
            max_owners=settings.max_owners,
        )
        self.host = Node(max_gap_ns=gap_ns)
        self.findings = Findings(state_kept=settings.state_file is not None)
        self._restore(settings.state_file)
        for one in self._metered:
            (self.node if one.attributed else self.host).add_device(one.device)
        self._pool = EnginePool(config.targets)
        for engine in config.engines:
            self._pool.check(engine)
        self._pool.follow(config.engines)
        self._files = Files(config.discovery.files)
        self._pods: list[EngineConfig] = []
        gpus = [one.device.uuid for one in self._metered if one.device.boundary.startswith("gpu")]
        self._tenancy = Tenancy(
            config.attribution, self._pool, gpus, max_bytes=config.targets.max_bytes
        )
        self._facts = FactsFollower()
        names = ("snapshots", "snapshots_missed", "state_saves_failed")
        self._own: dict[str, float] = {f"joulemark_{name}_total": 0.0 for name in names}
        self._own["process_start_time_seconds"] = time.time()
        self._minute = Minute()
        self._watched: tuple[int, ...] = ()
        self._rendered: dict[bool, tuple[float, bytes]] = {}
        self._t_done_s = 0.0
        self._stop = asyncio.Event()

    def _restore(self, path: Path | None) -> None:
        if path is None:
            return
        found, down_s = state_file.load(self.node, path, host=self.host)
        self.findings.downtime_known = not found or down_s is not None
        if down_s is not None:
            _LOG.warning("%s is %.1f s old: that time has no joules", path, down_s)
        for one in self._metered:
            kept = self.node.accounts.get(one.device.uuid)
            if kept is not None and kept.device.power_kind != one.device.power_kind:
                raise ConfigError(
                    f"{path} has {one.device.uuid} as {kept.device.power_kind}, here it is"
                    f" {one.device.power_kind}",
                    remedy="use another state file: joules of two kinds are never added",
                )

    def stop(self) -> None:
        """End `run` after the snapshot in progress."""
        self._stop.set()

    def ready(self) -> bool:
        """A snapshot was taken, and not too long ago."""
        limit_s = _READY_PERIODS * self._config.exporter.snapshot_s
        return self._t_done_s > 0 and time.monotonic() - self._t_done_s < limit_s

    async def run(self) -> None:
        """Take snapshots on time until `stop`; late ones are left out and counted."""
        for reader in self._readers:
            reader.start()
        discovery = asyncio.create_task(self._discover())
        period_s = self._config.exporter.snapshot_s
        due_s = time.monotonic()
        saved_s = synced_s = 0.0
        try:
            while not self._stop.is_set():
                await self._snapshot()
                now_s = time.monotonic()
                if now_s - saved_s >= self._config.exporter.state_s - period_s / 2:
                    sync = now_s - synced_s >= self._config.exporter.sync_s
                    saved_s, synced_s = now_s, now_s if sync else synced_s
                    await self._save(sync=sync)
                due_s += period_s
                late = int(max(time.monotonic() - due_s, 0) / period_s)
                self._own["joulemark_snapshots_missed_total"] += late
                due_s += late * period_s
                wait_s = max(due_s - time.monotonic(), 0.0)
                try:
                    await asyncio.wait_for(self._stop.wait(), wait_s)
                except TimeoutError:
                    continue
        finally:
            discovery.cancel()
            await self._save(sync=True)
            self._tenancy.close()
            self._pool.close()
            for reader in self._readers:
                reader.stop()

    async def _snapshot(self) -> None:
        began_s = time.monotonic()
        await read_counters(self._readers, within_s=self._config.exporter.snapshot_s / 2)
        await self._tenancy.refresh()
        self._watch()
        await self._pool.scrape()
        t_ns = time.perf_counter_ns()
        devices = [one.device.uuid for one in self._metered if one.attributed]
        engines = self._pool.readings(
            devices, found=self._tenancy.devices, usage=self._tenancy.usage
        )
        readings = self._readings(attributed=True, t_ns=t_ns)
        self.node.advance(t_ns, readings, engines, foreign=self._tenancy.foreign)
        self.host.advance(t_ns, self._readings(attributed=False, t_ns=t_ns), [])
        for reader in self._readers:
            self._facts.advance(reader.facts)
        self._describe()
        self._minute.advance(self.node, t_ns / 1e9)
        stamps = [one.t_ns for one in self._pool.engines.values() if one.counts is not None]
        meters = [one.t_ns for one in readings.values() if one.energy_j is not None]
        skew_ns = max((abs(a - b) for a in stamps for b in meters), default=0)
        self._t_done_s = time.monotonic()
        self._own |= {
            "joulemark_snapshots_total": self._own["joulemark_snapshots_total"] + 1,
            "joulemark_snapshot_timestamp_seconds": time.time(),
            "joulemark_snapshot_skew_seconds": skew_ns / 1e9,
            "joulemark_snapshot_duration_seconds": self._t_done_s - began_s,
        }

    def _readings(self, *, attributed: bool, t_ns: int) -> dict[str, Reading]:
        found = {}
        for one in self._metered:
            if one.attributed == attributed:
                reading = one.reader.readings.get(one.channel)
                # A driver that hangs gives nothing: after the longest gap that is a fault.
                if reading is None or t_ns - reading.t_ns > self.node.max_gap_ns:
                    reading = Reading(t_ns=t_ns, energy_j=None, status=ReadStatus.STALE)
                found[one.device.uuid] = reading
        live = {one.device.uuid for one in self._metered}
        accounts = (self.node if attributed else self.host).accounts
        for uuid in accounts.keys() - live:
            # Known from the state file and not here any more: its time goes on uncovered.
            found[uuid] = Reading(t_ns=t_ns, energy_j=None, status=ReadStatus.LOST)
        return found

    def _watch(self) -> None:
        pids = tuple(sorted(self._pool.roots()))
        if pids != self._watched:
            self._watched = pids
            for reader in self._readers:
                reader.watch(pids)

    def _describe(self) -> None:
        for one in self._metered:
            about = self._facts.about.get(one.device.uuid)
            account = self.node.accounts.get(one.device.uuid)
            if about and account is not None and account.device.facts != about:
                account.device = dataclasses.replace(account.device, facts=about)

    async def _discover(self) -> None:
        config = self._config.discovery
        if not config.files and config.kubernetes is None:
            return
        while True:
            if config.kubernetes is not None:
                try:
                    self._pods = await pods(config.kubernetes, allow=self._pool.networks)
                except Exception as error:  # noqa: BLE001 - the API's faults must not end the loop
                    _LOG.warning("pods are not known afresh: %s", error)
            self._pool.follow([*self._config.engines, *self._files.engines(), *self._pods])
            await asyncio.sleep(config.refresh_s)

    async def _save(self, *, sync: bool) -> None:
        path = self._config.exporter.state_file
        if path is None:
            return
        try:
            save = functools.partial(state_file.save, self.node, path, host=self.host, sync=sync)
            t_ns = time.perf_counter_ns()
            # Only what waits for the disk leaves the loop: a thread costs more than the write.
            await asyncio.to_thread(save, t_ns=t_ns) if sync else save(t_ns=t_ns)
        except StoreError as error:
            self._own["joulemark_state_saves_failed_total"] += 1
            _LOG.warning("%s", error)

    def live(self) -> Live:
        """The gauges as of now."""
        t_ns = time.perf_counter_ns()
        watts = {
            key: value
            for reader in self._readers
            for key, (then_ns, value) in reader.watts.items()
            if t_ns - then_ns < _STALE_W_NS
        }
        period_s = self._config.exporter.snapshot_s
        scraped = [one for one in self._pool.engines.values() if one.owner is not None]
        return Live(
            watts=watts,
            facts=self._facts.gauges,
            throttles=self._facts.throttles,
            provisioned_w=self._config.power.provisioned_w,
            scrape_s={one.owner: one.duration_s for one in scraped if one.owner},
            clocks={
                one.owner: one.counts.token_clock for one in scraped if one.owner and one.counts
            },
            sources={one.name: one.alive(10 * period_s) for one in self._readers},
            own={**self._own, **_process_figures()},
            findings=self.findings.codes(self.node, self._metered, self._pool),
        )

    def exposition(self, openmetrics: bool) -> bytes:
        """The bytes of one scrape; the same within one snapshot."""
        kept = self._rendered.get(openmetrics)
        if kept is not None and kept[0] == self._t_done_s:
            return kept[1]
        body = text(rows(self.node, self.host, self.live()), openmetrics=openmetrics)
        self._rendered[openmetrics] = (self._t_done_s, body)
        return body

    def page(self) -> bytes:
        """The built-in page."""
        return page(self.node, self.live(), self._minute)

    def metered(self) -> tuple[Metered, ...]:
        """The devices and how each is metered."""
        return tuple(self._metered)


def _process_figures() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
        "process_resident_memory_bytes": float(pages * _PAGE),
    }
