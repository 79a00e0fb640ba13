"""One CSV row a metric, with unit, bounds, window and the kind of power."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from harness.contracts import Exporter
from harness.files import write_atomically
from harness.record import RunRecord

from . import _rows as table


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv:
    """Long form, so that runs of any kind can be put below each other; missing is empty."""

    file_name: str = "metrics.csv"

    def export(self, record: RunRecord, folder: Path) -> Path:
        """Write the file, replacing an older one whole."""
        found = table.rows(record)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(found[0]) if found else ["run_id"])
        writer.writeheader()
        writer.writerows(found)
        path = folder / self.file_name
        write_atomically(path, text.getvalue().encode())
        return path


PLUGIN: type[Exporter] = Csv
