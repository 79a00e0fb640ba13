"""What a sweep runs and in which order: cases and a grid of settings, repeated, by engine."""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from harness import config as configuration
from harness.errors import ConfigError
from harness.schema import build

if TYPE_CHECKING:
    from harness.settings import RunConfig

_NEEDS_RESTART: Final = ("engine", "power")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """
    How runs are varied: `[sweep]`.

    Args:
        grid: setting, as for `-s`, e.g. "load.concurrency" -> its values. All
            combinations are run.
        cases: settings that go together, e.g. lengths of prompt and answer; each case
            is run at every combination of the grid.
        repeats: of each combination, each with a seed of its own.
        order: `random`: drawn from run.seed, so that a drift of the machine falls on
            all points alike; `as_listed`: the grid's own order.
        cool_down_s: waited between two runs.
        plateau_ratio: with `as_listed`: stop after a point whose output throughput is
            not this share above the point before; None: run all.
    """

    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    cases: tuple[dict[str, Any], ...] = ()
    repeats: int = 1
    order: Literal["random", "as_listed"] = "random"
    cool_down_s: float = 0.0
    plateau_ratio: float | None = None

    def __post_init__(self) -> None:
        if not all(self.grid.values()) or not (self.grid or self.cases) or not all(self.cases):
            raise ConfigError(
                f"sweep.{'cases' if self.cases else 'grid'} has no values to go through",
                remedy='write e.g. [sweep.grid] and below it "load.concurrency" = [1, 2, 4]',
            )
        for case in self.cases:
            if both := sorted(self.grid.keys() & case.keys()):
                raise ConfigError(
                    f"{both[0]!r} is in sweep.grid and in sweep.cases",
                    remedy="leave it in one of them",
                )
        if self.repeats < 1:
            raise ConfigError(f"sweep.repeats is {self.repeats}, below 1", remedy="set 1 or more")
        if self.cool_down_s < 0:
            raise ConfigError(
                f"sweep.cool_down_s is {self.cool_down_s}, below 0", remedy="set 0 or more seconds"
            )
        several = len(self.grid) != 1 or self.cases
        if self.plateau_ratio is not None and (self.order == "random" or several):
            raise ConfigError(
                "sweep.plateau_ratio needs one setting that rises in the order given",
                remedy="set sweep.order = 'as_listed' and put one key into [sweep.grid]",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """
    One run of a sweep.

    Args:
        key: unique in the sweep, and the same whenever it is planned again.
        values: setting -> value, of the grid.
        repeat: from 0.
        settings: everything the run depends on.
        engine: the same for points that can share one started engine.
    """

    key: str
    values: dict[str, Any]
    repeat: int
    settings: RunConfig
    engine: str


def plan(table: dict[str, Any], *, name: str) -> tuple[SweepConfig, list[Point]]:
    """
    The runs of a sweep in the order they are made.

    Args:
        table: as read from the file, `[sweep]` included.
        name: used where `run.name` is not set.

    Returns:
        Points that share an engine follow each other, so that it is started once;
        within and between such groups the order is as `sweep.order` says. No two runs of one
        engine have the same seed: it would have their prompts in its prefix cache. The same
        runs of two engines have.

    Raises:
        ConfigError: no `[sweep]`, or a combination that is no valid run.
    """
    if not isinstance(table.get("sweep"), dict):
        raise ConfigError(
            "there is no [sweep] in this configuration",
            remedy='add one, e.g. [sweep.grid] with "load.concurrency" = [1, 2, 4]',
        )
    sweep: SweepConfig = build(SweepConfig, table["sweep"], where="sweep")
    groups: dict[str, list[Point]] = {}
    keys: set[str] = set()
    combinations = itertools.product(sweep.cases or ({},), *sweep.grid.values())
    for case, *values in combinations:
        chosen = {**case, **dict(zip(sweep.grid, values, strict=True))}
        own = _table_of(table, chosen)
        engine = _digest({section: own.get(section, {}) for section in _NEEDS_RESTART})
        for repeat in range(sweep.repeats):
            offset = len(groups.get(engine, []))
            point = _point(own, chosen, repeat, engine=engine, seed_offset=offset, name=name)
            if point.key in keys:
                raise ConfigError(f"the sweep has {chosen} twice", remedy="leave one of them out")
            keys.add(point.key)
            groups.setdefault(engine, []).append(point)
    ordered = list(groups.values())
    if sweep.order == "random":
        seed = int(table.get("run", {}).get("seed", 0))
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        draw.shuffle(ordered)
        for group in ordered:
            draw.shuffle(group)
    return sweep, [point for group in ordered for point in group]


def _point(
    own: dict[str, Any],
    chosen: dict[str, Any],
    repeat: int,
    *,
    engine: str,
    seed_offset: int,
    name: str,
) -> Point:
    run = dict(own.get("run", {}))
    base_name = str(run.get("name", name))
    run["seed"] = int(run.get("seed", 0)) + seed_offset
    digest = _digest(chosen)
    run["name"] = f"{base_name}-{digest}-r{repeat}"
    settings = configuration.parse({**own, "run": run}, name=base_name)
    return Point(
        key=f"{digest}-r{repeat}", values=chosen, repeat=repeat, settings=settings, engine=engine
    )


def _table_of(table: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    own = copy.deepcopy({key: value for key, value in table.items() if key != "sweep"})
    for setting, value in chosen.items():
        _put(own, setting, value)
    return own


def _put(table: dict[str, Any], setting: str, value: Any) -> None:  # noqa: ANN401 - any TOML value
    *sections, key = setting.split(".")
    if not sections:
        raise ConfigError(
            f"the sweep has a key {setting!r} without a section",
            remedy='write section and key in one pair of quotes: "load.concurrency"',
        )
    place = table
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value


def _digest(value: Any) -> str:  # noqa: ANN401 - any JSON
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(data).hexdigest()[:8]


def fingerprint(points: list[Point]) -> str:
    """The same for the same points in the same order with the same settings."""
    return _digest([[point.key, point.settings.as_json()] for point in points])
