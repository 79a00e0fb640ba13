"""Run a grid of settings, repeated; go on where an earlier try ended."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from harness.cli._progress import Progress
    from harness.sweep.plan import Point


@click.command(short_help="Run a grid of settings.")
@click.argument("config", metavar="SWEEP.toml|PRESET")
@click.option("-s", "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE",
              help="Override one setting of all points; may be repeated.")  # fmt: skip
@click.option("--engine", help="Engine plugin; `joulemark list engines` shows them.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="The sweep's folder; default: sweep-NAME below run.artifact_dir.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the points in their order; run none.")
def COMMAND(  # noqa: N802 - the name every verb's file exports
    config: str,
    assignments: tuple[str, ...],
    *,
    engine: str | None,
    out: Path | None,
    dry_run: bool,
) -> int:
    """
    Run every combination of [sweep.grid], and of [[sweep.cases]], and print the table.

    The same command goes on where it was ended: points that are done are not
    run again. Result: a folder of runs, table.csv and table.md.
    """
    # Imported here, so that `joulemark --help` does not wait for pandas.
    from harness import config as configuration  # noqa: PLC0415
    from harness.cli._progress import Progress  # noqa: PLC0415
    from harness.cli._signals import ending  # noqa: PLC0415
    from harness.files import write_atomically  # noqa: PLC0415
    from harness.sweep import plan as sweep_plan  # noqa: PLC0415
    from harness.sweep import running as sweep  # noqa: PLC0415
    from harness.sweep import table as sweep_table  # noqa: PLC0415

    table = configuration.read(config)
    if engine is not None:
        table.setdefault("engine", {})["kind"] = engine
    for assignment in assignments:
        configuration.override(table, assignment)
    name = Path(config).stem
    settings, points = sweep_plan.plan(table, name=name)
    folder = out or points[0].settings.artifact_dir / f"sweep-{name}"
    if dry_run:
        for place, point in enumerate(points, start=1):
            click.echo(f"{place:>4}  {_said(point)}  engine {point.engine}")
        return 0
    stop = threading.Event()
    with ending(stop, "the sweep"), Progress() as progress:
        done = sweep.run(settings, points, folder, watcher=_Watcher(progress), stop=stop)
    rows = sweep_table.rows(points, done, folder)
    text = sweep_table.to_markdown(rows, f"Sweep {name}")
    write_atomically(folder / "table.csv", sweep_table.to_csv(rows).encode())
    write_atomically(folder / "table.md", text.encode())
    click.echo(text)
    click.echo(f"joulemark: table.csv, table.md and the runs are in {folder}", err=True)
    failed = [entry for entry in done if entry.status != "complete"]
    for entry in failed:
        click.echo(f"joulemark: {entry.key} failed: {entry.error}", err=True)
    if stop.is_set():
        click.echo("joulemark: the same command goes on from here", err=True)
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if failed else 0


class _Watcher:
    """The display of a run, with a line at each point's beginning."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.phase = progress.phase
        self.tick = progress.tick
        self.follow = progress.follow

    def point(self, point: Point, *, place: int, of: int, seconds_left: float | None) -> None:
        """Say which point it is and how long the rest may take."""
        rest = "" if seconds_left is None else f", about {seconds_left / 60:.1f} min left"
        click.echo(f"point {place} of {of}{rest}: {_said(point)}", err=True)


def _said(point: Point) -> str:
    values = ", ".join(f"{key} = {value}" for key, value in point.values.items())
    return f"{values}, repeat {point.repeat + 1}"
