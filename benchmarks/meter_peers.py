"""Runs one peer's meter over a schedule of windows; in the peers' own environment, no harness."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import io
import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = dict[str, Any]
_SETTLE_S: Final = 2.0
"""Before the first edge, so that every sensor and every poller has run in."""


class Schedule:
    """The edges and the windows between them, as the parent process wrote them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        data = json.loads(path.read_text(encoding="utf-8"))
        self.gpus: int = data["gpus"]
        self.marks_s: list[float] = data["marks_s"]
        self.windows: list[tuple[int, int]] = [(i, j) for _, i, j in data["windows"]]
        self._fixed_zero_ns: int | None = data.get("zero_ns")
        self._zero_ns = 0
        self.wall_minus_monotonic_ns = time.time_ns() - time.perf_counter_ns()
        self.cpu_s = self.wall_s = 0.0

    def begin(self) -> None:
        """Set the first edge's time, once the meter is ready; CPU is counted from here."""
        self._path.with_suffix(".ready").touch()
        ready_ns = time.perf_counter_ns()
        self._zero_ns = self._fixed_zero_ns or ready_ns + round(_SETTLE_S * 1e9)
        if self._zero_ns < ready_ns:
            sys.exit(f"the meter was ready {(ready_ns - self._zero_ns) / 1e9:.1f} s too late")
        self.cpu_s, self.wall_s = -_cpu_s(), -time.perf_counter()

    def end(self) -> None:
        """Stop counting CPU, before anything is computed from the readings."""
        self.cpu_s, self.wall_s = self.cpu_s + _cpu_s(), self.wall_s + time.perf_counter()

    def wait_for(self, mark: int) -> None:
        """Sleep until an edge is due."""
        due_ns = self._zero_ns + round(self.marks_s[mark] * 1e9)
        time.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))

    def edges_at(self, mark: int) -> tuple[list[int], list[int]]:
        """Windows that end, and windows that begin at an edge."""
        ends = [k for k, (_, j) in enumerate(self.windows) if j == mark]
        begins = [k for k, (i, _) in enumerate(self.windows) if i == mark]
        return ends, begins

    def walk(self, begin: Callable[[int], None], end: Callable[[int], list[Any]]) -> list[Answer]:
        """
        Call *begin* and *end* of a meter that wants to be told; time them.

        The instants are the middles of the calls, which is the kindest reading.
        """
        started: dict[int, int] = {}
        answers: list[Answer] = []
        self.begin()
        for mark in range(len(self.marks_s)):
            self.wait_for(mark)
            ends, begins = self.edges_at(mark)
            for window in ends:
                before_ns = time.perf_counter_ns()
                try:
                    joules, error = end(window), None
                except Exception as problem:  # noqa: BLE001 - whatever a peer raises is its answer
                    joules, error = [None] * self.gpus, f"{type(problem).__name__}: {problem}"
                end_ns = (before_ns + time.perf_counter_ns()) // 2
                answers += self.rows(window, started[window], end_ns, joules, error)
            for window in begins:
                before_ns = time.perf_counter_ns()
                # The end of a window that could not be begun says why.
                with contextlib.suppress(Exception):
                    begin(window)
                started[window] = (before_ns + time.perf_counter_ns()) // 2
        self.end()
        return answers

    def stamps(self) -> list[int]:
        """Only look at the clock at each edge, for a meter that polls by itself."""
        found = []
        self.begin()
        for mark in range(len(self.marks_s)):
            self.wait_for(mark)
            found.append(time.perf_counter_ns())
        self.end()
        return found

    def rows(
        self, window: int, start_ns: int, end_ns: int, joules: list[Any], error: str | None
    ) -> list[Answer]:
        """One answer a GPU."""
        return [
            {
                "window": window,
                "gpu": gpu,
                "start_ns": start_ns,
                "end_ns": end_ns,
                "energy_j": energy_j,
                "error": error,
            }
            for gpu, energy_j in enumerate(joules)
        ]

    def afterwards(
        self, stamps: list[int], energy: Callable[[int, int], list[Any]]
    ) -> list[Answer]:
        """Ask a meter for each window when all is over."""
        answers: list[Answer] = []
        for window, (i, j) in enumerate(self.windows):
            try:
                joules, error = energy(stamps[i], stamps[j]), None
            except Exception as problem:  # noqa: BLE001 - whatever a peer raises is its answer
                joules, error = [None] * self.gpus, f"{type(problem).__name__}: {problem}"
            answers += self.rows(window, stamps[i], stamps[j], joules, error)
        return answers


def zeus_monitor(schedule: Schedule) -> list[Answer]:
    """ZeusMonitor: the counter at both edges."""
    monitor = importlib.import_module("zeus.monitor").ZeusMonitor(
        gpu_indices=list(range(schedule.gpus)), cpu_indices=[]
    )

    def end(window: int) -> list[Any]:
        measured = monitor.end_window(str(window), sync_execution=False)
        return [measured.gpu_energy[gpu] for gpu in range(schedule.gpus)]

    return schedule.walk(lambda w: monitor.begin_window(str(w), sync_execution=False), end)


def zeus_power(schedule: Schedule, *, update_period_s: float | None = 0.05) -> list[Answer]:
    """PowerMonitor, told to poll at 20 Hz: its own choice in 0.16.0 is to poll without pause."""
    power_monitor = importlib.import_module("zeus.monitor").PowerMonitor
    event = importlib.import_module("multiprocessing.synchronize").Event
    wait = event.wait
    # It gives its processes 10 s to start, which a busy machine may not manage.
    event.wait = lambda self, timeout=None: wait(self, timeout and max(timeout, 50.0))
    monitor = power_monitor(gpu_indices=list(range(schedule.gpus)), update_period=update_period_s)
    event.wait = wait
    stamps = schedule.stamps()
    time.sleep(0.5)

    def energy(start_ns: int, end_ns: int) -> list[Any]:
        shift_ns = schedule.wall_minus_monotonic_ns
        found = monitor.get_energy((start_ns + shift_ns) / 1e9, (end_ns + shift_ns) / 1e9)
        return [found[gpu] if found else None for gpu in range(schedule.gpus)]

    answers = schedule.afterwards(stamps, energy)
    monitor.stop()
    return answers


def aiperf(schedule: Schedule) -> list[Answer]:
    """AIPerf's collector at its default 3 Hz, and its own delta of the counter in a window."""
    collectors = importlib.import_module("aiperf.gpu_telemetry.pynvml_collector")
    models = importlib.import_module("aiperf.common.models.telemetry_models")
    filters = importlib.import_module("aiperf.common.models.server_metrics_models")
    grace_ns = importlib.import_module(
        "aiperf.common.environment"
    ).Environment.GPU.FINAL_SCRAPE_GRACE_NS
    hierarchy = models.TelemetryHierarchy()

    async def keep(records: list[Any], _: str) -> None:
        for record in records:
            hierarchy.add_record(record)

    async def collect() -> list[int]:
        collector = collectors.PyNVMLTelemetryCollector(record_callback=keep)
        await collector.initialize()
        await collector.start()
        stamps = await asyncio.to_thread(schedule.stamps)
        await asyncio.sleep(1.0)
        await collector.stop()
        return stamps

    stamps = asyncio.run(collect())
    (by_uuid,) = hierarchy.telemetry_source_endpoints.values()
    series = {data.metadata.gpu_index: data for data in by_uuid.values()}
    shift_ns = schedule.wall_minus_monotonic_ns

    def energy(start_ns: int, end_ns: int) -> list[Any]:
        # As GPUTelemetryAccumulator.total_energy_joules widens and converts it.
        asked = filters.TimeRangeFilter(
            start_ns=start_ns + shift_ns, end_ns=end_ns + shift_ns + grace_ns
        )
        name = "nvidia_energy_consumption"
        return [
            series[gpu]
            .get_metric_result(name, name, name, "J", time_filter=asked, is_counter=True)
            .avg
            * 1e6
            for gpu in range(schedule.gpus)
        ]

    return schedule.afterwards(stamps, energy)


def codecarbon(schedule: Schedule) -> list[Answer]:
    """CodeCarbon's GPU device as a task of its tracker drives it; the tracker runs beside it."""
    trackers = importlib.import_module("codecarbon")
    devices = importlib.import_module("codecarbon.core.gpu").AllGPUDevices
    duration = importlib.import_module("codecarbon.core.units").Time
    tracker = trackers.OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="error", allow_multiple_runs=True
    )
    tracker.start()
    pool = [devices() for _ in schedule.windows]
    started: dict[int, float] = {}

    def begin(window: int) -> None:
        started[window] = time.perf_counter()
        pool[window].start()

    def end(window: int) -> list[Any]:
        lasted = duration.from_seconds(time.perf_counter() - started[window])
        joules = []
        for device in pool[window].devices:
            device.delta(lasted)
            joules.append(device.energy_delta.kWh * 3.6e6)
        return joules

    answers = schedule.walk(begin, end)
    tracker.stop()
    return answers


def smi_poller(schedule: Schedule) -> list[Answer]:
    """`nvidia-smi -l 1` as InferenceX uses it: power.draw, trapezoids, edges interpolated."""
    numpy = importlib.import_module("numpy")
    pynvml = importlib.import_module("pynvml")
    threading = importlib.import_module("threading")
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in range(schedule.gpus)]
    rows: list[list[tuple[int, float]]] = [[] for _ in handles]
    stop = threading.Event()

    def poll() -> None:
        while True:
            for own, handle in zip(rows, handles, strict=True):
                with contextlib.suppress(pynvml.NVMLError):
                    power_mw = pynvml.nvmlDeviceGetPowerUsage(handle)
                    own.append((time.perf_counter_ns(), power_mw / 1e3))
            if stop.wait(1.0):
                return

    poller = threading.Thread(target=poll)
    poller.start()
    stamps = schedule.stamps()
    time.sleep(1.2)
    stop.set()
    poller.join()

    def energy(start_ns: int, end_ns: int) -> list[Any]:
        joules: list[float | None] = []
        for own in rows:
            t_ns = numpy.array([t for t, _ in own], dtype=float)
            power_w = numpy.array([w for _, w in own])
            if start_ns < t_ns[0] or end_ns > t_ns[-1]:
                joules.append(None)
                continue
            inside = (t_ns > start_ns) & (t_ns < end_ns)
            ends = numpy.array([start_ns, end_ns], dtype=float)
            at = numpy.concatenate([ends[:1], t_ns[inside], ends[1:]])
            watts = numpy.interp(at, t_ns, power_w)
            joules.append(float(numpy.trapezoid(watts, at) / 1e9))
        return joules

    return schedule.afterwards(stamps, energy)


METERS: Final[dict[str, tuple[str, Callable[[Schedule], list[Answer]]]]] = {
    "zeus": ("zeus", zeus_monitor),
    "zeus_power": ("zeus", zeus_power),
    "zeus_power_default": ("zeus", lambda schedule: zeus_power(schedule, update_period_s=None)),
    "aiperf": ("aiperf", aiperf),
    "codecarbon": ("codecarbon", codecarbon),
    "smi_poller": ("nvidia-ml-py", smi_poller),
}
"""Name → the distribution whose version is told, and how it is run."""


def main(name: str, schedule_file: str, answer_file: str) -> None:
    """Run one meter; its answers, version and CPU seconds go into *answer_file*."""
    logging.disable(logging.WARNING)
    package, meter = METERS[name]
    schedule = Schedule(Path(schedule_file))
    with contextlib.redirect_stdout(io.StringIO()):
        answers = meter(schedule)
    told = {
        "version": f"{package} {importlib.metadata.version(package)}",
        "wall_s": schedule.wall_s,
        "cpu_s": schedule.cpu_s,
        "answers": answers,
    }
    Path(answer_file).write_text(json.dumps(told), encoding="utf-8")


def _cpu_s() -> float:
    """CPU seconds of this process and of those it has started."""
    own = importlib.import_module("psutil").Process()
    used = [process.cpu_times() for process in [own, *own.children(recursive=True)]]
    return float(sum(times.user + times.system for times in used))


if __name__ == "__main__":
    main(*sys.argv[1:4])
