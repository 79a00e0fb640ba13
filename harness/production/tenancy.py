"""Finds out on which devices each engine's processes run, and how much of each they use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from harness.errors import ConfigError, JoulemarkError

from . import gpu_processes, mig_activity
from .engines import EnginePool
from .readings import Usage
from .scrape import Target
from .settings import AttributionConfig, EngineConfig

_LOG: Final = logging.getLogger(__name__)


class Tenancy:
    """
    The newest look at who is where; asked for every few seconds at most.

    Args:
        config: what may be asked.
        pool: the engines.
        gpus: UUIDs that NVML may know.
        max_bytes: of a dcgm-exporter's answer.
    """

    def __init__(
        self, config: AttributionConfig, pool: EnginePool, gpus: Sequence[str], *, max_bytes: int
    ) -> None:
        self._config = config
        self._pool = pool
        self._gpus = gpus
        self._nvml = gpu_processes.NvmlProcesses()
        self._has_nvml = bool(gpus) and config.processes and self._nvml.open()
        self._dcgm: Target | None = None
        if config.dcgm_url is not None:
            self._dcgm = Target(config.dcgm_url, allow=pool.networks, max_bytes=max_bytes)
        self._due_s = 0.0
        self.devices: Mapping[str, tuple[str, ...]] = {}
        """URL of an engine → devices its processes compute on."""
        self.usage: Mapping[str, Mapping[str, Usage]] = {}
        """URL of an engine → device → how much."""
        self.foreign: Mapping[str, float] = {}
        """Device → SM share of processes that are no engine's."""

    async def refresh(self) -> None:
        """Look again if it is time."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + self._config.processes_s
        roots = self._pool.roots() if self._has_nvml else {}
        if roots:
            # A driver that hangs must not stop the loop.
            await asyncio.to_thread(self._look, roots)
        else:
            # Without any known process there is nobody to tell the others from.
            self.devices, self.usage, self.foreign = {}, {}, {}
        if self._dcgm is not None:
            await self._ask_dcgm(self._dcgm)

    def _look(self, roots: Mapping[int, str]) -> None:
        devices: dict[str, tuple[str, ...]] = {}
        usage: dict[str, dict[str, Usage]] = {}
        foreign: dict[str, float] = {}
        for uuid in self._gpus:
            found, alien = gpu_processes.gather(self._nvml.read(uuid), roots)
            if alien > 0:
                foreign[uuid] = alien
            for url, used in found.items():
                devices[url] = (*devices.get(url, ()), uuid)
                usage.setdefault(url, {})[uuid] = used
        self.devices, self.usage, self.foreign = devices, usage, foreign

    async def _ask_dcgm(self, target: Target) -> None:
        try:
            text = (await target.fetch(timeout_s=self._config.processes_s)).decode()
            active = mig_activity.activity(text)
        except (JoulemarkError, UnicodeDecodeError, ValueError) as error:
            _LOG.warning("no MIG activity: %s", error)
            return
        usage = {url: dict(by_device) for url, by_device in self.usage.items()}
        for url, engine in self._pool.engines.items():
            config = engine.config
            for uuid in config.devices or self.devices.get(url, ()):
                ratio = _mig_ratio(config, uuid, active)
                if ratio is not None:
                    used = usage.setdefault(url, {}).get(uuid, Usage())
                    usage[url][uuid] = Usage(
                        sm_ratio=used.sm_ratio, mig_ratio=ratio, memory_bytes=used.memory_bytes
                    )
        self.usage = usage

    def close(self) -> None:
        """Let go of NVML and the connection."""
        if self._has_nvml:
            self._nvml.close()
        if self._dcgm is not None:
            self._dcgm.close()


def _mig_ratio(
    config: EngineConfig, uuid: str, active: Mapping[tuple[str, int], float]
) -> float | None:
    if config.mig_gpu_instance is None:
        return None
    if config.mig_slices is None:
        raise ConfigError(
            f"engine {config.url} has a MIG instance and no mig_slices",
            remedy="set mig_slices to the compute slices of its profile, e.g. 3 of 3g.40gb",
        )
    ratio = active.get((uuid, config.mig_gpu_instance))
    return None if ratio is None else mig_activity.weight(ratio, config.mig_slices)
