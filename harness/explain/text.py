"""Writes the walk as Markdown or as one self-contained HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

from .parts import Grid, Step, Walk

STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: right; }
th:first-child, td:first-child { text-align: left; }
table.words td, table.words th { text-align: left; }
code, .worked { font-family: ui-monospace, monospace; }
.worked { border-left: 3px solid #0072B2; padding-left: .75rem; }
@media print { body { max-width: none; } }
""".strip()


def markdown(walks: Sequence[Walk]) -> str:
    """The walks as Markdown, one after the other."""
    return "\n".join(line for walk in walks for line in _markdown(walk)).rstrip() + "\n"


def page(walks: Sequence[Walk]) -> str:
    """The walks as an HTML page that needs no network."""
    body = "\n".join(line for walk in walks for line in _html(walk))
    title = html.escape(walks[0].title if walks else "joulemark")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown(walk: Walk) -> Iterator[str]:
    yield f"# {walk.title}\n"
    for text in walk.about:
        yield f"{text}\n"
    for number, step in enumerate(walk.steps, start=1):
        yield f"## {number}. {step.title}\n"
        for text in step.text:
            yield f"{text}\n"
        for line in _formula(step):
            yield f"    {line}"
        if step.formula:
            yield ""
        for grid in step.grids:
            yield "| " + " | ".join(_cell(one) for one in grid.head) + " |"
            yield "|" + "|".join([" --- ", *[" ---: "] * (len(grid.head) - 1)]) + "|"
            for row in grid.rows:
                yield "| " + " | ".join(_cell(one) for one in row) + " |"
            yield ""


def _formula(step: Step) -> Iterator[str]:
    if step.formula:
        yield step.formula
        yield f"  {step.worked}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _html(walk: Walk) -> Iterator[str]:
    yield f"<h1>{html.escape(walk.title)}</h1>"
    for text in walk.about:
        yield f"<p>{_inline(text)}</p>"
    for number, step in enumerate(walk.steps, start=1):
        yield f"<h2>{number}. {html.escape(step.title)}</h2>"
        for text in step.text:
            yield f"<p>{_inline(text)}</p>"
        if step.formula:
            lines = "<br>".join(html.escape(line.strip()) for line in _formula(step))
            yield f'<p class="worked">{lines}</p>'
        for grid in step.grids:
            yield from _html_grid(grid)


def _html_grid(grid: Grid) -> Iterator[str]:
    words = ' class="words"' if "source" in grid.head else ""
    yield f"<table{words}>"
    yield "<tr>" + "".join(f"<th>{html.escape(one)}</th>" for one in grid.head) + "</tr>"
    for row in grid.rows:
        yield "<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in row) + "</tr>"
    yield "</table>"


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", bold)
