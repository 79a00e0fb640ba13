"""Makes the raw half of the golden run folder: made-up events whose numbers a person can check."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

from harness import store
from harness.journal import JournalWriter
from harness.run_writer import RunWriter
from harness.timeline import NOT_SAID, POWER_DTYPE, Channel, EventKind, RequestTrace

S = 10**9
START = 1000 * S
_EVENT = struct.Struct("<qiiiB3x").pack
_POWER = struct.Struct("<qqdHH4x").pack
SLOTS, REQUESTS, TOKENS = 4, 40, 20
TTFT_NS, STEP_NS = 200_000_000, 40_000_000
WATTS = 300.0
TICK_NS = 100_000_000

CONFIG = {
    "name": "golden",
    "seed": 1,
    "engine": {"kind": "attach", "url": "http://127.0.0.1:1", "model": "made-up"},
    "workload": {"kind": "synthetic", "isl_tokens": 10, "osl_tokens": TOKENS, "range_ratio": 1.0},
    "load": {"pattern": "concurrency", "concurrency": SLOTS, "request_rate_per_s": None},
    "power": {"sources": ["scripted"], "options": {}},
    "window": {"kind": "steady", "min_s": 5.0, "refuse_below_s": 5.0, "force": False},
    "cost": {"usd_per_kwh": 0.10, "pue": 1.2, "provisioned_w": 1000.0},
}
PROVENANCE = {
    "joulemark": "0.1.0",
    "anchor": {"t_monotonic_ns": START, "t_wall_ns": 1_780_000_000 * S, "uncertainty_ns": 50},
    "machine": {"cpu": "made up", "cpus_usable": 2},
    "engine": {"engine": "attach", "version": None, "weights": None, "settings": {}},
}


def make(folder: Path) -> None:
    """
    A closed loop of 4 slots; each request: first token after 0.2 s, then one each 40 ms.

    So TTFT is 0.2 s, TPOT 40 ms, E2E 0.96 s; the GPU draws 300 W throughout,
    read as a counter that ticks each 100 ms and as two powers.
    """
    with RunWriter(folder, {"run_id": "golden", "config": CONFIG, **_rest()}) as writer:
        writer.mark("loaded_idle_start", START - 6 * S)
        writer.mark("loaded_idle_end", START - 1 * S)
        writer.mark("token_counters", START - 1, when="before", generated=100.0)
        writer.mark("measure_start", START)
        for index in range(REQUESTS):
            _request(writer, index)
        end = START + 11 * S
        writer.mark("measure_end", end)
        writer.mark("token_counters", end, when="after", generated=100.0 + REQUESTS * TOKENS)
        writer.mark("complete", end + 1)
    _power(folder / store.POWER)


def _rest() -> dict:
    return {"provenance": PROVENANCE}


def _request(writer: RunWriter, index: int) -> None:
    last_ns = TTFT_NS + (TOKENS - 1) * STEP_NS
    sent = START + (index // SLOTS) * last_ns + (index % SLOTS) * 1_000_000
    writer.events.append(_EVENT(sent, index, NOT_SAID, 0, EventKind.SENT))
    for token in range(TOKENS):
        t_ns = sent + TTFT_NS + token * STEP_NS
        writer.events.append(_EVENT(t_ns, index, token + 1, 5, EventKind.CHUNK))
    writer.events.append(_EVENT(sent + last_ns, index, TOKENS, 0, EventKind.END))
    writer.add_request(
        RequestTrace(
            request=index,
            phase="measure",
            t_due_ns=sent,
            t_sent_ns=sent,
            t_first_ns=sent + TTFT_NS,
            t_last_ns=sent + last_ns,
            t_end_ns=sent + last_ns,
            isl_tokens=10,
            osl_tokens=TOKENS,
            cached_tokens=0,
            reasoning_tokens=None,
            stream_tokens=TOKENS,
            chunks=TOKENS,
            max_osl_tokens=TOKENS,
            isl_asked_tokens=10,
            finish_reason="length",
            status=200,
            error_kind=None,
            error=None,
            reused_connection=index >= SLOTS,
        )
    )


def _power(path: Path) -> None:
    common = {"boundary": "gpu", "device": "GPU-golden", "power_kind": "emulated"}
    channels = [
        Channel(
            name="golden:energy", quantity="energy", method="made up", quantum=0.001,
            sense="counter", **common,
        ),
        Channel(name="golden:instant", quantity="power", method="made up", **common),
        Channel(
            name="golden:average", quantity="power", method="made up", sense="average", **common
        ),
    ]  # fmt: skip
    header = {"channels": [dataclasses.asdict(channel) for channel in channels], "sources": []}
    journal = JournalWriter(path, POWER_DTYPE, header)
    for place in range(50 * 19):
        t_ns = START - 7 * S + place * 20_000_000
        ticked = (t_ns + 7_000_000) // TICK_NS * TICK_NS - (START - 8 * S)
        if place % 2 == 0:
            joules = round(WATTS * ticked / 1e9, 3)
            journal.append(_POWER(t_ns, t_ns + 20_000, joules, 0, 0))
        for channel in (1, 2):
            journal.append(_POWER(t_ns + channel, t_ns + 10_000, WATTS, channel, 0))
    journal.close()
