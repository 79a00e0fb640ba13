"""Write runs as one self-contained HTML page, or as Markdown: findings first, then pictures."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from exporters._of_runs import Anchor
    from harness.compare.comparison import Comparison
    from harness.compare.sets import StoredRun
    from harness.record import RunRecord

_CHARTS: Final = ("throughput", "per_mw", "joules", "usd")


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
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: report.html, or stdout."
)
@click.option(
    "--anchors",
    "anchors_file",
    type=click.Path(path_type=Path),
    help="Published points as JSON: [{chart, label, x, y}], chart one of " + ", ".join(_CHARTS),
)
@click.option("--artifact-dir", type=click.Path(path_type=Path), default=Path("runs"))
def COMMAND(  # noqa: N802
    runs: tuple[str, ...],
    *,
    against: tuple[str, ...],
    allow: tuple[str, ...],
    form: str,
    output: Path | None,
    anchors_file: Path | None,
    artifact_dir: Path,
) -> None:
    """Report on RUNS: run folders, ids, folders of runs, patterns."""
    from exporters.html import page  # noqa: PLC0415
    from harness import report  # noqa: PLC0415
    from harness.compare.comparison import compare  # noqa: PLC0415
    from harness.compare.sets import run_set  # noqa: PLC0415
    from harness.compare.text import markdown  # noqa: PLC0415
    from harness.errors import StoreError  # noqa: PLC0415
    from harness.files import write_atomically  # noqa: PLC0415

    chosen = run_set("candidate", _found(runs, artifact_dir))
    base, compared = None, None
    if against:
        base = run_set("base", _found(against, artifact_dir))
        compared = compare(base, chosen, allow=allow)
    if form == "html":
        everyone = [*(base.runs if base else ()), *chosen.runs]
        text = page(
            [(run.record, run.folder) for run in everyone],
            anchors=_anchors(anchors_file),
            extra=[("comparison", "Comparison", _comparison(compared))]
            if compared
            else _cost(chosen.records),
        )
        output = output or Path("report.html")
    else:
        summary = [markdown(compared)] if compared else []
        text = "\n".join([*summary, *(report.markdown(one) for one in chosen.records)])
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


def _comparison(found: Comparison) -> str:
    """The verdicts, what changed and what to read with care, as HTML."""
    from exporters._page import table  # noqa: PLC0415
    from harness.compare import text  # noqa: PLC0415
    from harness.report import rounded  # noqa: PLC0415

    rows = [
        [
            text.title(row),
            rounded(row.base),
            f"{rounded(row.cand)} {row.unit}",
            text.change(row.judged.effect),
            text.interval(row.judged.effect),
            text.p_text(row),
            row.judged.word,
            text.advice(row.judged),
        ]
        for row in found.rows
    ]
    head = ["metric", "base", "candidate", "change", "interval", "p (Holm)", "verdict", "why"]
    changed = [[one.key, ", ".join(one.base), ", ".join(one.cand)] for one in found.suspects]
    notes = [[one.severity, one.code, one.message] for one in found.findings]
    parts = [f"<p><strong>{html.escape(text.headline(found))}</strong></p>", table(head, rows)]
    if changed:
        parts.append(table(["what changed", "base", "candidate"], changed, words=True))
    else:
        parts.append("<p>Nothing that joulemark records changed.</p>")
    if notes:
        parts.append(table(["severity", "code", "read with care"], notes, words=True))
    return "".join(parts)


def _cost(records: list[RunRecord]) -> list[tuple[str, str, str]]:
    """What a single run's tokens cost, and how far that is from physics, with default figures."""
    from exporters._page import table  # noqa: PLC0415
    from exporters._waterfall import waterfall  # noqa: PLC0415
    from harness.claims import recompute as claims  # noqa: PLC0415
    from harness.cost import case as cost_case  # noqa: PLC0415
    from harness.cost import catalogue_files  # noqa: PLC0415
    from harness.cost import point as cost_point  # noqa: PLC0415
    from harness.cost.picture import TITLES  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.explain.comparisons import limit  # noqa: PLC0415

    if len(records) != 1:
        return []
    catalogue = catalogue_files.load()
    try:
        point = cost_point.of_run(records[0], catalogue)
        case = cost_case.build(catalogue, point, cost_case.Choice())
    except ConfigError as error:
        return [("cost", "What a token costs", f"<p>{html.escape(str(error))}</p>")]
    parts = {title: getattr(case.result, key) for key, title in TITLES.items()}
    about = (
        f"Cost of a million {point.basis} tokens at {case.site.name}, with the catalogue's default "
        f"figures; power {point.power_kind.upper()}. `joulemark explain` has every source."
    )
    picture = waterfall(
        "cost-waterfall", "Cost of a million tokens", about, f"{case.site.currency}", parts
    )
    notes = "".join(f"<li>{html.escape(one.message)}</li>" for one in case.findings)
    step = limit(case, claims.evidence(catalogue), model_is_known=False)
    physics = "".join(f"<p>{html.escape(one)}</p>" for one in step.text)
    physics += "".join(table(one.head, one.rows) for one in step.grids)
    return [
        ("cost", "What a token costs", picture + f"<ul>{notes}</ul>"),
        ("physics", step.title, physics),
    ]


def _found(texts: tuple[str, ...], artifact_dir: Path) -> list[StoredRun]:
    from harness.compare.sets import find_runs  # noqa: PLC0415

    return [run for text in texts for run in find_runs(text, artifact_dir=artifact_dir)]


def _anchors(path: Path | None) -> list[Anchor]:
    import orjson  # noqa: PLC0415

    from exporters._of_runs import Anchor  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    if path is None:
        return []
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
