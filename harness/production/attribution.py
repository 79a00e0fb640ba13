"""Says whose a device's joules were: by whole device, SM share, MIG activity, or tokens last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .split import split

State = Literal["active", "idle", "unsplit"]
"""`unsplit`: no idle baseline has been measured yet, so the two cannot be told apart."""
Phase = Literal["prefill", "decode", "mixed"]
PHASES: Final[tuple[Phase, ...]] = ("prefill", "decode", "mixed")
Method = Literal["exclusive", "sm_share", "mig_activity", "token_share", "memory_share", "equal"]
"""How the share was found; idle joules of a shared device go by memory, or equally."""
Reason = Literal["no_model", "foreign_process", "no_signal", "engine_silent"]
"""Why joules belong to no model."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """One engine instance with its model: what joules and tokens are booked to."""

    model_name: str
    engine: str
    instance_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """
    Who was on a device during an interval, and the signs of how much it used it.

    Args:
        owner: whose; None: a process that belongs to no known engine.
        busy: requests were running or tokens moved; None: not known.
        tokens: computed and generated in the interval.
        sm_ratio: its processes' share of the SMs' time; None: not readable.
        mig_ratio: its slice's activity times the slice's share of the GPU; None: no MIG.
        memory_bytes: device memory it holds; None: not readable.
        role: of an engine that does one phase only.
        phase_s: seconds the engine says it spent in each phase; empty: it does not say.
    """

    owner: Owner | None
    busy: bool | None = None
    tokens: float = 0.0
    sm_ratio: float | None = None
    mig_ratio: float | None = None
    memory_bytes: float | None = None
    role: Literal["prefill", "decode"] | None = None
    phase_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Joules booked to one owner, or to none with the reason."""

    energy_uj: int
    owner: Owner | None = None
    state: State = "active"
    phase: Phase = "mixed"
    method: Method = "exclusive"
    reason: Reason | None = None


_ACTIVE: Final[tuple[tuple[Method, str], ...]] = (
    ("sm_share", "sm_ratio"),
    ("mig_activity", "mig_ratio"),
)


def attribute(
    energy_uj: int, seconds: float, tenants: Sequence[Tenant], *, idle_w: float | None
) -> list[Posting]:
    """
    Book one device's metered interval; the postings sum to *energy_uj* exactly.

    Idle joules are the baseline's, up to what was metered, and belong to the
    models that keep the device; the rest is active. Several busy models share the
    active part by the first sign that all of them show. Where there is no sign
    nothing is guessed: the joules are unattributed.

    Args:
        energy_uj: metered on the device, microjoules.
        seconds: covered by it.
        tenants: on the device in the interval.
        idle_w: loaded-idle baseline in watts; None: not measured yet.

    Source:
        Definitions D2 to D6 of the project's attribution rules, docs/production.md.
    """
    if energy_uj == 0:
        return []
    if not any(tenant.owner for tenant in tenants):
        reason: Reason = "foreign_process" if tenants else "no_model"
        return [Posting(energy_uj=energy_uj, reason=reason)]
    owned = [tenant for tenant in tenants if tenant.owner is not None]
    if all(tenant.busy is False for tenant in tenants):
        return _idle(energy_uj, owned)
    if idle_w is None:
        return _active(energy_uj, tenants, state="unsplit")
    idle_uj = min(energy_uj, round(idle_w * seconds * 1e6))
    return _idle(idle_uj, owned) + _active(energy_uj - idle_uj, tenants, state="active")


def _idle(energy_uj: int, owned: Sequence[Tenant]) -> list[Posting]:
    method, weights = idle_weights(owned)
    return [
        Posting(
            energy_uj=part,
            owner=tenant.owner,
            state="idle",
            phase=tenant.role or "mixed",
            method=method,
        )
        for tenant, part in zip(owned, split(energy_uj, weights), strict=True)
        if part
    ]


def idle_weights(owned: Sequence[Tenant]) -> tuple[Method, list[float]]:
    """Who keeps a device from being switched off, and by how much: memory, or equal parts."""
    if len(owned) == 1:
        return "exclusive", [1.0]
    memory = [tenant.memory_bytes for tenant in owned]
    known = [one for one in memory if one is not None]
    if len(known) == len(owned) and any(known):
        return "memory_share", known
    return "equal", [1.0] * len(owned)


def _active(energy_uj: int, tenants: Sequence[Tenant], *, state: State) -> list[Posting]:
    if energy_uj == 0:
        return []
    method, weights = _active_weights(tenants)
    if method is None:
        return [Posting(energy_uj=energy_uj, reason="no_signal")]
    postings: list[Posting] = []
    for tenant, part in zip(tenants, split(energy_uj, weights), strict=True):
        if part and tenant.owner is None:
            postings.append(Posting(energy_uj=part, reason="foreign_process"))
        elif part:
            postings += _phases(part, tenant, state=state, method=method)
    return postings


def _active_weights(tenants: Sequence[Tenant]) -> tuple[Method | None, list[float]]:
    if len(tenants) == 1:
        return "exclusive", [1.0]
    for method, name in _ACTIVE:
        shares = [getattr(tenant, name) for tenant in tenants]
        known = [share for share in shares if share is not None]
        if len(known) == len(tenants) and any(known):
            return method, known
    # An idle tenant moves no token and so gets none of it, which is the point.
    if all(tenant.owner is not None for tenant in tenants) and any(one.tokens for one in tenants):
        return "token_share", [tenant.tokens for tenant in tenants]
    busy = [tenant.busy is not False for tenant in tenants]
    if sum(busy) == 1:
        return "exclusive", [float(one) for one in busy]
    return None, []


def _phases(energy_uj: int, tenant: Tenant, *, state: State, method: Method) -> list[Posting]:
    busy_s: dict[Phase, float] = {phase: tenant.phase_s.get(phase, 0.0) for phase in PHASES}
    shares = {phase: seconds for phase, seconds in busy_s.items() if seconds > 0}
    if tenant.role is not None or not shares:
        shares = {tenant.role or "mixed": 1.0}
    parts = split(energy_uj, list(shares.values()))
    return [
        Posting(energy_uj=part, owner=tenant.owner, state=state, phase=phase, method=method)
        for phase, part in zip(shares, parts, strict=True)
        if part
    ]
