"""Watch an exporter, this node's sensors, or a run that is going, live."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from harness.watch.reading import Source


@click.command(short_help="Watch an exporter, a node or a run.")
@click.argument("what", required=False, metavar="URL|RUN")
@click.option("--node", is_flag=True, help="This node's own sensors, without an exporter.")
@click.option("--power", multiple=True, help="Power source with --node; default: sensors.")
@click.option("--tokens-from", metavar="URL", help="A running engine's /metrics, with --node.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 3600),
    help="Seconds between looks.  [default: 1 on a terminal, 5 elsewhere]",
)
@ARTIFACT_DIR
def COMMAND(  # noqa: N802
    what: str | None,
    *,
    node: bool,
    power: tuple[str, ...],
    tokens_from: str | None,
    every_s: float | None,
    artifact_dir: Path,
) -> int:
    """
    Show watts, tokens a second and joules a token, live.

    URL: of a running `joulemark export`. RUN: a run folder, a run id, or `latest`.
    --node: the sensors of this machine. Ends at Ctrl-C or SIGTERM, or with the run.
    """
    from harness.cli._signals import ending  # noqa: PLC0415
    from harness.cli._watch_view import watch  # noqa: PLC0415

    source = _source(what, node=node, power=power, tokens_from=tokens_from, where=artifact_dir)
    stop = threading.Event()
    with ending(stop, "the watch"), source:
        watch(source, stop, every_s=every_s)
    return 0


def _source(
    what: str | None,
    *,
    node: bool,
    power: tuple[str, ...],
    tokens_from: str | None,
    where: Path,
) -> Source:
    from harness import store  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.watch.exporter import Exporter  # noqa: PLC0415
    from harness.watch.node import Node  # noqa: PLC0415
    from harness.watch.run import Run  # noqa: PLC0415

    if node == (what is not None) or (not node and (power or tokens_from)):
        raise ConfigError(
            "it is not clear what to watch",
            remedy="name the URL of a `joulemark export`, or a run, or say --node (which alone "
            "takes --power and --tokens-from)",
        )
    if what is None:
        return Node(power=power, tokens_from=tokens_from)
    if "://" in what:
        return Exporter(what)
    return Run(store.find(what, artifact_dir=where))
