"""Show a metric over time and when its level changed; keeps runs in a folder or URL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from harness.cli._folder_options import ARTIFACT_DIR, STORE
from harness.plural import counted

if TYPE_CHECKING:
    from harness.history import Series

_MOST_CELLS: Final = 100
_BLOCKS: Final = "▁▂▃▄▅▆▇█"


@click.group(short_help="A metric over time, and when its level changed.")
def COMMAND() -> None:  # noqa: N802
    """Keep runs, and see when a metric's level changed and what changed with it."""


@COMMAND.command("add", short_help="Put RUNS into the history.")
@click.argument("runs", nargs=-1, required=True)
@STORE
@ARTIFACT_DIR
def add(runs: tuple[str, ...], where: str, artifact_dir: Path) -> None:
    """Put RUNS into the history; those that are there already stay as they are."""
    from harness import history  # noqa: PLC0415
    from harness.compare.sets import find_runs  # noqa: PLC0415

    found = [run for text in runs for run in find_runs(text, artifact_dir=artifact_dir)]
    new = history.add(found, where)
    click.echo(f"{new} of {counted(len(found), 'run')} new in {where}")


@COMMAND.command("show", short_help="Print METRIC over time.")
@click.argument("metric")
@click.option("--preset", "name", help="Runs of this preset or configuration only.")
@STORE
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write a picture.")
@click.option(
    "--last", type=click.IntRange(0), default=20, show_default=True, help="Runs to print; 0: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def show(
    metric: str, name: str | None, where: str, html_file: Path | None, *, last: int, as_json: bool
) -> None:
    """Print METRIC over time, apart for each kind of runs that may be compared."""
    from harness import history  # noqa: PLC0415
    from harness.metrics import card_of  # noqa: PLC0415

    card_of(metric)
    found = history.series(where, metric=metric, name=name)
    if html_file is not None:
        from exporters.html import history_page  # noqa: PLC0415
        from harness.files import write_atomically  # noqa: PLC0415

        write_atomically(html_file, history_page([_plain(one) for one in found]).encode())
    if as_json:
        import orjson  # noqa: PLC0415

        document = orjson.dumps([_plain(one) for one in found], option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
        return
    for one in found:
        _print(one, last or len(one.values))


def _plain(one: Series) -> dict[str, Any]:
    import dataclasses  # noqa: PLC0415

    return {**dataclasses.asdict(one), "title": one.title}


def _print(one: Series, last: int) -> None:
    from harness.compare.text import change, interval  # noqa: PLC0415
    from harness.report import rounded  # noqa: PLC0415

    kind = one.power_kind if one.power_kind == "measured" else one.power_kind.upper()
    click.echo(
        f"\n{one.title}: {one.metric} ({one.unit}), {counted(len(one.values), 'run')}, power {kind}"
    )
    ends = f"{rounded(min(one.values))} … {rounded(max(one.values))}"
    click.echo(f"  {_sparkline(one.values[-_MOST_CELLS:])}  {ends}")
    marks = {point.index: place for place, point in enumerate(one.changes)}
    earlier = len(one.values) - last
    if earlier > 0:
        click.echo(
            f"  {counted(earlier, 'earlier run')}, and all changes; --last 0 prints every run"
        )
    for place, (began, run_id, value) in enumerate(
        zip(one.began, one.run_ids, one.values, strict=True)
    ):
        if place in marks:
            point = one.changes[marks[place]]
            click.echo(f"  -- level changed by {change(point.effect)} ({interval(point.effect)})")
            for suspect in one.suspects[marks[place]]:
                before, after = ", ".join(suspect.base), ", ".join(suspect.cand)
                click.echo(f"     {suspect.key}: {before} → {after}")
        if place >= earlier:
            click.echo(f"  {began:%Y-%m-%d %H:%M}  {rounded(value):>12}  {run_id}")
    if not one.changes:
        click.echo("  no change of level found")


def _sparkline(values: list[float]) -> str:
    low, high = min(values), max(values)
    if high == low:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in values)
