"""Lays out the account and the daemon's own state as rows of the metric set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness import __version__
from harness.timeline import Boundary

from .attribution import Owner
from .books import Sums
from .metric_set import METRICS, SEMANTICS_VERSION
from .node import TOKEN_KINDS, Account, Node

Series = list[tuple[tuple[str, ...], float]]
_NOBODY = ("", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """
    What holds only now: the gauges, and counters of the daemon itself.

    Args:
        watts: (device, boundary, sense) → newest power.
        facts: device → limit, temperature and such, by metric name without prefix.
        throttles: (device, reason) → how often its counter was found moved.
        provisioned_w: reserved for one device; None: not known.
        scrape_s: owner → duration of the last scrape.
        clocks: owner → when the engine moves its counters.
        sources: name → it has given a value lately.
        own: metric name → value, for the daemon's metrics without labels.
        findings: codes of what a reader has to know.
    """

    watts: Mapping[tuple[str, Boundary, str], float] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    throttles: Mapping[tuple[str, str], int] = field(default_factory=dict)
    provisioned_w: float | None = None
    scrape_s: Mapping[Owner, float] = field(default_factory=dict)
    clocks: Mapping[Owner, str] = field(default_factory=dict)
    sources: Mapping[str, bool] = field(default_factory=dict)
    own: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()


def rows(node: Node, host: Node, live: Live) -> dict[str, Series]:
    """
    Every series of one scrape.

    Args:
        node: the account of the devices.
        host: meters that are exported beside it, not attributed.
        live: the gauges.
    """
    found: dict[str, Series] = {metric.name: [] for metric in METRICS}
    for account in node.accounts.values():
        _device(found, node, account, live)
    for account in host.accounts.values():
        joules = account.meter.total_uj / 1e6
        found["joulemark_host_energy_joules_total"].append((_meter(account), joules))
    _models(found, node)
    _engines(found, node, live)
    _money(found, node)
    for name, value in live.own.items():
        found[name].append(((), value))
    for source, up in live.sources.items():
        found["joulemark_source_up"].append(((source,), float(up)))
    for code in live.findings:
        found["joulemark_findings"].append(((code,), 1.0))
    found["joulemark_semantics_info"].append(((SEMANTICS_VERSION,), 1.0))
    found["joulemark_build_info"].append(((__version__,), 1.0))
    return found


def _words(owner: Owner | None) -> tuple[str, str, str]:
    return _NOBODY if owner is None else (owner.model_name, owner.engine, owner.instance_id)


def _meter(account: Account) -> tuple[str, str, str]:
    device = account.device
    return device.uuid, device.boundary, device.power_kind


def _of(table: Mapping[tuple[str, str], float], uuid: str) -> list[tuple[str, float]]:
    return [(word, value) for (of, word), value in table.items() if of == uuid]


def _device(found: dict[str, Series], node: Node, account: Account, live: Live) -> None:
    device, meter = account.device, account.meter
    uuid, labels = device.uuid, _meter(account)
    energy_j = meter.total_uj / 1e6

    def add(name: str, values: tuple[str, ...], value: float) -> None:
        found[f"joulemark_{name}"].append((values, value))

    add("device_energy_joules_total", labels, energy_j)
    add("device_covered_seconds_total", (uuid,), meter.covered_ns / 1e9)
    for why, waited_ns in meter.uncovered_by().items():
        add("device_uncovered_seconds_total", (uuid, why), waited_ns / 1e9)
    add("device_energy_resets_total", (uuid,), meter.resets)
    for models, baseline in account.baselines.items():
        watts = baseline.known_w()
        if models and watts is not None:
            add("device_idle_power_watts", (uuid, models), watts)
            add("device_idle_observed_seconds", (uuid, models), baseline.observed_s)
    for (of, boundary, sense), watts in live.watts.items():
        if of == uuid:
            add("device_power_watts", (uuid, boundary, device.power_kind, sense), watts)
    for name, value in live.facts.get(uuid, {}).items():
        add(name, (uuid,), value)
    for reason, count in _of(live.throttles, uuid):
        add("device_throttle_changes_total", (uuid, reason), count)
    if live.provisioned_w is not None:
        add("device_provisioned_watts", (uuid,), live.provisioned_w)
    facts = device.facts
    about = (facts.get("device_name", ""), facts.get("driver_version", ""), device.source)
    last = (device.boundary, device.power_kind, facts.get("mig_mode", ""))
    add("device_info", (uuid, *about, *last), 1.0)
    _residual(found, node, account)


def _residual(found: dict[str, Series], node: Node, account: Account) -> None:
    """What belongs to no model, and whether the parts make up the whole as they are exposed."""
    uuid, labels, energy_j = account.device.uuid, _meter(account), account.meter.total_uj / 1e6
    parts = [value / 1e6 for key, value in node.books.energy_uj.items() if key.uuid == uuid]
    for (of, reason), value in node.books.unattributed_uj.items():
        if of == uuid:
            parts.append(value / 1e6)
            series = found["joulemark_unattributed_energy_joules_total"]
            series.append(((*labels, reason), value / 1e6))
    if energy_j > 0:
        error = abs(energy_j - math.fsum(parts)) / energy_j
        found["joulemark_conservation_error_ratio"].append(((uuid,), error))


def _models(found: dict[str, Series], node: Node) -> None:
    for key, value in node.books.energy_uj.items():
        device = node.accounts[key.uuid].device
        labels = (
            key.uuid,
            *_words(key.owner),
            key.state,
            key.phase,
            key.method,
            device.boundary,
            device.power_kind,
        )
        found["joulemark_model_energy_joules_total"].append((labels, value / 1e6))


def _engines(found: dict[str, Series], node: Node, live: Live) -> None:
    books = node.books
    for (owner, kind), count in books.tokens.items():
        if kind in TOKEN_KINDS:
            labels = (*_words(owner), node.kinds.get(owner, "none"))
            found[f"joulemark_{kind}_tokens_total"].append((labels, count))
    for (owner, kind), count in books.uncovered_tokens.items():
        labels = (*_words(owner), kind)
        found["joulemark_uncovered_tokens_total"].append((labels, count))
    for (owner, reason), count in books.wasted_tokens.items():
        found["joulemark_wasted_tokens_total"].append(((*_words(owner), reason), count))
    for owner, count in node.restarts.items():
        found["joulemark_engine_restarts_total"].append((_words(owner), count))
    shown: set[Owner] = set()
    for owner, instance in node.instances.items():
        label = instance.books_to
        if label in shown:
            continue  # beyond the limit on owners: one series for all of them
        shown.add(label)
        words = _words(label)
        found["joulemark_engine_up"].append((words, float(instance.up)))
        if instance.reading.running is not None and instance.up:
            running = instance.reading.running
            found["joulemark_engine_running_requests"].append((words, running))
        if owner in live.scrape_s:
            found["joulemark_engine_scrape_seconds"].append((words, live.scrape_s[owner]))
        info = (*words, live.clocks.get(owner, ""), instance.reading.role or "")
        found["joulemark_engine_info"].append((info, 1.0))


def _over_devices(node: Node, sums: Sums, unit: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for (owner, uuid, component), amount in sums.items():
        kind = node.accounts[uuid].device.power_kind
        key = (*_words(owner), component, *unit, kind)
        found[key] = found.get(key, 0.0) + amount
    return found


def _money(found: dict[str, Series], node: Node) -> None:
    tariff = node.tariff
    cost = _over_devices(node, node.books.cost, (tariff.currency,))
    found["joulemark_cost_total"] += cost.items()
    found["joulemark_emissions_grams_total"] += _over_devices(
        node, node.books.emissions_g, ()
    ).items()
    if tariff.price_per_kwh is not None:
        price = ((tariff.currency,), tariff.price_per_kwh)
        found["joulemark_electricity_price_per_kwh"].append(price)
    if tariff.grams_per_kwh is not None:
        found["joulemark_carbon_intensity_grams_per_kwh"].append(((), tariff.grams_per_kwh))
    found["joulemark_pue_ratio"].append(((), tariff.pue))
