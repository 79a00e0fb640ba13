"""Reads a web configuration in exporter-toolkit's format: TLS, client certificates, passwords."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.errors import ConfigError
from harness.schema import known_keys

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_ENDS: Final = {"min": "TLS12", "max": "TLS13"}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
_HEADERS: Final = (
    "Cache-Control",
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """
    How the daemon may be asked.

    Args:
        tls: None: plain HTTP.
        users: name → bcrypt hash; empty: nobody has to log in.
        allowed_sans: a client's certificate has to be for one of these; empty: for any.
        headers: sent with every answer, in place of our own of the same name.
        files: that all this was read from.
    """

    tls: ssl.SSLContext | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    allowed_sans: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def read(path: Path | None) -> WebConfig:
    """
    The configuration in a YAML file, as Prometheus and its exporters take it.

    Of its keys we know `tls_server_config` (cert_file, key_file, client_ca_file,
    client_auth_type, client_allowed_sans, min_version, max_version),
    `http_server_config` and `basic_auth_users`; any other is refused, because
    silently dropping a line of a security file is worse than stopping.

    Source:
        prometheus/exporter-toolkit, docs/web-configuration.md.

    Raises:
        ConfigError: it cannot be read, has unknown keys, or a hash that is not bcrypt.
    """
    if path is None:
        return WebConfig()
    document = _yaml(path)
    known = ["tls_server_config", "http_server_config", "basic_auth_users"]
    known_keys("web config", document, known)
    users = document.get("basic_auth_users") or {}
    for name, digest in users.items():
        if not str(digest).startswith(_BCRYPT):
            raise ConfigError(
                f"the password of {name!r} in {path} is no bcrypt hash",
                remedy="make one with `htpasswd -nBC 10 '' | tr -d ':\\n'`",
            )
    if users:
        _need("bcrypt")
    tls = dict(document.get("tls_server_config") or {})
    names = ("cert_file", "key_file", "client_ca_file")
    return WebConfig(
        tls=_tls(tls, path.parent) if tls else None,
        users={str(name): str(digest).encode() for name, digest in users.items()},
        allowed_sans=frozenset(map(str, tls.get("client_allowed_sans") or ())),
        headers=_headers(dict(document.get("http_server_config") or {})),
        files=(path, *(path.parent / tls[name] for name in names if name in tls)),
    )


def _headers(values: dict[str, Any]) -> dict[str, str]:
    # `http2` is only a permission, of which we make no use.
    known_keys("http_server_config", values, ["http2", "headers"])
    headers = {str(name): str(value) for name, value in (values.get("headers") or {}).items()}
    known_keys("http_server_config.headers", headers, list(_HEADERS))
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigError(
                f"the header {name} is {value!r}", remedy="write one line of plain ASCII"
            )
    return {name: value for name, value in headers.items() if value}


def _need(module: str) -> Any:  # noqa: ANN401 - a module of an optional dependency
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"a web config needs {module}, which is not installed",
            remedy="pip install 'joulemark[production]'",
        ) from error


def _yaml(path: Path) -> dict[str, Any]:
    yaml = _need("yaml")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"the web config {path} cannot be read ({error})", remedy="mend it or its rights"
        ) from error
    if not isinstance(document, dict):
        raise ConfigError(f"the web config {path} is no mapping", remedy="see exporter-toolkit")
    return document


def _tls(values: dict[str, Any], folder: Path) -> ssl.SSLContext:
    keys = ["cert_file", "key_file", "client_ca_file", "client_auth_type", "client_allowed_sans"]
    known_keys("tls_server_config", values, [*keys, "min_version", "max_version"])
    wanted = str(values.get("client_auth_type", "NoClientCert"))
    least, most = (str(values.get(f"{end}_version", _ENDS[end])) for end in _ENDS)
    if wanted not in _CLIENT_AUTH or not {least, most} <= _VERSIONS.keys():
        raise ConfigError(
            f"tls_server_config has client_auth_type {wanted!r}, versions {least!r} to {most!r}",
            remedy=f"choose of {', '.join(_CLIENT_AUTH)} and {', '.join(_VERSIONS)}",
        )
    if values.get("client_allowed_sans") and wanted != "RequireAndVerifyClientCert":
        raise ConfigError(
            f"client_allowed_sans with client_auth_type {wanted} would let clients in without any",
            remedy="set client_auth_type to RequireAndVerifyClientCert",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _VERSIONS[least], _VERSIONS[most]
    try:
        context.load_cert_chain(folder / values["cert_file"], folder / values["key_file"])
        if "client_ca_file" in values:
            context.load_verify_locations(folder / values["client_ca_file"])
        elif wanted != "NoClientCert":
            raise ConfigError(
                f"client_auth_type is {wanted} without a client_ca_file", remedy="name one"
            )
    except KeyError as error:
        raise ConfigError(
            f"tls_server_config has no {error.args[0]}", remedy="name certificate and key"
        ) from error
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificate or key cannot be used ({error})", remedy="check the files"
        ) from error
    context.verify_mode = _CLIENT_AUTH[wanted]
    return context
