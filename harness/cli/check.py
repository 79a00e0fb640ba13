"""Say whether runs can be trusted, why not, and what to do about it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from harness.repeats import Trust

EXIT_NOT_TRUSTWORTHY: Final = 1
_NUMBERS: Final = ("energy", "latency")


@click.command(short_help="Say whether runs can be trusted.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--half-width",
    metavar="PERCENT%",
    help="The precision that is claimed of the mean over the runs, e.g. 2%.",
)
@ARTIFACT_DIR
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON on stdout.")
def COMMAND(  # noqa: N802
    runs: tuple[str, ...], *, half_width: str | None, artifact_dir: Path, as_json: bool
) -> int:
    """
    Say whether each RUN can be trusted, and whether together they fix their numbers.

    RUN is a run folder, a run id, `latest` (the default), a folder of runs, a
    record written with `--json`, or a pattern. Exit 0: trustworthy; 1: not; 2: a
    run cannot be read.
    """
    from harness.cli._check_view import print_trust  # noqa: PLC0415
    from harness.compare.sets import find_runs, run_set  # noqa: PLC0415
    from harness.repeats import trust  # noqa: PLC0415

    claimed = None if half_width is None else _ratio(half_width)
    found = [
        run for text in (runs or ("latest",)) for run in find_runs(text, artifact_dir=artifact_dir)
    ]
    checked = trust(run_set("the runs", found), claimed)
    if as_json:
        _print_json(checked)
    else:
        print_trust(checked, _NUMBERS)
    return 0 if checked.trustworthy else EXIT_NOT_TRUSTWORTHY


def _ratio(text: str) -> float:
    from harness.errors import ConfigError  # noqa: PLC0415

    try:
        ratio = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < 1:
        raise ConfigError(
            f"--half-width {text!r} is not between 0 and 100 %", remedy="write e.g. `2%`"
        )
    return ratio


def _print_json(checked: Trust) -> None:
    import orjson  # noqa: PLC0415

    document = {
        "schema_version": 1,
        "trustworthy": checked.trustworthy,
        "verdicts": {numbers: checked.verdict(numbers) for numbers in _NUMBERS},
        **dataclasses.asdict(checked),
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    sys.stdout.buffer.write(orjson.dumps(document, option=options))
    sys.stdout.flush()
