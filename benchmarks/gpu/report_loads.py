"""The part of the report that is about loads: known work, and the engine's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .markdown import number, percent, share, table


def known_work(found: Mapping[str, Any]) -> Iterator[str]:
    """Stage `known-work`: joules a FLOP and a bit."""
    if not found:
        return
    yield "\n## Known work\n"
    yield f"{(found.get('worker') or {}).get('device')}. Joules at the card, above idle: less the"
    yield "watts of the same context doing nothing. Roofline: `joulemark explain`'s figure.\n"
    # Work that was only pretended says nothing of a card's energy.
    pretended = (found.get("worker") or {}).get("pretended")
    roofline = {} if pretended else found.get("roofline", {})
    rows = []
    for kind, unit, rate in (("compute", "pJ/FLOP", "FLOP/s"), ("memory", "pJ/bit", "bit/s")):
        mean = found.get(kind, {}).get("mean")
        if mean:
            rows.append(
                (kind, f"{mean['per_s']:.4g} {rate}", number(mean["average_w"], 1),
                 number(mean["idle_w"], 1),
                 f"{mean['pj_each_gross']:.4g} {unit}", f"{mean['pj_each_above_idle']:.4g}",
                 roofline.get(f"{kind}_pj_each"), _rated(roofline.get(f"{kind}_per_s")),
                 percent(mean["spread_ratio"], 2), mean["n"])
            )  # fmt: skip
    yield from table(
        ("load", "rate", "W", "idle W", "gross", "above idle", "roofline", "rated", "spread", "n"),
        rows,
    )


def engine(sweep: Mapping[str, Any]) -> Iterator[str]:
    """Stage `engine`: the sweep's points and runs."""
    weights = {run.get("weights") for run in sweep["runs"]}
    yield f"\n## Engine sweep: {sweep['model']}\n"
    yield f"Weights: {', '.join(sorted(map(str, weights)))}. Mean over runs and 95 % interval."
    yield ""
    rows = []
    for r in sweep["rows"]:
        near, limit = r["published"] or {}, r["limit"] or {}
        rows.append(
            (r["concurrency"], f"{r['valid']}/{r['runs']}", _ci(r["gpu_j_per_output_token"], 4),
             _ci(r["output_throughput_tok_per_s"], 1), _ci(r["gpu_average_w"], 1),
             _ci(r["gpu_loaded_idle_w"], 1), percent(r["worst_residual_ratio"], 3),
             f"{near['j_per_output_token']} at {near['max_num_seqs']}" if near else "none",
             f"{limit['limit_j_per_token']:.3g} J, {limit['time_ratio']:.1%} of its rate"
             if limit else "not comparable")
        )  # fmt: skip
    yield from table(
        ("streams", "valid runs", "J/output token", "tok/s", "W", "loaded idle W", "idle + load",
         "ML.ENERGY v3 (other engine, real weights)", "roofline"),
        rows,
    )  # fmt: skip
    yield from _steps(sweep)
    yield from _prefill(sweep.get("prefill"))
    yield from _splits(sweep)
    yield "\nEvery run, with the client's own audit:\n"
    yield from table(
        ("streams", "run", "window s", "J/output token", "input cached", "TTFT p50 s", "client CPU",
         "lag p99 ms", "delivered", "requests", "lengths", "findings"),
        [_run(run) for run in sweep["runs"]],
    )  # fmt: skip


def _steps(sweep: Mapping[str, Any]) -> Iterator[str]:
    """How long steps take with and without a prompt to read, at each concurrency."""
    found = [(r["concurrency"], steps) for r in sweep["rows"] if (steps := r.get("steps"))]
    if not found:
        return
    yield "\nThe engine's steps in the windows, as tokens reached the client. A step in which a"
    yield "request's first token came has read a prompt.\n"
    yield from table(
        ("streams", "steps", "without a prompt ms", "with one ms", "with one, of the steps",
         "with one, of the time"),
        [(streams, one["steps"], number(one["plain_ms"], 1), number(one["prompt_ms"], 1),
          share(one["prompt_ratio"]), share(one["prompt_time_ratio"])) for streams, one in found],
    )  # fmt: skip


def _prefill(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    yield f"\nPrefill alone: {found['concurrency']} streams, prompts of up to {found['isl_tokens']}"
    yield "tokens, answers of one. Counted, not fitted: the card's joules in the window over its"
    yield "input tokens; above idle: less the watts of the loaded engine left alone.\n"
    yield from table(
        ("valid runs", "J/input token", "above idle", "input tok/s", "W"),
        [(f"{found['valid']}/{found['runs']}", _ci(found["j_per_input_token"], 5),
          _ci(found["above_idle_j_per_input_token"], 5), _ci(found["input_tok_per_s"], 0),
          _ci(found["average_w"], 1))],
    )  # fmt: skip


def _splits(sweep: Mapping[str, Any]) -> Iterator[str]:
    """Prefill, decode and idling of each concurrency, then of each run by itself."""
    yield "\nSplit into prefill, decode and idling: estimates with 95 % intervals, of joules above"
    yield "idling at this load's rates; never of several concurrencies at once. Bins in which no"
    yield "token came although requests were in flight are left out.\n"
    rows = []
    for r in sweep["rows"]:
        if r.get("split"):
            rows.append(split_row(r["concurrency"], "all runs", r["split"]))
        own = [
            run
            for run in sweep["runs"]
            if run["concurrency"] == r["concurrency"] and not run.get("prefill")
        ]
        rows += [split_row("", run["run"][-4:], run["split"]) for run in own if run.get("split")]
    yield from table(
        ("streams", "runs", "J/input token computed", "J/output token", "idle W by the fit",
         "measured, none in flight", "bins", "left out", "of the variance", "verdict"),
        rows,
    )  # fmt: skip


def split_row(streams: object, runs: str, found: Mapping[str, Any]) -> list[Any]:
    """A row of the table of splits: its numbers, and what speaks against them."""
    if "refused" in found:
        return [
            streams,
            runs,
            *[None] * 7,
            f"refused: {found['refused'].removeprefix('no split: ')}",
        ]
    keys = ("prefill_j_per_token", "decode_j_per_token", "idle_w", "idle_measured_w")
    words = [
        f"{v['value']:.4g} ({v['low']:.4g} to {v['high']:.4g})" if (v := found[k]) else "not told"
        for k in keys
    ]
    against = [f["message"] for f in found["findings"] if f["severity"] != "info"]
    besides = [f["code"] for f in found["findings"] if f["severity"] == "info"]
    verdict = f"**not to be used**: {'; '.join(against)}" if against else "not contradicted"
    verdict += f" ({', '.join(besides)})" if besides else ""
    return [streams, runs, *words, found["bins"], share(found["left_out_ratio"]),
            share(found["r2_ratio"]), verdict]  # fmt: skip


def _run(run: Mapping[str, Any]) -> list[Any]:
    client, metrics = run.get("client") or {}, run.get("metrics") or {}
    lag_s = client.get("loop_lag_p99_s")
    joules = metrics.get("gpu_j_per_output_token")
    return [
        f"{run['concurrency']}, prefill" if run.get("prefill") else run["concurrency"],
        run.get("status", "not read"),
        number(run.get("window_s"), 1),
        f"{joules['value']:.4f} ({joules['low']:.4f} to {joules['high']:.4f})" if joules else None,
        share(run.get("cached_ratio")),
        number((metrics.get("ttft_s.p50") or {}).get("value"), 3),
        share(client.get("cpu_share_ratio")),
        number(None if lag_s is None else lag_s * 1e3, 1),
        number(client.get("delivered_concurrency"), 1),
        client.get("requests"),
        client.get("output_lengths"),
        "; ".join([*run.get("invalid", []), *run.get("warnings", [])]),
    ]


def _rated(value: float | None) -> str:
    return "not comparable" if value is None else f"{value:.4g}"


def _ci(found: Mapping[str, Any] | None, digits: int) -> str | None:
    if not found:
        return None
    mean = f"{found['mean']:.{digits}f}"
    if found["low"] is None:
        return mean
    return f"{mean} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
