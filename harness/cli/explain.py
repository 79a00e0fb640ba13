"""Walk from one token's joules through cooling to dollars and megawatts, with every source."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from harness.cli._cost_options import case_options

DEFAULT_POINT = "h100-sxm/1/64"


@click.command(short_help="Explain what a token costs.")
@case_options
@click.option(
    "--interactivity", type=float, help="Tokens/s/user at which accelerators are compared."
)
@click.option(
    "--model-config",
    type=click.Path(path_type=Path),
    help="config.json of the model, for the limit; gpt-oss-120b is built in.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "html", "json"]),
    default="terminal",
    show_default=True,
    help="What is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("--output", type=click.Path(path_type=Path), help="A file instead of stdout.")
def COMMAND(  # noqa: N802
    *,
    interactivity: float | None,
    model_config: Path | None,
    form: str,
    as_json: bool,
    output: Path | None,
    **options: Any,  # noqa: ANN401  # what case_options adds
) -> None:
    """
    Explain RUNS, a published point, or numbers; without any, ML.ENERGY's H100 at batch 64.

    Each step shows its formula, its numbers and, at the end, the source of every figure.
    """
    import orjson  # noqa: PLC0415

    from harness.claims.recompute import evidence  # noqa: PLC0415
    from harness.cli._cost_options import cases  # noqa: PLC0415
    from harness.cost.catalogue_files import load, model_shape  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.explain.text import markdown, page  # noqa: PLC0415
    from harness.explain.walk import walk  # noqa: PLC0415

    catalogue = load(options["extra"])
    if not options["runs"] and options["tok_per_s"] is None and not options["published"]:
        options["published"] = (DEFAULT_POINT,)
    data = evidence(catalogue)
    if model_config is not None:
        data = dataclasses.replace(data, model=model_shape(model_config))
    walks = [
        walk(
            case,
            data,
            interactivity_tok_per_s=interactivity,
            model_is_known=model_config is not None,
            seed=options["seed"],
        )
        for case in cases(options, catalogue)
    ]
    form = "json" if as_json else form
    if form == "json":
        document = {"walks": [dataclasses.asdict(one) for one in walks]}
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
    else:
        text = page(walks) if form == "html" else markdown(walks)
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{output} cannot be written ({error.strerror})", remedy="name another file"
            ) from error
    elif form == "terminal":
        _print_terminal(text)
    else:
        click.echo(text, nl=False)


def _print_terminal(text: str) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markdown import Markdown  # noqa: PLC0415

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        click.echo(text, nl=False)
