"""The built-in page at `/`: the node's live figures as plain HTML, without any other asset."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from .attribution import Owner
from .findings import MEANINGS
from .meter import Meter
from .node import Node
from .readings import Device
from .rows import Live

_STYLE: Final = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse;margin:.5rem 0 1.5rem}"
    "th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}.note{color:#555}"
    ".mark{background:#fde68a;padding:.1rem .4rem;border-radius:3px}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#181818}"
    "th,td{border-color:#444}.note{color:#aaa}.mark{color:#181818}}"
)
_KEPT: Final = 61


@dataclass(frozen=True, slots=True)
class Sums:
    """Cumulative sums of one owner at one instant."""

    t_s: float
    energy_uj: int
    generated: float


@dataclass(slots=True)
class Minute:
    """The last minute of each owner, for the page's rates; Prometheus has the real history."""

    kept: dict[Owner, deque[Sums]] = field(default_factory=dict)

    def advance(self, node: Node, t_s: float) -> None:
        """Note where each owner's sums are now."""
        energy: dict[Owner, int] = {}
        for key, value in node.books.energy_uj.items():
            energy[key.owner] = energy.get(key.owner, 0) + value
        for owner, value in energy.items():
            made = node.books.tokens.get((owner, "generated"), 0.0)
            kept = self.kept.setdefault(owner, deque(maxlen=_KEPT))
            kept.append(Sums(t_s, value, made))


def page(node: Node, live: Live, minute: Minute) -> bytes:
    """
    The page.

    Args:
        node: the account.
        live: the gauges.
        minute: sums of the last minute.
    """
    kinds = {account.device.power_kind for account in node.accounts.values()} - {"measured"}
    marks = "".join(f" <span class=mark>power is {escape(kind)}</span>" for kind in sorted(kinds))
    devices = [
        [
            uuid,
            _number(_watts(live, account.device), " W"),
            _number(account.meter.total_uj / 3.6e12, " kWh", 6),
            _number(_ratio(node.books.residual_uj(uuid), account.meter.total_uj, 100), " %"),
            _number(_covered(account.meter), " %"),
        ]
        for uuid, account in node.accounts.items()
    ]
    models = [_model_row(owner, sums) for owner, sums in sorted(minute.kept.items())]
    findings = [[code, MEANINGS.get(code, "")] for code in live.findings]
    heads = (
        ("Device", "power", "energy so far", "unattributed", "covered"),
        ("Model, last minute", "engine", "J per generated token", "tokens/s", "watts"),
        ("Finding", "meaning"),
    )
    tables = "".join(
        _table(head, body) for head, body in zip(heads, (devices, models, findings), strict=True)
    )
    note = (
        "Joules are a model's own, idle included. Rates are of the last minute; history and "
        "dashboards are Prometheus's. <a href=/metrics>metrics</a>"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
        f"<title>joulemark node</title><style>{_STYLE}</style><h1>joulemark{marks}</h1>{tables}"
        f"<p class=note>{note}</p></html>\n"
    ).encode()


def _model_row(owner: Owner, sums: Sequence[Sums]) -> list[str]:
    first, last = sums[0], sums[-1]
    seconds = last.t_s - first.t_s
    joules = (last.energy_uj - first.energy_uj) / 1e6
    tokens = last.generated - first.generated
    return [
        f"{owner.model_name} ({owner.instance_id})",
        owner.engine,
        _number(_ratio(joules, tokens, 1), "", 3),
        _number(_ratio(tokens, seconds, 1), ""),
        _number(_ratio(joules, seconds, 1), " W"),
    ]


def _ratio(part: float, whole: float, factor: float) -> float | None:
    return part / whole * factor if whole > 0 else None


def _covered(meter: Meter) -> float | None:
    known_ns = meter.covered_ns
    return _ratio(known_ns, known_ns + sum(meter.uncovered_by().values()), 100)


def _watts(live: Live, device: Device) -> float | None:
    """The newest reading of what the device's joules are of, the instant one if there is one."""
    found = [
        (sense != "instant", watts)
        for (of, boundary, sense), watts in live.watts.items()
        if (of, boundary) == (device.uuid, device.boundary)
    ]
    return min(found)[1] if found else None


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "not known" if value is None else f"{value:,.{digits}f}{unit}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    if not body:
        return ""
    top = "".join(f"<th>{escape(word)}" for word in head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in body)
    return f"<table><tr>{top}{rows}</table>"
