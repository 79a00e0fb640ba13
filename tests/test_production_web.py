from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator

import pytest

from harness.errors import ConfigError
from harness.production import web_config
from harness.production.exposition_text import OPENMETRICS, TEXT
from harness.production.web import Content, WebServer
from harness.production.web_config import WebConfig
from harness.production.web_reload import WebConfigFile

SECRET = b"joulemark_device_energy_joules_total 1.0\n"


class Fixed:
    """A configuration that is in no file and stays as it is."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self.listening = config.tls

    def now(self) -> WebConfig:
        return self._config


@contextlib.asynccontextmanager
async def server(config: WebConfig | WebConfigFile | None = None, **options) -> AsyncIterator[int]:
    content = Content(
        metrics=lambda openmetrics: SECRET + (b"# EOF\n" if openmetrics else b""),
        page=lambda: b"<html>" + SECRET,
        ready=lambda: options.pop("ready", True),
    )
    limit = options.pop("max_connections", 64)
    if not isinstance(config, WebConfigFile):
        config = Fixed(config or WebConfig())
    made = WebServer(content, config, max_connections=limit)
    port = await made.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await made.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def get(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def one(
    request: bytes, config: WebConfig | None = None, **options
) -> tuple[int, bytes, bytes]:
    async with server(config, **options) as port:
        head, _, body = (await ask(port, request)).partition(b"\r\n\r\n")
    return int(head[9:12]), head, body


def test_each_path_says_what_it_is_for():
    status, head, body = asyncio.run(one(get("/metrics")))
    assert (status, body) == (200, SECRET)
    assert TEXT.encode() in head
    assert asyncio.run(one(get("/-/healthy")))[0] == 200
    assert asyncio.run(one(get("/-/ready")))[0] == 200
    assert asyncio.run(one(get("/-/ready"), ready=False))[0] == 503
    assert asyncio.run(one(get("/nothing")))[0] == 404
    assert b"Content-Security-Policy: default-src 'none'" in asyncio.run(one(get("/")))[1]


def test_openmetrics_and_gzip_are_spoken_when_asked_for():
    fields = ("Accept: application/openmetrics-text; version=1.0.0", "Accept-Encoding: gzip")
    _, head, body = asyncio.run(one(get("/metrics", *fields)))
    assert OPENMETRICS.encode() in head
    assert gzip.decompress(body) == SECRET + b"# EOF\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_plain_get_is_refused(request_, status):
    assert asyncio.run(one(request_))[0] == status


def test_head_has_no_body_and_connections_are_kept():
    async def talk() -> bytes:
        async with server() as port:
            first = b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
            return await ask(port, first + get("/-/healthy"))

    answer = asyncio.run(talk())
    assert answer.count(b"HTTP/1.1 200") == 2
    assert SECRET not in answer


def users() -> WebConfig:
    bcrypt = pytest.importorskip("bcrypt", reason="joulemark[production] is not installed")
    return WebConfig(users={"prom": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})


def basic(text: str) -> str:
    return "Authorization: Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready", "/nothing"])
@pytest.mark.parametrize(
    "field",
    ["X: y", basic("prom:wrong"), basic("other:right"), basic("prom"), "Authorization: Basic %%",
     "Authorization: Bearer right", basic("prom:" + "right" * 99)],
)  # fmt: skip
def test_without_the_right_password_not_a_byte_of_metrics_is_read(path, field):
    status, _, body = asyncio.run(one(get(path, field), users()))
    assert status == 401
    assert b"joulemark_" not in body


def test_the_right_password_is_let_in_again_and_again():
    config = users()

    async def twice() -> list[bytes]:
        async with server(config) as port:
            return [await ask(port, get("/metrics", basic("prom:right"))) for _ in range(2)]

    assert all(SECRET in answer for answer in asyncio.run(twice()))


def test_a_thousand_connections_leave_the_loop_free_and_close_the_surplus():
    """The loop goes on (here: a ticker does), and known scrapers still get answers afterwards."""

    async def flood() -> tuple[int, int, bytes]:
        async with server(max_connections=20) as port:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)

            ticker = asyncio.create_task(tick())
            sockets = []
            for _ in range(1000):
                sock = socket.socket()
                sock.setblocking(False)
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                sockets.append(sock)
            await asyncio.sleep(0.2)
            closed = 0
            for sock in sockets:
                with contextlib.suppress(BlockingIOError):
                    try:
                        closed += sock.recv(1) == b""
                    except ConnectionError:
                        closed += 1
                sock.close()
            await asyncio.sleep(0.2)
            answer = await ask(port, get("/metrics"))
            ticker.cancel()
            return ticks, closed, answer

    ticks, closed, answer = asyncio.run(flood())
    assert closed >= 980
    assert ticks > 10
    assert SECRET in answer


def test_a_request_that_drips_is_cut_off(monkeypatch):
    monkeypatch.setattr("harness.production.web._HEAD_S", 0.2)

    async def drip() -> bytes:
        async with server() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(OSError):
                for letter in b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 200:
                    writer.write(bytes([letter]))
                    await asyncio.sleep(0.02)
            with contextlib.suppress(OSError):
                return await reader.read()
            return b""

    assert asyncio.run(drip()) == b""


def test_a_header_of_ten_megabytes_is_not_read():
    async def send() -> int:
        async with server() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = 0
            with contextlib.suppress(OSError):
                writer.write(b"GET / HTTP/1.1\r\nX: ")
                for _ in range(160):
                    writer.write(b"a" * 65536)
                    sent += 65536
                    async with asyncio.timeout(1):
                        await writer.drain()
            writer.transport.abort()
            del reader
            return sent

    assert asyncio.run(send()) < 10_000_000


# --- the web config ------------------------------------------------------------------------


def config_file(tmp_path, text: str):
    pytest.importorskip("yaml", reason="joulemark[production] is not installed")
    path = tmp_path / "web.yml"
    path.write_text(text)
    return path


def test_a_hash_that_is_not_bcrypt_and_an_unknown_key_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no bcrypt hash"):
        web_config.read(config_file(tmp_path, "basic_auth_users: {prom: secret}\n"))
    with pytest.raises(ConfigError, match="rate_limit"):
        web_config.read(config_file(tmp_path, "rate_limit: {burst: 1}\n"))
    keys(tmp_path)
    text = "{cert_file: c.pem, key_file: k.pem, client_auth_type: RequireAndVerifyClientCert}"
    path = config_file(tmp_path, f"tls_server_config: {text}\n")
    with pytest.raises(ConfigError, match="client_ca_file"):
        web_config.read(path)
    text = "{cert_file: c.pem, key_file: k.pem, client_allowed_sans: [a]}"
    with pytest.raises(ConfigError, match="would let clients in without any"):
        web_config.read(config_file(tmp_path, f"tls_server_config: {text}\n"))


def keys(tmp_path, name: str = "") -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", f"{name}k.pem", "-out", f"{name}c.pem", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip


MUTUAL = (
    "tls_server_config: {cert_file: c.pem, key_file: k.pem, client_ca_file: c.pem, "
    "client_auth_type: RequireAndVerifyClientCert%s}\n"
)


async def fetch(port: int, folder, *options: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-m", "10", *options, f"https://127.0.0.1:{port}/metrics",
        cwd=folder, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    return (await process.communicate())[0]


def mine(name: str = "") -> tuple[str, ...]:
    """Options of a client that trusts one certificate and shows it."""
    return ("--cacert", f"{name}c.pem", "--cert", f"{name}c.pem", "--key", f"{name}k.pem")


def test_with_mutual_tls_only_a_known_certificate_is_answered(tmp_path):
    keys(tmp_path)
    config = WebConfigFile(config_file(tmp_path, MUTUAL % ""))

    async def both() -> tuple[bytes, bytes]:
        async with server(config) as port:
            nobody = await fetch(port, tmp_path, "--cacert", "c.pem")
            return nobody, await fetch(port, tmp_path, *mine())

    assert asyncio.run(both()) == (b"", SECRET)


@pytest.mark.parametrize(
    ("sans", "answer"), [("localhost", SECRET), ("127.0.0.1", SECRET), ("other.example", b"")]
)
def test_a_known_certificate_has_to_be_for_a_name_that_is_allowed(tmp_path, sans, answer):
    keys(tmp_path)
    path = config_file(tmp_path, MUTUAL % f", client_allowed_sans: [{sans}]")

    async def one_client() -> bytes:
        async with server(WebConfigFile(path)) as port:
            return await fetch(port, tmp_path, *mine())

    assert asyncio.run(one_client()) == answer


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_renewed_certificate_and_authority_hold_from_the_next_handshake_on(tmp_path, loop):
    """And while the new one is half written, the old one does."""
    run = asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run
    for name in ("", "new-"):
        keys(tmp_path, name)
    for part in ("c.pem", "k.pem"):
        shutil.copy(tmp_path / part, tmp_path / f"old-{part}")
    config = WebConfigFile(config_file(tmp_path, MUTUAL % ""))

    async def renew() -> list[bytes]:
        async with server(config) as port:
            seen = [await fetch(port, tmp_path, *mine("old-"))]
            (tmp_path / "c.pem").write_text("half")
            seen.append(await fetch(port, tmp_path, *mine("old-")))
            for part in ("c.pem", "k.pem"):
                (tmp_path / f"new-{part}").rename(tmp_path / part)
            seen.append(await fetch(port, tmp_path, *mine()))
            # The old certificate is neither shown nor taken any more.
            seen.append(await fetch(port, tmp_path, *mine("old-")))
            taken = ("-k", "--cert", "old-c.pem", "--key", "old-k.pem")
            return [*seen, await fetch(port, tmp_path, *taken)]

    assert run(renew()) == [SECRET, SECRET, SECRET, b"", b""]


def test_a_changed_password_holds_from_the_next_request_on(tmp_path):
    bcrypt = pytest.importorskip("bcrypt", reason="joulemark[production] is not installed")

    def users_file(password: bytes):
        digest = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
        return config_file(tmp_path, f"basic_auth_users: {{prom: '{digest}'}}\n# {password}\n")

    async def change() -> list[bool]:
        async with server(WebConfigFile(users_file(b"right"))) as port:
            ask_it = get("/metrics", basic("prom:right"))
            seen = [SECRET in await ask(port, ask_it)]
            (tmp_path / "web.yml").unlink()
            users_file(b"another")
            seen.append(SECRET in await ask(port, ask_it))
            return [*seen, SECRET in await ask(port, get("/metrics", basic("prom:another")))]

    assert asyncio.run(change()) == [True, False, True]


def test_headers_are_sent_with_every_answer_and_no_header_can_be_smuggled_in(tmp_path):
    text = "http_server_config: {http2: true, headers: {X-Frame-Options: deny, Cache-Control: x}}\n"
    config = web_config.read(config_file(tmp_path, text))
    for path in ("/metrics", "/", "/nothing"):
        head = asyncio.run(one(get(path), config))[1]
        assert b"\r\nX-Frame-Options: deny" in head
        assert head.count(b"Cache-Control: ") == 1
    with pytest.raises(ConfigError, match="Set-Cookie"):
        web_config.read(config_file(tmp_path, "http_server_config: {headers: {Set-Cookie: a}}\n"))
    text = 'http_server_config: {headers: {X-Frame-Options: "a\\r\\nSet-Cookie: b"}}\n'
    with pytest.raises(ConfigError, match="plain ASCII"):
        web_config.read(config_file(tmp_path, text))
