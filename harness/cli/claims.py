"""Recompute published claims about a token's cost and say when each holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from harness.claims.recompute import CaseResult, Judged
    from harness.claims.reproduce import Row

EXIT_DISAGREES = 1
"""A reproduction missed its tolerance."""


@click.command(short_help="Check published claims.")
@click.argument("ids", nargs=-1)
@click.option(
    "--with",
    "runs",
    multiple=True,
    metavar="RUN",
    help="A run of yours, put in place of published points of its accelerator and model.",
)
@click.option("--reproduce", is_flag=True, help="Recompute published results, ours beside theirs.")
@click.option("--all", "every_row", is_flag=True, help="With --reproduce: ML.ENERGY's rows too.")
@click.option(
    "--catalogue",
    "extra",
    type=click.Path(path_type=Path),
    multiple=True,
    help="TOML with figures of your own, laid over ours.",
)
@ARTIFACT_DIR
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def COMMAND(  # noqa: N802
    *,
    ids: tuple[str, ...],
    runs: tuple[str, ...],
    reproduce: bool,
    every_row: bool,
    extra: tuple[Path, ...],
    artifact_dir: Path,
    as_json: bool,
) -> int:
    """
    Judge the claims of IDS, or all of them.

    Verdicts: reproduced; holds only if; not supported by its data. Modelled and proxy
    cases are shown and never counted. --reproduce exits 1 if a result is missed.
    """
    from harness.claims import recompute as claims  # noqa: PLC0415
    from harness.cli._cost_options import records  # noqa: PLC0415
    from harness.cost.catalogue_files import load  # noqa: PLC0415
    from harness.cost.point import of_run  # noqa: PLC0415

    catalogue = load(extra)
    if reproduce:
        from harness.claims.reproduce import rows  # noqa: PLC0415

        return _reproductions(rows(catalogue), as_json=as_json, every_row=every_row)
    own = [
        of_run(record, catalogue, basis=basis)
        for record in records(runs, artifact_dir)
        for basis in ("total", "output")
    ]
    data = claims.evidence(catalogue)
    chosen = claims.find(claims.read(catalogue), ids)
    judged = [claims.judge(claim, data, own) for claim in chosen]
    if as_json:
        _print_json({"claims": [_claim_row(one) for one in judged]})
    else:
        _print_claims(judged)
    return 0


def _print_json(document: dict[str, Any]) -> None:
    import orjson  # noqa: PLC0415

    click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def _claim_row(judged: Judged) -> dict[str, Any]:
    claim = judged.claim
    return {
        "id": claim.id,
        "text": claim.text,
        "published": claim.published,
        "source": dataclasses.asdict(claim.source),
        "ours": claim.ours,
        "verdict": judged.verdict,
        "only_if": list(judged.only_if),
        "note": claim.note,
        "cases": [dataclasses.asdict(case) for case in judged.cases],
        "with_your_runs": [dataclasses.asdict(case) for case in judged.own_cases],
        "unused_runs": list(judged.unused),
    }


def _print_claims(judged: list[Judged]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for one in judged:
        claim = one.claim
        console.print(f"\n[bold]{claim.id}[/]: {escape(claim.text)}")
        whose = "ours" if claim.ours else f"{claim.source.title} ({claim.source.date})"
        console.print(f"  said: {claim.published}; {escape(whose)}")
        console.print(f"  [bold]verdict: {one.verdict}[/]")
        for condition in one.only_if:
            console.print(f"    - {escape(condition)}")
        if claim.note:
            console.print(f"  {escape(claim.note)}")
        for case in (*one.cases, *one.own_cases):
            console.print(f"  {_case_line(case)}")
        for reason in one.unused:
            console.print(f"  not used: {escape(reason)}")


def _case_line(case: CaseResult) -> str:
    from rich.markup import escape  # noqa: PLC0415

    mark = "holds" if case.holds else "does not hold"
    about = f"{case.kind}, of {case.subject}" + ("" if case.counts else ", not counted")
    return (
        f"{case.value:>10.4g}  {mark} ({escape(about)}): {escape(case.conditions)}\n"
        f"              = {escape(case.line)}"
    )


def _reproductions(rows: list[Row], *, as_json: bool, every_row: bool) -> int:
    missed = [row for row in rows if not row.agrees]
    if as_json:
        _print_json(
            {
                "rows": [
                    dataclasses.asdict(row) | {"error_ratio": row.error_ratio, "agrees": row.agrees}
                    for row in rows
                ],
                "missed": len(missed),
            }
        )
        return EXIT_DISAGREES if missed else 0
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    for group, members in groups.items():
        worst = max(members, key=lambda row: abs(row.error_ratio))
        click.echo(f"\n{group}: {len(members)} numbers, worst error {worst.error_ratio:+.2%}")
        whole = every_row or not group.startswith("ML.ENERGY")
        for row in members if whole else [worst]:
            mark = "" if row.agrees else "  MISSED"
            click.echo(
                f"  ours {row.ours:>14,.6g}  theirs {row.theirs:>14,.6g} {row.unit:<9}"
                f"{row.error_ratio:>+8.2%}  {row.label}{mark}"
            )
    click.echo(f"\n{len(rows)} numbers, {len(missed)} missed")
    return EXIT_DISAGREES if missed else 0
