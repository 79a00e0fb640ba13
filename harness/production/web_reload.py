"""Reads the web configuration again when one of its files has changed, as exporter-toolkit does."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from harness.errors import ConfigError

from .web_config import WebConfig, read

_LOG: Final = logging.getLogger(__name__)


class WebConfigFile:
    """
    The configuration as its files say now.

    Certificates are replaced while the daemon runs, by whatever renews them. While
    one is half written the last good configuration stays. Whether TLS is spoken at
    all does not change: that needs a restart.

    Args:
        path: of the file; None: plain HTTP for everybody.

    Raises:
        ConfigError: as `web_config.read`.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._config = read(path)
        self._stamps = _stamps(self._config.files)
        self.listening = self._config.tls
        """The TLS to listen with: each handshake goes on with the newest."""
        if self.listening is not None:
            self.listening.sni_callback = self._renew

    def now(self) -> WebConfig:
        """The newest good configuration."""
        stamps = _stamps(self._config.files)
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._config = read(self._path)
            except ConfigError as error:
                _LOG.warning("the web config stays as it was: %s", error)
        return self._config

    def _renew(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        newest = self.now().tls
        if newest is not None:
            handshake.context = newest


def _stamps(files: tuple[Path, ...]) -> tuple[tuple[int, int] | None, ...]:
    found: list[tuple[int, int] | None] = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return tuple(found)
