"""Records one run: starts the engine, meters it, loads it, and stores every event as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import launch, provenance, store
from .clock import WallAnchor
from .contracts import Engine
from .errors import EngineError, JoulemarkError, PowerUnavailableError
from .kept_engine import KeptEngine
from .live_facts import OnGpus, facts_of
from .load import certificate
from .load_phases import LoadPhases
from .run_log import log_to
from .run_watcher import RunWatcher
from .run_writer import RunWriter, new_run_id
from .sampler import Sampler
from .selection import Selection
from .workload_summary import peeked

if TYPE_CHECKING:
    from .settings import RunConfig

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """
    A run folder with all that was recorded.

    Args:
        folder: where it lies.
        error: what cut the run short; None if nothing did.
        interrupted: the user asked for the end.
    """

    folder: Path
    error: JoulemarkError | None
    interrupted: bool


class Acquisition:
    """
    One run while it lasts: every event goes to the run folder, nothing is computed.

    Args:
        config: what to run.
        selection: engine and power sources, chosen.
        engine: prepared.
        watcher: told of the progress.
        stop: ends the run early.
        kept: an engine that runs already and goes on afterwards.
    """

    def __init__(
        self,
        config: RunConfig,
        selection: Selection,
        engine: Engine,
        watcher: RunWatcher,
        stop: threading.Event,
        *,
        kept: KeptEngine | None,
    ) -> None:
        self._config = config
        self._kept = kept
        self._selection = selection
        self._engine = engine
        self._watcher = watcher
        self._stop = stop
        self._prefix_ratio, self._requests = peeked(config.workload, seed=config.seed)
        self._running: launch.RunningEngine | None = None
        self._sampler: Sampler | None = None
        self._power_kinds: dict[str, str] = {}
        self._writer = self._new_folder()

    def record(self) -> Acquired:
        """
        Do it all, from the sampler's start to the engine's stop.

        Raises:
            PowerUnavailableError: no power source opens; the folder is gone again.
        """
        error: JoulemarkError | None = None
        folder = self._writer.folder
        with self._writer, log_to(folder / store.LOG):
            try:
                self._record()
            except PowerUnavailableError:
                # Nothing was recorded yet, so nothing is left behind.
                shutil.rmtree(folder)
                raise
            except JoulemarkError as caught:
                error = self._blame(caught)
                self._writer.mark("interrupted", reason=error.problem)
                log.error("%s", error)  # noqa: TRY400 - foreseen; the message says it all
            except KeyboardInterrupt:
                self._stop.set()
            interrupted = self._stop.is_set() and error is None
            if interrupted:
                self._writer.mark("interrupted", reason="stopped by the user")
        return Acquired(folder=folder, error=error, interrupted=interrupted)

    def _new_folder(self) -> RunWriter:
        config = self._config
        run_id = new_run_id(config.name)
        # The engine as it was asked for, so that the same request reads the same on every
        # machine; what became of it (threads, file, port) is in the provenance.
        described = dataclasses.replace(
            config, engine_kind=self._selection.engine_kind, engine=self._selection.engine
        ).as_json()
        described["power"]["sources"] = list(self._selection.sources)
        manifest = {
            "run_id": run_id,
            "config": described,
            "provenance": {
                **provenance.collect(WallAnchor.now()),
                "engine": self._engine.facts(),
                "workload": {"prefix_ratio": self._prefix_ratio},
                "client_certificate": certificate.recall(certificate.default_path()),
            },
        }
        return RunWriter(config.artifact_dir / run_id, manifest)

    def _record(self) -> None:
        """Everything between the first and the last event; each resource is closed on the way."""
        for finding in self._selection.findings:
            self._writer.find(finding)
        with contextlib.ExitStack() as stack:
            self._start_sampler(stack)
            self._start_engine(stack)
            if not self._stop.is_set():
                self._idle()
            phases = self._load_phases()
            if not self._stop.is_set():
                phases.warm_up()
            if not self._stop.is_set():
                phases.measure()
            self._watcher.phase("stop the engine", seconds=None, requests=None)
        self._writer.mark(
            "provenance", about="anchor_at_stop", facts=dataclasses.asdict(WallAnchor.now())
        )
        if not self._stop.is_set():
            self._writer.mark("complete")

    def _load_phases(self) -> LoadPhases:
        return LoadPhases(
            self._config,
            self._engine,
            self._requests,
            writer=self._writer,
            watcher=self._watcher,
            stop=self._stop,
            sampler=self._sampler,
            power_kinds=self._power_kinds,
        )

    def _start_sampler(self, stack: contextlib.ExitStack) -> None:
        sources = self._selection.sources
        if not sources:
            return
        self._watcher.phase("start the power sampler", seconds=None, requests=None)
        power = self._config.power
        sampler = Sampler(
            self._writer.folder / store.POWER,
            [(name, self._source_options(name)) for name in sources],
            power_hz=power.power_hz,
            counter_hz=power.counter_hz,
        )
        channels = sampler.start()
        self._sampler = sampler
        self._power_kinds = {channel.boundary: channel.power_kind for channel in channels}
        stack.callback(self._stop_sampler, sampler)

    def _source_options(self, name: str) -> dict[str, Any]:
        """A source's own options; NVML reads the GPUs the engine runs on, unless told otherwise."""
        options = self._config.power.options.get(name, {})
        gpus = self._engine.gpu_indices if isinstance(self._engine, OnGpus) else ()
        if name == "nvml" and gpus and "devices" not in options:
            return {**options, "devices": [str(index) for index in gpus]}
        return options

    def _stop_sampler(self, sampler: Sampler) -> None:
        # A new phase: whoever followed the sampler's watts leaves it alone from here on.
        self._watcher.phase("stop the power sampler", seconds=None, requests=None)
        audit = dataclasses.asdict(sampler.stop())
        self._writer.mark("provenance", about="power", facts={"at_start": sampler.facts(), **audit})

    def _start_engine(self, stack: contextlib.ExitStack) -> None:
        spec = self._engine.launch()
        if spec is None:
            return
        if self._kept is not None and self._kept.running is not None:
            self._running = running = self._kept.running
            running.check()
        else:
            self._watcher.phase("start the engine", seconds=None, requests=None)
            self._writer.mark("engine_start")
            running = launch.RunningEngine(
                spec, self._writer.folder / store.ENGINE_LOG, tick=self._wait_tick
            )
            self._running = stack.enter_context(running)
        self._writer.mark("engine_ready")
        self._writer.mark(
            "provenance", about="engine_live", facts=facts_of(self._engine, running.log)
        )
        if self._sampler:
            self._sampler.watch(running.pids)

    def _wait_tick(self) -> None:
        self._watcher.tick()
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _idle(self) -> None:
        """Meter the loaded engine with no request in flight."""
        seconds = self._config.power.idle_s
        if self._sampler is None or seconds <= 0:
            return
        self._watcher.phase("loaded idle", seconds=seconds, requests=None)
        self._writer.mark("loaded_idle_start", t_ns=self._sampler.mark())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop.is_set():
            self._watcher.tick()
            self._stop.wait(min(0.1, max(0.0, deadline - time.monotonic())))
        self._writer.mark("loaded_idle_end", t_ns=self._sampler.mark())

    def _blame(self, error: JoulemarkError) -> JoulemarkError:
        """An engine that has died explains failing requests better than they do themselves."""
        if self._running is not None and isinstance(error, EngineError):
            try:
                self._running.check()
            except EngineError as death:
                return death
        return error
