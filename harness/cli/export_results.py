"""Write a finished run in another tool's format: InferenceX, vLLM bench, AIPerf, CSV, Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from harness.cli._folder_options import ARTIFACT_DIR

_SHORT: Final = {"vllm": "vllm_bench"}
_WHOLE_RUN: Final = {"inferencex", "vllm_bench", "aiperf"}
"""Formats whose own tools count from the first request to the last, ramp and drain included."""


@click.command(short_help="Write a run in another tool's format.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--format", "form", required=True,
              help="inferencex, vllm, aiperf, csv, parquet, or another exporter.")  # fmt: skip
@ARTIFACT_DIR
def COMMAND(runs: tuple[str, ...], *, form: str, artifact_dir: Path) -> None:  # noqa: N802
    """Write each RUN (default: the latest) into its own folder, and print the files' paths."""
    # Imported here, so that `joulemark --help` does not wait for pandas.
    from harness import pipeline, plugins, store  # noqa: PLC0415

    kind = _SHORT.get(form, form.replace("-", "_"))
    exporter = plugins.load("exporter", kind)()
    for run in runs or ("latest",):
        folder = store.find(run, artifact_dir=artifact_dir)
        record = pipeline.finish(folder)
        if kind in _WHOLE_RUN:
            record = pipeline.with_window(folder, "run")
        click.echo(exporter.export(record, folder))
