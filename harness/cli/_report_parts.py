"""What a report holds beside the runs' own pages: a verdict, a cost, a distance from physics."""

from __future__ import annotations

import html
from dataclasses import dataclass

from exporters._forest import Change, forest
from exporters._markdown import table as markdown_table
from exporters._page import table
from exporters._scale import short
from exporters._waterfall import waterfall
from harness.claims import recompute as claims
from harness.compare import text
from harness.compare.comparison import Comparison
from harness.cost import case as cost_case
from harness.cost import catalogue_files
from harness.cost import point as cost_point
from harness.cost.picture import TITLES
from harness.errors import ConfigError
from harness.explain.comparisons import limit
from harness.record import RunRecord
from harness.report import rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    One section in both forms.

    Args:
        name: a word, unique in a page.
        heading: as text.
        html: its body.
        markdown: the same.
    """

    name: str
    heading: str
    html: str
    markdown: str


def comparison(found: Comparison) -> Section:
    """The verdicts as a picture and a table, what changed, and what to read with care."""
    rows = [
        [
            text.title(row),
            f"{rounded(row.base)} {row.unit}",
            f"{rounded(row.cand)} {row.unit}",
            text.change(row.judged.effect),
            text.interval(row.judged.effect),
            text.p_text(row),
            row.judged.word,
        ]
        for row in found.rows
    ]
    head = ["metric", "base", "candidate", "change", "interval", "p (Holm)", "verdict"]
    why = "".join(
        f"<li><code>{html.escape(row.key)}</code>: {html.escape(text.advice(row.judged))}</li>"
        for row in found.rows
    )
    changed = [[one.key, ", ".join(one.base), ", ".join(one.cand)] for one in found.suspects]
    notes = [[one.severity, one.code, one.message] for one in found.findings]
    parts = [f"<p><strong>{html.escape(text.headline(found))}</strong></p>", _changes(found)]
    parts += [table(head, rows), f"<ul>{why}</ul>"]
    if changed:
        parts.append(table(["what changed", "base", "candidate"], changed, words=True))
    else:
        parts.append("<p>Nothing that joulemark records changed.</p>")
    if notes:
        parts.append(table(["severity", "code", "read with care"], notes, words=True))
    return Section(
        name="comparison",
        heading="Comparison",
        html="".join(parts),
        markdown=text.markdown(found),
    )


def _changes(found: Comparison) -> str:
    def percent(ratio: float | None) -> float | None:
        return None if ratio is None else 100 * (ratio - 1)

    changes = [
        Change(
            name=row.key,
            kind="" if row.kind in {None, "measured"} else str(row.kind).upper(),
            percent=100 * (row.judged.effect.ratio - 1),
            low=percent(row.judged.effect.low),
            high=percent(row.judged.effect.high),
            threshold=100 * row.judged.threshold_ratio,
            word=row.judged.word,
        )
        for row in found.rows
    ]
    about = (
        f"Best estimate and {100 * (1 - found.alpha):.3g} % interval over {len(found.base)} base "
        f"and {len(found.cand)} candidate runs; shaded: changes too small to matter."
    )
    return forest("changes", "How much each judged metric changed", about, changes)


def cost(record: RunRecord) -> list[Section]:
    """What a run's tokens cost, and how far that is from physics, with default figures."""
    catalogue = catalogue_files.load()
    heading = "What a token costs"
    try:
        point = cost_point.of_run(record, catalogue)
        case = cost_case.build(catalogue, point, cost_case.Choice())
    except ConfigError as error:
        said = str(error)
        body = f"<p>{html.escape(said)}</p>"
        return [Section(name="cost", heading=heading, html=body, markdown=said)]
    parts = {title: getattr(case.result, key) for key, title in TITLES.items()}
    about = (
        f"Cost of a million {point.basis} tokens at {case.site.name}, with the catalogue's default "
        f"figures; power {point.power_kind.upper()}. `joulemark explain` has every source."
    )
    unit = f"{case.site.currency} per million tokens"
    picture = waterfall("cost-waterfall", "Cost of a million tokens", about, unit, parts)
    notes = [one.message for one in case.findings]
    rows = [[name, "not known" if one is None else short(one)] for name, one in parts.items()]
    step = limit(case, claims.evidence(catalogue), model_is_known=False)
    return [
        Section(
            name="cost",
            heading=heading,
            html=picture + "<ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in notes)
            + "</ul>",
            markdown="\n\n".join(
                [about, markdown_table(["part", unit], rows), *(f"- {one}" for one in notes)]
            ),
        ),
        Section(
            name="physics",
            heading=step.title,
            html="".join(f"<p>{html.escape(one)}</p>" for one in step.text)
            + "".join(table(one.head, one.rows) for one in step.grids),
            markdown="\n\n".join(
                [*step.text, *(markdown_table(one.head, one.rows) for one in step.grids)]
            ),
        ),
    ]  # fmt: skip
