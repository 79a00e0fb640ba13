"""Every plugin file, as it arrives: it loads alone, keeps its protocol and describes itself."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing

import pytest

from harness import contracts, plugins
from harness.errors import ConfigError

PROTOCOLS = {
    "engine": contracts.Engine,
    "power": contracts.PowerSource,
    "workload": contracts.Workload,
    "exporter": contracts.Exporter,
}
ALL = [(group, kind) for group in PROTOCOLS for kind in plugins.kinds(group)]


def test_every_group_has_plugins():
    assert {group for group, _ in ALL} == set(PROTOCOLS)


@pytest.mark.parametrize(("group", "kind"), ALL)
def test_a_plugin_has_what_its_protocol_asks_for(group, kind):
    plugin = plugins.load(group, kind)
    wanted = (
        [name for name in typing.get_protocol_members(PROTOCOLS[group]) if not name.startswith("_")]
        if hasattr(typing, "get_protocol_members")
        else [name for name in vars(PROTOCOLS[group]) if not name.startswith("_")]
    )
    fields = {item.name for item in dataclasses.fields(plugin)}
    for name in wanted:
        assert hasattr(plugin, name) or name in fields, f"{kind} has no {name}"


@pytest.mark.parametrize(("group", "kind"), ALL)
def test_a_plugin_is_a_frozen_dataclass_with_documented_options(group, kind):
    plugin = plugins.load(group, kind)
    assert dataclasses.is_dataclass(plugin)
    assert plugin.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for item in dataclasses.fields(plugin):
        assert f"{item.name}:" in (plugin.__doc__ or "") or item.name == "file_name"


@pytest.mark.parametrize(("group", "kind"), ALL)
def test_a_plugin_says_what_it_is_in_one_line(group, kind):
    assert plugins.kinds(group)[kind].endswith(".")


@pytest.mark.parametrize("kind", plugins.kinds("engine"))
def test_importing_an_engine_does_not_import_the_engine(kind):
    """A machine without vLLM must be able to list it, and start-up must stay quick."""
    heavy = ["vllm", "transformers", "torch", "xllamacpp", "tensorrt_llm", "sglang"]
    code = f"import sys, harness.engines.{kind}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_kind_names_the_nearest_and_lists_all():
    with pytest.raises(ConfigError, match=r"did you mean 'llama_cpp'.*attach"):
        plugins.load("engine", "llamacpp")
