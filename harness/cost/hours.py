"""Reads an hourly series of price, carbon or water of electricity and averages the hours served."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.errors import ConfigError

from .catalogue import Figure, Source

COLUMNS: Final = ("usd_per_kwh", "carbon_kg_per_kwh", "grid_l_per_kwh")
HOURS_PER_DAY: Final = 24


def hourly_figures(path: Path, hours: Sequence[int] = range(HOURS_PER_DAY)) -> dict[str, Figure]:
    """
    Mean of each column over the hours served, with the least and the greatest hour as range.

    The file has a header with `hour` (0 to 23) and any of `usd_per_kwh`, `carbon_kg_per_kwh`,
    `grid_l_per_kwh`; several rows of one hour (days) are averaged first.

    Args:
        path: a CSV file.
        hours: of the day, in which tokens are served at one steady rate.

    Raises:
        ConfigError: unreadable, an hour without a row, or a value that is no number of at least 0.
    """
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({error})", remedy="give a CSV file") from error
    present = [name for name in COLUMNS if rows and name in rows[0]]
    if not present:
        raise ConfigError(
            f"{path} has none of the columns {', '.join(COLUMNS)}",
            remedy="name a column after what it holds",
        )
    source = Source(
        key="hourly",
        title=f"hourly series, hours {_words(hours)}",
        where=path.name,
        date="the file's",
        grade="yours",
    )
    figures = {}
    for name in present:
        means = [_hour_mean(rows, name, hour, path) for hour in hours]
        figures[name] = Figure(
            value=sum(means) / len(means), source=source, low=min(means), high=max(means)
        )
    return figures


def hours_of(text: str) -> list[int]:
    """
    Hours named as `9-17` (9 up to and with 17) or `22-5`, or by commas.

    >>> hours_of("22-1")
    [22, 23, 0, 1]
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdigit() and (last.isdigit() or not dash)):
            raise ConfigError(f"hours {text!r} are not understood", remedy="write 9-17 or 1,2,3")
        start, end = int(first), int(last or first)
        if max(start, end) >= HOURS_PER_DAY:
            raise ConfigError(f"hours {text!r} go past 23", remedy="hours are 0 to 23")
        length = (end - start) % HOURS_PER_DAY + 1
        found += [(start + offset) % HOURS_PER_DAY for offset in range(length)]
    return list(dict.fromkeys(found))


def _hour_mean(rows: Sequence[dict[str, str]], name: str, hour: int, path: Path) -> float:
    try:
        values = [float(row[name]) for row in rows if int(row["hour"]) == hour]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} has a row that is not understood ({error})",
            remedy="give `hour` as 0 to 23 and numbers",
        ) from error
    if not values or not all(0 <= value < float("inf") for value in values):
        raise ConfigError(
            f"{path}: hour {hour} of {name} is absent, negative or not finite",
            remedy="give every hour served a value of at least 0",
        )
    return sum(values) / len(values)


def _words(hours: Sequence[int]) -> str:
    return f"{hours[0]} to {hours[-1]}" if len(hours) > 1 else str(hours[0])
