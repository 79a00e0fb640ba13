"""An engine that is started once and serves several runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import launch
from .request_fields import request_endpoint
from .selection import Selection, select
from .stream.openai_api import build_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .contracts import Engine
    from .settings import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEngine:
    """
    A started engine.

    Args:
        selection: what `auto` came to.
        engine: with port and all defaults filled in.
        running: its processes; None: it was running already.
    """

    selection: Selection
    engine: Engine
    running: launch.RunningEngine | None


def prepare(config: RunConfig) -> tuple[Selection, Engine]:
    """
    Make engine and power source definite, and make sure that the engine can be reached.

    Raises:
        JoulemarkError: a program, a model, a free port or a server is missing, or
            the engine does not take requests of this form.
    """
    selection = select(config)
    check_form(config, selection.engine)
    engine = selection.engine.prepare(port=launch.free_port("127.0.0.1"))
    spec = engine.launch()
    if spec is not None:
        launch.check_port(spec.host, spec.port)
    else:
        launch.check_listening(engine.endpoint(config.load.endpoint_type).base_url)
    return selection, engine


def check_form(config: RunConfig, engine: Engine) -> None:
    """
    Make sure that the engine takes such requests, before minutes are spent on its start.

    Raises:
        ConfigError: the first request is a chat, a text or token ids, and the endpoint
            takes others.
    """
    request = next(iter(config.workload.requests(seed=config.seed)), None)
    if request is not None:
        build_body(request, request_endpoint(engine, config.load), fixed_length={})


@contextlib.contextmanager
def keep(config: RunConfig, *, log: Path, tick: Callable[[], None]) -> Iterator[KeptEngine]:
    """
    Start the engine of *config*; stop it at the end, however that comes.

    Args:
        config: of any of the runs; their engine and power settings are the same.
        log: gets the engine's output.
        tick: called while waiting; may raise to give up.

    Raises:
        JoulemarkError: it does not start.
    """
    selection, engine = prepare(config)
    spec = engine.launch()
    if spec is None:
        yield KeptEngine(selection=selection, engine=engine, running=None)
        return
    with launch.RunningEngine(spec, log, tick=tick) as running:
        yield KeptEngine(selection=selection, engine=engine, running=running)
