"""Compute a run's record again from what it recorded; needs no GPU and no engine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli._folder_options import ARTIFACT_DIR


@click.command(short_help="Compute a run's record again.")
@click.argument("run", default="latest")
@ARTIFACT_DIR
@click.option(
    "--window",
    type=click.Choice(["steady", "run", "ml_energy"]),
    help="Print the numbers of another window; the run's own record stays as it is.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout.")
def COMMAND(  # noqa: N802
    run: str, *, artifact_dir: Path, window: str | None, as_json: bool
) -> None:
    """Compute RUN's record again; also of a run that was killed."""
    from harness import pipeline, store  # noqa: PLC0415
    from harness.cli._table import print_record  # noqa: PLC0415

    folder = store.find(run, artifact_dir=artifact_dir)
    record = pipeline.finish(folder)
    if window is not None:
        record = pipeline.with_window(folder, window)
    if as_json:
        sys.stdout.buffer.write(record.to_json())
    else:
        print_record(record, folder)
