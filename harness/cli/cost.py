"""Split the cost of a million tokens: energy, cooling, losses, facility, opex, server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli._cost_options import case_options


@click.command(short_help="Split the cost of a million tokens.")
@case_options
@click.option(
    "--tdp-sum-w",
    type=float,
    help="TDPs of accelerator, CPUs and switches, a device: adds MLPerf Endpoints' nameplate.",
)
@click.option(
    "--cooling",
    type=click.Choice(["liquid", "air"]),
    default="liquid",
    show_default=True,
    help="Of that nameplate.",
)
@click.option("--sources", is_flag=True, help="Print every input with where it is from.")
@click.option(
    "--list",
    "list_only",
    is_flag=True,
    help="Print what the catalogue offers; with --sources, every default.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Draw the waterfall: .png, .svg, .pdf."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def COMMAND(  # noqa: N802
    *,
    tdp_sum_w: float | None,
    cooling: str,
    sources: bool,
    list_only: bool,
    picture: Path | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # what case_options adds
) -> None:
    """
    Price RUNS (folders, ids, or `latest`), a published point, or numbers given here.

    Every joule is printed with its power kind, every input has a source (--sources).
    """
    import orjson  # noqa: PLC0415

    from harness.cli._cost_options import cases  # noqa: PLC0415
    from harness.cli._cost_view import print_case, print_catalogue  # noqa: PLC0415
    from harness.cost import formulas as cost  # noqa: PLC0415
    from harness.cost.catalogue_files import load  # noqa: PLC0415
    from harness.cost.document import defaults_markdown, document  # noqa: PLC0415
    from harness.cost.picture import waterfall  # noqa: PLC0415

    catalogue = load(options["extra"])
    if list_only:
        if sources:
            click.echo(defaults_markdown(catalogue), nl=False)
        else:
            print_catalogue(catalogue)
        return
    found = cases(options, catalogue)
    documents = [document(case, seed=options["seed"]) for case in found]
    if tdp_sum_w is not None:
        nameplate_w = cost.endpoints_nameplate_w(tdp_sum_w, cooling)
        for case, one in zip(found, documents, strict=True):
            one["endpoints"] = {
                "nameplate_w": nameplate_w,
                "cooling": cooling,
                "tok_per_s_per_kw": case.inputs.tok_per_s / nameplate_w * 1e3,
            }
    if picture is not None:
        waterfall(found, picture)
    if as_json:
        click.echo(orjson.dumps({"cases": documents}, option=orjson.OPT_INDENT_2).decode())
        return
    for one in documents:
        print_case(one, sources=sources)
