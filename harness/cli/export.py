"""Run the production daemon: this node's joules and its engines' tokens, for Prometheus."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from pathlib import Path

import click
import uvloop

from harness.errors import ConfigError
from harness.production import settings
from harness.production.daemon import Daemon
from harness.production.web import Content, WebServer
from harness.production.web_reload import WebConfigFile


@click.command("export", help=__doc__)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file; docs/production.md has every key.",
)
@click.option("--listen", help="Address and port.  [default: 127.0.0.1:9778]")
@click.option("--engine", "urls", multiple=True, help="URL of an engine's metrics; repeatable.")
@click.option("--check", is_flag=True, help="Open everything, say what is metered, and end.")
def _export(path: Path | None, listen: str | None, urls: tuple[str, ...], *, check: bool) -> None:
    config = settings.read(path) if path is not None else settings.DaemonConfig()
    exporter = config.exporter
    if listen is not None:
        exporter = dataclasses.replace(exporter, listen=listen)
    engines = (*config.engines, *(settings.EngineConfig(url=url) for url in urls))
    config = dataclasses.replace(config, exporter=exporter, engines=engines)
    logging.basicConfig(level=logging.WARNING, format="joulemark export: %(message)s")
    uvloop.run(_serve(config, check=check))


async def _serve(config: settings.DaemonConfig, *, check: bool) -> None:
    web = WebConfigFile(config.exporter.web_config_file)
    daemon = Daemon(config)
    for one in daemon.metered():
        role = "attributed" if one.attributed else "beside"
        device = one.device
        click.echo(
            f"{device.uuid}: {device.boundary}, {device.power_kind}, {role}: {device.method}"
        )
    if check:
        return
    content = Content(metrics=daemon.exposition, page=daemon.page, ready=daemon.ready)
    server = WebServer(content, web, max_connections=config.exporter.max_connections)
    host, port = config.exporter.address()
    try:
        bound = await server.start(host, port)
    except OSError as error:
        raise ConfigError(
            f"{config.exporter.listen} cannot be listened on ({error.strerror or error})",
            remedy="choose another --listen",
        ) from error
    scheme = "http" if web.listening is None else "https"
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"{scheme}://{shown}:{bound}/metrics  (Ctrl-C ends it)")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, daemon.stop)
    try:
        await daemon.run()
    finally:
        await server.close()


COMMAND: click.Command = _export
