"""Meters any command: its joules, and with an engine's own counters its joules per token."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from . import plugins, provenance
from .clock import WallAnchor
from .conditions import conditions
from .energy import average_w, power_kind, window_row
from .errors import ConfigError, CoverageError, EngineError, PowerUnavailableError
from .integrate import WindowEnergy, traces, window_energies
from .journal import read_journal
from .metrics import card_of
from .record import Finding, MetricValue, RunRecord
from .sampler import Sampler
from .timeline import POWER_DTYPE, Window
from .token_counters import TokenCounterPair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


SENSORS: Final = ("nvml", "rapl", "hwmon")
"""Sources tried if none is named: those that read a sensor of this machine, the best first."""
LEAD_S: Final = 0.3
"""Sampled before the command starts: three ticks of an H100's counter."""
TAIL_S: Final = 0.2
_METERING: Final = "bounds of the metering alone (sensor step, tick, window edges)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    What metering a command gave.

    Args:
        record: the energies, in the form every other run has.
        exit_code: the command's; 128 + N if signal N ended it.
    """

    record: RunRecord
    exit_code: int


def sensors(devices: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """
    The power sources that can be read here, found by opening each.

    Args:
        devices: GPUs to meter, for NVML; empty: all that are visible.

    Raises:
        PowerUnavailableError: none can; the message says why each cannot.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    for kind in SENSORS:
        if kind not in plugins.kinds("power"):
            continue
        options: dict[str, Any] = {"devices": tuple(devices)} if kind == "nvml" else {}
        try:
            plugins.load("power", kind)(**options).open().close()
        except PowerUnavailableError as error:
            # GPUs that were named and are not there are a mistake, not a machine without.
            if devices and kind == "nvml":
                raise
            problems.append(f"{kind}: {error.problem}")
            continue
        found.append((kind, options))
    if not found:
        raise PowerUnavailableError(
            f"no energy sensor can be read on this machine ({'; '.join(problems)})",
            remedy="run `joulemark doctor` to see what each needs, or ask for a model of the CPU's"
            " power with `--power cpu_model`",
        )
    return found


def measure_command(
    argv: Sequence[str],
    *,
    sources: Sequence[tuple[str, Mapping[str, Any]]],
    folder: Path,
    tokens_from: str | None = None,
    engine: str | None = None,
    window_from: Path | None = None,
    on_start: Callable[[Sampler], None] | None = None,
) -> Measured:
    """
    Run a command to its end and meter what it drew.

    Standard input, output and error are the command's own. Ctrl-C reaches it as it
    would without us; we wait for it and report what there is.

    Args:
        argv: the command.
        sources: what to read, see `Sampler`.
        folder: where the journal goes; must exist.
        tokens_from: the engine's `/metrics`, read at both edges.
        engine: the engine plugin whose counters those are; None: told from their names.
        window_from: a file the command writes, that says which part of it counts.
        on_start: called with the sampler once the command runs, for a progress line.

    Raises:
        PowerUnavailableError: nothing can be metered; the command is not started.
        ConfigError: the command cannot be started, or *window_from* is no window.
        EngineError: *tokens_from* cannot be read before the command starts.
    """
    if shutil.which(argv[0]) is None:
        raise ConfigError(f"there is no command {argv[0]!r}", remedy="check its name and PATH")
    anchor = WallAnchor.now()
    journal = folder / "power.jmj"
    sampler = Sampler(journal, sources)
    sampler.start()
    tokens = TokenCounterPair(tokens_from, engine)
    try:
        tokens.before = tokens.read()
        time.sleep(LEAD_S)
        start_ns = sampler.mark()
        with _deaf_to_ctrl_c():
            process = subprocess.Popen(argv)
            sampler.watch([process.pid])
            if on_start is not None:
                on_start(sampler)
            code = process.wait()
        end_ns = sampler.mark()
        with contextlib.suppress(EngineError):
            tokens.after = tokens.read()
        time.sleep(TAIL_S)
    finally:
        audit = sampler.stop()
    window = Window(name="command", start_ns=start_ns, end_ns=end_ns, planned=True)
    if window_from is not None:
        window = read_window(window_from, anchor)
    header, records, _ = read_journal(journal, POWER_DTYPE)
    found = traces(header, records)
    findings: list[Finding] = []
    energies: list[WindowEnergy] = []
    try:
        energies = window_energies(found, window)
    except CoverageError as error:
        findings.append(Finding(code="power_gap", severity="invalid", message=str(error)))
    for energy in energies:
        findings += energy.findings
    whole = window_from is None
    counts, metrics = _per_token(tokens, energies, findings, whole=whole)
    known = {
        **provenance.collect(anchor),
        "anchor_at_stop": dataclasses.asdict(WallAnchor.now()),
        "power": {"at_start": sampler.facts(), **dataclasses.asdict(audit)},
        "exit_code": code,
    }
    findings += conditions(known, launched=True)
    record = RunRecord(
        run_id=f"measure-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}",
        status="complete" if code == 0 else "incomplete",
        power_kind=power_kind(found),
        config={
            "command": list(argv),
            "sources": [[kind, dict(options)] for kind, options in sources],
            "tokens_from": tokens_from,
            "engine": tokens.engine,
            "window_from": None if window_from is None else str(window_from),
        },
        provenance=known,
        tokens=counts,
        windows=[window_row(window, energies, valid=bool(energies))],
        metrics=metrics,
        findings=findings,
    )
    return Measured(record=record, exit_code=code if code >= 0 else 128 - code)


def _per_token(
    tokens: TokenCounterPair,
    energies: Sequence[WindowEnergy],
    findings: list[Finding],
    *,
    whole: bool,
) -> tuple[dict[str, Any], dict[str, MetricValue]]:
    """The metrics of each boundary, per token where the engine's counters were read."""
    metrics: dict[str, MetricValue] = {}
    for energy in energies:
        key = f"{energy.boundary}_energy_j"
        metrics[key] = _scaled(key, energy, 1.0, energy.samples)
        metrics[f"{energy.boundary}_average_w"] = average_w(energy)
    if tokens.url is None or tokens.before is None:
        return {}, metrics
    if tokens.after is None:
        message = f"{tokens.url} did not answer after the command: tokens are not known"
        findings.append(Finding(code="tokens_unknown", severity="warning", message=message))
        return {}, metrics
    counted = {
        name: None if None in (old, new) else new - old
        for name, old, new in (
            (name, getattr(tokens.before, name), getattr(tokens.after, name))
            for name in ("computed", "cached", "generated")
        )
    }
    output = counted["generated"]
    if output is None or output <= 0:
        message = f"{tokens.url} counted {output} output tokens while the command ran" + (
            ": the engine was restarted" if output is not None and output < 0 else ""
        )
        findings.append(Finding(code="no_tokens", severity="warning", message=message))
        return counted, metrics
    if not whole:
        message = "tokens were counted over the whole command, not over the window of the file"
        findings.append(Finding(code="tokens_of_command", severity="warning", message=message))
        return counted, metrics
    for energy in energies:
        key = f"{energy.boundary}_j_per_output_token"
        metrics[key] = _scaled(key, energy, 1 / output, round(output))
        total = [count for count in counted.values() if count is not None]
        if counted["computed"] is not None:
            key = f"{energy.boundary}_j_per_total_token"
            metrics[key] = _scaled(key, energy, 1 / sum(total), round(sum(total)))
    return counted, metrics


def _scaled(key: str, energy: WindowEnergy, factor: float, n: int) -> MetricValue:
    bounded = energy.power_kind != "modelled"
    return MetricValue(
        value=energy.energy_j * factor,
        low=energy.low_j * factor if bounded else None,
        high=energy.high_j * factor if bounded else None,
        unit=card_of(key).unit,
        n=n,
        interval=_METERING if bounded else None,
    )


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    # The terminal sends it to the command, too: that one decides, we go on waiting.
    try:
        before = signal.signal(signal.SIGINT, lambda _signal, _frame: None)
    except ValueError:
        # Not in the main thread, where Python delivers no signals anyway.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_window(path: Path, anchor: WallAnchor) -> Window:
    """
    Read which part of a command counts.

    A JSON object with `start_ns` and `end_ns` (CLOCK_MONOTONIC, what Python's
    `time.perf_counter_ns` gives on Linux), or `start_s` and `end_s` (Unix time), or
    `start` and `end` (ISO 8601 with a time zone).

    Raises:
        ConfigError: it is missing or says something else.
    """
    try:
        raw = orjson.loads(path.read_bytes())
        start_ns, end_ns = (_instant_ns(raw, side, anchor) for side in ("start", "end"))
        return Window(name="file", start_ns=start_ns, end_ns=end_ns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not say a window ({error})",
            remedy='let the command write {"start_s": …, "end_s": …}, Unix seconds',
        ) from error


def _instant_ns(raw: Mapping[str, Any], side: str, anchor: WallAnchor) -> int:
    if f"{side}_ns" in raw:
        return int(raw[f"{side}_ns"])
    if f"{side}_s" in raw:
        wall_ns = round(float(raw[f"{side}_s"]) * 1e9)
    else:
        moment = dt.datetime.fromisoformat(raw[side])
        if moment.tzinfo is None:
            msg = f"{raw[side]!r} has no time zone"
            raise ValueError(msg)
        wall_ns = round(moment.timestamp() * 1e9)
    return anchor.t_monotonic_ns + wall_ns - anchor.t_wall_ns
