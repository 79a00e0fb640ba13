"""The table of benchmarks/load.py: medians over repeats, with ranges."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def table(path: Path) -> None:
    """Medians over repeats, with the range of the CPU and of its ratio to ours."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ours = {
        (r["mode"], r["streams"], r["repeat"]): r
        for r in rows
        if r["tool"] == "joulemark" and "failed" not in r
    }
    cells: dict = {}
    for row in rows:
        cells.setdefault((row["mode"], row["streams"], row["tool"]), []).append(row)
    print(
        "| mode | streams | tool | runs | CPU ms/1000 tok (range) | tok/s a core | x joulemark "
        "(range) | tok/s got | TTFT p50 err ms | TTFT p99 err ms | TPOT mean err | "
        "ITL p50 err ms | ITL p99 err ms | lag p50/p99 ms | load avg |"
    )
    print("|" + "---|" * 15)
    for (mode, streams, tool), group in sorted(cells.items()):
        good = [row for row in group if "failed" not in row]
        if not good:
            print(f"| {mode} | {streams} | {tool} | 0 of {len(group)} | failed |" + " - |" * 10)
            continue
        cpu = sorted(row["cpu_ms_per_1000_tokens"] for row in good)
        ratios = sorted(
            row["cpu_ms_per_1000_tokens"] / ours[key]["cpu_ms_per_1000_tokens"]
            for row in good
            if (key := (mode, streams, row["repeat"])) in ours
        )
        middle = statistics.median(ratios) if ratios else 0.0
        ratio = f"{middle:.1f} ({ratios[0]:.1f}-{ratios[-1]:.1f})" if ratios else "-"
        errors = [_error(good, name) for name in ("ttft_p50_ms", "ttft_p99_ms")]
        tpot = statistics.median(
            row["reported"]["tpot_mean_ms"] / row["true"]["tpot_mean_ms"] - 1 for row in good
        )
        gaps = [_error(good, name) for name in ("itl_p50_ms", "itl_p99_ms")]
        got = statistics.median(row["true"]["tok_per_s"] for row in good)
        middle = statistics.median(cpu)
        lag = [row["reported"].get(f"lag_p{q}_ms") for q in (50, 99) for row in good]
        late = "-"
        if lag[0] is not None:
            half = len(good)
            late = f"{statistics.median(lag[:half]):.3f}/{statistics.median(lag[half:]):.3f}"
        loads = [row["load_average"] for row in good]
        print(
            f"| {mode} | {streams} | {tool} | {len(good)} of {len(group)} | {middle:.1f} "
            f"({cpu[0]:.1f}-{cpu[-1]:.1f}) | {1e6 / middle:.0f} | {ratio} | {got:.0f} | "
            f"{errors[0]} | {errors[1]} | {tpot * 100:+.3f} % | {gaps[0]} | {gaps[1]} | {late} | "
            f"{min(loads):.1f}-{max(loads):.1f} |"
        )


def _error(rows: list, name: str) -> str:
    errors = [
        row["reported"][name] - row["true"][name]
        for row in rows
        if row["reported"].get(name) is not None
    ]
    return f"{statistics.median(errors):+.3f}" if errors else "-"
