"""What is looked at in every run before it is trusted: subjects, their findings, their facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .conditions import gpus, moved_counters, wall_step_s
from .record import RunRecord

Weight = Literal["good", "note", "unknown", "problem"]
Spoils = Literal["energy", "latency", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """
    Something to be looked at in every run.

    Args:
        spoils: what a problem of it spoils.
        codes: findings that are about it.
        good: what to say where nothing is wrong.
        look: what the record's facts say beside its findings; None: nothing.
    """

    spoils: Spoils
    codes: frozenset[str]
    good: str
    look: Callable[[RunRecord], tuple[Weight, str] | None] = lambda _: None


def _ended(record: RunRecord) -> tuple[Weight, str] | None:
    if record.status == "complete":
        return None
    return "problem", "the run was cut short: repeat it"


def _steady(record: RunRecord) -> tuple[Weight, str] | None:
    if "window" not in record.config:
        return "note", "a whole command was metered, its start-up and end included"
    kind = record.config["window"]["kind"]
    if kind == "steady":
        return None if record.windows else ("unknown", "the run has no window")
    return "problem", (
        f"no steady state was sought (window {kind!r}): start-up and tail are in the numbers; "
        "set window.kind = 'steady'"
    )


def _slowed(record: RunRecord) -> tuple[Weight, str] | None:
    if moved_counters(record.provenance) is not None:
        return None
    return "unknown", "no throttle counter was read; only NVML has them"


def _warm(record: RunRecord) -> tuple[Weight, str] | None:
    known = gpus(record.provenance, "at_start").values()
    if any(gpu.get("temperature_c") is not None for gpu in known):
        return None
    return "unknown", "the temperature at the start was not read; only NVML has it"


def _alone(record: RunRecord) -> tuple[Weight, str] | None:
    machine = record.provenance.get("machine", {})
    load, cores = machine.get("load_average_1min"), machine.get("cpus_usable")
    on_gpu = gpus(record.provenance, "at_start")
    if not on_gpu and load is not None and cores and load > cores / 2:
        return "problem", (
            f"the machine was busy when the run began (load average {load:.1f} on {cores} CPUs), "
            "and the engine ran on the same CPUs: stop what else runs, and repeat"
        )
    pids = [gpu.get("compute_pids") for gpu in on_gpu.values()]
    if on_gpu and any(one is None for one in pids):
        return "unknown", "which processes used the GPU was not read; the driver did not say"
    return None if on_gpu or load is not None else ("unknown", "the load was not recorded")


def _client(record: RunRecord) -> tuple[Weight, str] | None:
    audit = record.provenance.get("client_measure")
    if audit is None:
        return "unknown", "no client of ours sent the load, so nothing vouches for it"
    slots = audit.get("requested_concurrency")
    paper = record.provenance.get("client_certificate")
    if not paper:
        return "note", (
            "this host's client has no certificate, so only the run's own audit vouches for its "
            "latencies: make one with `joulemark certify`"
        )
    if slots is not None and slots > paper["streams"] * audit["processes"]:
        return "problem", (
            f"{slots} streams were asked for, and the client is certified for {paper['streams']} "
            "a process: use more of them (`--client-processes`)"
        )
    return None


def _load(record: RunRecord) -> tuple[Weight, str] | None:
    if "client_measure" in record.provenance:
        return None
    return "unknown", "no client of ours sent the load"


def _input(record: RunRecord) -> tuple[Weight, str] | None:
    if record.tokens.get("input_cached") is not None:
        return None
    return "unknown", "nobody said how much of the input came from a prefix cache"


def _tokens(record: RunRecord) -> tuple[Weight, str] | None:
    ways = [name for name in ("usage", "stream", "server_counter") if record.tokens.get(name)]
    if len(ways) > 1:
        return None
    if not ways and not record.tokens.get("generated"):
        return "problem", "no token was counted, so nothing is per token"
    return "note", f"tokens were counted in one way only ({(ways or ['the engine'])[0]})"


def _clock(record: RunRecord) -> tuple[Weight, str] | None:
    if wall_step_s(record.provenance) is not None:
        return None
    return "unknown", (
        "the wall clock was read at the start only; energies and latencies do not use it"
    )


def _sensors(record: RunRecord) -> tuple[Weight, str] | None:
    energies = record.windows[0]["energies"] if record.windows else []
    if not energies:
        return "problem", "no energy was metered in the window: see the other findings"
    alone = [one["boundary"] for one in energies if one["disagreement_ratio"] is None]
    if alone:
        return "note", (
            f"nothing to hold the joules of {', '.join(alone)} against: one method metered them"
        )
    return None


def _kind(record: RunRecord) -> tuple[Weight, str] | None:
    if record.power_kind == "measured":
        return None
    if record.power_kind is None:
        return "problem", "no power was metered: `joulemark doctor` says what this machine has"
    return "problem", (
        f"power was {record.power_kind.upper()}, not measured: its joules say nothing of this "
        "machine's true power; `joulemark doctor` says what it can measure"
    )


def _weights(record: RunRecord) -> tuple[Weight, str] | None:
    weights = record.provenance.get("engine", {}).get("weights")
    if weights == "real":
        return None
    if weights is None:
        return "unknown", "whether the weights are real was not recorded"
    return "problem", (
        f"the weights are not a trained model's ({weights}): answers, and how experts or "
        "speculation behave, are not those of the real one"
    )


SUBJECTS: Final[Mapping[str, Subject]] = {
    "ended": Subject(
        spoils="all",
        codes=frozenset({"incomplete", "nothing_sent"}),
        good="the run came to its planned end",
        look=_ended,
    ),
    "length": Subject(
        spoils="all",
        codes=frozenset(
            {"window_short", "window_few_residences", "window_too_short_for_energy",
             "window_too_short_for_rates"}
        ),
        good="the window is as long as was asked, and holds several requests one after another",
    ),
    "steady_state": Subject(
        spoils="all",
        codes=frozenset(
            {
                "engine_silent",
                "no_steady_window",
                "window_trend",
                "window_level_shift",
                "window_trimmed",
            }
        ),
        good="a steady stretch was found, without silence, trend or step",
        look=_steady,
    ),
    "throttling": Subject(
        spoils="all",
        codes=frozenset({"throttled", "power_limited"}),
        good="no throttle counter moved",
        look=_slowed,
    ),
    "start_temperature": Subject(
        spoils="energy",
        codes=frozenset({"hot_start", "start_temperature_unknown"}),
        good="the GPU was cool when the run began",
        look=_warm,
    ),
    "input": Subject(
        spoils="all",
        codes=frozenset({"input_cached"}),
        good="the engine computed what it was given, but for what prompts have in common",
        look=_input,
    ),
    "alone": Subject(
        spoils="all",
        codes=frozenset({"gpu_shared", "gpu_idle_joules", "gpu_not_used"}),
        good="nothing else was seen to use the machine",
        look=_alone,
    ),
    "client": Subject(
        spoils="latency",
        codes=frozenset({"client_overloaded", "client_busy", "requests_sent_late"}),
        good="the client kept up with the load",
        look=_client,
    ),
    "load": Subject(
        spoils="all",
        codes=frozenset(
            {"rate_not_delivered", "concurrency_not_delivered", "output_length_differs",
             "osl_differs", "length_not_fixed", "requests_failed", "latency_missing",
             "connections_closed_by_server", "streams_in_step"}
        ),
        good="the load that was asked for was delivered, and no request failed",
        look=_load,
    ),
    "tokens": Subject(
        spoils="energy",
        codes=frozenset(
            {"tokens_disagree", "tokens_not_counted", "tokens_spread_over_chunks", "usage_missing",
             "no_tokens", "no_tokens_in_window", "tokens_unknown", "tokens_of_command",
             "no_server_counter"}
        ),
        good="tokens were counted in more ways than one, and the counts agree",
        look=_tokens,
    ),
    "clock": Subject(
        spoils="energy",
        codes=frozenset({"wall_clock_stepped"}),
        good="the wall clock was not set during the run",
        look=_clock,
    ),
    "sensors": Subject(
        spoils="energy",
        codes=frozenset(
            {"methods_disagree", "cross_check_missing", "counter_lags", "counter_reset",
             "device_lost", "counter_stalled", "readings_end", "readings_begin_late", "power_gap",
             "idle_power_gap", "boundary_not_covered", "module_holds_cpu"}
        ),
        good="the ways of metering agree",
        look=_sensors,
    ),
    "power_kind": Subject(
        spoils="energy",
        codes=frozenset({"power_modelled", "power_not_measured", "power_elsewhere", "no_power"}),
        good="power was measured by the machine's own sensors",
        look=_kind,
    ),
    "weights": Subject(
        spoils="all",
        codes=frozenset(),
        good="the weights are real",
        look=_weights,
    ),
}  # fmt: skip
"""Every subject, in the order of reading."""

REMEDIES: Final[Mapping[str, str]] = {
    "incomplete": "repeat it",
    "window_too_short_for_energy": "run longer (load.duration_s)",
    "window_too_short_for_rates": "run longer (load.duration_s)",
    "window_level_shift": "see what else ran, warm up longer, and repeat",
    "engine_silent": "warm up with as many requests at once as are measured, and repeat",
    "window_trimmed": "warm up longer (load.warmup_request_count)",
    "methods_disagree": "see `joulemark doctor`, and repeat with a longer window",
    "power_gap": "see the sampler's fault in the record, and repeat",
    "tokens_disagree": "believe `usage` only if nobody else used the server",
    "counter_reset": "see the driver's log, and repeat",
    "device_lost": "see the driver's log, and repeat",
    "counter_stalled": "see the driver's log, and repeat",
}
"""What to do, for findings whose message does not say it."""
