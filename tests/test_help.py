"""`--help` says all there is to know: every option what it does, no sentence cut short."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from harness import cli


def commands(command: click.Command, path: tuple[str, ...] = ()):
    """Every verb and its sub-commands, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


ALL = dict(commands(cli.joulemark))
each = pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "joulemark")


@each
def test_every_option_says_what_it_does(path):
    options = [one for one in ALL[path].params if isinstance(one, click.Option)]
    assert [one.opts for one in options if not one.help] == []


@each
def test_no_line_is_cut_or_stands_alone(path):
    """On a terminal of 80 columns: a row that ends in dots, or a full stop on its own."""
    done = CliRunner().invoke(cli.joulemark, [*path, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    lines = [line.strip() for line in done.output.splitlines()]
    usage = {line for line in lines if line.startswith("Usage:")}
    assert [line for line in lines if line.endswith("...") and line not in usage] == []
    assert [line for line in lines if line and not any(map(str.isalnum, line))] == []
