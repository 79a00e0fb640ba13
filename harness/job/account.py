"""Joules and joules per token of one batch job on one node, from a reading at each of its ends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from harness.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .readings import Reading

SCHEMA_VERSION: Final = 1
"""Version of a job's document; history: 1 (0.1.0), the first."""

_OWNER: Final = ("model_name", "engine", "instance_id")
_DEVICE: Final = ("uuid", "boundary", "power_kind")
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What the scheduler says.

    Args:
        job_id: its number.
        node: the node's name.
        gpus: as Slurm numbers or names them; None: it names none.
    """

    job_id: str
    node: str
    gpus: tuple[str, ...] | None


class _Samples:
    """The samples of one exposition, summed by the labels asked for."""

    def __init__(self, text: str) -> None:
        self._rows = [
            (sample.name, sample.labels, float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def by(self, name: str, keys: Sequence[str], **wanted: str) -> dict[Words, float]:
        found: dict[Words, float] = {}
        for own, labels, value in self._rows:
            if own == name and all(labels.get(key) == word for key, word in wanted.items()):
                words = tuple(labels.get(key, "") for key in keys)
                found[words] = found.get(words, 0.0) + value
        return found

    def one(self, name: str, **wanted: str) -> float | None:
        return self.by(name, (), **wanted).get(())


def account(job: Job, begin: Reading | None, end: Reading) -> dict[str, Any]:
    """
    The job's document.

    Energy is what the daemon's counters gained between the two readings, or, where it
    was silent at one of them, what NVML's own counters gained; tokens only the daemon
    knows. What cannot be known is null, and a finding says why.

    Args:
        job: which, and on what.
        begin: taken as it began; None: nobody did.
        end: taken as it ended.
    """
    findings: list[Finding] = []
    found: dict[str, Any] = {"source": None, "devices": [], "models": []}
    if begin is None:
        findings.append(_note("begin_missing", "invalid", "no reading was taken as the job began"))
    else:
        chosen = _devices(job, begin, end, findings)
        if chosen is not None:
            found = _by_daemon(begin, end, chosen, findings) or _by_nvml(
                begin, end, chosen, findings
            )
    return {
        "schema_version": SCHEMA_VERSION,
        "job_id": job.job_id,
        "node": job.node,
        "t_begin_s": begin.t_s if begin else None,
        "t_end_s": end.t_s,
        "duration_s": end.t_s - begin.t_s if begin else None,
        "source": found["source"],
        "energies": _energies(found["devices"], found["models"]),
        "devices": found["devices"],
        "models": found["models"],
        "findings": [asdict(one) for one in findings],
    }


def _note(code: str, severity: Any, message: str) -> Finding:  # noqa: ANN401 - a literal
    return Finding(code=code, severity=severity, message=message)


def _devices(
    job: Job, begin: Reading, end: Reading, findings: list[Finding]
) -> frozenset[str] | None:
    """UUIDs of the job's devices; empty: all there are. None: they cannot be told."""
    if job.gpus is None:
        text = "Slurm names no GPU of this job: the joules are those of all devices of the node"
        findings.append(_note("devices_of_the_node", "warning", text))
        return frozenset()
    counters = begin.counters or end.counters
    by_name = {one.uuid: one.uuid for one in counters}
    # With one GPU cut into MIG devices, Slurm's numbers after it are no longer the driver's.
    if all(one.minor is not None for one in counters):
        by_name |= {str(one.minor): one.uuid for one in counters}
    unknown = [name for name in job.gpus if name not in by_name]
    if not unknown:
        return frozenset(by_name[name] for name in job.gpus)
    why = begin.counters_fault or "none has that number, or one is cut into MIG devices"
    text = f"NVML does not say which device is Slurm's GPU {unknown[0]} ({why})"
    findings.append(_note("devices_not_known", "invalid", text))
    return None


def _by_daemon(
    begin: Reading, end: Reading, chosen: frozenset[str], findings: list[Finding]
) -> dict[str, Any] | None:
    """From the daemon's counters; None where they do not serve."""
    if begin.exposition is None or end.exposition is None:
        why = begin.exposition_fault or end.exposition_fault or ""
        text = f"the exporter gave no metrics at one end of the job, so no tokens: {why}"
        findings.append(_note("exporter_silent", "warning", text))
        return None
    try:
        first, last = _Samples(begin.exposition), _Samples(end.exposition)
    except ValueError as error:
        text = f"what answered is no exporter ({error})"
        findings.append(_note("exporter_silent", "warning", text))
        return None
    starts = [one.one("process_start_time_seconds") for one in (first, last)]
    if starts[0] != starts[1] and last.one("joulemark_findings", code="state_not_kept"):
        text = "the exporter began anew during the job and keeps no state: set its state_file"
        findings.append(_note("exporter_restarted", "warning", text))
        return None
    name = "joulemark_device_energy_joules_total"
    before, after = first.by(name, _DEVICE), last.by(name, _DEVICE)
    mine = [key for key in after if not chosen or key[0] in chosen]
    lost = chosen - {key[0] for key in mine}
    if lost or not mine:
        text = f"the exporter does not meter {min(lost) if lost else 'any device'}"
        findings.append(_note("device_not_metered", "warning", text))
        return None
    name = "joulemark_device_uncovered_seconds_total"
    waits = _gained(first.by(name, ("uuid",)), last.by(name, ("uuid",)))
    devices: list[dict[str, Any]] = [
        {
            **dict(zip(_DEVICE, key, strict=True)),
            "energy_j": _energy(before.get(key), after[key], key[0], findings),
            "uncovered_s": waits.get((key[0],)) or 0.0,
        }
        for key in sorted(mine)
    ]
    uncovered_s = sum(one["uncovered_s"] for one in devices)
    if uncovered_s > 0:
        text = f"{uncovered_s:.3g} s of device time were not metered and are in no joule here"
        findings.append(_note("uncovered", "warning", text))
    uuids = {key[0] for key in mine}
    return {
        "source": "exporter",
        "devices": devices,
        "models": _models(first, last, uuids, findings),
    }


def _energy(before: float | None, after: float, uuid: str, findings: list[Finding]) -> float | None:
    if before is not None and after >= before:
        return after - before
    why = "was not there as the job began" if before is None else "went back during the job"
    text = f"the energy counter of {uuid} {why}"
    findings.append(_note("counter_not_usable", "invalid", text))
    return None


def _gained(before: Mapping[Words, float], after: Mapping[Words, float]) -> dict[Words, float]:
    """What each counter gained; one that appeared meanwhile began at 0."""
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def _models(
    first: _Samples, last: _Samples, uuids: set[str], findings: list[Finding]
) -> list[dict[str, Any]]:
    """Every model instance that drew joules on the job's devices, with its tokens."""
    keys = (*_OWNER, "boundary", "power_kind")
    name = "joulemark_model_energy_joules_total"
    drawn = _gained(first.by(name, ("uuid", *keys)), last.by(name, ("uuid", *keys)))
    made = {
        kind: _gained(
            first.by(f"joulemark_{kind}_tokens_total", _OWNER),
            last.by(f"joulemark_{kind}_tokens_total", _OWNER),
        )
        for kind in ("computed", "cached", "generated")
    }
    rows: dict[Words, float] = {}
    for key, joules in drawn.items():
        if key[0] in uuids and joules > 0:
            rows[key[1:]] = rows.get(key[1:], 0.0) + joules
    elsewhere = {key[1:4] for key, joules in drawn.items() if key[0] not in uuids and joules > 0}
    found = []
    for words, joules in sorted(rows.items()):
        owner = words[:3]
        tokens: dict[str, float | None]
        tokens = {kind: gained.get(owner) for kind, gained in made.items()}
        if owner in elsewhere:
            text = f"{owner[2]} also runs on devices of other jobs: its tokens are not all of this"
            findings.append(_note("engine_spans_jobs", "warning", text))
            tokens = dict.fromkeys(tokens)
        generated = tokens["generated"]
        found.append(
            {
                **dict(zip(keys, words, strict=True)),
                "energy_j": joules,
                "computed_input_tokens": tokens["computed"],
                "cached_input_tokens": tokens["cached"],
                "output_tokens": generated,
                "j_per_output_token": joules / generated if generated else None,
            }
        )
    return found


def _by_nvml(
    begin: Reading, end: Reading, chosen: frozenset[str], findings: list[Finding]
) -> dict[str, Any]:
    """From the GPUs' own counters: joules, and no tokens."""
    before = {one.uuid: one.energy_j for one in begin.counters}
    mine = [one for one in end.counters if not chosen or one.uuid in chosen]
    if not mine or not before:
        why = begin.counters_fault or end.counters_fault or "the job's devices are not among them"
        findings.append(_note("no_energy", "invalid", f"no counter of NVML's either: {why}"))
    devices = [
        {
            "uuid": one.uuid,
            "boundary": one.boundary,
            "power_kind": one.power_kind,
            "energy_j": _energy(before.get(one.uuid), one.energy_j, one.uuid, findings),
            "uncovered_s": None,
        }
        for one in mine
        if before
    ]
    return {"source": "nvml" if devices else None, "devices": devices, "models": []}


def _energies(
    devices: Sequence[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """
    Sums over the devices of one boundary and kind, idle and unattributed joules included.

    A sum over devices of which one is not known is not known; joules per token need the
    tokens of every model instance there.
    """
    found = []
    several = list(models)
    for boundary, kind in dict.fromkeys((one["boundary"], one["power_kind"]) for one in devices):
        key = {"boundary": boundary, "power_kind": kind}
        mine = [one["energy_j"] for one in devices if key.items() <= one.items()]
        joules = None if None in mine else sum(mine)
        made = [one["output_tokens"] for one in several if key.items() <= one.items()]
        tokens = None if not made or None in made else sum(made)
        ratio = joules / tokens if joules is not None and tokens else None
        found.append(
            {**key, "energy_j": joules, "output_tokens": tokens, "j_per_output_token": ratio}
        )
    return found
