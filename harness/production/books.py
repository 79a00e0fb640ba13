"""What has been booked so far: joules, tokens, money and grams, each under its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.errors import ConfigError

from .attribution import Method, Owner, Phase, Posting, Reason, State, Tenant

KWH_J = 3_600_000.0
_SPLIT: Final[tuple[State, ...]] = ("active", "idle")


Sums = dict[tuple[Owner | None, str, str], float]
"""(owner, device, component) → so far."""
Shares = Sequence[tuple[Owner | None, float]]
"""Who has which part of a device; the parts sum to 1."""


def add(sums: Sums, key: tuple[Owner | None, str, str], amount: float) -> None:
    """Make one sum grow."""
    sums[key] = sums.get(key, 0.0) + amount


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
        device_grams_per_hour: of making one device, spread over its life; None: not known.
    """

    price_per_kwh: float | None = None
    currency: str = "USD"
    pue: float = 1.0
    grams_per_kwh: float | None = None
    device_price_per_hour: float | None = None
    device_grams_per_hour: float | None = None

    def __post_init__(self) -> None:
        between("cost.pue", self.pue, 1, 10)
        hourly = ("device_price_per_hour", "device_grams_per_hour")
        for name in ("price_per_kwh", "grams_per_kwh", *hourly):
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
        emissions_g: the same for grams of CO2 equivalent.
    """

    energy_uj: dict[EnergyKey, int] = field(default_factory=dict)
    unattributed_uj: dict[tuple[str, Reason], int] = field(default_factory=dict)
    tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    uncovered_tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    wasted_tokens: dict[tuple[Owner, str], float] = field(default_factory=dict)
    cost: Sums = field(default_factory=dict)
    emissions_g: Sums = field(default_factory=dict)

    def post(self, uuid: str, posting: Posting, tariff: Tariff) -> None:
        """Book one posting of a device, with what it cost."""
        if posting.owner is not None:
            key = EnergyKey(uuid, posting.owner, posting.state, posting.phase, posting.method)
            self.energy_uj[key] = self.energy_uj.get(key, 0) + posting.energy_uj
        elif posting.reason is not None:
            place = (uuid, posting.reason)
            self.unattributed_uj[place] = self.unattributed_uj.get(place, 0) + posting.energy_uj
        kwh = posting.energy_uj / 1e6 / KWH_J
        by_kwh = ((self.cost, tariff.price_per_kwh), (self.emissions_g, tariff.grams_per_kwh))
        for sums, rate in by_kwh:
            if rate is not None:
                add(sums, (posting.owner, uuid, "energy"), kwh * rate)
                add(sums, (posting.owner, uuid, "facility"), kwh * (tariff.pue - 1) * rate)

    def hold(self, uuid: str, seconds: float, shares: Shares, tariff: Tariff) -> None:
        """Book what a device costs by the hour, idle or not."""
        hourly = (
            (self.cost, tariff.device_price_per_hour),
            (self.emissions_g, tariff.device_grams_per_hour),
        )
        for sums, rate in hourly:
            for owner, share in shares if rate is not None else ():
                add(sums, (owner, uuid, "device"), (rate or 0.0) * seconds / 3600 * share)

    def open_unattributed(self, uuid: str) -> None:
        """Show the residual of a device from the start, so that its first increase is seen."""
        self.unattributed_uj.setdefault((uuid, "no_model"), 0)

    def open_model(self, uuid: str, tenant: Tenant, tariff: Tariff) -> None:
        """Show what a device's only model has from the start, for the same reason."""
        if tenant.owner is None or tenant.phase_s:
            return
        for state in _SPLIT:
            key = EnergyKey(uuid, tenant.owner, state, tenant.role or "mixed", "exclusive")
            self.energy_uj.setdefault(key, 0)
        for sums, by_kwh, by_hour in (
            (self.cost, tariff.price_per_kwh, tariff.device_price_per_hour),
            (self.emissions_g, tariff.grams_per_kwh, tariff.device_grams_per_hour),
        ):
            rates = {"energy": by_kwh, "facility": by_kwh, "device": by_hour}
            for component in [name for name, rate in rates.items() if rate is not None]:
                sums.setdefault((tenant.owner, uuid, component), 0.0)

    def attributed_uj(self, uuid: str) -> int:
        """Microjoules of one device that belong to models."""
        return sum(value for key, value in self.energy_uj.items() if key.uuid == uuid)

    def residual_uj(self, uuid: str) -> int:
        """Microjoules of one device that belong to none."""
        return sum(value for (of, _), value in self.unattributed_uj.items() if of == uuid)
