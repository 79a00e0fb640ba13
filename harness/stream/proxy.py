"""Which proxy, if any, the environment puts between us and an endpoint."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from harness.errors import ConfigError

from .openai_api import split_url

if TYPE_CHECKING:
    from harness.contracts import Endpoint

_DEFAULT_PORT = 3128


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """
    An HTTP proxy.

    Args:
        host: its name or address.
        port: its port.
        authorization: value of Proxy-Authorization; None: it wants none.
    """

    host: str
    port: int
    authorization: str | None


def find_proxy(endpoint: Endpoint) -> Proxy | None:
    """
    The proxy named by `http_proxy`, `https_proxy` and `no_proxy`; never one for this host itself.

    Raises:
        ConfigError: the variable holds no http URL: we speak no SOCKS.
    """
    url = split_url(endpoint)
    host = str(url.hostname)
    proxies = getproxies_environment()
    value = proxies.get(url.scheme)
    if not value or _is_loopback(host) or proxy_bypass(host, proxies):
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"{url.scheme}_proxy is {value!r}, which is no http proxy",
            remedy=f"name an http proxy, or put {host} into no_proxy",
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(host=parts.hostname, port=parts.port or _DEFAULT_PORT, authorization=authorization)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
