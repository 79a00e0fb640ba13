"""Run the mock engine: an OpenAI-compatible server that makes up tokens at a settable speed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any, get_args

import click
import uvloop

from harness.errors import EngineError
from harness.mock import metrics
from harness.mock.server import MockServer
from harness.mock.settings import FAULTS, Dialect, MockSettings


@click.command("mock", help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="0: the system chooses.")
@click.option("--model", default="mock", show_default=True, help="The name it answers to.")
@click.option("--ttft", "ttft_s", default=0.05, show_default=True, help="Seconds to first token.")
@click.option("--itl", "itl_s", default=0.01, show_default=True, help="Seconds between emissions.")
@click.option(
    "--jitter", "jitter_ratio", default=0.0, show_default=True, help="Spread of the gaps, of --itl."
)
@click.option(
    "--batch/--stagger",
    default=True,
    show_default=True,
    help="Emit on common ticks, like an engine's steps, or each stream in its own rhythm.",
)
@click.option("--tokens-per-chunk", default=1, show_default=True, help="Tokens in one emission.")
@click.option("--slots", type=int, help="Streams served at a time.  [default: no limit]")
@click.option(
    "--natural-osl", "natural_osl_tokens", type=int, help="Where answers stop by themselves."
)
@click.option(
    "--reasoning", "reasoning_tokens", default=0, help="Leading tokens sent as reasoning."
)
@click.option(
    "--dialect",
    type=click.Choice(get_args(Dialect)),
    default="vllm",
    show_default=True,
    help="Whose metrics it shows.",
)
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice(FAULTS), help="What goes wrong, in turn."
)
@click.option("--fault-every", default=0, help="One request in so many goes wrong.")
@click.option("--seed", default=0, help="Of the jitter.")
@click.option(
    "--log", type=click.Path(path_type=Path), help="Write when each token was written to this file."
)
def _mock(*, log: Path | None, **options: Any) -> None:  # noqa: ANN401 - the settings' own fields
    settings = MockSettings(**options)
    try:
        uvloop.run(_serve(settings, log))
    except FileExistsError as error:
        raise EngineError(f"{log} exists already", remedy="name another file") from error
    except OSError as error:
        raise EngineError(
            f"the mock cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            remedy="choose another --port, or 0",
        ) from error


async def _serve(settings: MockSettings, log: Path | None) -> None:
    server = MockServer(settings, log=log)
    port = await server.start()
    url = f"http://{settings.host}:{port}"
    click.echo(f"{url}/v1  metrics at {url}{metrics.PATHS[settings.dialect]}  (Ctrl-C ends it)")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop()


COMMAND: click.Command = _mock
