"""Say whether runs are better, the same or worse than other runs, or that it cannot be told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from harness.cli._folder_options import ARTIFACT_DIR
from harness.plural import counted

if TYPE_CHECKING:
    from harness.compare.comparison import Comparison
    from harness.compare.sets import RunSet

EXIT_WORSE: Final = 1
EXIT_CANNOT_TELL: Final = 2


@click.command(short_help="Compare runs: better, same, worse, or cannot tell.")
@click.argument("runs", nargs=-1, required=True, metavar="BASE... [vs] CAND...")
@click.option(
    "--fail-on",
    "fail_on",
    multiple=True,
    metavar="METRIC:PERCENT%",
    help="Judge this metric; changes below PERCENT do not matter. May be repeated.",
)
@click.option("--allow", multiple=True, metavar="KEY", help="Runs may differ in KEY.")
@click.option(
    "--alpha",
    type=click.FloatRange(1e-6, 0.5),
    default=0.05,
    show_default=True,
    help="Rate of wrong `worse` or `better`, over all metrics.",
)
@click.option("--seed", type=int, default=0, help="Of the bootstrap.")
@ARTIFACT_DIR
@click.option("--store", "where", default=None, help="Folder or URL of baselines.")
@click.option("--all", "everything", is_flag=True, help="Also show what was not judged.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON on stdout.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write JUnit XML.")
@click.option(
    "--markdown", "markdown_file", type=click.Path(path_type=Path), help="Append a summary."
)
@click.option(
    "--exit-cannot-tell",
    type=click.IntRange(0, 125),
    default=EXIT_CANNOT_TELL,
    show_default=True,
    help="Exit code of `cannot tell`.",
)
def COMMAND(  # noqa: N802
    runs: tuple[str, ...],
    *,
    fail_on: tuple[str, ...],
    allow: tuple[str, ...],
    alpha: float,
    seed: int,
    artifact_dir: Path,
    where: str | None,
    everything: bool,
    as_json: bool,
    junit_file: Path | None,
    markdown_file: Path | None,
    exit_cannot_tell: int,
) -> int:
    """
    Compare candidate runs with base runs, one of each or with `vs` between them.

    Each is a run folder, a run id, a folder of runs, a pattern, or
    `baseline:NAME`. Exit 0: nothing is worse; 1: something is; 2: cannot tell, or
    cannot be compared.
    """
    from harness.compare.comparison import compare  # noqa: PLC0415
    from harness.compare.thresholds import read_thresholds  # noqa: PLC0415

    base, cand = _sets(runs, artifact_dir, where)
    found = compare(
        base,
        cand,
        thresholds=read_thresholds(fail_on),
        allow=allow,
        alpha=alpha,
        seed=seed,
    )
    show(found, everything=everything, as_json=as_json)
    write(found, junit_file=junit_file, markdown_file=markdown_file)
    return exit_code(found, exit_cannot_tell)


def show(found: Comparison, *, everything: bool, as_json: bool) -> None:
    """Print a comparison, as a table or as JSON."""
    import orjson  # noqa: PLC0415

    from harness.cli._compare_view import print_comparison  # noqa: PLC0415
    from harness.compare.text import document  # noqa: PLC0415

    if not as_json:
        print_comparison(found, everything=everything)
        return
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    sys.stdout.buffer.write(orjson.dumps(document(found), option=options))
    sys.stdout.flush()


def write(found: Comparison, *, junit_file: Path | None, markdown_file: Path | None) -> None:
    """Write what was asked for; Markdown is appended, as `$GITHUB_STEP_SUMMARY` wants it."""
    from harness.compare.text import markdown  # noqa: PLC0415
    from harness.errors import StoreError  # noqa: PLC0415
    from harness.files import write_atomically  # noqa: PLC0415
    from harness.junit import junit  # noqa: PLC0415

    try:
        if junit_file is not None:
            write_atomically(junit_file, junit(found))
        if markdown_file is not None:
            with markdown_file.open("a", encoding="utf-8") as file:
                file.write(markdown(found))
    except OSError as error:
        raise StoreError(
            f"cannot write {error.filename}: {error.strerror}", remedy="name a file in a folder "
            "that exists and can be written"
        ) from error  # fmt: skip


def exit_code(found: Comparison, cannot_tell: int = EXIT_CANNOT_TELL) -> int:
    """0: nothing worse; 1: worse; *cannot_tell* where something is open and nothing worse."""
    if found.word == "worse":
        return EXIT_WORSE
    return cannot_tell if found.word == "cannot tell" else 0


def _sets(runs: tuple[str, ...], artifact_dir: Path, where: str | None) -> tuple[RunSet, RunSet]:
    from harness.baseline import DEFAULT_STORE, runs_of  # noqa: PLC0415
    from harness.compare.sets import find_runs, run_set  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    if runs.count("vs") == 1:
        place = runs.index("vs")
        sides = (runs[:place], runs[place + 1 :])
    elif len(runs) == 2 and "vs" not in runs:  # noqa: PLR2004 - base and candidate
        sides = (runs[:1], runs[1:])
    else:
        raise ConfigError(
            f"{counted(len(runs), 'argument')} cannot say which are base and which candidate",
            remedy="put the word vs between them: `joulemark compare A1 A2 vs B1 B2`",
        )
    found = []
    for label, names in zip(("base", "candidate"), sides, strict=True):
        members = []
        for name in names:
            if name.startswith("baseline:"):
                members += runs_of(name.removeprefix("baseline:"), where or DEFAULT_STORE)
            else:
                members += find_runs(name, artifact_dir=artifact_dir)
        found.append(run_set(label, members))
    return found[0], found[1]
