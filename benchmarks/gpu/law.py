"""Puts each point of the design's law of measurement beside what a run of the protocol has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DISAGREEMENT_RATIO = 0.03
TICK_MS = (90.0, 110.0)
POLLING_RATIO = 0.01
PART_TIME_RATIO = 0.05
LAG_S = 0.02
CONSERVED_RATIO = 0.01
LONG_ENOUGH_S = 5.0
RECORDED = ("name", "vbios", "persistence_mode", "power_limit_w", "sm_clock_mhz", "temperature_c",
            "throttle_reasons", "throttle_counters", "compute_pids")  # fmt: skip

CONFIRMED, CONTRADICTED, NOT_SEEN = "confirmed", "contradicted", "not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    One point of the law.

    Args:
        point: its number in DESIGN.md, section 5.
        claim: in short.
        verdict: confirmed, contradicted, or not seen.
        seen: what the verdict rests on, with the numbers.
    """

    point: str
    claim: str
    verdict: str
    seen: str


def law(results: Mapping[str, Any]) -> list[Verdict]:
    """Every point, those of which nothing was seen included."""
    meter = results.get("meter") or {}
    runs = [run for sweep in results.get("engine") or [] for run in sweep.get("runs", [])]
    return [
        _cross_checks(meter),
        _ticks(meter),
        _naive(meter),
        _lag(meter),
        _part_time(meter),
        _polling(meter),
        _calls(meter),
        _sampler(meter),
        _scopes(meter),
        _steady(runs),
        _idle(meter, runs),
        _conserved(runs),
        _repeats(results),
        _faults(runs),
        _recorded(meter),
        _labels(results),
    ]


def _verdict(point: str, claim: str, holds: bool | None, seen: str) -> Verdict:
    verdict = NOT_SEEN if holds is None else CONFIRMED if holds else CONTRADICTED
    return Verdict(point=point, claim=claim, verdict=verdict, seen=seen)


def _cross_checks(meter: Mapping[str, Any]) -> Verdict:
    claim = f"the counter and the integrals of power agree within {DISAGREEMENT_RATIO:.0%}"
    rows = [r for r in meter.get("windows", []) if r["duration_s"] >= LONG_ENOUGH_S]
    found = [
        (abs(check["median_ratio"]), check["median_ratio"], row, method)
        for row in rows
        for method, check in row["against_counter"].items()
    ]
    if not found:
        return _verdict("1", claim, None, "no windows of 5 s or more")
    _, ratio, row, method = max(found, key=lambda item: item[0])
    seen = (
        f"largest median: {method} {ratio:+.2%} of the counter, {row['load']} load,"
        f" {row['duration_s']:g} s windows"
    )
    return _verdict("1", claim, abs(ratio) <= DISAGREEMENT_RATIO, seen)


def _ticks(meter: Mapping[str, Any]) -> Verdict:
    claim = "counter and instant power are renewed about every 100 ms"
    found = {k: v for k, v in meter.get("ticks", {}).items() if k in {"counter", "instant"}}
    if not found:
        return _verdict("2", claim, None, "no ticks recorded")
    seen = "; ".join(
        f"{name} {t['period_ms']:.2f} ms, "
        + (f"jitter {t['jitter_ms']:.2f} ms" if t["jitter_ms"] is not None
           else f"no jitter beyond the {t['resolution_ms']:.1f} ms between readings")
        for name, t in found.items()
    )  # fmt: skip
    held = all(TICK_MS[0] <= t["period_ms"] <= TICK_MS[1] for t in found.values())
    return _verdict("2", claim, held, seen)


def _naive(meter: Mapping[str, Any]) -> Verdict:
    claim = "a window read at its own edges, not at ticks, is off by up to a tick"
    ticks = meter.get("ticks", {}).get("counter")
    if not ticks:
        return _verdict("2", claim, None, "no ticks recorded")
    share = ticks["period_ms"] / 500
    return _verdict("2", claim, share > 0.01, f"one tick is {share:.1%} of 0.5 s")


def _lag(meter: Mapping[str, Any]) -> Verdict:
    claim = "a tick's energy is that of the tick's instant, or the lag is corrected"
    delays = meter.get("delays", {})
    counter = delays.get("counter", {})
    if not counter:
        return _verdict("2", claim, None, "no load steps recorded")
    seen_s = [side["median_s"] for side in counter.values()]
    corrected = delays.get("as_joulemark_corrects_it", {}).get("lag_s")
    words = ", ".join(f"{name} {side['median_s'] * 1e3:.0f} ms" for name, side in counter.items())
    late_s = sum(seen_s) / len(seen_s)
    seen = f"the counter bends after a step of the load by: {words}"
    if corrected is not None:
        seen += f"; joulemark's own correction: {corrected * 1e3:.0f} ms"
    left = late_s - (corrected or 0.0)
    return _verdict("2", claim, abs(left) <= LAG_S, seen)


def _part_time(meter: Mapping[str, Any]) -> Verdict:
    claim = "the counter integrates all of the time, instant power part of it"
    rows = [r for r in meter.get("locked", []) if r.get("counter_w") and r.get("on_ratio")]
    if len(rows) < 2:
        return _verdict("1", claim, None, "no load in step with the ticks recorded")
    watts = {
        sense: [row[f"{sense}_w"] for row in rows if row.get(f"{sense}_w")]
        for sense in ("counter", "instant", "average")
    }
    spread = {
        sense: (max(v) - min(v)) / (sum(v) / len(v)) for sense, v in watts.items() if len(v) > 1
    }
    on = [row["on_ratio"] for row in rows]
    seen = "spread over the phases of a 100 ms square load: " + ", ".join(
        f"{sense} {value:.1%}" for sense, value in spread.items()
    )
    seen += f" (the load itself was on {min(on):.1%} to {max(on):.1%} of the time)"
    # What the load's own irregularity explains is not the counter's doing.
    allowed = PART_TIME_RATIO + (max(on) - min(on)) / (sum(on) / len(on))
    return _verdict("1", claim, spread["counter"] <= allowed, seen)


def _polling(meter: Mapping[str, Any]) -> Verdict:
    claim = "polling at 50 Hz (and 200 Hz) changes neither the card's watts nor its counter"
    rows = sorted(
        (row for row in meter.get("rates", []) if row["counter_w"]), key=lambda row: row["start_s"]
    )
    if len({row["asked_hz"] for row in rows}) < 2 or len(rows) < 3:
        return _verdict("3", claim, None, "not recorded")
    # The card cools while this goes on: each stretch is held against those just before and after.
    off = []
    for before, row, after in zip(rows, rows[1:], rows[2:], strict=False):
        share = (row["start_s"] - before["start_s"]) / (after["start_s"] - before["start_s"])
        beside_w = before["counter_w"] * (1 - share) + after["counter_w"] * share
        off.append(row["counter_w"] / beside_w - 1)
    seen = ", ".join(f"{row['asked_hz']:g} Hz: {row['counter_w']:.2f} W" for row in rows)
    unsure = max(row.get("counter_half_width_w") or 0.0 for row in rows)
    allowed = max(POLLING_RATIO, 2 * unsure / min(row["counter_w"] for row in rows))
    worst = max(off, key=abs)
    seen += f" in order of time; at most {worst:+.2%} off those beside, {allowed:.2%} can be told"
    return _verdict("3", claim, abs(worst) <= allowed, f"idle, by the counter: {seen}")


def _calls(meter: Mapping[str, Any]) -> Verdict:
    claim = "a call takes so little that the sampler keeps its rates"
    sampler = meter.get("sampler", {})
    if not sampler:
        return _verdict("3", claim, None, "not recorded")
    costs = {name.split(":")[-2 if name.count(":") > 2 else -1]: us[0]
             for name, us in sampler["call_us"].items()}  # fmt: skip
    words = ", ".join(f"{name} {us:.0f} us" for name, us in costs.items())
    seen = (
        f"p50 of a call: {words}; in force {sampler['power_hz']:g} and {sampler['counter_hz']:g} Hz"
    )
    return _verdict("3", claim, sampler["power_hz"] >= 49 and sampler["counter_hz"] >= 19, seen)


def _sampler(meter: Mapping[str, Any]) -> Verdict:
    claim = "the sampler is on time: p99 within 2 ms, nothing missed"
    ways = {"dithered": meter.get("sampler", {}), "as in use": meter.get("sampler_aimed", {})}
    known = {name: one for name, one in ways.items() if one.get("period_error_ms")}
    if not known:
        return _verdict("3", claim, None, "not recorded")
    seen = "; ".join(
        f"{name}: period error p99 {one['period_error_ms'][1]:.2f} ms, {one['missed']} rounds "
        f"missed{_busy(one)}"
        for name, one in known.items()
    )
    # What is judged is what runs measure with; recordings from before there was a choice have one.
    last = list(known.values())[-1]
    holds = last["period_error_ms"][1] <= 2 and not last["missed"]
    return _verdict("3", claim, holds, f"under the heaviest load, {seen}")


def _busy(audit: Mapping[str, Any]) -> str:
    if not audit.get("cpu_s") or not audit.get("wall_s"):
        return ""
    late = " (not in the round-robin class)" if audit.get("round_robin") is False else ""
    return f", {audit['cpu_s'] / audit['wall_s']:.1%} of a core{late}"


def _scopes(meter: Mapping[str, Any]) -> Verdict:
    claim = "scopes are found by asking"
    channels = meter.get("facts", {}).get("channels", [])
    if not channels:
        return _verdict("4", claim, None, "no channels recorded")
    return _verdict("4", claim, True, "; ".join(c["method"] for c in channels))


def _steady(runs: list[Any]) -> Verdict:
    claim = "steady state is detected, not assumed"
    if not runs:
        return _verdict("5", claim, None, "no engine was run")
    found = [run for run in runs if run.get("window_s")]
    seen = f"{len(found)} of {len(runs)} runs had a steady window"
    return _verdict("5", claim, len(found) == len(runs), seen)


def _idle(meter: Mapping[str, Any], runs: list[Any]) -> Verdict:
    claim = "loaded idle is measured and stands beside"
    idle = meter.get("idle", {})
    loaded = [r["metrics"]["gpu_loaded_idle_w"]["value"] for r in runs
              if "gpu_loaded_idle_w" in r.get("metrics", {})]  # fmt: skip
    words = [f"{name} {w['counter_w']:.1f} W" for name, w in idle.items() if w.get("counter_w")]
    if loaded:
        words.append(f"engine loaded {min(loaded):.1f} to {max(loaded):.1f} W")
    return _verdict("6", claim, True if loaded else None, "; ".join(words) or "not recorded")


def _conserved(runs: list[Any]) -> Verdict:
    claim = f"idle and load add up to the whole within {CONSERVED_RATIO:.0%}"
    found = [r["conservation"]["residual_ratio"] for r in runs if r.get("conservation")]
    if not found:
        return _verdict("6", claim, None, "no run had both")
    worst = max(found, key=abs)
    seen = f"worst of {len(found)} runs {worst:+.3%}"
    return _verdict("6", claim, abs(worst) <= CONSERVED_RATIO, seen)


def _repeats(results: Mapping[str, Any]) -> Verdict:
    claim = "a published number has five repeats in random order"
    counts = [row["valid"] for sweep in results.get("engine") or [] for row in sweep["rows"]]
    if not counts:
        return _verdict("7", claim, None, "no engine was run")
    seen = f"{min(counts)} to {max(counts)} valid repeats a point"
    return _verdict("7", claim, True if min(counts) >= 5 else None, seen)


def _faults(runs: list[Any]) -> Verdict:
    claim = "resets, losses, stalls and throttling invalidate or flag the window"
    codes = sorted({c for run in runs for c in run.get("warnings", [])})
    seen = f"findings of this run: {', '.join(codes)}" if codes else "none happened"
    return _verdict("8", claim, None, seen)


def _recorded(meter: Mapping[str, Any]) -> Verdict:
    claim = "cap, clocks, temperature, throttling, driver, other tenants are recorded"
    nvml = meter.get("facts", {}).get("nvml", {})
    gpus = list(nvml.get("gpus", {}).values())
    if not gpus:
        return _verdict("9", claim, None, "no facts recorded")
    lacking = [name for name in RECORDED if gpus[0].get(name) in (None, {})]
    seen = f"driver {nvml.get('driver')}; this card does not say: {', '.join(lacking) or 'nothing'}"
    return _verdict("9", claim, not lacking, seen)


def _labels(results: Mapping[str, Any]) -> Verdict:
    claim = "the kind of power is on every number"
    kinds = {c["power_kind"] for c in results.get("meter", {}).get("facts", {}).get("channels", [])}
    kinds |= {
        r["power_kind"] for s in results.get("engine") or [] for r in s["runs"] if "power_kind" in r
    }
    if not kinds:
        return _verdict("10", claim, None, "no power recorded")
    seen = ", ".join(sorted(str(kind) for kind in kinds))
    return _verdict("10", claim, kinds <= {"measured", "emulated"} and len(kinds) == 1, seen)
