"""Prints cost cases as tables: the split, the joules, what matters most, where figures are from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cost.picture import TITLES
from harness.plural import counted

if TYPE_CHECKING:
    from harness.cost.catalogue import Catalogue

JOULES: Final = {
    "device_j_per_token": "device, while serving",
    "idle_j_per_token": "device, idle between",
    "other_j_per_token": "host, NIC, switch, fans, supply",
    "it_j_per_token": "IT, their sum",
    "facility_j_per_token": "facility: IT times PUE",
}
HOLD_HOST: Final = {"it_j_per_token", "facility_j_per_token"}
OTHERS: Final = {
    "consumed_tok_per_s_per_mw": ("tokens/s per consumed MW", ",.0f"),
    "provisioned_tok_per_s_per_mw": ("tokens/s per provisioned MW", ",.0f"),
    "itue": ("ITUE", ".3f"),
    "tue": ("TUE = ITUE x PUE", ".3f"),
    "usd_per_kwh": ("effective price per kWh", ".4f"),
    "carbon_g_per_mtok": ("carbon, g CO2e per Mtok", ".1f"),
    "water_l_per_mtok": ("water, litres per Mtok", ".2f"),
}
MOST_BARS: Final = 6
ABSENT: Final = "not available"


def print_case(document: dict[str, Any], *, sources: bool) -> None:
    """One case on stdout; *sources* adds every input with where it is from."""
    console = _console()
    rate = document["interactivity_tok_per_s"]
    console.print(f"[bold]{escape(document['label'])}[/]")
    console.print(
        f"power {document['power_kind']} (boundary {document['boundary']}), "
        f"{document['token_basis']} tokens, {counted(document['devices'], 'device')}, "
        f"{document['accelerator'] or 'no accelerator of the catalogue'} at {document['site']}; "
        f"host power: {document['host_power']}; "
        + (f"{rate:.1f} tok/s/user" if rate else "interactivity not known")
    )
    console.print(_split(document))
    console.print(_joules(document))
    console.print(_others(document))
    for output in ("total_usd_per_mtok", "power_linked_usd_per_mtok"):
        if document["tornado"].get(output):
            console.print(_tornado(document, output))
    if sources:
        console.print(_sources(document))
    for finding in document["findings"]:
        console.print(f"{finding['severity']}: {finding['code']}: {escape(finding['message'])}")


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    # Into a file or a pipe, a table must not be cut to a terminal's width.
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=160)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _span(document: dict[str, Any], name: str, form: str) -> str:
    span = document["interval"]["of"].get(name)
    if span is None or span[0] == span[1]:
        return ""  # no input it depends on has a range
    return f"{span[0]:{form}} to {span[1]:{form}}"


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else f"{value:{form}}"


def _split(document: dict[str, Any]) -> Table:
    result = document["result"]
    total = result["total_usd_per_mtok"]
    all_in = ", all in" if document["rate_includes_power"] else ", power on top"
    basis = document["rate_basis"]
    kind = "no price" if basis == "none" else f"{basis} price{all_in}"
    table = _table(
        f"{document['currency']} per million {document['token_basis']} tokens ({kind}; "
        f"power {document['power_kind']})",
        "part",
        "cost",
        "share",
        "90 % interval",
    )
    for name, title in (*TITLES.items(), ("total_usd_per_mtok", "total")):
        value = result[name]
        share = "" if value is None or not total else f"{value / total:.1%}"
        table.add_row(title, _number(value, ".4f"), share, _span(document, name, ".4f"))
    linked = result["power_linked_usd_per_mtok"]
    if linked is not None and total:
        table.add_row(
            "of which power-linked",
            f"{linked:.4f}",
            f"{linked / total:.1%}",
            _span(document, "power_linked_usd_per_mtok", ".4f"),
        )
    return table


def _joules(document: dict[str, Any]) -> Table:
    table = _table(
        f"joules per {document['token_basis']} token (device: {document['power_kind']}; "
        "rows below it: computed)",
        "boundary",
        "J",
        "90 % interval",
    )
    alone = document["result"]["other_j_per_token"] is None
    for name, title in JOULES.items():
        value = document["result"][name]
        table.add_row(
            title + (", host left out" if alone and name in HOLD_HOST else ""),
            _number(value, ".4f"),
            _span(document, name, ".4f"),
        )
    return table


def _others(document: dict[str, Any]) -> Table:
    table = _table("beside it", "number", "value", "90 % interval")
    for name, (title, form) in OTHERS.items():
        value = document["result"][name]
        table.add_row(title, _number(value, form), _span(document, name, form))
    endpoints = document.get("endpoints")
    if endpoints:
        table.add_row("MLPerf Endpoints nameplate, W a device", f"{endpoints['nameplate_w']:.0f}")
        table.add_row("tokens/s per nameplate kW", f"{endpoints['tok_per_s_per_kw']:,.0f}")
    return table


def _tornado(document: dict[str, Any], output: str) -> Table:
    table = _table(f"what moves {output} most", "input", "its range", "the result")
    for bar in document["tornado"][output][:MOST_BARS]:
        figure = document["inputs"][bar["name"]]
        table.add_row(
            bar["name"],
            f"{figure['low']:g} to {figure['high']:g}",
            f"{bar['at_low']:.4f} to {bar['at_high']:.4f}",
        )
    return table


def _sources(document: dict[str, Any]) -> Table:
    table = Table(title="inputs", title_justify="left", box=None, pad_edge=False)
    for column in ("input", "value", "grade", "date", "source"):
        table.add_column(column)
    for name, figure in document["inputs"].items():
        doubt = " (unverified)" if figure["unverified"] else ""
        note = f"; {figure['note']}" if figure["note"] else ""
        table.add_row(
            name,
            f"{figure['value']:g}{doubt}",
            figure["grade"],
            figure["date"],
            escape(f"{figure['source']}{note}"),
        )
    return table


def print_catalogue(catalogue: Catalogue) -> None:
    """What can be named: accelerators with their newest prices, sites, tariffs, grids, bases."""
    console = _console()
    table = _table(
        "accelerators", "key", "TDP W", "memory GB", "TB/s", "FP8 TFLOPS", "owned", "rental"
    )
    for key, one in catalogue.accelerators.items():
        prices = [catalogue.price(key, basis) for basis in ("owned", "rental")]
        table.add_row(
            key,
            *(
                _number(one.value(name), "g")
                for name in ("tdp_w", "memory_gb", "bandwidth_tb_per_s", "fp8_tflops")
            ),
            *(
                ABSENT
                if price is None
                else f"{price.per_hour.value:g}{'?' if price.per_hour.unverified else ''} "
                f"({price.per_hour.source.date})"
                for price in prices
            ),
        )
    console.print(table)
    console.print("prices in dollars an hour, all in; ? marks one that is not verified")
    for title, places in (
        ("site", catalogue.sites),
        ("tariff", catalogue.tariffs),
        ("grid", catalogue.grids),
    ):
        for key, place in places.items():
            values = ", ".join(
                f"{name} {figure.value:g}"
                for name, figure in place.figures.items()
                if name in {"pue", "usd_per_kwh", "carbon_kg_per_kwh", "fan_ratio"}
            )
            console.print(f"{title} {key}: {place.name} ({values})")
    for key, basis in catalogue.power_bases.items():
        console.print(f"power basis {key}: {basis.meaning}")
