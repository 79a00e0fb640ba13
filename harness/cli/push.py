"""Send finished runs to production's store: a file for promtool, remote write, or a Pushgateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli._folder_options import ARTIFACT_DIR
from harness.plural import counted

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from harness.record import RunRecord
    from harness.store import RawRun


@click.command(short_help="Send runs to Prometheus: a file, remote write, or a Pushgateway.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--openmetrics",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what `promtool tsdb create-blocks-from openmetrics` imports.",
)
@click.option("--remote-write", metavar="URL", help="E.g. http://127.0.0.1:9090/api/v1/write")
@click.option("--pushgateway", metavar="URL", help="Send the summary alone, without dates.")
@click.option("--step", "step_s", type=float, default=1.0, show_default=True,
              help="Seconds between samples of power and tokens.")  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE",
              help="Added to every series, e.g. cluster=a; repeatable.")  # fmt: skip
@click.option(
    "--headers",
    "headers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="`Name: value` lines sent along, e.g. Authorization.",
)
@ARTIFACT_DIR
def COMMAND(  # noqa: N802
    runs: tuple[str, ...],
    *,
    openmetrics: Path | None,
    remote_write: str | None,
    pushgateway: str | None,
    step_s: float,
    labels: tuple[str, ...],
    headers_file: Path | None,
    artifact_dir: Path,
) -> None:
    """Send each RUN (default: the latest): watts and tokens over time, its window, its numbers."""
    from harness import store  # noqa: PLC0415
    from harness.analysis import analyse  # noqa: PLC0415
    from harness.ask import read_headers  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.push import sending  # noqa: PLC0415

    if openmetrics is None and remote_write is None and pushgateway is None:
        raise ConfigError(
            "no place to push to", remedy="give --openmetrics, --remote-write or --pushgateway"
        )
    if not 0.1 <= step_s <= 60:  # noqa: PLR2004 - what a store of metrics is for
        raise ConfigError(f"--step is {step_s:g} s, outside 0.1 to 60", remedy="choose e.g. 1")
    own, headers = _pairs(labels), read_headers(headers_file)
    folders = [store.find(run, artifact_dir=artifact_dir) for run in runs or ("latest",)]
    raws = [store.load(folder) for folder in folders]
    found = [(analyse(raw), raw) for raw in raws]
    for record, raw in found:
        _warn(record, raw)
    if openmetrics is not None:
        _to_file(_series(found, own, step_s), openmetrics)
    if remote_write is not None:
        families = _series(found, own, step_s)
        series, samples = sending.to_remote_write(
            families, remote_write, headers=headers, step_s=step_s
        )
        click.echo(
            f"{remote_write}: {counted(series, 'series', 'series')}, {counted(samples, 'sample')}"
        )
    for record, _ in found if pushgateway is not None else ():
        from exporters.openmetrics import families as summary  # noqa: PLC0415

        made = sending.labelled(summary(record), own)
        group, samples = sending.to_pushgateway(
            made, str(pushgateway), run_id=record.run_id, headers=headers
        )
        click.echo(f"{group}: {counted(samples, 'sample')}")


def _series(
    found: list[tuple[RunRecord, RawRun]], labels: dict[str, str], step_s: float
) -> list[Metric]:
    from harness.push.sending import labelled  # noqa: PLC0415
    from harness.push.series import series  # noqa: PLC0415

    every = (one for record, raw in found for one in series(record, raw, step_s=step_s))
    return labelled(every, labels)


def _to_file(families: list[Metric], path: Path) -> None:
    from exporters.openmetrics import text  # noqa: PLC0415
    from harness.errors import StoreError  # noqa: PLC0415
    from harness.files import write_atomically  # noqa: PLC0415

    try:
        write_atomically(path, text(families))
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}", remedy="name another file"
        ) from error
    samples = sum(len(family.samples) for family in families)
    click.echo(f"{path}: {counted(samples, 'sample')}")
    click.echo(f"promtool tsdb create-blocks-from openmetrics {path} PROMETHEUS_DATA", err=True)


def _warn(record: RunRecord, raw: RawRun) -> None:
    """What a reader of the series will miss."""
    if record.load_window is None:
        click.echo(f"{raw.folder}: no window was found, so no joulemark_run_active", err=True)
    if record.power_kind is None:
        click.echo(f"{raw.folder}: no power was recorded, so none is pushed", err=True)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    from harness.errors import ConfigError  # noqa: PLC0415

    for text in texts:
        if "=" not in text:
            raise ConfigError(f"--label is {text!r}", remedy="write NAME=VALUE, e.g. cluster=a")
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
