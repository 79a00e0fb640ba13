"""List what there is: engines, power sources, workloads, exporters, presets, metrics, runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from harness.cli._folder_options import ARTIFACT_DIR

_GROUPS: Final = {
    "engines": "engine",
    "power": "power",
    "workloads": "workload",
    "exporters": "exporter",
}


@click.command(short_help="List plugins, presets, metrics, models or runs.")
@click.argument(
    "what", metavar="WHAT", type=click.Choice([*_GROUPS, "presets", "metrics", "models", "runs"])
)
@ARTIFACT_DIR
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def COMMAND(what: str, *, artifact_dir: Path, as_json: bool) -> None:  # noqa: N802
    """
    List WHAT, a line each.

    WHAT is engines, power, workloads, exporters, presets, metrics, models or runs.
    """
    rows = _runs(artifact_dir) if what == "runs" else _named(what)
    if as_json:
        import orjson  # noqa: PLC0415

        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
        return
    width = max((len(name) for name in rows), default=0)
    for name, text in rows.items():
        click.echo(f"{name:<{width}}  {text}")
    if not rows:
        click.echo(f"no {what}" + (f" below {artifact_dir}" if what == "runs" else ""), err=True)


def _named(what: str) -> dict[str, str]:
    from harness import config, metrics, models, plugins  # noqa: PLC0415

    if what in _GROUPS:
        return plugins.kinds(_GROUPS[what])
    if what == "presets":
        return config.presets()
    if what == "models":
        return {name: model.description for name, model in models.CATALOGUE.items()}
    return {
        card.key + (".*" if card.distribution else ""): f"[{card.unit}] {card.title}"
        for card in metrics.CARDS
    }


def _runs(artifact_dir: Path) -> dict[str, str]:
    from harness import metrics, report, store  # noqa: PLC0415
    from harness.errors import StoreError  # noqa: PLC0415

    rows = {}
    for folder in store.run_folders(artifact_dir):
        try:
            _, record = store.load_record(folder)
        except StoreError:
            rows[folder.name] = "no record yet: `joulemark recompute` makes one"
            continue
        per_token = [
            row
            for row in report.summary(record)
            if row.key == f"{metrics.boundary_of(row.key)}_j_per_output_token"
        ]
        energy = "; ".join(f"{r.value} ({r.title.rpartition('(')[2]}" for r in per_token)
        rows[folder.name] = f"{record.status}  {energy or 'no energy'}"
    return rows
