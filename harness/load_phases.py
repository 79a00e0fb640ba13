"""The phases of load of a run: warm-up, then what is measured, with the engine's own counts."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .arrivals import Arrivals
from .contracts import Engine
from .errors import EngineError
from .live_facts import energy_j
from .load import loop as load
from .load.audit import LoadAudit
from .load.plan import LoadPlan
from .load.processes import run_processes
from .load.progress import LoadProgress
from .record import Finding
from .request_fields import fixed_length, request_endpoint
from .run_watcher import RunWatcher
from .run_writer import RunWriter
from .sampler import Sampler
from .settled_counts import settled_counts
from .timeline import Phase, Request, RequestTrace

if TYPE_CHECKING:
    from .settings import RunConfig


class LoadPhases:
    """
    Loads an engine that is up, while its power is sampled.

    Args:
        config: what to run.
        engine: answers.
        requests: of the workload; each phase takes those that follow the last one's.
        writer: of the run folder; gets every request, mark and finding.
        watcher: told of the progress.
        stop: ends a phase early.
        sampler: marks the phases' edges; None without power.
        power_kinds: boundary -> measured, modelled or emulated, for the watcher.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        requests: Iterator[Request],
        *,
        writer: RunWriter,
        watcher: RunWatcher,
        stop: threading.Event,
        sampler: Sampler | None,
        power_kinds: Mapping[str, str],
    ) -> None:
        self._config = config
        self._engine = engine
        self._requests = requests
        self._writer = writer
        self._watcher = watcher
        self._stop = stop
        self._sampler = sampler
        self._power_kinds = power_kinds
        self._last_error: str | None = None

    def warm_up(self) -> None:
        """
        Send the requests that no number is made of, if there are any.

        Raises:
            EngineError: all of them failed, or too many in a row.
        """
        count = self._config.load.warmup_count
        if count:
            self._load("warmup", request_count=count, duration_s=None)

    def measure(self) -> None:
        """
        Send what is measured, between two marks, and read the engine's own counts around it.

        Raises:
            EngineError: all requests failed, or too many in a row.
        """
        config = self._config.load
        self._length_finding()
        before = self._read_counters("before")
        joules = energy_j(self._engine)
        self._writer.mark("measure_start", t_ns=self._edge())
        self._load("measure", request_count=config.count, duration_s=config.duration_s)
        self._writer.mark("measure_end", t_ns=self._edge())
        after_j = None if joules is None else energy_j(self._engine)
        if joules is not None and after_j is not None:
            facts = {"total_energy_j": after_j - joules, "over": "measure_start to measure_end"}
            self._writer.mark("provenance", about="engine_energy", facts=facts)
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
        self._writer.mark("provenance", about=f"client_{phase}", facts=dataclasses.asdict(audit))
        if progress.finished and progress.failed == progress.finished and not self._stop.is_set():
            raise EngineError(
                f"every request of the {phase} phase failed ({_listed(audit.errors)}); "
                f"the last said: {self._last_error}",
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
            self._writer.find(
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
        self._writer.mark("token_counters", when=when, **dataclasses.asdict(counts))
        return counts.generated

    def _no_counter(self, why: str) -> None:
        message = f"the engine's own token counter is not in the record: {why}"
        self._writer.find(Finding(code="no_server_counter", severity="info", message=message))


def _listed(errors: Any) -> str:  # noqa: ANN401 - a mapping of kinds to counts
    return ", ".join(f"{count} {kind}" for kind, count in sorted(dict(errors).items()))
