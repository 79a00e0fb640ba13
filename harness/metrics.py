"""The catalogue of metrics: one card a number, with its unit, formula and which way is better."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Final, Literal

from .errors import ConfigError
from .latency import PERCENTILES
from .timeline import Boundary

BOUNDARIES: Final[tuple[str, ...]] = typing.get_args(Boundary)
STATISTICS: Final = ("mean", *(f"p{percent}" for percent in PERCENTILES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """
    One metric.

    Args:
        key: its key in a record. `{boundary}` stands for what draws the energy;
            a distribution's key is followed by `.mean`, `.p50`, `.p90`, `.p95`, `.p99`.
        unit: of the value.
        better: which way is an improvement; None: neither.
        title: a few words, for tables.
        formula: how it is computed, in words and symbols a reader can check.
        distribution: whether it is a family of statistics.
    """

    key: str
    unit: str
    better: Literal["lower", "higher"] | None
    title: str
    formula: str
    distribution: bool = False

    @property
    def keys(self) -> list[str]:
        """Every key a record may hold for this card."""
        stems = (
            [self.key.format(boundary=boundary) for boundary in BOUNDARIES]
            if "{boundary}" in self.key
            else [self.key]
        )
        if not self.distribution:
            return stems
        return [f"{stem}.{statistic}" for stem in stems for statistic in STATISTICS]


CARDS: Final = (
    Card(
        key="{boundary}_j_per_output_token",
        unit="J/token",
        better="lower",
        title="energy per output token",
        formula="energy of the boundary in the window / output tokens that arrived in the window; "
        "the energy of processing input is in the numerator, input tokens are not in the "
        "denominator",
    ),
    Card(
        key="{boundary}_j_per_total_token",
        unit="J/token",
        better="lower",
        title="energy per token, in and out",
        formula="energy of the boundary in the window / (output tokens that arrived + input tokens "
        "whose processing ended in the window, cached ones included)",
    ),
    Card(
        key="{boundary}_energy_j",
        unit="J",
        better=None,
        title="energy in the window",
        formula="difference of the cumulative counter between the window's edges, or the integral "
        "of power where there is no counter; the window's `method` says which",
    ),
    Card(
        key="{boundary}_average_w",
        unit="W",
        better=None,
        title="average power",
        formula="energy in the window / the window's length",
    ),
    Card(
        key="{boundary}_loaded_idle_w",
        unit="W",
        better="lower",
        title="power, engine loaded and idle",
        formula="average power while the engine is up and no request is in flight; reported "
        "beside the other numbers, never subtracted from them",
    ),
    Card(
        key="{boundary}_prefill_energy_j",
        unit="J",
        better=None,
        title="energy in the window, prefill",
        formula="as energy in the window, of the devices of the prefill workers alone; only where "
        "prefill and decode have devices of their own",
    ),
    Card(
        key="{boundary}_decode_energy_j",
        unit="J",
        better=None,
        title="energy in the window, decode",
        formula="as energy in the window, of the devices of the decode workers alone; only where "
        "prefill and decode have devices of their own",
    ),
    Card(
        key="{boundary}_prefill_average_w",
        unit="W",
        better=None,
        title="average power, prefill",
        formula="energy of the prefill workers' devices / the window's length",
    ),
    Card(
        key="{boundary}_decode_average_w",
        unit="W",
        better=None,
        title="average power, decode",
        formula="energy of the decode workers' devices / the window's length",
    ),
    Card(
        key="{boundary}_prefill_j_per_input_token",
        unit="J/token",
        better="lower",
        title="energy per input token, prefill",
        formula="energy of the prefill workers' devices in the window, idling included / input "
        "tokens whose processing ended in the window, cached ones included; of all devices where "
        "every answer is one token, so that there was nothing but prefill",
    ),
    Card(
        key="{boundary}_prefill_j_per_computed_token",
        unit="J/token",
        better="lower",
        title="energy per computed input token, prefill",
        formula="energy of the prefill workers' devices in the window, idling included / input "
        "tokens whose processing ended in the window, without those that `usage` says were cached",
    ),
    Card(
        key="{boundary}_decode_j_per_output_token",
        unit="J/token",
        better="lower",
        title="energy per output token, decode",
        formula="energy of the decode workers' devices in the window, idling included / output "
        "tokens that arrived in the window",
    ),
    Card(
        key="{boundary}_output_tok_per_s_per_mw_consumed",
        unit="tok/s/MW",
        better="higher",
        title="throughput per consumed MW",
        formula="1e6 / (J per output token): from joules of the boundary alone; to be read "
        "together with interactivity",
    ),
    Card(
        key="output_tok_per_s_per_mw_provisioned",
        unit="tok/s/MW",
        better="higher",
        title="throughput per provisioned MW",
        formula="output throughput / (cost.provisioned_w * cost.pue) * 1e6: from the power that "
        "was reserved, not drawn; to be read together with interactivity",
    ),
    Card(
        key="{boundary}_energy_usd_per_mtok_output",
        unit="USD/Mtok",
        better="lower",
        title="energy price of 1M output tokens",
        formula="J per output token * 1e6 / 3.6e6 * cost.usd_per_kwh * cost.pue; energy alone: no "
        "hardware, no rent",
    ),
    Card(
        key="output_throughput_tok_per_s",
        unit="tok/s",
        better="higher",
        title="output throughput",
        formula="output tokens that arrived in the window / its length",
    ),
    Card(
        key="total_throughput_tok_per_s",
        unit="tok/s",
        better="higher",
        title="throughput, in and out",
        formula="(output tokens that arrived + input tokens whose processing ended in the window) "
        "/ its length",
    ),
    Card(
        key="request_throughput_rps",
        unit="requests/s",
        better="higher",
        title="request throughput",
        formula="successful requests that ended in the window / its length",
    ),
    Card(
        key="ttft_s",
        unit="s",
        better="lower",
        title="time to first token",
        formula="sent -> first chunk with content, of successful requests sent in the window",
        distribution=True,
    ),
    Card(
        key="tpot_s",
        unit="s",
        better="lower",
        title="time per output token",
        formula="(e2e - ttft) / (output tokens - 1), one a request; AIPerf calls this ITL",
        distribution=True,
    ),
    Card(
        key="itl_s",
        unit="s",
        better="lower",
        title="inter-token latency",
        formula="every gap between successive chunks with content, of requests sent in the "
        "window; a chunk may carry several tokens",
        distribution=True,
    ),
    Card(
        key="e2e_s",
        unit="s",
        better="lower",
        title="end-to-end latency",
        formula="sent -> end of the response, of successful requests sent in the window",
        distribution=True,
    ),
    Card(
        key="ttft_from_due_s",
        unit="s",
        better="lower",
        title="time to first token, from the due time",
        formula="when the schedule meant to send -> first chunk with content; open loops only. A "
        "client that falls behind makes ttft_s look better, but not this",
        distribution=True,
    ),
    Card(
        key="e2e_from_due_s",
        unit="s",
        better="lower",
        title="end-to-end latency, from the due time",
        formula="when the schedule meant to send -> end of the response; open loops only",
        distribution=True,
    ),
    Card(
        key="interactivity_tok_per_s",
        unit="tok/s/user",
        better="higher",
        title="interactivity",
        formula="1 / tpot_s, one a request; also called TPS per user",
        distribution=True,
    ),
    Card(
        key="isl_tokens",
        unit="token",
        better=None,
        title="input length",
        formula="input tokens of a request as the server counted them, chat template included",
        distribution=True,
    ),
    Card(
        key="osl_tokens",
        unit="token",
        better=None,
        title="output length",
        formula="output tokens of a request as the server counted them",
        distribution=True,
    ),
)
"""Every metric a record may hold."""


def card_of(key: str) -> Card:
    """
    The card behind a record's key.

    Raises:
        ConfigError: no metric has that key.
    """
    for card in CARDS:
        if key in card.keys:
            return card
    raise ConfigError(
        f"there is no metric {key!r}", remedy="`joulemark list metrics` shows those there are"
    )


def boundary_of(key: str) -> str | None:
    """What draws the energy that a metric is of; None for metrics that hold no energy."""
    stem = key.partition(".")[0]
    # The longest match: `gpu` begins `gpu_module` as well.
    matching = [name for name in BOUNDARIES if stem.startswith(f"{name}_")]
    return max(matching, key=len) if matching else None
