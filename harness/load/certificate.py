"""Finds out up to how many streams and tokens a second this host's client can be trusted."""

from __future__ import annotations

import dataclasses
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness import __version__
from harness.files import write_atomically
from harness.mock.settings import MockSettings
from harness.plural import counted

from .findings import audit_findings
from .trial import Trial, TrialResult, run_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LAG_P50_LIMIT_S: Final = 0.002
LAG_P99_LIMIT_S: Final = 0.010
TPOT_ERROR_LIMIT_RATIO: Final = 0.01
TTFT_ERROR_P50_LIMIT_S: Final = 0.005
DELIVERED_LIMIT_RATIO: Final = 0.95
"""Below this share of what was offered, client or mock has fallen behind; either way we stop."""

STREAMS: Final = (64, 128, 256, 512, 1024, 2048, 4096)
_OSL_TOKENS: Final = 200
_ITL_S: Final = 0.01
_TTFT_S: Final = 0.05
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One load of the ladder and its verdict.

    Args:
        streams: requests in flight, each at 100 tokens a second, all in step.
        passed: all limits were kept.
        why_not: the first limit that was not; None if passed.
        result: every number.
    """

    streams: int
    passed: bool
    why_not: str | None
    result: TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """
    What this host's client can be trusted with, one process.

    Args:
        streams: the largest number of streams that passed; 0: not even the smallest.
        tok_per_s: tokens a second delivered at that load; None: none passed.
        steps: the ladder, as far as it was climbed.
        stopped_by: why it went no further.
        host: what the certificate is valid for.
        t_wall_ns: when it was made.
        joulemark: the version that made it.
        limits: what a step had to keep.
        version: of this format.
    """

    streams: int
    tok_per_s: float | None
    steps: tuple[Step, ...]
    stopped_by: str
    host: dict[str, Any]
    t_wall_ns: int
    joulemark: str
    limits: dict[str, float]
    version: int = _VERSION


def certify(
    *,
    budget_s: float = 60.0,
    streams: Sequence[int] = STREAMS,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Certificate:
    """
    Climb the ladder of *streams* until a limit is broken or the time is up.

    The mock shares the host with the client. A step is failed, too, when the
    mock falls behind, so the certificate may be too low where cores are few,
    never too high.

    Args:
        budget_s: no step is begun that would end after it.
        streams: ascending.
        on_step: told of each step, for a display.
    """
    end_s = time.monotonic() + budget_s
    each_s = max(budget_s / len(streams) - 3.0, 2.0)
    steps: list[Step] = []
    stopped_by = "the ladder's end"
    for count in streams:
        if time.monotonic() + each_s + 3.0 > end_s and steps:
            stopped_by = f"the budget of {budget_s:g} s"
            break
        step = _step(count, each_s)
        steps.append(step)
        on_step(step)
        if step.why_not is not None:
            stopped_by = f"{count} streams: {step.why_not}"
            break
    best = next((step for step in reversed(steps) if step.passed), None)
    return Certificate(
        streams=0 if best is None else best.streams,
        tok_per_s=None if best is None else best.result.delivered_tok_per_s,
        steps=tuple(steps),
        stopped_by=stopped_by,
        host=host_facts(),
        t_wall_ns=time.time_ns(),
        joulemark=__version__,
        limits={
            "lag_p50_s": LAG_P50_LIMIT_S,
            "lag_p99_s": LAG_P99_LIMIT_S,
            "tpot_error_ratio": TPOT_ERROR_LIMIT_RATIO,
            "ttft_error_p50_s": TTFT_ERROR_P50_LIMIT_S,
            "delivered_ratio": DELIVERED_LIMIT_RATIO,
        },
    )


def _step(streams: int, duration_s: float) -> Step:
    trial = Trial(
        streams=streams,
        osl_tokens=_OSL_TOKENS,
        duration_s=duration_s,
        settings=MockSettings(ttft_s=_TTFT_S, itl_s=_ITL_S, batch=True),
    )
    with tempfile.TemporaryDirectory(prefix="joulemark-certify-") as folder:
        result = run_trial(trial, Path(folder))
    why_not = verdict(result)
    return Step(streams=streams, passed=why_not is None, why_not=why_not, result=result)


def verdict(result: TrialResult) -> str | None:
    """The first limit a trial broke, in words; None: it kept them all."""
    if result.failed or result.unmatched_requests:
        return (
            f"{counted(result.failed, 'request')} failed, {result.unmatched_requests} had "
            "other chunks than were written"
        )
    checks = (
        ("token lag p50", result.lag_p50_s, LAG_P50_LIMIT_S, 1e3, "ms"),
        ("token lag p99", result.lag_p99_s, LAG_P99_LIMIT_S, 1e3, "ms"),
        ("TTFT error p50", result.ttft_error_p50_s, TTFT_ERROR_P50_LIMIT_S, 1e3, "ms"),
        ("TPOT error", result.tpot_error_mean_ratio, TPOT_ERROR_LIMIT_RATIO, 100, "%"),
    )
    for name, value, limit, scale, unit in checks:
        if value is None:
            return f"{name} could not be measured"
        if abs(value) > limit:
            return f"{name} was {value * scale:.3g} {unit}, limit {limit * scale:g} {unit}"
    for finding in audit_findings(result.audit):
        if finding.code == "client_overloaded":
            return finding.message  # the kernel stamps on even for a client that cannot keep up
    got, asked = result.delivered_tok_per_s, result.offered_tok_per_s
    if got is None or got < asked * DELIVERED_LIMIT_RATIO:
        return f"{0.0 if got is None else got:.0f} tokens/s arrived of {asked:.0f} offered"
    return None


def host_facts() -> dict[str, Any]:
    """What a certificate is bound to; no name of the host."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def default_path() -> Path:
    """Where the host's certificate is kept: `$XDG_STATE_HOME/joulemark/client.json`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "joulemark" / "client.json"


def store(certificate: Certificate, path: Path) -> None:
    """Keep the certificate, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = orjson.dumps(dataclasses.asdict(certificate), option=orjson.OPT_INDENT_2)
    write_atomically(path, data + b"\n")


def recall(path: Path) -> dict[str, Any] | None:
    """
    The certificate for a run's provenance, short; None: there is none for this host as it is now.

    A certificate of another CPU, kernel or Python says nothing and is passed over.
    """
    try:
        raw = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(raw, dict) or raw.get("version") != _VERSION:
        return None
    if raw.get("host") != host_facts():
        return None
    return {
        key: raw[key] for key in ("streams", "tok_per_s", "stopped_by", "t_wall_ns", "joulemark")
    }
