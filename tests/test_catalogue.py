"""The catalogue: no figure without a dated source, two power bases never mixed, own files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cost.catalogue import device
from harness.cost.catalogue_files import FILES, data_text, load
from harness.errors import ConfigError

CATALOGUE = load()
PROMISED = [
    *("a100-sxm", "l40s", "h100-sxm", "h200-sxm", "b200-hgx", "gb200-nvl72", "b300-hgx"),
    *("gb300-nvl72", "vr200-nvl72", "mi300x", "mi325x", "mi355x", "tpu7x", "trainium2"),
    *("gaudi3", "rtx-pro-6000"),
]
DATE = re.compile(r"20\d\d(-\d\d(-\d\d)?)?")
COUNTS = {"scale_up_domain", "accelerators"}


def numbers(table: Any, path: str, source: str | None) -> Iterator[tuple[str, str | None]]:
    """Every number of a TOML tree, with the source that the nearest table around it names."""
    if isinstance(table, dict):
        mine = table.get("source", source)
        for key, value in table.items():
            if key not in COUNTS or isinstance(value, dict):
                yield from numbers(value, f"{path}.{key}", mine)
    elif isinstance(table, list):
        for index, value in enumerate(table):
            yield from numbers(value, f"{path}[{index}]", source)
    elif isinstance(table, int | float) and not isinstance(table, bool):
        yield path, source


@pytest.mark.parametrize("name", [one for one in FILES if one != "sources.toml"])
def test_every_figure_has_a_source_and_every_source_a_date(name: str):
    found = list(numbers(tomllib.loads(data_text(name)), name, None))
    assert len(found) > 30
    for path, source in found:
        assert source is not None, f"{path} has no source"
        assert source in CATALOGUE.sources, f"{path} names {source}, which is no source"


def test_every_claim_s_and_reproduction_s_source_exists():
    for name in ("claims.toml", "reproduce.toml"):
        text = data_text(name)
        for key in re.findall(r'^source = "(.+)"$', text, flags=re.MULTILINE):
            assert key in CATALOGUE.sources, f"{name} names {key}"


@pytest.mark.parametrize("source", CATALOGUE.sources.values(), ids=lambda one: one.key)
def test_a_source_says_what_where_when_and_how_sure(source):
    assert DATE.fullmatch(source.date.removeprefix("read ")), source.date
    assert source.title
    assert source.where
    assert source.grade in {"primary", "excerpt", "secondary", "assumption", "fit"}


def test_no_source_is_there_for_nothing():
    text = "".join(data_text(one) for one in (*FILES[1:], "claims.toml", "reproduce.toml"))
    text += data_text("mlenergy_gpt_oss_120b.json")
    # Taken up in docs/cost.md as a cross-check of the nameplate method, not as an input.
    for key in set(CATALOGUE.sources) - {"google-2025", "mlperf-endpoints"}:
        assert f'"{key}"' in text, f"{key} is used nowhere"


@pytest.mark.parametrize("key", PROMISED)
def test_the_promised_accelerators_are_there(key: str):
    one = CATALOGUE.accelerator(key)
    assert device(one).memory_bytes > 0
    assert one.figures["bf16_tflops"].value > 0


def test_prices_keep_their_history_and_the_newest_is_taken():
    rental = [
        (one.per_hour.source.date, one.per_hour.value)
        for one in CATALOGUE.prices
        if (one.accelerator, one.basis) == ("h100-sxm", "rental")
    ]
    assert sorted(rental) == [("2026-04-03", 1.30), ("2026-07", 1.78), ("2026-09-20", 2.00)]
    newest = CATALOGUE.price("h100-sxm", "rental")
    assert newest is not None
    assert newest.per_hour.value == 2.00
    assert CATALOGUE.price("l40s", "rental") is None


def test_placeholder_prices_are_marked():
    for key in ("b300-hgx", "gb300-nvl72"):
        old = CATALOGUE.price(key, "owned", source="inferencex-2026-04")
        assert old is not None
        assert old.per_hour.unverified


def test_the_two_inferencex_power_bases_are_apart():
    april = CATALOGUE.power_basis("inferencex-2026-04")
    july = CATALOGUE.power_basis("inferencex-2026-07")
    assert (april.includes_facility, july.includes_facility) == (True, False)
    assert april.kw["h100-sxm"].value == 1.73
    assert july.kw["h100-sxm"].value == 1.37


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA B200", "b200-hgx"),
        ("NVIDIA GB200", "gb200-nvl72"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA GeForce RTX 3060", None),
    ],
)
def test_a_driver_s_device_name_is_recognised_or_not(name: str, key: str | None):
    found = CATALOGUE.recognise(name)
    assert (found.key if found else None) == key


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: CATALOGUE.accelerator("h100"), "did you mean 'h100-sxm'"),
        (lambda: CATALOGUE.power_basis("inferencex"), "no power basis 'inferencex'"),
        (lambda: CATALOGUE.price("h100-sxm", "stolen"), "no price basis 'stolen'"),
        (lambda: CATALOGUE.all_in_kw("h101", "inferencex-2026-07"), "no accelerator 'h101'"),
    ],
)
def test_an_unknown_key_is_refused_with_what_there_is(ask, said: str):
    with pytest.raises(ConfigError, match=said):
        ask()


def own(tmp_path, text: str):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load([path])


def test_a_user_s_figures_lie_over_ours_and_leave_the_rest(tmp_path):
    found = own(
        tmp_path,
        """
        [sources.mine]
        title = "our contract"
        where = "a drawer"
        date = "2026-10"
        grade = "primary"
        [sites.ai-liquid]
        pue = { value = 1.07, source = "mine" }
        [accelerators.h100-sxm]
        tdp_w = { value = 650, source = "mine" }
        [[prices]]
        accelerator = "h100-sxm"
        basis = "owned"
        per_hour = 0.9
        currency = "USD"
        includes_power = true
        source = "mine"
        """,
    )
    assert found.sites["ai-liquid"].figures["pue"].value == 1.07
    assert found.sites["ai-liquid"].figures["fan_ratio"].value == 0.02
    assert found.accelerator("h100-sxm").value("tdp_w") == 650
    assert found.accelerator("h100-sxm").value("memory_gb") == 80
    price = found.price("h100-sxm", "owned")
    assert price is not None
    assert price.per_hour.value == 0.9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sites.ai-liquid]\npue = { value = 1.1 }", "source 'None', which is not in"),
        ('[sites.ai-liquid]\npue = { value = 1.1, source = "hearsay" }', "'hearsay'"),
        ("[sites.ai-liquid]\npue = 1.1", "unknown keys"),
        ("[nonsense]\nx = 1", r"unknown table \[nonsense\]"),
        (
            '[accelerators.h100-sxm]\nspeed = { value = 1, source = "eia-2025" }',
            r"unknown figures \['speed'\]",
        ),
        ('[sites.ai-liquid]\npue = { value = "low", source = "eia-2025" }', "not a number"),
        (
            '[sites.ai-liquid]\npue = { value = 1.1, low = 1.2, source = "eia-2025" }',
            "range 1.2 to 1.1",
        ),
        (
            (
                '[[prices]]\naccelerator = "h100-sxm"\nbasis = "owned"\nper_hour = -1\n'
                'currency = "USD"\nincludes_power = true\nsource = "eia-2025"'
            ),
            "price of h100-sxm is -1",
        ),
        ("[sources.mine]\ntitle = 'x'\nwhere = 'y'\ngrade = 'primary'", "neither date nor"),
        ("not toml", "cannot be read as a catalogue"),
    ],
)
def test_a_user_s_file_is_refused_where_it_is_wrong(tmp_path, text: str, said: str):
    with pytest.raises(ConfigError, match=said):
        own(tmp_path, text)


def test_an_accelerator_without_what_the_limit_needs_is_refused(tmp_path):
    found = own(tmp_path, '[accelerators.new]\nname = "new"')
    with pytest.raises(ConfigError, match="new has no memory_gb"):
        device(found.accelerator("new"))
