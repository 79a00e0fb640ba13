"""Meter any command: its joules, and with --tokens-from its joules per token."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import EXIT_BAD_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.record import RunRecord
    from harness.sampler import Sampler

_PROGRESS_S = 5.0


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Meter any command.",
)
@click.option("--gpus", help="Indices or UUIDs, separated by commas; default: all visible.")
@click.option("--power", multiple=True, help="Power source (may be repeated); default: sensors.")
@click.option("--tokens-from", metavar="URL", help="The engine's /metrics, read at both edges.")
@click.option("--engine", help="Whose counters those are; default: told from their names.")
@click.option(
    "--window-from",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON file the command writes: start_s and end_s of the part that counts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the record, as JSON, into this file.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the raw readings in this folder.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary and no progress.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def COMMAND(  # noqa: N802 - the name every verb's file exports
    command: tuple[str, ...],
    *,
    gpus: str | None,
    power: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    keep: Path | None,
    quiet: bool,
    **options: Any,  # noqa: ANN401
) -> int:
    """
    Run COMMAND and say what it drew; its exit code and its output are passed on.

    Our own words go to stderr. Example: joulemark measure -- vllm bench serve …
    """
    # Imported here, so that `joulemark --help` does not wait for pandas.
    from harness import measure  # noqa: PLC0415

    devices = tuple(word.strip() for word in (gpus or "").split(",") if word.strip())
    sources: list[tuple[str, dict[str, Any]]] = [
        (kind, {"devices": devices} if kind == "nvml" and devices else {}) for kind in power
    ] or measure.sensors(devices)
    with contextlib.ExitStack() as stack:
        folder = _folder(stack, keep)
        follow = None if quiet else stack.enter_context(_progress())
        measured = measure.measure_command(
            command, sources=sources, folder=folder, on_start=follow, **options
        )
        text = measured.record.to_json()
        if keep is not None:
            (folder / "run.json").write_bytes(text)
    if output is not None:
        output.write_bytes(text)
    if not quiet:
        for line in _summary(measured.record):
            click.echo(line, err=True)
    if as_json:
        sys.stdout.flush()
        click.echo(text.decode(), nl=False)
    if measured.exit_code == 0 and not measured.record.metrics:
        return EXIT_BAD_INPUT
    return measured.exit_code


def _folder(stack: contextlib.ExitStack, keep: Path | None) -> Path:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return keep
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joulemark-")))


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Give a function that starts telling a terminal the watts every few seconds."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def follow(sampler: Sampler) -> None:
        if sys.stderr.isatty():
            thread = threading.Thread(target=_tell, args=(sampler, done), daemon=True)
            threads.append(thread)
            thread.start()

    try:
        yield follow
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _tell(sampler: Sampler, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(_PROGRESS_S):
        watts = ", ".join(f"{name} {value:.0f} W" for name, value in sampler.latest_w().items())
        click.echo(f"joulemark: {time.monotonic() - began:.0f} s, {watts}", err=True)


def _summary(record: RunRecord) -> Iterator[str]:
    kind = record.power_kind or "no power"
    for key, value in record.metrics.items():
        bounds = "" if value.low is None else f" ({value.low:.6g} to {value.high:.6g})"
        yield f"joulemark: {key} {value.value:.6g} {value.unit}{bounds}, {kind}"
    for finding in record.findings:
        yield f"joulemark: {finding.severity}: {finding.message}"
