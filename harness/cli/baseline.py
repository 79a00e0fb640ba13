"""Keep runs under a name to compare with: set, list, show."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import click

from harness.cli._folder_options import ARTIFACT_DIR, STORE
from harness.plural import counted


@click.group(short_help="Keep runs under a name to compare with.")
def COMMAND() -> None:  # noqa: N802
    """Keep runs under a name; `joulemark compare baseline:NAME CAND` compares with them."""


@COMMAND.command("set")
@click.argument("name")
@click.argument("runs", nargs=-1, required=True)
@STORE
@click.option("--note", default="", help="Why, for people.")
@click.option("--allow", multiple=True, metavar="KEY", help="Runs may differ in KEY.")
@ARTIFACT_DIR
def set_(
    name: str,
    runs: tuple[str, ...],
    *,
    where: str,
    note: str,
    allow: tuple[str, ...],
    artifact_dir: Path,
) -> None:
    """Store RUNS as the baseline NAME, replacing an older one."""
    from harness import baseline  # noqa: PLC0415
    from harness.compare.likeness import check_set  # noqa: PLC0415
    from harness.compare.sets import find_runs, run_set  # noqa: PLC0415

    found = [run for text in runs for run in find_runs(text, artifact_dir=artifact_dir)]
    chosen = run_set(name, found)
    check_set(chosen, allow=allow)
    made = baseline.set_baseline(name, chosen.runs, where, note=note, now=dt.datetime.now(dt.UTC))
    click.echo(f"{name}: {counted(len(made.records), 'run')} in {where}")


@COMMAND.command("list")
@STORE
def list_(where: str) -> None:
    """List the baselines, a line each."""
    from harness import baseline  # noqa: PLC0415

    for name in baseline.names(where):
        one = baseline.get_baseline(name, where)
        click.echo(
            f"{name}  {counted(len(one.records), 'run')}  set {one.set_at}  {one.note}".rstrip()
        )


@COMMAND.command("show")
@click.argument("name")
@STORE
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON on stdout.")
def show(name: str, where: str, *, as_json: bool) -> None:
    """Print what the baseline NAME holds."""
    from harness import baseline, report  # noqa: PLC0415

    one = baseline.get_baseline(name, where)
    if as_json:
        whole = b",\n".join(record.to_json().rstrip() for record in one.records)
        sys.stdout.buffer.write(b"[" + whole + b"]\n")
        return
    click.echo(f"{name}, set {one.set_at}{': ' + one.note if one.note else ''}")
    for record in one.records:
        click.echo(f"\n{record.run_id}  {report.power_sentence(record)}")
        rows = report.summary(record)
        width = max((len(row.title) for row in rows), default=0)
        for row in rows:
            click.echo(f"  {row.title:<{width}}  {row.value}")
