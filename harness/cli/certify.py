"""Say up to how many streams and tokens a second this host's client can be trusted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click
import orjson

from harness.load import certificate

if TYPE_CHECKING:
    from harness.load.certificate import Step


@click.command("certify", help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--budget",
    "budget_s",
    type=click.FloatRange(min=5, max=3600),
    default=60.0,
    show_default=True,
    help="Seconds it may take.",
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    multiple=True,
    help="Try these numbers of streams instead of the ladder (may be repeated).",
)
@click.option("--store/--no-store", default=True, help="Keep it for later runs' records.")
def _certify(*, as_json: bool, budget_s: float, streams: tuple[int, ...], store: bool) -> None:
    if not as_json:
        click.echo("streams  tokens/s  lag p50  lag p99  TTFT err  TPOT err  CPU ms/1000 tok")

    def show(step: Step) -> None:
        if not as_json:
            click.echo(_line(step))

    made = certificate.certify(
        budget_s=budget_s,
        streams=sorted(streams) or certificate.STREAMS,
        on_step=show,
    )
    path = certificate.default_path()
    if store:
        certificate.store(made, path)
    if as_json:
        text = orjson.dumps(dataclasses.asdict(made), option=orjson.OPT_INDENT_2)
        click.echo(text.decode())
        return
    if made.tok_per_s is None:
        click.echo("This host's client passed no step; its latencies are not to be trusted.")
    else:
        click.echo(
            f"Trust this host's client up to {made.streams} streams and "
            f"{made.tok_per_s:.0f} tokens/s (one client process)."
        )
    click.echo(f"Stopped by {made.stopped_by}.")
    if store:
        click.echo(f"Kept in {path}; later runs on this host carry it in their provenance.")


def _line(step: Step) -> str:
    result = step.result

    def number(value: float | None, scale: float, digits: int, width: int) -> str:
        return f"{'-' if value is None else f'{value * scale:.{digits}f}':>{width}}"

    return (
        f"{step.streams:>7}"
        f"{number(result.delivered_tok_per_s, 1, 0, 10)}"
        f"{number(result.lag_p50_s, 1e3, 2, 9)}"
        f"{number(result.lag_p99_s, 1e3, 2, 9)}"
        f"{number(result.ttft_error_p50_s, 1e3, 2, 10)}"
        f"{number(result.tpot_error_mean_ratio, 100, 3, 9)}%"
        f"{number(result.cpu_ms_per_1000_tokens, 1, 1, 17)}"
        f"  {'ok' if step.passed else step.why_not}"
    )


COMMAND: click.Command = _certify
