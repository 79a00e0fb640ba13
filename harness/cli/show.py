"""Print a run that was made before."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli._folder_options import ARTIFACT_DIR


@click.command(short_help="Print a run.")
@click.argument("run", default="latest")
@ARTIFACT_DIR
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout.")
def COMMAND(run: str, *, artifact_dir: Path, as_json: bool) -> None:  # noqa: N802
    """Print RUN: a run folder, a run id, or `latest` (the default)."""
    from harness import store  # noqa: PLC0415
    from harness.cli._table import print_record  # noqa: PLC0415

    folder = store.find(run, artifact_dir=artifact_dir)
    data, record = store.load_record(folder)
    if as_json:
        sys.stdout.buffer.write(data)
    else:
        print_record(record, folder)
