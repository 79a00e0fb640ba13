"""Estimate from a run what an input token, an output token and idling cost on one server."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import EXIT_BAD_INPUT
from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from harness.phases.estimate import Coefficient


@click.command(short_help="Estimate joules of prefill, decode and idling.")
@click.argument("run", default="latest")
@ARTIFACT_DIR
@click.option("--window", type=click.Choice(["steady", "run", "ml_energy"]),
              help="Which stretch of the run; `run` varies most and so tells most.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def COMMAND(  # noqa: N802 - the name every verb's file exports
    run: str, *, artifact_dir: Path, window: str | None, as_json: bool
) -> int:
    """
    Fit RUN's power to its rates of input and output tokens, over bins of 0.5 or 1 s.

    An estimate, given with its fit: it holds for one server that did nothing
    else, at the load that it had, and tells the phases apart only if the load varied
    or idling was metered. Where the data contradict it, it says so.
    """
    # Imported here, so that `joulemark --help` does not wait for pandas.
    import orjson  # noqa: PLC0415

    from harness import store  # noqa: PLC0415
    from harness.analysis import phase_splits  # noqa: PLC0415

    raw = store.load(store.find(run, artifact_dir=artifact_dir))
    splits, findings = phase_splits(raw, window)
    kinds = {
        channel["name"]: channel["power_kind"] for channel in raw.power_header.get("channels", [])
    }
    if as_json:
        document = {
            name: {"power_kind": kinds[name], **dataclasses.asdict(split)}
            for name, split in splits.items()
        }
        sys.stdout.buffer.write(
            orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        return 0 if splits else EXIT_BAD_INPUT
    for name, split in splits.items():
        click.echo(f"{name}: an estimate from {kinds[name].upper()} power")
        if split.contradicted:
            click.echo("  NOT TO BE USED: the data contradict it, see the warnings")
        click.echo(f"  input token computed     {_said(split.prefill_j_per_token, 'J/token')}")
        click.echo(f"  output token             {_said(split.decode_j_per_token, 'J/token')}")
        click.echo(f"  idling                   {_said(split.idle_w, 'W')}")
        click.echo(f"  measured, none in flight {_said(split.idle_measured_w, 'W')}")
        click.echo(
            f"  fit: {split.r2_ratio:.1%} of the variance, {split.bins} bins of "
            f"{split.bin_s:g} s ({split.left_out_ratio:.0%} left out), sensor "
            f"{split.lag_s * 1e3:+.0f} ms"
        )
        findings += split.findings
    for finding in findings:
        click.echo(f"{finding.severity}: {finding.message}", err=True)
    if not splits:
        why = (
            "the findings above say why"
            if raw.power_header
            else "the run recorded no power; choose a source, `joulemark doctor` lists them"
        )
        click.echo(f"joulemark: no split: {why}", err=True)
    return 0 if splits else EXIT_BAD_INPUT


def _said(number: Coefficient | None, unit: str) -> str:
    if number is None:
        return "not told"
    return f"{number.value:.4g} (95 %: {number.low:.4g} to {number.high:.4g}) {unit}"
