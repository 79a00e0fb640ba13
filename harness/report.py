"""A record for people: the rows of its table, and `report.md`; the only place that rounds."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .metrics import BOUNDARIES, boundary_of, card_of
from .roofline import run_limit

if TYPE_CHECKING:
    from .record import MetricValue, RunRecord

_DIGITS: Final = 4
_SUMMARY: Final = (
    "output_throughput_tok_per_s",
    "total_throughput_tok_per_s",
    "request_throughput_rps",
    "ttft_s.p50",
    "ttft_s.p99",
    "tpot_s.mean",
    "itl_s.p99",
    "e2e_s.p50",
    "interactivity_tok_per_s.p50",
    "{boundary}_j_per_output_token",
    "{boundary}_j_per_total_token",
    "{boundary}_prefill_j_per_input_token",
    "{boundary}_decode_j_per_output_token",
    "{boundary}_energy_j",
    "{boundary}_average_w",
    "{boundary}_loaded_idle_w",
    "{boundary}_output_tok_per_s_per_mw_consumed",
    "output_tok_per_s_per_mw_provisioned",
    "{boundary}_energy_usd_per_mtok_output",
)
_SEVERITY_ORDER: Final = ("invalid", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One line of a table.

    Args:
        title: what it is; for joules with the boundary and, unless measured, the kind.
        value: rounded, with its unit.
        interval: rounded, or empty.
        key: of the metric.
    """

    title: str
    value: str
    interval: str
    key: str


def summary(record: RunRecord) -> list[Row]:
    """The metrics that matter most, in a fixed order; those the record has."""
    present = {boundary_of(key) for key in record.metrics}
    # A GPU's memory is part of the GPU: its own numbers come later, among all others.
    hidden = {"gpu_memory"} if "gpu" in present else set()
    boundaries = [name for name in BOUNDARIES if name in present - hidden]
    keys = [
        template.format(boundary=boundary)
        for template in _SUMMARY
        for boundary in (boundaries if "{boundary}" in template else [""])
    ]
    return [row(record, key) for key in dict.fromkeys(keys) if key in record.metrics]


def row(record: RunRecord, key: str) -> Row:
    """One metric of a record as a line."""
    value = record.metrics[key]
    card = card_of(key)
    statistic = key.rpartition(".")[2] if card.distribution else ""
    boundary = boundary_of(key)
    about = [boundary.replace("_", " "), kind_of(record, boundary)] if boundary else []
    title = f"{card.title} {statistic}".strip()
    return Row(
        title=f"{title} ({', '.join(about)})" if about else title,
        value=f"{rounded(value.value)} {value.unit}",
        interval=interval(value),
        key=key,
    )


def kind_of(record: RunRecord, boundary: str) -> str:
    """How far the joules of one boundary can be trusted; anything but measured in capitals."""
    kind = "/".join(sorted(record.power_kinds_of(boundary))) or str(record.power_kind)
    return kind if kind == "measured" else kind.upper()


def rounded(value: float) -> str:
    """Four significant digits, without an exponent where people would not write one."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e9:  # noqa: PLR2004 - where a plain number reads best
        text = f"{value:.{_DIGITS}g}"
        return f"{float(text):,.0f}" if abs(value) >= 10**_DIGITS else _plain(text)
    return f"{value:.{_DIGITS - 1}e}"


def _plain(text: str) -> str:
    return f"{float(text):.10f}".rstrip("0").rstrip(".") if "e" in text else text


def interval(value: MetricValue) -> str:
    """`low … high`, or empty where the record has none."""
    if value.low is None or value.high is None:
        return ""
    return f"{rounded(value.low)} … {rounded(value.high)}"


def power_sentence(record: RunRecord) -> str:
    """One sentence on what the joules are worth."""
    sentences = {
        "measured": "Power was measured by the machine's own sensors.",
        "modelled": "Power was MODELLED, not measured: every joule here is computed from CPU time "
        "and stated watts, and says nothing about this machine's true power.",
        "emulated": "Power was EMULATED: every joule here is made up for a test.",
    }
    return sentences.get(str(record.power_kind), "No power was metered.")


def markdown(record: RunRecord) -> str:
    """`report.md`."""
    parts = [
        f"# {record.run_id}",
        "",
        f"{_when(record)}; {record.status}. {power_sentence(record)}",
        "",
        *_about(record),
        "",
        "## Result",
        "",
        "| metric | value | interval | key |",
        "|---|---|---|---|",
    ]
    parts += [f"| {r.title} | {r.value} | {r.interval} | `{r.key}` |" for r in summary(record)]
    parts += ["", "An interval bounds what the record's `interval` names, not runs.", ""]
    parts += ["## Distance to the physical limit", "", *run_limit.sentences(record), ""]
    parts += ["## Windows", "", *_windows(record), ""]
    parts += ["## Tokens", "", *_tokens(record.tokens), ""]
    parts += ["## Findings", "", *_findings(record), ""]
    shown = {r.key for r in summary(record)}
    rest = [row(record, key) for key in record.metrics if key not in shown]
    parts += [
        "## All other metrics",
        "",
        "| metric | value | interval | key |",
        "|---|---|---|---|",
    ]
    parts += [f"| {r.title} | {r.value} | {r.interval} | `{r.key}` |" for r in rest]
    return "\n".join([*parts, ""])


def _when(record: RunRecord) -> str:
    wall_ns = record.provenance["anchor"]["t_wall_ns"]
    moment = dt.datetime.fromtimestamp(wall_ns / 1e9, tz=dt.UTC)
    return f"Begun {moment:%Y-%m-%d %H:%M:%S} UTC"


def _about(record: RunRecord) -> list[str]:
    engine = record.provenance["engine"]
    load = record.config["load"]
    machine = record.provenance["machine"]
    arrivals = (
        f"concurrency {load['concurrency']}"
        if load["pattern"] == "concurrency"
        else f"{load['pattern']} arrivals at {load['request_rate_per_s']}/s"
    )
    return [
        (
            f"- engine: {engine['engine']} {engine['version'] or '(version not known)'}, "
            f"weights {engine['weights'] or 'not known'}"
        ),
        (
            f"- load: {arrivals}, workload {record.config['workload']['kind']}, "
            f"seed {record.config['seed']}"
        ),
        f"- machine: {machine['cpu']}, {machine['cpus_usable']} CPUs usable",
        f"- power sources: {', '.join(record.config['power']['sources']) or 'none'}",
    ]


def _windows(record: RunRecord) -> list[str]:
    lines = [
        "| window | length | boundary | kind | energy | bounds | power | method | disagreement |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for window in record.windows:
        name = window["name"] + ("" if window["energy_valid"] else " (energy not valid)")
        if not window["energies"]:
            lines.append(f"| {name} | {window['duration_s']:.2f} s | | | | | | | |")
        for energy in window["energies"]:
            ratio = energy["disagreement_ratio"]
            lines.append(
                f"| {name} | {energy['duration_s']:.2f} s | {energy['boundary']} "
                f"| {energy['power_kind']} | {rounded(energy['energy_j'])} J "
                f"| {rounded(energy['low_j'])} … {rounded(energy['high_j'])} J "
                f"| {rounded(energy['average_w'])} W | {energy['method']} "
                f"| {'not known' if ratio is None else f'{ratio:.2%}'} |"
            )
    return lines


def _tokens(tokens: dict[str, Any]) -> list[str]:
    named = {
        "usage": "by `usage`",
        "stream": "by the stream's running count",
        "server_counter": "by the server's own counter",
        "chunks": "chunks with content",
        "requests": "requests",
        "requests_failed": "of them failed",
        "input": "input tokens",
        "input_cached": "of them from a prefix cache",
    }
    return [
        f"- {title}: {'not available' if tokens.get(key) is None else tokens[key]}"
        for key, title in named.items()
    ]


def _findings(record: RunRecord) -> list[str]:
    ordered = sorted(record.findings, key=lambda f: _SEVERITY_ORDER.index(f.severity))
    return [f"- **{f.severity}** `{f.code}`: {f.message}" for f in ordered] or ["None."]
