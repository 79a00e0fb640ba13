"""Judges the answers of energy meters against the truth, and prints the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

METERS: Final = {
    "joulemark": "joulemark, edges announced",
    "joulemark_found": "joulemark, edges found afterwards",
    "joulemark_asked": "joulemark, mean power over the asked window",
    "zeus": "ZeusMonitor",
    "zeus_power": "Zeus PowerMonitor, 20 Hz",
    "aiperf": "AIPerf collector",
    "codecarbon": "CodeCarbon",
    "smi_poller": "nvidia-smi-like 1 s",
}
"""Name → what the tables call it."""

_BEGIN: Final = "<!-- tables: written by benchmarks/meter.py -->"
_END: Final = "<!-- end of tables -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one meter did in one cell."""

    trials: int
    median_ratio: float | None
    worst_ratio: float | None
    refused: int
    zero_or_negative: int
    covered_ratio: float | None
    width_ratio: float | None


def width_over_spread(errors: npt.ArrayLike, widths: npt.ArrayLike) -> float:
    """
    How much wider an interval is than the errors it is meant to hold.

    Args:
        errors: signed relative errors of a cell's trials.
        widths: low to high of each, relative to the truth.

    Returns:
        The mean width over the width of the middle 95 % of the errors. An interval that
        just holds 95 % of normal errors has 1; one that promises 99 % of them has 1.3.
    """
    spread = float(np.diff(np.quantile(np.asarray(errors), [0.025, 0.975]))[0])
    return float(np.mean(np.asarray(widths))) / max(spread, 1e-12)


def judge(answers: list[dict[str, Any]], truths_j: list[float]) -> Cell:
    """Compare answers with truths of the same order."""
    errors, widths, covered = [], [], []
    for answer, truth_j in zip(answers, truths_j, strict=True):
        energy_j = answer["energy_j"]
        if energy_j is None:
            continue
        errors.append((energy_j - truth_j) / truth_j)
        if "low_j" in answer:
            covered.append(answer["low_j"] <= truth_j <= answer["high_j"])
            widths.append((answer["high_j"] - answer["low_j"]) / truth_j)
    sizes = np.abs(errors)
    given = [answer["energy_j"] for answer in answers if answer["energy_j"] is not None]
    return Cell(
        trials=len(answers),
        median_ratio=float(np.median(sizes)) if errors else None,
        worst_ratio=float(np.max(sizes)) if errors else None,
        refused=len(answers) - len(errors),
        zero_or_negative=sum(not energy_j > 0 for energy_j in given),
        covered_ratio=float(np.mean(covered)) if covered else None,
        width_ratio=width_over_spread(errors, widths) if widths else None,
    )


def said(answer: dict[str, Any], own_j: float) -> str:
    """The answer; *own_j* is what is true between the edges it states, if it states any."""
    if answer["energy_j"] is None:
        return f"nothing ({answer['error'] or 'no value'})"
    text = f"{answer['energy_j']:.1f} J"
    if "asked_end_ns" in answer:
        text += f" over {(answer['end_ns'] - answer['start_ns']) / 1e9:.3f} s (true: {own_j:.1f} J)"
    return ", ".join([text, *answer.get("findings", ())])


def tables(
    table: dict[str, dict[tuple[str, str], Cell]], cells: list[str], lengths_s: tuple[float, ...]
) -> list[str]:
    """Markdown: one table of errors, one of the intervals of joulemark."""
    meters = list(table)
    lines = [
        f"| power | window s | {' | '.join(METERS[name] for name in meters)} |",
        "|---|---|" + "---|" * len(meters),
    ]
    for cell in cells:
        for length_s in lengths_s:
            row = [_errors(table[name].get((cell, f"{length_s:g}"))) for name in meters]
            lines.append(f"| {cell} | {length_s:g} | {' | '.join(row)} |")
    ours = [name for name in ("joulemark", "joulemark_found") if name in meters]
    if not ours:
        return lines
    lines += [
        "",
        "| power | window s | " + " | ".join(METERS[name] for name in ours) + " |",
        "|---|---|" + "---|" * len(ours),
    ]
    for cell in cells:
        for length_s in lengths_s:
            row = [_interval(table[name].get((cell, f"{length_s:g}"))) for name in ours]
            lines.append(f"| {cell} | {length_s:g} | {' | '.join(row)} |")
    return lines


def _errors(cell: Cell | None) -> str:
    if cell is None or cell.median_ratio is None or cell.worst_ratio is None:
        return "no value"
    text = f"{cell.median_ratio:.3%} / {cell.worst_ratio:.3%}"
    notes = [
        f"{number} of {cell.trials} {what}"
        for number, what in ((cell.refused, "refused"), (cell.zero_or_negative, "zero or below"))
        if number
    ]
    return f"{text} ({', '.join(notes)})" if notes else text


def _interval(cell: Cell | None) -> str:
    if cell is None or cell.covered_ratio is None or cell.width_ratio is None:
        return "no value"
    return f"{cell.covered_ratio:.1%} of {cell.trials}, {cell.width_ratio:.2f}"


def insert(document: Path, lines: list[str]) -> None:
    """Put the lines between the two markers of a document."""
    text = document.read_text("utf-8")
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    body = "\n".join(lines)
    document.write_text(f"{head}{_BEGIN}\n\n{body}\n\n{_END}{tail}", "utf-8")
