"""Write runs as one self-contained HTML page, or as Markdown: findings first, then pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from exporters._of_runs import Anchor
    from harness.compare.sets import StoredRun

_CHARTS: Final = ("throughput", "per_mw", "joules", "usd")
_PUBLISHED: Final = "published"


@click.command(short_help="Write runs as an HTML page or as Markdown.")
@click.argument("runs", nargs=-1, required=True)
@click.option("--against", multiple=True, metavar="BASE", help="Runs to compare RUNS with.")
@click.option("--allow", multiple=True, metavar="KEY", help="Runs may differ in KEY.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown"]),
    default="html",
    show_default=True,
    help="What is written.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: report.html, or stdout."
)
@click.option(
    "--anchors",
    "anchors_file",
    metavar="published|FILE",
    help="Grey points beside the runs: `published` are ML.ENERGY's of gpt-oss-120b, FILE is JSON: "
    "[{chart, label, x, y}], chart one of " + ", ".join(_CHARTS),
)
@ARTIFACT_DIR
def COMMAND(  # noqa: N802
    runs: tuple[str, ...],
    *,
    against: tuple[str, ...],
    allow: tuple[str, ...],
    form: str,
    output: Path | None,
    anchors_file: str | None,
    artifact_dir: Path,
) -> None:
    """Report on RUNS: run folders, ids, folders of runs, patterns."""
    from exporters import _markdown, html  # noqa: PLC0415
    from harness.cli import _report_parts as parts  # noqa: PLC0415
    from harness.compare.comparison import compare  # noqa: PLC0415
    from harness.compare.sets import run_set  # noqa: PLC0415
    from harness.errors import StoreError  # noqa: PLC0415
    from harness.files import write_atomically  # noqa: PLC0415

    chosen = run_set("candidate", _found(runs, artifact_dir))
    lead, extra, everyone = [], [], list(chosen.runs)
    if against:
        base = run_set("base", _found(against, artifact_dir))
        lead = [parts.comparison(compare(base, chosen, allow=allow))]
        everyone = [*base.runs, *chosen.runs]
    elif len(everyone) == 1:
        extra = parts.cost(everyone[0].record)
    shown = [(run.record, run.folder) for run in everyone]
    anchors = _anchors(anchors_file)
    if form == "html":
        text = html.page(
            shown,
            anchors=anchors,
            lead=[(one.name, one.heading, one.html) for one in lead],
            extra=[(one.name, one.heading, one.html) for one in extra],
        )
        output = output or Path("report.html")
    else:
        text = _markdown.page(
            shown,
            anchors=anchors,
            lead=[one.markdown for one in lead],
            extra=[(one.heading, one.markdown) for one in extra],
            most_drawn=html.MOST_DRAWN,
        )
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomically(output, text.encode())
    except OSError as error:
        raise StoreError(
            f"cannot write {output}: {error.strerror}", remedy="name another file with --output"
        ) from error
    click.echo(f"{output}: {len(text.encode()) / 1e6:.2f} MB", err=True)


def _found(texts: tuple[str, ...], artifact_dir: Path) -> list[StoredRun]:
    from harness.compare.sets import find_runs  # noqa: PLC0415

    return [run for text in texts for run in find_runs(text, artifact_dir=artifact_dir)]


def _anchors(chosen: str | None) -> list[Anchor]:
    import orjson  # noqa: PLC0415

    from exporters._of_runs import Anchor  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    if chosen is None:
        return []
    if chosen == _PUBLISHED:
        return _published()
    path = Path(chosen)
    try:
        found = [Anchor(**one) for one in orjson.loads(path.read_bytes())]
    except (OSError, TypeError, orjson.JSONDecodeError) as error:
        raise ConfigError(
            f"{path} holds no published points ({error})",
            remedy='write [{"chart": "joules", "label": "…", "x": 100, "y": 1.5}]',
        ) from error
    unknown = sorted({one.chart for one in found} - set(_CHARTS))
    if unknown:
        raise ConfigError(
            f"{path} names the chart {unknown[0]!r}", remedy=f"use one of {', '.join(_CHARTS)}"
        )
    return found


def _published() -> list[Anchor]:
    """The catalogue's measured points, those of one accelerator and size as one series."""
    from exporters._of_runs import Anchor  # noqa: PLC0415
    from harness.cost.catalogue_files import measured_points  # noqa: PLC0415

    found = []
    for one in measured_points()[0]:
        tag = f"{one.accelerator} x{one.devices}"
        label = f"ML.ENERGY v3, gpt-oss-120b on vLLM, {tag}"
        for chart, y in (
            ("throughput", one.tok_per_s / one.devices),
            ("per_mw", 1e6 / one.j_per_token),
            ("joules", one.j_per_token),
        ):
            x = 1e3 / one.median_itl_ms
            found.append(Anchor(chart=chart, label=label, x=x, y=y, tag=tag))
    return found
