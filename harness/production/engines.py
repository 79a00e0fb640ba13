"""Scrapes all engines of the node at once and says which devices each of them runs on."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness.errors import JoulemarkError

from . import dialects
from .attribution import Owner
from .readings import EngineReading, Usage
from .scrape import Target
from .settings import EngineConfig, TargetsConfig

if TYPE_CHECKING:
    from harness.contracts import TokenCounters

_LOG: Final = logging.getLogger(__name__)
_UNNAMED: Final = "unknown"
_ERROR_LOG_S: Final = 60.0


@dataclass(slots=True)
class Scraped:
    """An engine that is followed, and what its last scrape said."""

    config: EngineConfig
    target: Target
    owner: Owner | None = None
    speaks: Mapping[str, TokenCounters] = field(default_factory=dict)
    counts: dialects.EngineCounts | None = None
    t_ns: int = 0
    duration_s: float = 0.0
    t_logged_s: float = 0.0


class EnginePool:
    """
    All engines that are scraped.

    Args:
        targets: what may be scraped, and the limits.
    """

    def __init__(self, targets: TargetsConfig) -> None:
        self._targets = targets
        self.networks = [ipaddress.ip_network(text) for text in targets.allow]
        self._dialects = dialects.dialects()
        self.engines: dict[str, Scraped] = {}

    def follow(self, configs: Sequence[EngineConfig]) -> None:
        """Scrape these from now on, and no others; one that is unusable is left out and logged."""
        wanted = {config.url: config for config in configs}
        for url in [url for url in self.engines if self.engines[url].config != wanted.get(url)]:
            self.engines.pop(url).target.close()
        for url, config in wanted.items():
            if url not in self.engines:
                try:
                    self.engines[url] = self._open(config)
                except JoulemarkError as error:
                    _LOG.warning("engine %s is not scraped: %s", url, error)

    def check(self, config: EngineConfig) -> None:
        """
        Refuse an engine that could never be scraped.

        Raises:
            ConfigError: its URL or its kind is none.
        """
        self._open(config)

    def _open(self, config: EngineConfig) -> Scraped:
        allow, size = self.networks, self._targets.max_bytes
        target = Target(config.url, allow=allow, max_bytes=size)
        known = self._dialects
        if config.kind != "auto":
            counters = dialects.dialect(config.kind)
            known = {config.kind: counters} if counters is not None else {}
        return Scraped(config, target, speaks=known)

    async def scrape(self) -> None:
        """Ask every engine once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for engine in self.engines.values():
                group.create_task(self._one(engine))

    async def _one(self, engine: Scraped) -> None:
        before_ns = time.perf_counter_ns()
        try:
            body = await engine.target.fetch(timeout_s=self._targets.timeout_s)
            engine.t_ns = time.perf_counter_ns()
            engine.counts = dialects.read(body, engine.speaks)
            # Found once: from then on one dialect is tried instead of all.
            engine.speaks = {engine.counts.engine: engine.speaks[engine.counts.engine]}
            engine.owner = _owner(engine)
        except JoulemarkError as error:
            engine.counts = None
            engine.t_ns = time.perf_counter_ns()
            if time.monotonic() - engine.t_logged_s > _ERROR_LOG_S:
                engine.t_logged_s = time.monotonic()
                _LOG.warning("%s", error)
        engine.duration_s = (time.perf_counter_ns() - before_ns) / 1e9

    def readings(
        self,
        devices: Sequence[str],
        *,
        found: Mapping[str, tuple[str, ...]],
        usage: Mapping[str, Mapping[str, Usage]],
    ) -> list[EngineReading]:
        """
        What the last scrape of each engine says; one that never answered is left out.

        Args:
            devices: all there are.
            found: URL → devices its processes were seen on.
            usage: URL → device → how much of it.
        """
        readings = []
        for url, engine in self.engines.items():
            if engine.owner is None:
                continue
            counts, config = engine.counts, engine.config
            # With one device and nothing said, there is nothing else it could run on.
            only = tuple(devices) if len(devices) == 1 else ()
            readings.append(
                EngineReading(
                    owner=engine.owner,
                    devices=config.devices or found.get(url, ()) or only,
                    tokens=None if counts is None else counts.tokens,
                    running=None if counts is None else counts.running,
                    wasted={} if counts is None else counts.wasted,
                    phase_s={} if counts is None else counts.phase_s,
                    role=config.role,
                    usage=usage.get(url, {}),
                )
            )
        return readings

    def roots(self) -> dict[int, str]:
        """Main process of each engine that has one → its URL."""
        found = {}
        for url, engine in self.engines.items():
            pid = engine.config.pid
            if engine.config.pid_file is not None:
                try:
                    pid = int(engine.config.pid_file.read_text(encoding="ascii"))
                except (OSError, ValueError):
                    continue
            if pid is not None:
                found[pid] = url
        return found

    def close(self) -> None:
        """Let go of all connections."""
        for engine in self.engines.values():
            engine.target.close()


def _owner(engine: Scraped) -> Owner | None:
    """Who it is: as configured, else as its labels say, else as it was."""
    counts, config = engine.counts, engine.config
    if counts is None:
        return engine.owner
    said = counts.model_name
    if said is None and engine.owner is not None:
        said = engine.owner.model_name
    return Owner(
        model_name=config.model_name or said or _UNNAMED,
        engine=counts.engine,
        instance_id=config.instance_id or engine.target.place,
    )
