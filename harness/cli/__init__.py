"""The command line: each file here is one verb of `joulemark`, imported when it is called."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any, Final

import click

from harness import __version__
from harness.errors import JoulemarkError

EXIT_BAD_INPUT: Final = 2
"""The user can mend it: bad input, nothing to measure with, an engine that does not answer."""
EXIT_INTERRUPTED: Final = 130
"""Stopped by Ctrl-C: 128 + SIGINT, as shells report it."""


class _Verbs(click.Group):
    """Lists the verbs from the folder's file names; imports a verb only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(
            path.stem.replace("_", "-") for path in Path(__file__).parent.glob("[!_]*.py")
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Overridden so that `--help` reads docstrings instead of importing pandas.
        rows = [(name, _summary(name)) for name in self.list_commands(ctx)]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


def _summary(verb: str) -> str:
    path = Path(__file__).parent / f"{verb.replace('-', '_')}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="joulemark")
def joulemark() -> None:
    """Say what a token of LLM inference costs, in joules and in dollars."""


def main(arguments: list[str] | None = None) -> None:
    """
    Run the program; every foreseen error is one line on stderr and exit code 2.

    Args:
        arguments: instead of `sys.argv[1:]`.
    """
    try:
        code: Any = joulemark.main(args=arguments, prog_name="joulemark", standalone_mode=False)
    except JoulemarkError as error:
        click.echo(f"joulemark: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("joulemark: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
