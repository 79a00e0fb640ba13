"""Prints what a run would start and send, without starting or sending anything."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.contracts import Engine
    from harness.settings import RunConfig


def print_plan(settings: RunConfig) -> None:
    """The engine's files and commands, its endpoint, a request's fields, load and workload."""
    from harness import launch  # noqa: PLC0415 - pandas is not needed to print help
    from harness.errors import ConfigError, EngineError, PowerUnavailableError  # noqa: PLC0415
    from harness.kept_engine import check_form  # noqa: PLC0415
    from harness.request_fields import fixed_length, request_endpoint  # noqa: PLC0415
    from harness.selection import select  # noqa: PLC0415

    engine = settings.engine
    if engine is None:
        try:
            engine = select(settings).engine
        except PowerUnavailableError as error:
            click.echo(f"# {error}")
            return
    port = launch.free_port("127.0.0.1")
    try:
        check_form(settings, engine)
    except ConfigError as error:
        click.echo(f"# would be refused: {error}")
    try:
        engine = engine.prepare(port=port)
    except EngineError as error:
        click.echo(f"# cannot be started here: {error}")
        engine = _with_port(engine, port)
    spec = engine.launch()
    if spec is None:
        click.echo("# nothing is started: the server runs already")
    else:
        click.echo("# would be started, each line a process of its own below our guard:")
        for line in launch.describe(spec):
            click.echo(line)
        click.echo(f"# ready when this answers: {spec.ready_url}")
    endpoint = request_endpoint(engine, settings.load)
    body = {**fixed_length(engine, settings.load), **endpoint.extra_body}
    click.echo(f"# requests go to: {endpoint.base_url} ({endpoint.endpoint_type})")
    click.echo(f"# each with: {json.dumps(body)}")
    click.echo(f"# load: {_load(settings)}")
    print_workload(settings, to_stderr=False)


def print_workload(settings: RunConfig, *, to_stderr: bool) -> None:
    """What the workload is made of, counted from its own first requests."""
    from harness.workload_summary import describe, summarise  # noqa: PLC0415

    for line in describe(
        summarise(settings.workload, seed=settings.seed, most=settings.load.count)
    ):
        click.echo(f"# {line}", err=to_stderr)


def _with_port(engine: Engine, port: int) -> Engine:
    """As `prepare` would fill it in, where the program is missing."""
    if getattr(engine, "port", None) == 0:
        return dataclasses.replace(engine, port=port)  # type: ignore[type-var]
    return engine


def _load(settings: RunConfig) -> str:
    load = settings.load
    words = [f"pattern {load.pattern}"]
    for name, value in (
        ("concurrency", load.concurrency),
        ("requests a second", load.request_rate_per_s),
        ("requests", load.count),
        ("seconds", load.duration_s),
        ("warm-up requests", load.warmup_count),
    ):
        if value is not None:
            words.append(f"{name} {value:g}")
    return ", ".join(words)
