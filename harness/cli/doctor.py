"""Say which energy sensors work here, how well, and what can be trusted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click
import orjson

from harness import doctor

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNS = {"good": "ok", "note": "note", "problem": "PROBLEM"}


@click.command("doctor", help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--power", multiple=True, help="Try only this source (may be repeated).")
@click.option(
    "--listen",
    "listen_s",
    type=click.FloatRange(min=0.5, max=600),
    default=doctor.LISTEN_S,
    show_default=True,
    help="Seconds to sample each source.",
)
def _doctor(*, as_json: bool, power: tuple[str, ...], listen_s: float) -> None:
    chosen: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in power]
    diagnosis = doctor.examine(chosen or None, listen_s=listen_s)
    if as_json:
        text = orjson.dumps(dataclasses.asdict(diagnosis), option=orjson.OPT_INDENT_2)
        click.echo(text.decode())
        return
    for line in _lines(diagnosis):
        click.echo(line)


def _lines(diagnosis: doctor.Diagnosis) -> Iterator[str]:
    yield diagnosis.verdict
    yield ""
    for source in diagnosis.sources:
        if source.problem is not None:
            yield f"{source.kind}: {source.problem}"
            continue
        yield f"{source.kind}: {source.summary}"
        for channel in source.channels:
            parts = [f"{channel.power_kind} {channel.boundary} {channel.sense}"]
            if channel.watts is not None:
                parts.append(f"{channel.watts:.1f} W")
            if channel.tick_s is not None:
                parts.append(f"moves every {channel.tick_s * 1e3:.0f} ms")
            if channel.call_us is not None:
                parts.append(f"call {channel.call_us[0]:.0f} us (p99 {channel.call_us[1]:.0f})")
            if channel.faults:
                parts.append(f"{channel.faults} of {channel.reads} readings failed")
            yield f"  {channel.name}: {', '.join(parts)}"
        if source.period_error_ms is not None and source.cpu_share is not None:
            p50, p99 = source.period_error_ms
            yield (
                f"  sampler: off its period by {p50:.2f} ms (p99 {p99:.2f} ms),"
                f" {source.cpu_share:.1%} of a core"
            )
    yield ""
    for remark in diagnosis.remarks:
        yield f"{_SIGNS[remark.weight]}: {remark.message}"


COMMAND: click.Command = _doctor
