from __future__ import annotations

import contextlib
import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import config
from harness.errors import ConfigError

MINIMAL = {"load": {"concurrency": 2, "request_count": 4}}


def parse(**sections):
    return config.parse({**copy.deepcopy(MINIMAL), **sections}, name="t")


def test_every_preset_parses_and_says_what_it_is():
    assert "quickstart" in config.presets()
    for name, sentence in config.presets().items():
        assert sentence
        assert config.parse(config.read(name), name=name).name == name


def test_defaults_are_filled_in():
    settings = parse()
    assert settings.engine_kind == "auto"
    assert settings.workload_kind == "synthetic"
    assert settings.power.sources == ("auto",)
    assert settings.window.min_s == 30.0


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"lod": {}}, r"no section 'lod'; did you mean 'load'\?"),
        ({"load": {"concurency": 2}}, r"no key 'concurency' in \[load\].*mean 'concurrency'"),
        ({"load": {"concurrency": "two", "request_count": 1}}, "'two'; give a whole number"),
        ({"load": {"concurrency": True, "request_count": 1}}, "is True; give a whole number"),
        ({"load": {"concurrency": 0, "request_count": 1}}, "is 0, below 1"),
        ({"load": {"concurrency": 1}}, "neither request_count nor duration_s"),
        ({"load": {"concurrency": 1, "duration_s": -1}}, "duration_s is -1.0; set a finite"),
        ({"load": {"pattern": "poison", "request_count": 1}}, "did you mean 'poisson'"),
        ({"load": {"pattern": "poisson", "request_count": 1}}, "needs a rate"),
        ({"load": {"request_count": 1}}, "needs load.concurrency"),
        ({"engine": {"kind": "lama_cpp"}}, "no engine 'lama_cpp'; did you mean 'llama_cpp'"),
        ({"engine": {"kind": "llama_cpp", "slotz": 1}}, "did you mean 'slots'"),
        ({"engine": {"kind": "attach", "model": "m"}}, "engine.url is missing"),
        ({"engine": {"kind": "attach", "url": "ftp://x", "model": "m"}}, "not an http or https"),
        ({"engine": {"model": "m"}}, r"no key 'model' in \[engine\]; it takes none"),
        ({"engine": "llama_cpp"}, "not a table"),
        ({"power": {"sources": ["nvmll"]}}, "did you mean 'nvml'"),
        ({"power": {"sources": "nvml"}}, "'nvml'; give a list, each item a string"),
        ({"power": {"power_hz": 0}}, "power_hz is 0"),
        ({"power": {"cpu_model": {"idle": 1}}}, r"no key 'idle' in \[power.cpu_model\]"),
        ({"power": {"cpu_modell": {}}}, "did you mean 'cpu_model'"),
        ({"workload": {"isl_tokens": 0}}, "isl_tokens is 0, below 1"),
        ({"workload": {"range_ratio": 1.5}}, r"not in \(0, 1\]"),
        ({"window": {"kind": "stedy"}}, "did you mean 'steady'"),
        ({"cost": {"pue": 0.9}}, "cost.pue is 0.9, below 1"),
        ({"cost": {"usd_per_kwh": -1}}, "below 0"),
        ({"run": {"seed": 1.5}}, "run.seed is 1.5; give a whole number"),
    ],
)
def test_bad_input_is_named_with_the_remedy(sections, message):
    with pytest.raises(ConfigError, match=message):
        parse(**sections)


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text("[load]\nconcurrency = = 2\n")
    with pytest.raises(ConfigError, match=r"run.toml is not TOML.*line 2"):
        config.read(str(path))


def test_a_misspelt_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        config.read("quickstrat")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("load.concurrency=8", {"load": {"concurrency": 8}}),
        ("load.duration_s=2.5", {"load": {"duration_s": 2.5}}),
        ("engine.model=a/b-c", {"engine": {"model": "a/b-c"}}),
        ('power.sources=["rapl"]', {"power": {"sources": ["rapl"]}}),
        ("power.cpu_model.idle_w_per_core=1", {"power": {"cpu_model": {"idle_w_per_core": 1}}}),
        ("run.name=a=b", {"run": {"name": "a=b"}}),
    ],
)
def test_an_override_sets_one_key(assignment, expected):
    table: dict = {}
    config.override(table, assignment)
    assert table == expected


@pytest.mark.parametrize("assignment", ["load.concurrency", "=3", "load..x=1"])
def test_an_override_of_another_form_is_refused(assignment):
    with pytest.raises(ConfigError, match="not of the form"):
        config.override({}, assignment)


def test_an_override_below_a_value_is_refused():
    with pytest.raises(ConfigError, match="goes below"):
        config.override({"load": {"concurrency": 1}}, "load.concurrency.x=1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["run", "engine", "workload", "load", "power", "window", "cost", "x"]),
        st.dictionaries(
            st.sampled_from(["kind", "concurrency", "sources", "pue", "seed", "min_s", "nvml"]),
            JSON,
        )
        | JSON,
    )
)
def test_no_table_brings_a_traceback(table):
    with contextlib.suppress(ConfigError):
        config.parse(table, name="t")


def test_secrets_stay_out_of_the_record():
    engine = {
        "kind": "attach",
        "url": "http://127.0.0.1:1/v1",
        "model": "m",
        "api_key": "sk-secret",
        "headers": {"Authorization": "Bearer hush", "X-Team": "a"},
    }
    text = str(parse(engine=engine).as_json())
    assert "sk-secret" not in text
    assert "hush" not in text
    assert "'X-Team': 'a'" in text
