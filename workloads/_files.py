"""Reads rows of a data file in any of the usual formats, and says what is wrong and where."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import ConfigError


def rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """
    The rows of a .jsonl, .json (a list of objects), .csv or .parquet file, in order.

    Yields:
        Where the row stands, for messages, and the row.

    Raises:
        ConfigError: the file cannot be read, or a row is no object.
    """
    try:
        for place, row in enumerate(_raw(path), start=1):
            where = f"row {place} of {path}"
            if not isinstance(row, Mapping):
                raise ConfigError(f"{where} is not an object", remedy="write one object a row")
            yield where, row
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}", remedy="set workload.path to a file"
        ) from error
    except (orjson.JSONDecodeError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ConfigError(
            f"{path} is damaged or of another format ({error})",
            remedy="give .jsonl, .json, .csv or .parquet",
        ) from error


def _raw(path: Path) -> Iterator[Any]:
    match path.suffix.lower():
        case ".json":
            found = orjson.loads(path.read_bytes())
            yield from found if isinstance(found, list) else [found]
        case ".csv":
            with path.open(newline="", encoding="utf-8") as lines:
                yield from csv.DictReader(lines)
        case ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
                yield from batch.to_pylist()
        case _:
            with path.open("rb") as lines:
                for line in lines:
                    if line.strip():
                        yield orjson.loads(line)


def whole(where: str, row: Mapping[str, Any], key: str) -> int:
    """
    A count in a row.

    Raises:
        ConfigError: it is not there, or no whole number of 0 or more.
    """
    value = row.get(key)
    try:
        number = int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ConfigError(
            f"{where} has {key} = {value!r}", remedy="give a whole number of 0 or more"
        )
    return number


def none_found(path: Path, what: str) -> ConfigError:
    """The error for a file without a single usable row."""
    return ConfigError(f"{path} has no {what}", remedy="check the file's format and columns")
