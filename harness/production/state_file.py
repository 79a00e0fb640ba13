"""Keeps the account over restarts of the daemon: one JSON file, checksummed, replaced whole."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from harness.errors import StoreError

from .attribution import Owner
from .baseline import Baseline
from .books import EnergyKey, Sums
from .follower import CounterFollower
from .meter import Meter
from .node import Account, Node
from .readings import Device

VERSION: Final = 2
"""2: emissions by component."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """
    One instant on both clocks.

    Args:
        t_ns: CLOCK_MONOTONIC.
        t_wall_ns: Unix time, which somebody may set.
        boot_id: names this boot: monotonic stamps of another one mean nothing; empty: not known.
    """

    t_ns: int
    t_wall_ns: int
    boot_id: str


def now() -> Now:
    """This instant."""
    try:
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return Now(t_ns=time.perf_counter_ns(), t_wall_ns=time.time_ns(), boot_id=boot_id)


def save(
    node: Node,
    path: Path,
    *,
    t_ns: int,
    sync: bool,
    host: Node | None = None,
    at: Now | None = None,
) -> None:
    """
    Replace the state file.

    Args:
        node: what to keep.
        path: the file; its folder must exist.
        t_ns: CLOCK_MONOTONIC up to which the account goes.
        host: meters beside it.
        sync: reach the disk before the rename: survives a power cut, not only a kill.
        at: when; None: now.

    Raises:
        StoreError: it cannot be written.
    """
    document = _document(node, t_ns, at or now())
    beside = host.accounts.values() if host is not None else ()
    document["host"] = [_device_row(account, t_ns) for account in beside]
    body = orjson.dumps(document)
    digest = hashlib.sha256(body).hexdigest().encode()
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - made with its mode
            file.write(digest + b"\n" + body + b"\n")
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(
            f"the state file {path} cannot be written ({error.strerror})",
            remedy="give the daemon a folder of its own, e.g. systemd's StateDirectory",
        ) from error


def load(
    node: Node, path: Path, *, host: Node | None = None, at: Now | None = None
) -> tuple[bool, float | None]:
    """
    Fill a fresh account from a state file, if there is one.

    Args:
        node: as made from the configuration.
        path: the file.
        host: meters beside it, filled likewise.
        at: when; None: now.

    Returns:
        Whether there was a file; and the seconds between its save and now, which are
        uncovered. None: the wall clock was set back across a reboot, so nobody knows.

    Raises:
        StoreError: the file is damaged or of another version.
    """
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return False, None
    except OSError as error:
        raise StoreError(
            f"the state file {path} cannot be read ({error.strerror})",
            remedy="give it to the daemon's user",
        ) from error
    body = body.removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise StoreError(
            f"the state file {path} is damaged: its checksum does not match",
            remedy="move it away; the counters then start at 0, which Prometheus takes for a reset",
        )
    state = orjson.loads(body)
    if state["version"] != VERSION:
        raise StoreError(
            f"the state file {path} has version {state['version']}, this program reads {VERSION}",
            remedy="move it away, or run the joulemark that wrote it",
        )
    at = at or now()
    down_ns = _down_ns(state, at)
    saved_ns = None if down_ns is None else at.t_ns - down_ns
    for row in state["devices"]:
        _restore_device(node, row, saved_ns)
    _restore_books(node, state)
    if host is not None:
        for row in state["host"]:
            _restore_device(host, row, saved_ns)
    return True, None if down_ns is None else down_ns / 1e9


def _down_ns(state: dict[str, Any], at: Now) -> int | None:
    """Nanoseconds since the save; None where no clock can tell."""
    if state["boot_id"] and state["boot_id"] == at.boot_id:
        return max(at.t_ns - int(state["t_ns"]), 0)
    down_ns = at.t_wall_ns - int(state["t_wall_ns"])
    return down_ns if down_ns >= 0 else None


def _document(node: Node, t_ns: int, at: Now) -> dict[str, Any]:
    books = node.books
    remembered = {owner: one.tokens for owner, one in node.instances.items()}
    return {
        "version": VERSION,
        "boot_id": at.boot_id,
        "t_ns": t_ns,
        "t_wall_ns": at.t_wall_ns - (at.t_ns - t_ns),
        "devices": [_device_row(account, t_ns) for account in node.accounts.values()],
        "energy_uj": [[*_flat(key), str(value)] for key, value in books.energy_uj.items()],
        "unattributed_uj": [[*key, str(value)] for key, value in books.unattributed_uj.items()],
        "tokens": _rows(books.tokens),
        "uncovered_tokens": _rows(books.uncovered_tokens),
        "wasted_tokens": _rows(books.wasted_tokens),
        "cost": _sums(books.cost),
        "emissions_g": _sums(books.emissions_g),
        "restarts": [[_words(owner), count] for owner, count in node.restarts.items()],
        "kinds": [[_words(owner), kind] for owner, kind in node.kinds.items()],
        "owners": [_words(owner) for owner in sorted(node.owners)],
        "counters": [
            [_words(owner), follower.last, follower.resets]
            for owner, follower in {**node.remembered, **remembered}.items()
        ],
    }


def _fields(one: Device | Baseline) -> dict[str, Any]:
    # `asdict` copies deeply, which costs more than all the rest of a save.
    return {item.name: getattr(one, item.name) for item in dataclasses.fields(one)}


def _device_row(account: Account, t_ns: int) -> dict[str, Any]:
    meter = account.meter
    since_ns = meter.since_ns if meter.since_ns is not None else t_ns
    return {
        "device": _fields(account.device),
        # Large whole numbers as text: a JSON reader elsewhere may only have floats.
        "total_uj": str(meter.total_uj),
        "covered_ns": meter.covered_ns,
        "uncovered_ns": dict(meter.uncovered_by()),
        "pending_ns": t_ns - since_ns,
        "resets": meter.resets,
        "baselines": {key: _fields(one) for key, one in account.baselines.items()},
    }


def _restore_device(node: Node, row: dict[str, Any], saved_ns: int | None) -> None:
    device = Device(**row["device"])
    meter = Meter(
        max_gap_ns=node.max_gap_ns,
        wraps_at_j=device.wraps_at_j,
        total_uj=int(row["total_uj"]),
        covered_ns=row["covered_ns"],
        uncovered_ns=row["uncovered_ns"],
        resets=row["resets"],
        why_next="daemon_down",
    )
    if saved_ns is not None:
        meter.since_ns = saved_ns - row["pending_ns"]
    baselines = {key: Baseline(**values) for key, values in row["baselines"].items()}
    for baseline in baselines.values():
        baseline.idle_s = 0.0
    node.accounts[device.uuid] = Account(device, meter, baselines)


def _restore_books(node: Node, state: dict[str, Any]) -> None:
    books = node.books
    for uuid, *owner, phase_state, phase, method, value in state["energy_uj"]:
        key = EnergyKey(uuid, _owner(owner), phase_state, phase, method)
        books.energy_uj[key] = int(value)
    books.unattributed_uj.update({(u, why): int(v) for u, why, v in state["unattributed_uj"]})
    for name in ("tokens", "uncovered_tokens", "wasted_tokens"):
        getattr(books, name).update({(_owner(o), kind): v for o, kind, v in state[name]})
    for name in ("cost", "emissions_g"):
        sums = {(_owner_or_none(o), u, part): v for o, u, part, v in state[name]}
        getattr(books, name).update(sums)
    node.restarts.update({_owner(o): count for o, count in state["restarts"]})
    node.kinds.update({_owner(o): kind for o, kind in state["kinds"]})
    node.owners |= {_owner(words) for words in state["owners"]}
    node.remembered.update(
        {_owner(o): CounterFollower(last=last, resets=n) for o, last, n in state["counters"]}
    )


def _flat(key: EnergyKey) -> list[str]:
    return [key.uuid, *_words(key.owner), key.state, key.phase, key.method]


def _rows(table: dict[tuple[Owner, str], float]) -> list[list[Any]]:
    return [[_words(owner), kind, value] for (owner, kind), value in table.items()]


def _sums(table: Sums) -> list[list[Any]]:
    return [[_words(owner), uuid, part, value] for (owner, uuid, part), value in table.items()]


def _words(owner: Owner | None) -> list[str]:
    return [] if owner is None else [owner.model_name, owner.engine, owner.instance_id]


def _owner(words: list[str]) -> Owner:
    return Owner(model_name=words[0], engine=words[1], instance_id=words[2])


def _owner_or_none(words: list[str]) -> Owner | None:
    return _owner(words) if words else None
