"""What every request of a run carries besides its prompt: the engine's and the user's fields."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contracts import Endpoint, Engine
    from .settings import LoadConfig


def request_endpoint(engine: Engine, load: LoadConfig) -> Endpoint:
    """The engine's endpoint, with the fields that the user wants in every request."""
    endpoint = engine.endpoint(load.endpoint_type)
    return dataclasses.replace(endpoint, extra_body={**endpoint.extra_body, **load.extra_body})


def fixed_length(engine: Engine, load: LoadConfig) -> Mapping[str, Any]:
    """
    The fields that make each answer exactly as long as asked; empty: it cannot be.

    `ignore_eos` is kept from gpt-oss chats: once such a model ends its turn,
    vLLM's harmony parser fails on what follows (vllm#50690). The same work goes
    to `/v1/completions` with prompts that are rendered already.
    """
    if not load.fixed_length:
        return {}
    fields = engine.fixed_length()
    endpoint = engine.endpoint(load.endpoint_type)
    harmony_chat = endpoint.endpoint_type == "chat" and "gpt-oss" in endpoint.model.lower()
    return {} if harmony_chat and "ignore_eos" in fields else fields
