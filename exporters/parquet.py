"""The same rows as the CSV in Parquet, with types, for pandas, DuckDB and the like."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.record import RunRecord

from . import _rows as table

_TYPES: Final = {
    "concurrency": pa.int64(),
    "invalid": pa.bool_(),
    "value": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "n": pa.int64(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """Long form; a column has the same type in every run's file, also where all is missing."""

    file_name: str = "metrics.parquet"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        found = table.rows(record)
        names = list(found[0]) if found else ["run_id"]
        schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in names])
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(found, schema=schema), sink, compression="zstd")
        path = folder / self.file_name
        write_atomically(path, sink.getvalue())
        return path


PLUGIN: type[Exporter] = Parquet
