"""Says whether runs may be compared, by name of what differs, and what changed that may matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.errors import ConfigError
from harness.record import RunRecord

from .sets import RunSet

NEVER_ALLOWED: Final = frozenset({"power_kind"})
"""A modelled or made-up joule is not the same kind of thing as a measured one."""

# What the configuration says and a run's numbers do not depend on, or what is judged as provenance.
_NOT_LIKENESS: Final = ("name", "seed", "engine.", "power.options", "power.power_hz", "sources")
_ENGINE_NOISE: Final = {"port", "url", "host", "api_key", "model", "kind"}
_VOLATILE: Final = {
    "temperature_c",
    "throttle_reasons",
    "throttle_counters",
    "compute_pids",
    "sm_clock_mhz",
    "load_average_1min",
    "exit_code",
    "model_sha256",
}
_CACHED_RATIO: Final = 0.10
"""Shares of cached input of like runs may differ by this: what a cache holds is in part chance."""
_ABOUT_THE_RUN: Final = ("anchor", "client_", "power", "engine.port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """
    Something that changed between base and candidate and may be the cause.

    Args:
        key: dotted, e.g. `engine.version`.
        base: its values in the base's runs, sorted, as text.
        cand: its values in the candidate's.
    """

    key: str
    base: tuple[str, ...]
    cand: tuple[str, ...]


def check_like(base: RunSet, cand: RunSet, *, allow: Sequence[str] = ()) -> list[str]:
    """
    Refuse to compare what cannot be compared.

    Args:
        base: one set.
        cand: the other.
        allow: keys that may differ; `load` allows everything below it.

    Returns:
        Keys that differ and were allowed to.

    Raises:
        ConfigError: a key that must agree differs between runs, or a run is in both
            sets, was cut short, or is marked invalid.
    """
    both = sorted(set(base.ids) & set(cand.ids))
    if both:
        raise ConfigError(
            f"{both[0]} is in both sets, and a run is always like itself",
            remedy="compare different runs",
        )
    return _check([base, cand], allow)


def check_set(runs: RunSet, *, allow: Sequence[str] = ()) -> list[str]:
    """
    Refuse a set whose runs are not alike among themselves, or cannot be relied on.

    Returns:
        Keys that differ and were allowed to.

    Raises:
        ConfigError: as `check_like`.
    """
    return _check([runs], allow)


def _check(sets: Sequence[RunSet], allow: Sequence[str]) -> list[str]:
    allowed = [key for run_set in sets for key in _usable(run_set, allow)]
    known = [(run_set.label, record) for run_set in sets for record in run_set.records]
    described = [like_values(record) for _, record in known]
    # What can never be allowed is named first: nobody should allow their way to it.
    keys = {key for one in described for key in one}
    for key in sorted(keys, key=lambda one: (one not in NEVER_ALLOWED, one)):
        having = [place for place, one in enumerate(described) if key in one]
        first = having[0]
        other = next((at for at in having if described[at][key] != described[first][key]), None)
        if other is None:
            continue
        if _is_allowed(key, allow) and key not in NEVER_ALLOWED:
            allowed.append(key)
            continue
        places = [
            f"{described[at][key]} in {known[at][1].run_id} ({known[at][0]})"
            for at in (first, other)
        ]
        raise ConfigError(
            f"the runs are not alike: {key} is {places[0]} and {places[1]}",
            remedy="this difference is never allowed: a made-up or modelled joule cannot be held "
            "against a measured one"
            if key in NEVER_ALLOWED
            else f"make like runs, or say that it may differ: `--allow {key}`",
        )
    return allowed + _cached_alike(known, allow)


def _cached_alike(known: Sequence[tuple[str, RunRecord]], allow: Sequence[str]) -> list[str]:
    """Refuse runs of which some computed input that others had from a prefix cache."""
    shares = [
        (record.tokens["input_cached"] / record.tokens["input"], f"{record.run_id} ({label})")
        for label, record in known
        if record.tokens.get("input") and record.tokens.get("input_cached") is not None
    ]
    if not shares or (most := max(shares))[0] - (least := min(shares))[0] <= _CACHED_RATIO:
        return []
    if _is_allowed("input_cached", allow):
        return ["input_cached"]
    raise ConfigError(
        f"the runs are not alike: a prefix cache served {least[0]:.0%} of the input of {least[1]} "
        f"and {most[0]:.0%} of that of {most[1]}",
        remedy="use another run.seed on an engine that has met the prompts, or start it anew; if "
        "the cache is what is compared: `--allow input_cached`",
    )


def like_values(record: RunRecord) -> dict[str, str]:
    """What must agree for two runs to be comparable: key → value as text."""
    found = {
        key: str(value)
        for key, value in _flat(record.config)
        if not key.startswith(_NOT_LIKENESS) and key != "engine"
    }
    engine = record.provenance.get("engine", {})
    asked = record.config.get("engine")
    named = asked.get("model") if isinstance(asked, Mapping) else None
    model = engine.get("model_sha256") or named
    if isinstance(model, str):
        found["model"] = model[:16] if engine.get("model_sha256") else model
    found["power_kind"] = str(record.power_kind)
    energies = record.windows[0]["energies"] if record.windows else []
    for energy in energies:
        found[f"energy_method.{energy['boundary']}"] = str(energy["method"])
    found["boundary"] = ", ".join(sorted(energy["boundary"] for energy in energies)) or "none"
    machine = record.provenance.get("machine", {})
    for key in ("cpu", "cpus_usable", "architecture"):
        if key in machine:
            found[f"machine.{key}"] = str(machine[key])
    gpus = list(_gpus(record))
    if gpus:
        found["gpu"] = ", ".join(sorted(str(gpu.get("name")) for gpu in gpus))
        found["gpu_power_limit_w"] = ", ".join(
            sorted(str(gpu.get("power_limit_w")) for gpu in gpus)
        )
        found["gpu_mig_mode"] = ", ".join(sorted(str(gpu.get("mig_mode")) for gpu in gpus))
    return found


def suspects(base: RunSet, cand: RunSet) -> list[Suspect]:
    """
    What is one thing in every base run and another in every candidate run.

    What varies within a set cannot be what tells the sets apart, so it is left out.
    """
    sides = [[dict(_provenance(record)) for record in one.records] for one in (base, cand)]
    found = []
    for key in sorted({key for side in sides for one in side for key in one}):
        values = [tuple(sorted({one.get(key, "(not recorded)") for one in side})) for side in sides]
        if not set(values[0]) & set(values[1]):
            found.append(Suspect(key=key, base=values[0], cand=values[1]))
    return found


def _usable(run_set: RunSet, allow: Sequence[str]) -> list[str]:
    allowed = []
    for record in run_set.records:
        invalid = [finding for finding in record.findings if finding.severity == "invalid"]
        for key, problem in (
            ("incomplete", record.status != "complete"),
            ("invalid", any(finding.code != "incomplete" for finding in invalid)),
        ):
            if problem and not _is_allowed(key, allow):
                why = "; ".join(finding.message for finding in invalid) or "it was cut short"
                raise ConfigError(
                    f"{record.run_id} ({run_set.label}) cannot be relied on: {why}",
                    remedy=f"leave it out and repeat it, or take it all the same: `--allow {key}`",
                )
            if problem:
                allowed.append(f"{key} ({record.run_id})")
    return allowed


def _is_allowed(key: str, allow: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in allow)


def _provenance(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Everything about the machine and the software that should not change by itself."""
    for key, value in _flat(record.provenance):
        if not key.startswith(_ABOUT_THE_RUN) and key.rpartition(".")[2] not in _VOLATILE:
            yield key, str(value)
    engine = record.config.get("engine")
    if isinstance(engine, Mapping):
        yield "engine.kind", str(engine.get("kind"))
        for key, value in _flat(engine):
            if key not in _ENGINE_NOISE:
                yield f"engine.config.{key}", str(value)
    yield "seed", str(record.config.get("seed"))
    at_start = record.provenance.get("power", {}).get("at_start", {})
    for source, facts in at_start.items():
        for key, value in _flat({name: one for name, one in facts.items() if name != "gpus"}):
            if key.rpartition(".")[2] not in _VOLATILE and not isinstance(value, float):
                yield f"power.{source}.{key}", str(value)
    gpus = list(_gpus(record))
    for name in sorted({name for gpu in gpus for name in gpu} - _VOLATILE):
        yield f"gpu.{name}", ", ".join(sorted(str(gpu.get(name)) for gpu in gpus))


def _gpus(record: RunRecord) -> Iterator[Mapping[str, Any]]:
    for facts in record.provenance.get("power", {}).get("at_start", {}).values():
        yield from facts.get("gpus", {}).values()


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
