"""What has been booked so far: joules, tokens, money and grams, each under its labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from harness.errors import ConfigError

from .attribution import Method, Owner, Phase, Posting, Reason, State

KWH_J = 3_600_000.0


class EnergyKey(NamedTuple):
    """The labels of one series of model energy."""

    uuid: str
    owner: Owner
    state: State
    phase: Phase
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """
    What a joule and an hour cost here: `[cost]`. Each is booked only if it is given.

    Args:
        price_per_kwh: of electricity, in *currency*; None: no cost is booked.
        currency: three letters.
        pue: facility energy over IT energy.
        grams_per_kwh: carbon intensity; None: no emissions are booked.
        device_price_per_hour: of one device, idle or not; None: not known.
    """

    price_per_kwh: float | None = None
    currency: str = "USD"
    pue: float = 1.0
    grams_per_kwh: float | None = None
    device_price_per_hour: float | None = None

    def __post_init__(self) -> None:
        between("cost.pue", self.pue, 1, 10)
        for name in ("price_per_kwh", "grams_per_kwh", "device_price_per_hour"):
            value = getattr(self, name)
            if value is not None:
                between(f"cost.{name}", value, 0, 1e6)


def between(name: str, value: float, low: float, high: float) -> None:
    """
    Refuse a setting out of range.

    Raises:
        ConfigError: naming it, its value and the range.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value:g}", remedy=f"choose {low:g} to {high:g}")


@dataclass(slots=True)
class Books:
    """
    Cumulative sums; nothing in here ever goes down.

    Args:
        energy_uj: microjoules by model; whole numbers, so that sums are exact.
        unattributed_uj: microjoules of a device that belong to no model, by reason.
        tokens: (owner, kind) → tokens whose joules were metered.
        uncovered_tokens: (owner, kind) → tokens whose joules were not.
        wasted_tokens: (owner, reason) → tokens computed for nobody.
        cost: (owner, device, component) → money; owner None: of unattributed joules.
        emissions_g: (owner, device) → grams of CO2 equivalent.
    """

    energy_uj: dict[EnergyKey, int] = field(default_factory=dict)
    unattributed_uj: dict[tuple[str, Reason], int] = field(default_factory=dict)
    tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    uncovered_tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    wasted_tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    cost: dict[tuple[Owner | None, str, str], float] = field(default_factory=dict)
    emissions_g: dict[tuple[Owner | None, str], float] = field(default_factory=dict)

    def post(self, uuid: str, posting: Posting, tariff: Tariff) -> None:
        """Book one posting of a device, with what it cost."""
        if posting.owner is not None:
            key = EnergyKey(uuid, posting.owner, posting.state, posting.phase, posting.method)
            self.energy_uj[key] = self.energy_uj.get(key, 0) + posting.energy_uj
        elif posting.reason is not None:
            place = (uuid, posting.reason)
            self.unattributed_uj[place] = self.unattributed_uj.get(place, 0) + posting.energy_uj
        kwh = posting.energy_uj / 1e6 / KWH_J
        if tariff.price_per_kwh is not None:
            self.spend(posting.owner, uuid, "energy", kwh * tariff.price_per_kwh)
            facility = kwh * (tariff.pue - 1) * tariff.price_per_kwh
            self.spend(posting.owner, uuid, "facility", facility)
        if tariff.grams_per_kwh is not None:
            grams = kwh * tariff.pue * tariff.grams_per_kwh
            self.emissions_g[posting.owner, uuid] = (
                self.emissions_g.get((posting.owner, uuid), 0.0) + grams
            )

    def spend(self, owner: Owner | None, uuid: str, component: str, amount: float) -> None:
        """Book money."""
        key = (owner, uuid, component)
        self.cost[key] = self.cost.get(key, 0.0) + amount

    def open_unattributed(self, uuid: str) -> None:
        """Show the residual of a device from the start, so that its first increase is seen."""
        self.unattributed_uj.setdefault((uuid, "no_model"), 0)

    def attributed_uj(self, uuid: str) -> int:
        """Microjoules of one device that belong to models."""
        return sum(value for key, value in self.energy_uj.items() if key.uuid == uuid)

    def residual_uj(self, uuid: str) -> int:
        """Microjoules of one device that belong to none."""
        return sum(value for (of, _), value in self.unattributed_uj.items() if of == uuid)
