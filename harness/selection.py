"""Chooses engine and power source where the configuration says `auto`, and says why."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import plugins
from .errors import PowerUnavailableError
from .record import Finding
from .schema import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .contracts import Engine, PowerSource
    from .settings import PowerConfig, RunConfig

_HUB_MODEL: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"
HOW_TO_MEASURE: Final = (
    "power is modelled from CPU time, not measured: to measure it, run on a machine with an "
    "NVIDIA GPU and an engine on it, or where /sys/class/powercap can be read (bare metal, root)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    What a run will use.

    Args:
        engine_kind: name of the plugin.
        engine: its settings, not prepared yet.
        sources: power sources by name.
        findings: why, where the choice was ours.
    """

    engine_kind: str
    engine: Engine
    sources: tuple[str, ...]
    findings: tuple[Finding, ...]


def select(config: RunConfig) -> Selection:
    """
    Make the `auto` parts of a configuration definite.

    The engine must run on what is metered. So an engine on a GPU is metered by
    NVML; one on the CPU by RAPL, or, where that cannot be read, by the CPU
    model, whose joules are labelled `modelled` wherever they appear.

    Args:
        config: as parsed.

    Raises:
        PowerUnavailableError: an engine on a GPU, and NVML cannot be read.
    """
    has_gpu = _opens("nvml", config.power)
    findings = []
    automatic = config.power.sources == ("auto",)
    kind, engine = config.engine_kind, config.engine
    if engine is None:
        kind, engine = _engine(has_gpu=has_gpu)
        if automatic and has_gpu and engine.runs_on == "cpu":
            findings.append(
                Finding(
                    code="gpu_not_used",
                    severity="info",
                    message="this machine has a GPU, but no engine that runs on it is installed, "
                    "so the engine and the meter are the CPU's: `pip install vllm` beside "
                    "joulemark, or name a running server with --url",
                )
            )
    if not automatic:
        findings += _mismatch(engine, config.power.sources, has_gpu=has_gpu)
        return Selection(
            engine_kind=kind,
            engine=engine,
            sources=config.power.sources,
            findings=tuple(findings),
        )
    sources, why = _sources(engine, config.power, has_gpu=has_gpu)
    return Selection(engine_kind=kind, engine=engine, sources=sources, findings=(*findings, *why))


def _engine(*, has_gpu: bool) -> tuple[str, Engine]:
    """The best engine installed: on the GPU if there is one, else the embedded llama.cpp."""
    if has_gpu:
        for kind in ("vllm", "transformers"):
            if kind in plugins.kinds("engine") and importlib.util.find_spec(kind):
                return kind, build(plugins.load("engine", kind), {"model": _HUB_MODEL}, where=kind)
    return "llama_cpp", plugins.load("engine", "llama_cpp")()


def _sources(
    engine: Engine, power: PowerConfig, *, has_gpu: bool
) -> tuple[tuple[str, ...], list[Finding]]:
    if engine.runs_on == "gpu":
        if has_gpu:
            return ("nvml",), []
        raise PowerUnavailableError(
            "the engine runs on a GPU, but NVML reads none on this machine",
            remedy="`joulemark doctor` says why; or choose another source, e.g. "
            "`-s 'power.sources=[\"prometheus\"]'`",
        )
    if engine.runs_on == "elsewhere":
        if has_gpu:
            return ("nvml",), [_elsewhere("nvml")]
        return (), [
            Finding(
                code="power_elsewhere",
                severity="warning",
                message="the engine may run on another machine, so no power was metered: say "
                "`-s engine.runs_on=gpu` or `cpu` if it runs on this one",
            )
        ]
    if _opens("rapl", power):
        return ("rapl",), []
    return ("cpu_model",), [
        Finding(code="power_modelled", severity="warning", message=HOW_TO_MEASURE)
    ]


def _mismatch(engine: Engine, sources: Sequence[str], *, has_gpu: bool) -> list[Finding]:
    """What a reader must know when the user's own choice meters something else than the engine."""
    if "cpu_model" in sources:
        return [Finding(code="power_modelled", severity="warning", message=HOW_TO_MEASURE)]
    if engine.runs_on == "cpu" and has_gpu and "nvml" in sources:
        return [
            Finding(
                code="gpu_idle_joules",
                severity="warning",
                message="the engine runs on the CPU and the meter reads the GPU: its joules are "
                "those of an idle GPU, not of the tokens",
            )
        ]
    if engine.runs_on == "elsewhere":
        return [_elsewhere(", ".join(sources))]
    return []


def _elsewhere(sources: str) -> Finding:
    return Finding(
        code="power_elsewhere",
        severity="warning",
        message=f"{sources} meters this machine; whether the engine runs on it is not known: say "
        "`-s engine.runs_on=gpu` or `cpu` if it does",
    )


def _opens(kind: str, power: PowerConfig) -> bool:
    """Whether a source finds something to read here."""
    options: dict[str, Any] = power.options.get(kind, {})
    source: PowerSource = build(plugins.load("power", kind), options, where=f"power.{kind}")
    opened: Callable[[], Any] = source.open
    try:
        opened().close()
    except PowerUnavailableError:
        return False
    return True
