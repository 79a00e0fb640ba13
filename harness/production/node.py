"""The node's account: each snapshot's readings in, cumulative joules and tokens out, conserved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .attribution import Owner, Posting, Tenant, attribute, idle_weights
from .baseline import Baseline
from .books import Books, Shares, Tariff
from .follower import CounterFollower
from .meter import Meter, Reading, Step
from .readings import Device, EngineReading, Usage

TOKEN_KINDS: Final = ("computed", "cached", "generated")
OVERFLOW: Final = Owner(model_name="overflow", engine="overflow", instance_id="overflow")
"""Where models beyond the limit on distinct owners are booked."""
_MOST_BASELINES: Final = 32
"""Of one device: names of models come from the engines, and every set of them makes a series."""
_TRUST: Final = ("none", "measured", "modelled", "emulated")


@dataclass(slots=True)
class Instance:
    """An engine as the account knows it."""

    reading: EngineReading
    books_to: Owner
    tokens: CounterFollower = field(default_factory=CounterFollower)
    wasted: CounterFollower = field(default_factory=CounterFollower)
    phases: CounterFollower = field(default_factory=CounterFollower)
    last_good_ns: int | None = None
    up: bool = False
    busy: bool | None = None
    pending_tokens: dict[str, float] = field(default_factory=dict)
    pending_phase_s: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Account:
    """One device: its meter, its baselines, and what is known of it."""

    device: Device
    meter: Meter
    baselines: dict[str, Baseline] = field(default_factory=dict)
    tenants: str = ""
    """Key of the models last seen on it: a baseline belongs to them."""


@dataclass(slots=True)
class Node:
    """
    All accounts of one node.

    Args:
        tariff: what joules cost.
        max_gap_ns: the longest silence of a meter that its counter bridges.
        silent_after_ns: an engine that has not answered for so long owns nothing.
        max_owners: distinct owners that get series of their own.
        accounts: by device.
        instances: the engines there are now.
        owners: all that have series of their own.
        books: what has been booked.
        restarts: how often each engine's counters went back.
        remembered: counters of engines that are away, or were before a restart.
        kinds: the least trusted power kind that an owner's tokens are paired with.
    """

    tariff: Tariff = field(default_factory=Tariff)
    max_gap_ns: int = 5_000_000_000
    silent_after_ns: int = 15_000_000_000
    max_owners: int = 256
    accounts: dict[str, Account] = field(default_factory=dict)
    instances: dict[Owner, Instance] = field(default_factory=dict)
    owners: set[Owner] = field(default_factory=set)
    books: Books = field(default_factory=Books)
    restarts: dict[Owner, int] = field(default_factory=dict)
    remembered: dict[Owner, CounterFollower] = field(default_factory=dict)
    kinds: dict[Owner, str] = field(default_factory=dict)

    def add_device(self, device: Device) -> None:
        """Begin or go on metering a device; what a state file held of it is kept."""
        account = self.accounts.get(device.uuid)
        if account is None:
            meter = Meter(max_gap_ns=self.max_gap_ns, wraps_at_j=device.wraps_at_j)
            self.accounts[device.uuid] = Account(device, meter)
        else:
            account.device = device
        self.books.open_unattributed(device.uuid)

    def advance(
        self,
        t_ns: int,
        readings: Mapping[str, Reading],
        engines: Sequence[EngineReading],
        *,
        foreign: Mapping[str, float] | None = None,
    ) -> None:
        """
        Take one snapshot into account.

        Args:
            t_ns: CLOCK_MONOTONIC of the snapshot.
            readings: device → its counter; a device that was not read is missing.
            engines: all engines there are now; one not named any more is gone.
            foreign: device → share of SM time that processes of no engine used.
        """
        steps = {
            uuid: account.meter.advance(readings[uuid])
            for uuid, account in self.accounts.items()
            if uuid in readings
        }
        for reading in engines:
            self._follow(reading, t_ns, steps)
        present = {reading.owner for reading in engines}
        for owner in [owner for owner in self.instances if owner not in present]:
            self._remember(owner, self.instances.pop(owner).tokens)
        for uuid, step in steps.items():
            self._book(uuid, step, t_ns, (foreign or {}).get(uuid, 0.0))

    def kind_of(self, devices: Sequence[str]) -> str:
        """The least trusted power kind of some devices; `none` if none is metered."""
        kinds = [self.accounts[one].device.power_kind for one in devices if one in self.accounts]
        return max(kinds, key=_TRUST.index, default="none")

    def _remember(self, owner: Owner, follower: CounterFollower) -> None:
        # What it counts until it is back shows as tokens without joules, not as nothing.
        if len(self.remembered) < self.max_owners:
            self.remembered[owner] = follower

    def _label(self, owner: Owner) -> Owner:
        if owner in self.owners or len(self.owners) < self.max_owners:
            self.owners.add(owner)
            return owner
        # A known model's own rates stay right; pods that come and go have new names each time.
        kin = (owner.model_name, owner.engine)
        if any((one.model_name, one.engine) == kin for one in self.owners):
            return dataclasses.replace(owner, instance_id=OVERFLOW.instance_id)
        return OVERFLOW

    def _follow(self, reading: EngineReading, t_ns: int, steps: Mapping[str, Step]) -> None:
        owner = reading.owner
        if owner not in self.instances:
            follower = self.remembered.pop(owner, CounterFollower())
            self.instances[owner] = Instance(reading, self._label(owner), tokens=follower)
        instance = self.instances[owner]
        instance.reading = reading
        instance.up = reading.tokens is not None
        if reading.tokens is None:
            return
        fresh = not self._silent(instance, t_ns)
        covered = (
            fresh
            and bool(reading.devices)
            and all(one in steps and steps[one].why is None for one in reading.devices)
        )
        instance.last_good_ns = t_ns
        before = instance.tokens.resets
        moved = instance.tokens.advance(reading.tokens)
        restarted = instance.tokens.resets > before
        label = instance.books_to
        # Once metered, a kind never gets better: its series must not change labels.
        kinds = [self.kinds.get(label, "none"), self.kind_of(reading.devices)]
        self.kinds[label] = max(kinds, key=_TRUST.index)
        self.restarts[label] = self.restarts.get(label, 0) + restarted
        into = self.books.tokens if covered else self.books.uncovered_tokens
        for kind in reading.tokens:
            # A series exists from the first scrape on, so that its first increase is seen.
            self.books.tokens.setdefault((label, kind), 0.0)
            into[label, kind] = into.get((label, kind), 0.0) + moved.get(kind, 0.0)
        for reason, tokens in instance.wasted.advance(reading.wasted).items():
            key = (label, reason)
            self.books.wasted_tokens[key] = self.books.wasted_tokens.get(key, 0.0) + tokens
        worked = moved.get("computed", 0.0) + moved.get("generated", 0.0)
        # A running count of 0 with tokens moved: the requests began and ended in between.
        instance.busy = worked > 0 or (None if reading.running is None else reading.running > 0)
        if reading.running is None and not worked:
            instance.busy = False
        phases = instance.phases.advance(reading.phase_s)
        for uuid in reading.devices:
            pending = instance.pending_tokens
            pending[uuid] = pending.get(uuid, 0.0) + worked
            gathered = instance.pending_phase_s.setdefault(uuid, {})
            for phase in reading.phase_s:
                gathered[phase] = gathered.get(phase, 0.0) + phases.get(phase, 0.0)

    def _book(self, uuid: str, step: Step, t_ns: int, foreign_ratio: float) -> None:
        account = self.accounts[uuid]
        on_it = [one for one in self.instances.values() if uuid in one.reading.devices]
        alive = [one for one in on_it if not self._silent(one, t_ns)]
        tenants = [_tenant(one, uuid) for one in alive]
        if len(tenants) == 1:
            self.books.open_model(uuid, tenants[0], self.tariff)
        if step.covered_ns == 0:
            if step.why is not None:
                self._forget_pending(on_it, uuid)
            return
        seconds = step.covered_ns / 1e9
        if foreign_ratio > 0:
            tenants.append(Tenant(owner=None, sm_ratio=foreign_ratio))
        key = "+".join(sorted({one.books_to.model_name for one in alive}))
        baseline = _baseline(account, key)
        idle = bool(tenants) and all(tenant.busy is False for tenant in tenants)
        baseline.observe(step.energy_uj, seconds, idle=idle)
        if not tenants and on_it and step.energy_uj:
            postings = [Posting(energy_uj=step.energy_uj, reason="engine_silent")]
        else:
            postings = attribute(step.energy_uj, seconds, tenants, idle_w=baseline.known_w())
        for posting in postings:
            self.books.post(uuid, posting, self.tariff)
        self.books.hold(uuid, seconds, _shares(tenants), self.tariff)
        self._forget_pending(on_it, uuid)

    def _silent(self, instance: Instance, t_ns: int) -> bool:
        return instance.last_good_ns is None or t_ns - instance.last_good_ns > self.silent_after_ns

    @staticmethod
    def _forget_pending(instances: Sequence[Instance], uuid: str) -> None:
        for instance in instances:
            instance.pending_tokens.pop(uuid, None)
            instance.pending_phase_s.pop(uuid, None)


def _baseline(account: Account, models: str) -> Baseline:
    """The baseline of the models on a device; of many sets the one unseen for longest goes."""
    if models != account.tenants or models not in account.baselines:
        account.baselines[models] = account.baselines.pop(models, Baseline())
        account.tenants = models
        if len(account.baselines) > _MOST_BASELINES:
            del account.baselines[next(iter(account.baselines))]
    return account.baselines[models]


def _shares(tenants: Sequence[Tenant]) -> Shares:
    """Who keeps a device from being switched off, and how much of it."""
    owned = [tenant for tenant in tenants if tenant.owner is not None]
    if not owned:
        return [(None, 1.0)]
    _, weights = idle_weights(owned)
    return [
        (tenant.owner, weight / sum(weights)) for tenant, weight in zip(owned, weights, strict=True)
    ]


def _tenant(instance: Instance, uuid: str) -> Tenant:
    usage = instance.reading.usage.get(uuid, Usage())
    return Tenant(
        owner=instance.books_to,
        busy=instance.busy,
        tokens=instance.pending_tokens.get(uuid, 0.0),
        sm_ratio=usage.sm_ratio,
        mig_ratio=usage.mig_ratio,
        memory_bytes=usage.memory_bytes,
        role=instance.reading.role,
        phase_s=instance.pending_phase_s.get(uuid, {}),
    )
