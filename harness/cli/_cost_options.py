"""The options that `cost` and `explain` share: a point, a site, and figures of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from harness.cli._folder_options import ARTIFACT_DIR

if TYPE_CHECKING:
    from harness.cost.case import Case, Choice
    from harness.cost.catalogue import Catalogue, Figure
    from harness.cost.point import Point

INPUT_OPTIONS: Final = {
    "pue": ("pue", 1.0),
    "usd_per_kwh": ("usd_per_kwh", 1.0),
    "demand": ("demand_usd_per_kw_month", 1.0),
    "utilisation": ("utilisation_ratio", 1.0),
    "idle_w": ("idle_w", 1.0),
    "host_w": ("other_active_w", 1.0),
    "all_in_kw": ("all_in_w", 1e3),
    "price": ("rate_usd_per_hour", 1.0),
}
"""Option to the model's input and the factor to its unit."""

_OPTIONS: Final = (
    click.argument("runs", nargs=-1),
    click.option("--tok-per-s", type=float, help="Tokens a second of one device."),
    click.option("--j-per-token", type=float, help="Joules per token of one device, serving."),
    click.option("--device-w", type=float, help="Or its watts while serving."),
    click.option(
        "--published",
        metavar="ACCELERATOR/DEVICES/BATCH",
        multiple=True,
        help="A point of ML.ENERGY v3 (gpt-oss-120b, vLLM), e.g. h100-sxm/1/64.",
    ),
    click.option(
        "--basis",
        type=click.Choice(["output", "total"]),
        default="output",
        show_default=True,
        help="Which tokens of a run are priced.",
    ),
    click.option("--accelerator", help="What it ran on; recognised from a run where possible."),
    click.option("--site", default="ai-liquid", show_default=True, help="Where it stands."),
    click.option("--tariff", help="Another price of electricity, by name."),
    click.option("--grid", default="usa", show_default=True, help="For carbon and water."),
    click.option(
        "--price-basis",
        type=click.Choice(["owned", "rental", "on-demand", "purchase"]),
        default="owned",
        show_default=True,
        help="Whose price of an accelerator-hour.",
    ),
    click.option(
        "--power-basis",
        default="inferencex-2026-07",
        show_default=True,
        help="Whose all-in kilowatts; `joulemark cost --list` shows them.",
    ),
    click.option("--price", type=float, help="Dollars an accelerator-hour, all in."),
    click.option(
        "--purchase", type=float, help="Or dollars an accelerator, bought; power comes on top."
    ),
    click.option("--resale", type=float, default=0.0, help="What it sells for at the end."),
    click.option("--currency", default="USD", show_default=True, help="Of --price, --purchase."),
    click.option("--pue", type=float, help="Facility power over IT power."),
    click.option("--usd-per-kwh", type=float, help="Delivered price of electricity."),
    click.option("--demand", type=float, help="Demand charge, dollars per kW and month."),
    click.option("--utilisation", type=float, help="Share of the day it serves, above 0, to 1."),
    click.option("--idle-w", type=float, help="Watts of a device, engine loaded, no request."),
    click.option("--host-w", type=float, help="Watts a device beside it: host, NIC, fans."),
    click.option("--all-in-kw", type=float, help="Provisioned IT kilowatts a device."),
    click.option("--wall-w", type=float, help="Metered AC watts a device, serving."),
    click.option("--parts-w", type=float, help="Or watts of the host's parts a device (RAPL)."),
    click.option("--fans-w", type=float, help="And of its fans; else the site's share."),
    click.option(
        "--hourly",
        type=click.Path(path_type=Path),
        help="CSV by hour of day: usd_per_kwh, carbon_kg_per_kwh, grid_l_per_kwh.",
    ),
    click.option("--hours", help="Of the series, in which tokens are served: 22-5; else all."),
    click.option(
        "-s", "--set", "settings", multiple=True, metavar="INPUT=VALUE", help="Any other input."
    ),
    click.option(
        "--catalogue",
        "extra",
        type=click.Path(path_type=Path),
        multiple=True,
        help="TOML with figures of your own, laid over ours.",
    ),
    ARTIFACT_DIR,
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the intervals."
    ),
)


def case_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the shared options to a verb."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def cases(options: dict[str, Any], catalogue: Catalogue) -> list[Case]:
    """
    One case a run, or one of the numbers given.

    Raises:
        ConfigError: neither runs nor numbers, or anything out of range.
    """
    from harness.cost.case import build  # noqa: PLC0415

    choice = _choice(options, catalogue)
    return [build(catalogue, point, choice) for point in _points(options, catalogue)]


def _points(options: dict[str, Any], catalogue: Catalogue) -> list[Point]:
    from harness.cost.case import YOURS  # noqa: PLC0415
    from harness.cost.point import of_numbers, of_published, of_run  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    found = [
        of_run(record, catalogue, basis=options["basis"])
        for record in records(options["runs"], options["artifact_dir"])
    ]
    for key in options["published"]:
        measured, prompt = published(key)
        found.append(of_published(measured, catalogue.sources["mlenergy-v3"], input_tokens=prompt))
    if options["tok_per_s"] is not None:
        found.append(
            of_numbers(
                tok_per_s=options["tok_per_s"],
                j_per_token=options["j_per_token"],
                device_w=options["device_w"],
                source=YOURS,
                basis=options["basis"],
            )
        )
    if not found:
        raise ConfigError(
            "there is nothing to price",
            remedy="name a run, --published, or --tok-per-s with --j-per-token or --device-w",
        )
    metered = {
        name: options[name] for name in ("wall_w", "parts_w", "fans_w") if options[name] is not None
    }
    return [dataclasses.replace(point, **metered) for point in found]


def records(runs: tuple[str, ...], artifact_dir: Path) -> list[Any]:
    """The records of runs named by folder, by id below *artifact_dir*, or `latest`."""
    from harness.cost.point import read_record  # noqa: PLC0415

    found = []
    for run in runs:
        path = Path(run)
        if not (path.is_file() or (path / "run.json").is_file()):
            from harness import store  # noqa: PLC0415

            path = store.find(run, artifact_dir=artifact_dir)
        found.append(read_record(path))
    return found


def published(key: str) -> tuple[Any, float]:
    """
    One of ML.ENERGY's points by `ACCELERATOR/DEVICES/BATCH`, and its assumed prompt length.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    from harness.cost.catalogue_files import measured_points  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    points, prompt = measured_points()
    by_key = {f"{one.accelerator}/{one.devices}/{one.batch:.0f}": one for one in points}
    if key not in by_key:
        raise ConfigError(
            f"there is no published point {key!r}", remedy=f"choose one of: {', '.join(by_key)}"
        )
    return by_key[key], prompt


def _choice(options: dict[str, Any], catalogue: Catalogue) -> Choice:
    from harness.cost.case import Choice, given  # noqa: PLC0415
    from harness.cost.hours import hourly_figures, hours_of  # noqa: PLC0415
    from harness.errors import ConfigError  # noqa: PLC0415

    figures: dict[str, Figure] = {}
    for option, needed in (("hours", "hourly"), ("fans_w", "parts_w")):
        if options[option] is not None and options[needed] is None:
            names = [f"--{name.replace('_', '-')}" for name in (option, needed)]
            raise ConfigError(
                f"{names[0]} says nothing without {names[1]}", remedy="give both or neither"
            )
    if options["hourly"] is not None:
        figures |= hourly_figures(options["hourly"], hours_of(options["hours"] or "0-23"))
    figures |= {
        name: given(options[option] * factor)
        for option, (name, factor) in INPUT_OPTIONS.items()
        if options[option] is not None
    }
    figures |= {name: given(value) for name, value in _settings(options["settings"])}
    if options["purchase"] is not None:
        figures["rate_usd_per_hour"] = given(_bought_usd_per_hour(options, catalogue, figures))
    return Choice(
        accelerator=options["accelerator"],
        site=options["site"],
        tariff=options["tariff"],
        grid=options["grid"],
        price_basis=options["price_basis"],
        power_basis=options["power_basis"],
        given=figures,
        price_currency=options["currency"],
        price_includes_power=options["purchase"] is None,
    )


def _settings(pairs: tuple[str, ...]) -> list[tuple[str, float]]:
    from harness.errors import ConfigError  # noqa: PLC0415

    found = []
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found.append((name.strip(), float(text)))
        except ValueError as error:
            raise ConfigError(
                f"-s {pair}: {text!r} is no number", remedy="write -s wacc_ratio=0.08"
            ) from error
    return found


def _bought_usd_per_hour(
    options: dict[str, Any], catalogue: Catalogue, figures: dict[str, Figure]
) -> float:
    from harness.cost import formulas as cost  # noqa: PLC0415
    from harness.cost.catalogue import known  # noqa: PLC0415

    site = catalogue.sites[known(options["site"], catalogue.sites, "site")].figures
    wacc = figures.get("wacc_ratio", site["wacc_ratio"]).value
    return cost.server_usd_per_hour(
        options["purchase"],
        resale_usd=options["resale"],
        wacc_ratio=wacc,
        life_y=site["server_life_y"].value,
    )
