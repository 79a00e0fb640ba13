"""Records one run: starts the engine, meters it, loads it, and stores every event as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import launch, provenance, store
from .arrivals import Arrivals
from .clock import WallAnchor
from .contracts import Engine
from .errors import EngineError, JoulemarkError, PowerUnavailableError
from .kept_engine import KeptEngine
from .live_facts import OnGpus, energy_j, facts_of
from .load import certificate
from .load import loop as load
from .load.audit import LoadAudit
from .load.plan import LoadPlan
from .load.processes import run_processes
from .load.progress import LoadProgress
from .record import Finding
from .request_fields import fixed_length, request_endpoint
from .run_log import log_to
from .run_writer import RunWriter, new_run_id
from .sampler import Sampler
from .selection import Selection
from .settled_counts import settled_counts
from .timeline import Phase, Request, RequestTrace

if TYPE_CHECKING:
    from .settings import RunConfig

log: Final = logging.getLogger(__name__)


class Watcher(Protocol):
    """Whoever wants to see how the run goes; called from the run's own thread."""

    def phase(self, name: str, *, seconds: float | None, requests: int | None) -> None:
        """A phase begins; how long it will be, in time or requests, where that is known."""
        ...

    def tick(self) -> None:
        """Nothing new, but time went by while waiting."""
        ...

    def follow(
        self,
        progress: LoadProgress,
        watts: Callable[[], Mapping[str, float]],
        kinds: Mapping[str, str],
    ) -> None:
        """
        What to look at until the next phase, from another thread if need be.

        Args:
            progress: of the load.
            watts: boundary -> watts just now.
            kinds: boundary -> measured, modelled or emulated.
        """
        ...


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
        watcher: Watcher,
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
        self._requests = config.workload.requests(seed=config.seed)
        self._running: launch.RunningEngine | None = None
        self._sampler: Sampler | None = None
        self._power_kinds: dict[str, str] = {}
        self._last_error: str | None = None
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
                self._mark("interrupted", reason=error.problem)
                log.error("%s", error)  # noqa: TRY400 - foreseen; the message says it all
            except KeyboardInterrupt:
                self._stop.set()
            interrupted = self._stop.is_set() and error is None
            if interrupted:
                self._mark("interrupted", reason="stopped by the user")
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
                "client_certificate": certificate.recall(certificate.default_path()),
            },
        }
        return RunWriter(config.artifact_dir / run_id, manifest)

    def _record(self) -> None:
        """Everything between the first and the last event; each resource is closed on the way."""
        for finding in self._selection.findings:
            self._find(finding)
        with contextlib.ExitStack() as stack:
            self._start_sampler(stack)
            self._start_engine(stack)
            if not self._stop.is_set():
                self._idle()
            warmup = self._config.load.warmup_count
            if warmup and not self._stop.is_set():
                self._load("warmup", request_count=warmup, duration_s=None)
            if not self._stop.is_set():
                self._measured_phase()
            self._watcher.phase("stop the engine", seconds=None, requests=None)
        self._mark("provenance", about="anchor_at_stop", facts=dataclasses.asdict(WallAnchor.now()))
        if not self._stop.is_set():
            self._mark("complete")

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
        self._mark("provenance", about="power", facts={"at_start": sampler.facts(), **audit})

    def _start_engine(self, stack: contextlib.ExitStack) -> None:
        spec = self._engine.launch()
        if spec is None:
            return
        if self._kept is not None and self._kept.running is not None:
            self._running = running = self._kept.running
            running.check()
        else:
            self._watcher.phase("start the engine", seconds=None, requests=None)
            self._mark("engine_start")
            running = launch.RunningEngine(
                spec, self._writer.folder / store.ENGINE_LOG, tick=self._wait_tick
            )
            self._running = stack.enter_context(running)
        self._mark("engine_ready")
        self._mark("provenance", about="engine_live", facts=facts_of(self._engine, running.log))
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
        self._mark("loaded_idle_start", t_ns=self._sampler.mark())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop.is_set():
            self._watcher.tick()
            self._stop.wait(min(0.1, max(0.0, deadline - time.monotonic())))
        self._mark("loaded_idle_end", t_ns=self._sampler.mark())

    def _measured_phase(self) -> None:
        config = self._config.load
        self._length_finding()
        before = self._read_counters("before")
        joules = energy_j(self._engine)
        self._mark("measure_start", t_ns=self._edge())
        self._load("measure", request_count=config.count, duration_s=config.duration_s)
        self._mark("measure_end", t_ns=self._edge())
        after_j = None if joules is None else energy_j(self._engine)
        if joules is not None and after_j is not None:
            facts = {"total_energy_j": after_j - joules, "over": "measure_start to measure_end"}
            self._mark("provenance", about="engine_energy", facts=facts)
        if before is not None and not self._stop.is_set():
            self._read_counters("after")

    def _edge(self) -> int:
        return self._sampler.mark() if self._sampler else time.perf_counter_ns()

    def _load(self, phase: Phase, *, request_count: int | None, duration_s: float | None) -> None:
        config = self._config.load
        plan = LoadPlan(
            endpoint=request_endpoint(self._engine, config),
            requests=self._fresh(request_count),
            phase=phase,
            arrivals=Arrivals(
                pattern=config.pattern,
                concurrency=config.concurrency,
                request_rate_per_s=config.request_rate_per_s,
                burstiness=config.burstiness,
                time_scale=config.time_scale,
            ),
            request_count=request_count,
            duration_s=duration_s,
            request_timeout_s=config.request_timeout_s,
            fixed_length=fixed_length(self._engine, config),
            seed=self._config.seed,
            max_failures_in_a_row=config.max_failures_in_a_row,
        )
        progress = LoadProgress()
        name = "warm up" if phase == "warmup" else "measure"
        self._watcher.phase(name, seconds=duration_s, requests=request_count)
        watts = self._sampler.latest_w if self._sampler else dict[str, float]
        self._watcher.follow(progress, watts, self._power_kinds)
        audit = self._drive(plan, progress)
        self._mark("provenance", about=f"client_{phase}", facts=dataclasses.asdict(audit))
        if progress.finished and progress.failed == progress.finished and not self._stop.is_set():
            raise EngineError(
                f"all {progress.failed} requests of the {phase} phase failed "
                f"({_listed(audit.errors)}); the last said: {self._last_error}",
                remedy="look at the server's own log, and send it one request by hand",
            )

    def _drive(self, plan: LoadPlan, progress: LoadProgress) -> LoadAudit:
        """Warm-up needs no more than one process, and must not use up what is measured."""
        load_config = self._config.load
        processes = load_config.client_processes if plan.phase == "measure" else 1
        if processes == 1 and not (load_config.client_cpus and plan.phase == "measure"):
            return load.run(
                plan,
                journal=self._writer.events,
                on_result=self._take,
                progress=progress,
                stop=self._stop,
            )
        return run_processes(
            plan,
            processes=processes,
            shards=self._writer.folder,
            journal=self._writer.events,
            on_result=self._take,
            progress=progress,
            stop=self._stop,
            cpus=load_config.client_cpus,
        )

    def _length_finding(self) -> None:
        """Say before the load why answers will end where the model wants."""
        load_config = self._config.load
        if load_config.fixed_length and not fixed_length(self._engine, load_config):
            self._find(
                Finding(
                    code="length_not_fixed",
                    severity="info",
                    message="answers end where the model ends them: this engine, or a gpt-oss "
                    "chat (where ignore_eos makes vLLM fail, vllm#50690), cannot be asked for an "
                    "exact length; `--endpoint-type completions` can, where the engine has it",
                )
            )

    def _take(self, trace: RequestTrace) -> None:
        self._writer.add_request(trace)
        self._last_error = trace.error or self._last_error

    def _fresh(self, count: int | None) -> Iterator[Request]:
        """No more requests than the phase sends, so that the next one gets those that follow."""
        sent = 0
        while count is None or sent < count:
            request = next(self._requests, None)
            if request is None:
                return
            yield request
            sent += 1

    def _read_counters(self, when: str) -> float | None:
        """The engine's own output-token counter; None, with a finding, if it has none."""
        counters = self._engine.counters()
        if counters is None:
            if when == "before":
                self._no_counter("this engine has none that is known")
            return None
        try:
            url = self._engine.endpoint(None).base_url + counters.path
            counts = settled_counts(counters, url)
        except EngineError as error:
            self._no_counter(str(error))
            return None
        self._mark("token_counters", when=when, **dataclasses.asdict(counts))
        return counts.generated

    def _no_counter(self, why: str) -> None:
        message = f"the engine's own token counter is not in the record: {why}"
        self._find(Finding(code="no_server_counter", severity="info", message=message))

    def _blame(self, error: JoulemarkError) -> JoulemarkError:
        """An engine that has died explains failing requests better than they do themselves."""
        if self._running is not None and isinstance(error, EngineError):
            try:
                self._running.check()
            except EngineError as death:
                return death
        return error

    def _find(self, finding: Finding) -> None:
        self._mark("finding", finding=dataclasses.asdict(finding))

    def _mark(self, mark: str, *, t_ns: int | None = None, **facts: Any) -> None:  # noqa: ANN401 - any JSON
        self._writer.mark(mark, time.perf_counter_ns() if t_ns is None else t_ns, **facts)
        log.info("%s %s", mark, facts or "")


def _listed(errors: Any) -> str:  # noqa: ANN401 - a mapping of kinds to counts
    return ", ".join(f"{count} {kind}" for kind, count in sorted(dict(errors).items()))
