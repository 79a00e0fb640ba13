"""Compute a run's record again from what it recorded; needs no GPU and no engine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(short_help="Compute a run's record again.")
@click.argument("run", default="latest")
@click.option("--artifact-dir", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout.")
def COMMAND(run: str, *, artifact_dir: Path, as_json: bool) -> None:  # noqa: N802
    """Compute RUN's record again; also of a run that was killed."""
    from harness import pipeline, store  # noqa: PLC0415
    from harness.cli._table import print_record  # noqa: PLC0415

    folder = store.find(run, artifact_dir=artifact_dir)
    record = pipeline.finish(folder)
    if as_json:
        sys.stdout.buffer.write(record.to_json())
    else:
        print_record(record, folder)
