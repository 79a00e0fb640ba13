"""Run two environments in turns until it is firm whether one is worse, or the budget ends."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.compare.sets import StoredRun
    from harness.regress.loop import Regression, RegressRow, Side

EXIT_WORSE: Final = 1
EXIT_CANNOT_TELL: Final = 2


@click.command(short_help="Run base and candidate in turns until the verdict is firm.")
@click.argument("configs", nargs=-1, metavar="[CONFIG|PRESET] [CAND_CONFIG]")
@click.option("-s", "--set", "both", multiple=True, metavar="SECTION.KEY=VALUE", help="Of both.")
@click.option(
    "--base", "base_sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Of the base alone."
)
@click.option(
    "--cand",
    "cand_sets",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Of the candidate alone.",
)
@click.option("--base-command", help="Meter this command instead of a configuration.")
@click.option("--cand-command", help="The same of the candidate.")
@click.option("--power", multiple=True, help="Power source for commands.")
@click.option("--tokens-from", metavar="URL", help="A running engine's /metrics, for commands.")
@click.option("--fail-on", multiple=True, metavar="METRIC:PERCENT%", help="Judge this metric.")
@click.option("--allow", multiple=True, metavar="KEY", help="Sides may differ in KEY.")
@click.option(
    "--alpha",
    type=click.FloatRange(1e-6, 0.5),
    default=0.05,
    show_default=True,
    help="Rate of wrong `worse` or `better`, over all metrics and looks.",
)
@click.option(
    "--max-pairs", type=int, default=20, show_default=True, help="Then it ends, firm or not."
)
@click.option(
    "--budget", "budget_s", type=float, help="Seconds; no pair begins that would end later."
)
@click.option(
    "--rest",
    "rest_s",
    type=float,
    default=2.0,
    show_default=True,
    help="The least pause between runs, seconds.",
)
@click.option(
    "--cool-patience",
    type=float,
    default=300.0,
    show_default=True,
    help="Seconds to wait at most until GPUs are as cool as before the first run.",
)
@click.option("--seed", type=int, default=0, help="Of the order.")
@click.option(
    "--artifact-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders go.",
)
@click.option(
    "--exit-cannot-tell",
    type=click.IntRange(0, 125),
    default=EXIT_CANNOT_TELL,
    show_default=True,
    help="Exit code of `cannot tell`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON on stdout.")
@click.option(
    "--markdown", "markdown_file", type=click.Path(path_type=Path), help="Append a summary."
)
def COMMAND(  # noqa: N802
    configs: tuple[str, ...],
    *,
    max_pairs: int,
    budget_s: float | None,
    rest_s: float,
    cool_patience: float,
    alpha: float,
    seed: int,
    fail_on: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
    markdown_file: Path | None,
    exit_cannot_tell: int,
    **given: Any,  # noqa: ANN401
) -> int:
    """
    Compare two environments by turns (ABBA), stopping as soon as the verdict is firm.

    One CONFIG with --base and --cand overrides, two CONFIGs, or two commands.
    Exit 0: nothing is worse; 1: something is; 2: cannot tell, or cannot be run.
    """
    from harness.cli._signals import ending  # noqa: PLC0415
    from harness.compare.thresholds import read_thresholds  # noqa: PLC0415
    from harness.cooldown import Cooldown, gpu_temperatures  # noqa: PLC0415
    from harness.regress import loop as regress  # noqa: PLC0415
    from harness.regress.text import document, lines, markdown  # noqa: PLC0415

    stop = threading.Event()
    commands = bool(given["base_command"] or given["cand_command"])
    run = _commands(configs, given) if commands else _configs(configs, given, stop)
    with ending(stop, "the comparison"):
        found = regress.regress(
            run,
            thresholds=read_thresholds(fail_on),
            allow=(*allow, "command") if commands else allow,
            same_work=commands,
            max_pairs=max_pairs,
            budget_s=budget_s,
            seed=seed,
            alpha=alpha,
            rest=Cooldown(
                gpu_temperatures, rest_s=rest_s, patience_s=cool_patience, wait=stop.wait
            ),
            clock_s=time.monotonic,
            stopping=stop.is_set,
            watch=_tell,
        )
    if as_json:
        import orjson  # noqa: PLC0415

        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.buffer.write(orjson.dumps(document(found), option=options))
        sys.stdout.flush()
    else:
        click.echo("\n".join(lines(found)))
    if markdown_file is not None:
        with markdown_file.open("a", encoding="utf-8") as file:
            file.write(markdown(found))
    return _exit_code(found, exit_cannot_tell)


def _exit_code(found: Regression, cannot_tell: int) -> int:
    if found.word == "worse":
        return EXIT_WORSE
    return cannot_tell if found.word == "cannot tell" else 0


def _tell(pairs: int, rows: Sequence[RegressRow]) -> None:
    from harness.regress.text import row_text  # noqa: PLC0415

    for row in rows:
        click.echo(f"joulemark: pair {pairs}: {row_text(row)}", err=True)


def _configs(
    configs: tuple[str, ...], given: dict[str, Any], stop: threading.Event
) -> Callable[[Side], StoredRun]:
    from harness import config  # noqa: PLC0415
    from harness.cli._progress import Progress  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.regress import runs as regress_runs  # noqa: PLC0415

    if len(configs) not in {1, 2}:
        raise ConfigError(
            f"{len(configs)} configurations are named",
            remedy="name one, with --base and --cand overrides, or two",
        )
    tables: dict[Side, dict[str, Any]] = {}
    overrides = {"base": given["base_sets"], "cand": given["cand_sets"]}
    side: Side
    for side, source in (("base", configs[0]), ("cand", configs[-1])):
        table = config.read(source)
        for assignment in (*given["both"], *overrides[side]):
            config.override(table, assignment)
        table.setdefault("run", {}).setdefault("artifact_dir", str(given["artifact_dir"]))
        tables[side] = table
    # A progress line lives as long as one run, the terminal is ours in between.
    progress = _PerRun(Progress)
    return progress.around(
        regress_runs.of_configs(tables, name=Path(configs[0]).stem, watcher=progress, stop=stop)
    )


def _commands(configs: tuple[str, ...], given: dict[str, Any]) -> Callable[[Side], StoredRun]:
    from harness.errors import ConfigError  # noqa: PLC0415
    from harness.regress import runs as regress_runs  # noqa: PLC0415

    if configs or not (given["base_command"] and given["cand_command"]):
        raise ConfigError(
            "a command can be compared with a command only",
            remedy="give --base-command and --cand-command, and no configuration",
        )
    return regress_runs.of_commands(
        {"base": given["base_command"], "cand": given["cand_command"]},
        artifact_dir=given["artifact_dir"],
        power=given["power"],
        tokens_from=given["tokens_from"],
    )


class _PerRun:
    """A progress display that is begun and ended with each run."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._shown: Any = None

    def around(self, run: Callable[[Side], StoredRun]) -> Callable[[Side], StoredRun]:
        def shown(side: Side) -> StoredRun:
            click.echo(f"joulemark: {side}", err=True)
            with self._make() as self._shown:
                return run(side)

        return shown

    def phase(self, name: str, *, seconds: float | None, requests: int | None) -> None:
        self._shown.phase(name, seconds=seconds, requests=requests)

    def tick(self) -> None:
        self._shown.tick()

    def follow(self, progress: Any, watts: Any, kinds: Any) -> None:  # noqa: ANN401
        self._shown.follow(progress, watts, kinds)
