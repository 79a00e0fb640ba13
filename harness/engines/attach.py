"""Any server with an OpenAI-compatible API that runs already, here or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from harness.contracts import Endpoint, EndpointType, Engine, TokenCounters
from harness.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """
    A URL and a model's name.

    Args:
        url: scheme, host and port; a trailing `/v1` is dropped.
        model: the value of the request's `model` field.
        runs_on: what the model's arithmetic runs on: `gpu` or `cpu` of *this*
            machine, or `elsewhere`, where this machine's joules are not its joules.
        fixed_length_body: JSON fields that make this server's answers exactly as
            long as asked, e.g. `{ignore_eos = true}` for vLLM and SGLang.
        extra_body: JSON fields added to every request.
        headers: HTTP headers added to every request.
        api_key: bearer key; kept out of the record.
    """

    url: str
    model: str
    runs_on: Literal["gpu", "cpu", "elsewhere"] = "elsewhere"
    fixed_length_body: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"engine.url is {self.url!r}, not an http or https address",
                remedy="write e.g. http://127.0.0.1:8000",
            )

    def prepare(self, *, port: int) -> Attach:
        """Nothing is left open."""
        del port
        return self

    def launch(self) -> None:
        """It runs already."""

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Chat, unless told otherwise."""
        return Endpoint(
            base_url=self.url.rstrip("/").removesuffix("/v1"),
            endpoint_type=endpoint_type or "chat",
            model=self.model,
            extra_body=self.extra_body,
            headers=self.headers,
            api_key=self.api_key,
        )

    def fixed_length(self) -> Mapping[str, Any]:
        """What the user says this server needs."""
        return self.fixed_length_body

    def counters(self) -> TokenCounters | None:
        """Not known: the server could be of any kind."""
        return None

    def facts(self) -> dict[str, Any]:
        """The address; nothing else is known of it."""
        settings = asdict(self) | {"api_key": "set" if self.api_key else None}
        return {"engine": "attach", "version": None, "weights": None, "settings": settings}


PLUGIN: type[Engine] = Attach
