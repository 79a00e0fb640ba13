"""The HTML around charts and tables: one file, no script, nothing from the network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #595959; --paper: #fff; --rule: #d0d0d0;
  --card: #f4f4f2; --band0: #0072b214; --band1: #e69f0022;
  --c0: #0072b2; --c1: #d55e00; --c2: #008060; --c3: #a0509a; --c4: #8a6d00; --c5: #1b1b1b;
  --grey: #8a8a8a; --bad: #b00020; --warn: #8a5a00; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #ececec; --soft: #b4b4b4;
  --paper: #161616; --rule: #444; --card: #222; --band0: #56b4e922; --band1: #e69f0026;
  --c0: #56b4e9; --c1: #ff9f4a; --c2: #35c99a; --c3: #e39ad0; --c4: #f0e442; --c5: #ececec;
  --grey: #8f8f8f; --bad: #ff8a80; --warn: #ffc46b; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 64rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { margin-top: 2.2rem; }
a { color: var(--c0); } :focus-visible { outline: 3px solid var(--c1); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: 0; list-style: none; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: .4rem;
  padding: .7rem .9rem; }
.card b { display: block; font-size: 1.5rem; } .card small { color: var(--soft); display: block; }
.badge { border: 1px solid currentColor; border-radius: .3rem; padding: 0 .4rem; font-weight: 600; }
.invalid { color: var(--bad); } .warning { color: var(--warn); } .info { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
caption { text-align: left; color: var(--soft); }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--rule); text-align: right;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; } table.words th, table.words td
  { text-align: left; }
table.words td { overflow-wrap: break-word; max-width: 34rem; min-width: 4.5rem; }
table.words td:first-child { overflow-wrap: anywhere; }
figure { margin: 1.4rem 0; break-inside: avoid; } figcaption { font-weight: 600; }
figure > svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg text.small { font-size: 10px; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: .6; } .axis { stroke: var(--ink); }
.band.b0 { fill: var(--band0); } .band.b1 { fill: var(--band1); }
.band.alarm { fill: none; stroke: var(--bad); stroke-width: 2; } svg text.bad { fill: var(--bad); }
.edge { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; }
path[class^=s], line[class^=s], .whisker { stroke-width: 2; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); stroke-dasharray: 7 3; }
.s2 { stroke: var(--c2); stroke-dasharray: 2 2; }
.s3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3; }
.s4 { stroke: var(--c4); } .s5 { stroke: var(--c5); stroke-dasharray: 4 4; }
path.dense { stroke-width: 1; stroke-dasharray: none; }
.s9 { stroke: var(--grey); } path.s9 { stroke-width: 1; }
.whisker { stroke-dasharray: none; stroke-width: 1; }
.d0 { fill: var(--c0); } .d1 { fill: var(--c1); } .d2 { fill: var(--c2); } .d3 { fill: var(--c3); }
.d4 { fill: var(--c4); } .d5 { fill: var(--c5); } .d9 { fill: none; stroke: var(--grey); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0;
  margin: .2rem 0; font-size: .9rem; }
.legend svg { width: 24px; height: 12px; margin-right: .4rem; }
.about { color: var(--soft); margin: .2rem 0; }
@media print { :root { color-scheme: light; } body { max-width: none; font-size: 11px; }
  nav, .skip { display: none; } h2 { break-after: avoid; } tr { break-inside: avoid; }
  .wide { overflow: visible; } th, td { padding: .15rem .3rem; font-size: 9px; }
  table.words td { min-width: 3.2rem; } .card b { font-size: 1.2rem; } }
""".strip()


def document(title: str, sections: Sequence[tuple[str, str, str]], intro: str) -> str:
    """
    A whole page.

    Args:
        title: of the page, as text.
        sections: (id, heading as text, body as HTML), in order.
        intro: HTML above the table of contents.
    """
    links = "".join(
        f'<li><a href="#{name}">{html.escape(heading)}</a></li>' for name, heading, _ in sections
    )
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">'
        f"{html.escape(heading)}</h2>{content}</section>"
        for name, heading, content in sections
    )
    # The policy forbids every request, so that a mistake here cannot become one.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>\n{STYLE}\n</style></head><body>"
        '<a class="skip" href="#main">Skip to the content</a>'
        f'<main id="main"><h1>{html.escape(title)}</h1>{intro}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main></body></html>\n'
    )


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", words: bool = False
) -> str:
    """A table from texts; *words* aligns all columns to the left."""
    top = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in row) + "</tr>" for row in rows
    )
    kind = ' class="words"' if words else ""
    about = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table{kind}>{about}<thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def card(title: str, value: str, notes: Sequence[str]) -> str:
    """One number with what it is of, and how far it can be trusted."""
    small = "".join(f"<small>{html.escape(note)}</small>" for note in notes if note)
    return f'<div class="card">{html.escape(title)}<b>{html.escape(value)}</b>{small}</div>'
