"""Accelerators, prices and sites as data, each figure with its source and its range."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.errors import ConfigError
from harness.roofline.bound import Device, Physics

PJ: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Where a figure comes from.

    Args:
        key: what figures call it.
        title: what it is.
        where: how to find it.
        date: its own date, or "read YYYY-MM" where it bears none.
        grade: `primary`, `excerpt`, `secondary`, `assumption`, `fit` or `yours`.
    """

    key: str
    title: str
    where: str
    date: str
    grade: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    A number with where it comes from and how far it may be off.

    Args:
        value: in the unit its name ends with.
        source: never absent.
        low: least it may be; equal to value if no range is given.
        high: most it may be.
        unverified: seen in one place only, or contradicted.
        note: what a reader should know.
    """

    value: float
    source: Source
    low: float
    high: float
    unverified: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """
    One kind of accelerator; *figures* by name (`tdp_w`, `memory_gb`, ...), absent if unpublished.

    Args:
        key: its name in commands.
        name: its maker's name.
        vendor: in lower case.
        cooling: in words.
        scale_up_domain: devices on one link.
        device_names: what the driver calls it, or how that begins.
        figures: name to figure.
    """

    key: str
    name: str
    vendor: str
    cooling: str
    scale_up_domain: int
    device_names: tuple[str, ...]
    figures: Mapping[str, Figure]

    def value(self, name: str) -> float | None:
        """One figure's number; None if it is not published."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerBasis:
    """
    One consistent set of all-in powers; never to be mixed with another.

    Args:
        key: its name in commands.
        includes_facility: PUE is inside already.
        meaning: in words.
        kw: accelerator to all-in kilowatts.
    """

    key: str
    includes_facility: bool
    meaning: str
    kw: Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """
    What an accelerator-hour costs.

    Args:
        accelerator: key.
        basis: `owned`, `rental` or `on-demand`.
        buyer: `hyperscaler`, `neocloud` or `any`.
        per_hour: in *currency*.
        currency: three letters.
        includes_power: electricity and facility are paid by it.
    """

    accelerator: str
    basis: str
    buyer: str
    per_hour: Figure
    currency: str
    includes_power: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a unit of *accelerators* costs to buy."""

    accelerator: str
    per_unit: Figure
    accelerators: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site, tariff, grid or set of defaults: a name and figures by input of the cost model."""

    key: str
    name: str
    currency: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All of it; `harness.catalogue_files.load` reads it."""

    sources: Mapping[str, Source]
    accelerators: Mapping[str, Accelerator]
    power_bases: Mapping[str, PowerBasis]
    prices: tuple[Price, ...]
    purchases: tuple[Purchase, ...]
    sites: Mapping[str, Place]
    tariffs: Mapping[str, Place]
    grids: Mapping[str, Place]
    defaults: Place
    physics_figures: Place

    def accelerator(self, key: str) -> Accelerator:
        """One accelerator, or a refusal that lists them."""
        return self.accelerators[known(key, self.accelerators, "accelerator")]

    def power_basis(self, key: str) -> PowerBasis:
        """One set of all-in powers."""
        return self.power_bases[known(key, self.power_bases, "power basis")]

    def all_in_kw(self, accelerator: str, basis: str) -> Figure | None:
        """All-in power of an accelerator on one basis; None if that basis leaves it out."""
        return self.power_basis(basis).kw.get(known(accelerator, self.accelerators, "accelerator"))

    def price(
        self, accelerator: str, basis: str = "owned", *, source: str | None = None
    ) -> Price | None:
        """
        The newest price of an accelerator-hour.

        Args:
            accelerator: key.
            basis: `owned` (a hyperscaler's where there are several), `rental`, `on-demand`.
            source: only from this source.
        """
        known(basis, ("owned", "rental", "on-demand"), "price basis")
        fitting = [
            price
            for price in self.prices
            if price.accelerator == accelerator
            and price.basis == basis
            and price.buyer != "neocloud"
            and source in (None, price.per_hour.source.key)
        ]
        return max(fitting, key=lambda price: _day(price.per_hour.source), default=None)

    def recognise(self, device_name: str) -> Accelerator | None:
        """
        The accelerator a driver's device name speaks of; None if it is not sure.

        A PCIe or NVL card of the same name is another product, with another TDP.
        """
        words = device_name.lower()
        if "pcie" in words or " nvl" in words:
            return None
        found = [
            one
            for one in self.accelerators.values()
            for name in one.device_names
            if words == name.lower() or words.startswith(f"{name.lower()} ")
        ]
        return found[0] if len(found) == 1 else None

    def physics(self) -> Physics:
        """The constants of transport and arithmetic, in SI units."""
        figures = self.physics_figures.figures
        return Physics(
            memory_j_per_byte=figures["memory_pj_per_bit"].value * 8 * PJ,
            fp8_j_per_flop=figures["fp8_pj_per_flop"].value * PJ,
            link_j_per_byte=figures["link_pj_per_bit"].value * 8 * PJ,
        )


def device(accelerator: Accelerator) -> Device:
    """
    The accelerator in SI units, for the limit.

    Raises:
        ConfigError: a figure the limit cannot do without is not published.
    """
    rates = {
        precision: rate * 1e12
        for precision in ("fp4", "fp8", "bf16")
        if (rate := accelerator.value(f"{precision}_tflops")) is not None
    }
    memory_pj = accelerator.value("memory_pj_per_bit")
    flop_pj = accelerator.value("fp8_pj_per_flop")
    return Device(
        name=accelerator.name,
        tdp_w=accelerator.value("tdp_w"),
        memory_bytes=_needed(accelerator, "memory_gb") * 1e9,
        bandwidth_bytes_per_s=_needed(accelerator, "bandwidth_tb_per_s") * 1e12,
        peak_flop_per_s=rates,
        # The catalogue adds both directions; a transfer uses one.
        link_bytes_per_s=_needed(accelerator, "link_gb_per_s") * 1e9 / 2,
        scale_up_domain=accelerator.scale_up_domain,
        static_w=accelerator.value("static_w"),
        memory_j_per_byte=None if memory_pj is None else memory_pj * 8 * PJ,
        fp8_j_per_flop=None if flop_pj is None else flop_pj * PJ,
    )


def known(key: str, keys: Iterable[str], what: str) -> str:
    """
    Return *key* if it is among *keys*.

    Raises:
        ConfigError: it is not; the message guesses and lists what exists.
    """
    names = list(keys)
    if key in names:
        return key
    close = difflib.get_close_matches(key, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"there is no {what} {key!r}", remedy=f"{guess}choose one of: {', '.join(names)}"
    )


def _needed(accelerator: Accelerator, name: str) -> float:
    value = accelerator.value(name)
    if value is None:
        raise ConfigError(
            f"{accelerator.key} has no {name}: it is not published",
            remedy="add it with its source in a file of your own and give that by --catalogue",
        )
    return value


def _day(source: Source) -> str:
    return source.date.removeprefix("read ")
