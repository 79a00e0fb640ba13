"""Turns a preset or a TOML file, and overrides, into the settings of a run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

from . import plugins
from .errors import ConfigError
from .schema import build, known_keys, typed, unknown
from .settings import CostConfig, LoadConfig, PowerConfig, RunConfig, WindowConfig

PRESETS: Final = Path(__file__).parent.parent / "workloads" / "presets"


def presets() -> dict[str, str]:
    """Names of the presets → what each says of itself in its first comment."""
    found = {}
    for path in sorted(PRESETS.glob("*.toml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found[path.stem] = first.removeprefix("#").strip()
    return found


def read(source: str) -> dict[str, Any]:
    """
    The raw table of a preset or a TOML file.

    Args:
        source: a preset's name, or the path of a file.

    Raises:
        ConfigError: neither exists, or it is not TOML.
    """
    path = Path(source)
    if source in presets():
        path = PRESETS / f"{source}.toml"
    elif not path.is_file():
        raise unknown("preset or configuration file", source, presets())
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", remedy="mend the line it names"
        ) from error


def override(table: dict[str, Any], assignment: str) -> None:
    """
    Apply one `section.key=value`; the value is TOML, or else taken as a string.

    Args:
        table: changed in place.
        assignment: e.g. `load.concurrency=8`.

    Raises:
        ConfigError: it is not of that form.
    """
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"the override {assignment!r} is not of the form section.key=value",
            remedy="write e.g. `-s load.concurrency=8`",
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    place = table
    for key in keys[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ConfigError(
                f"the override {assignment!r} goes below {key!r}, which is a value",
                remedy=f"set {key} itself",
            )
    place[keys[-1]] = value


def parse(table: dict[str, Any], *, name: str) -> RunConfig:
    """
    The run that a table describes.

    Args:
        table: sections `engine`, `workload`, `load`, `power`, `window`, `cost`,
            `run`; each may be missing. `sweep` is for `joulemark sweep` alone.
        name: used where `run.name` is not set.

    Raises:
        ConfigError: an unknown section or key, a value of the wrong type or out
            of range; the message names it and what there is.
    """
    sections = ["run", "engine", "workload", "load", "power", "window", "cost", "sweep"]
    for section, value in table.items():
        if section not in sections:
            raise unknown("section", section, sections)
        if not isinstance(value, dict):
            raise ConfigError(
                f"{section!r} is {value!r}, not a table", remedy=f"write [{section}] above its keys"
            )
    run = dict(table.get("run", {}))
    known_keys("run", run, ["name", "seed", "artifact_dir"])
    engine_kind, engine = _plugin("engine", table.get("engine", {}), default="auto")
    workload_kind, workload = _plugin("workload", table.get("workload", {}), default="synthetic")
    power = dict(table.get("power", {}))
    own_options = {key: power.pop(key) for key in list(power) if isinstance(power[key], dict)}
    for source, options in own_options.items():
        if source in plugins.kinds("power"):
            build(plugins.load("power", source), options, where=f"power.{source}")
    return RunConfig(
        name=typed("run.name", run.get("name", name), str),
        seed=typed("run.seed", run.get("seed", 0), int),
        artifact_dir=Path(typed("run.artifact_dir", run.get("artifact_dir", "runs"), str)),
        engine_kind=engine_kind,
        engine=engine,
        workload_kind=workload_kind,
        workload=workload,
        load=build(LoadConfig, table.get("load", {}), where="load"),
        power=build(PowerConfig, {**power, "options": own_options}, where="power"),
        window=build(WindowConfig, table.get("window", {}), where="window"),
        cost=build(CostConfig, table.get("cost", {}), where="cost"),
    )


def _plugin(group: str, section: dict[str, Any], *, default: str) -> tuple[str, Any]:
    values = dict(section)
    kind = typed(f"{group}.kind", values.pop("kind", default), str).replace("-", "_")
    if group == "engine":
        # [engine.vllm] holds what only vLLM is told, whichever engine is chosen.
        known = plugins.kinds(group)
        own = {key: values.pop(key) for key in list(values) if key in known}
        values = own.get(kind, {}) | values
    if kind == "auto" and group == "engine":
        known_keys(group, values, [])
        return kind, None
    return kind, build(plugins.load(group, kind), values, where=group)
