# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""What the boards show: each panel's title, unit, queries and the sentence under it, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

_M: Final = '{cluster=~"$cluster",model_name=~"$model",power_kind=~"$power_kind"}'
_N: Final = '{cluster=~"$cluster",instance=~"$instance"}'
_NK: Final = '{cluster=~"$cluster",instance=~"$instance",power_kind=~"$power_kind"}'
_RATIO: Final = "model:joulemark_model_energy_joules_per_generated_tokens:ratio_rate5m"
_COST: Final = "model:joulemark_cost_per_million_generated_tokens:ratio_rate5m"
_MEGAWATT: Final = "model:joulemark_generated_tokens_per_consumed_megawatt_seconds:ratio_rate5m"
_PROVISIONED: Final = (
    "cluster:joulemark_generated_tokens_per_provisioned_megawatt_seconds:ratio_rate5m"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    One panel.

    Args:
        title: what is shown.
        note: what it means and what to beware of; the panel's description.
        unit: Grafana's id of it.
        queries: (PromQL, legend).
        kind: how it is drawn.
        width: of 24 columns.
        rare: it is empty on a healthy node, or one without that hardware.
    """

    title: str
    note: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 12
    rare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """
    One dashboard.

    Args:
        uid: stable, so that links and an import over it work.
        title: its name.
        about: one sentence.
        variables: name → the query that fills it.
        rows: titles with their panels.
    """

    uid: str
    title: str
    about: str
    variables: dict[str, str] = field(default_factory=dict)
    rows: tuple[tuple[str, tuple[Panel, ...]], ...] = ()


_CLUSTER: Final = "label_values(joulemark_snapshot_timestamp_seconds, cluster)"
_KIND: Final = "label_values(joulemark_device_energy_joules_total, power_kind)"
_MODEL: Final = "label_values(joulemark_model_energy_joules_total, model_name)"
_INSTANCE: Final = (
    'label_values(joulemark_snapshot_timestamp_seconds{cluster=~"$cluster"}, instance)'
)

FLEET: Final = Board(
    uid="joulemark-fleet",
    title="joulemark / Fleet",
    about="What a token costs, by model, over all nodes.",
    variables={"cluster": _CLUSTER, "model": _MODEL, "power_kind": _KIND},
    rows=(
        (
            "Now",
            (
                Panel(
                    title="Joules per generated token",
                    note="All of a model's device energy, idle included, over what it generated. "
                    "Prefill is in it: compare models at one prompt length.",
                    unit="joule",
                    queries=((_RATIO + _M, "{{model_name}} {{power_kind}}"),),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    title="Cost per million generated tokens",
                    note="Energy, facility (PUE) and device hours, as configured on the nodes; in "
                    "the currency of the label.",
                    unit="none",
                    queries=((_COST + _M, "{{model_name}} {{currency}}"),),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    title="Tokens/s per consumed megawatt",
                    note="Generated tokens a second for each megawatt that the models' devices "
                    "draw.",
                    unit="none",
                    queries=((_MEGAWATT + _M, "{{model_name}} {{power_kind}}"),),
                    kind="stat",
                    width=8,
                ),
            ),
        ),
        (
            "By model",
            (
                Panel(
                    title="All models",
                    note="Watts, tokens a second and their ratio, one row a model.",
                    unit="none",
                    queries=(
                        ("model:joulemark_model_energy_joules:rate5m" + _M, "watts"),
                        ("model:joulemark_generated_tokens:rate5m" + _M, "generated tokens/s"),
                        (_RATIO + _M, "J/token"),
                    ),
                    kind="table",
                    width=24,
                ),
                Panel(
                    title="Joules per generated token",
                    note="A step up after an upgrade is a regression only if the load is the same.",
                    unit="joule",
                    queries=((_RATIO + _M, "{{model_name}} {{power_kind}}"),),
                ),
                Panel(
                    title="Joules per computed token",
                    note="Over prompt tokens run through the model and generated ones: does not "
                    "move with the length of prompts or the cache's luck.",
                    unit="joule",
                    queries=(
                        (
                            "model:joulemark_model_energy_joules_per_computed_tokens:ratio_rate5m"
                            + _M,
                            "{{model_name}} {{power_kind}}",
                        ),
                    ),
                ),
                Panel(
                    title="Cost rate by component",
                    note="Money a second: energy, facility (cooling and losses, PUE less 1) and "
                    "device hours.",
                    unit="none",
                    queries=(
                        (
                            "sum by (component, currency, power_kind) "
                            "(model_component:joulemark_cost:rate5m" + _M + ")",
                            "{{component}} {{currency}}",
                        ),
                    ),
                ),
                Panel(
                    title="Tokens/s per provisioned megawatt",
                    note="For each megawatt that is reserved, drawn or not; needs "
                    "power.provisioned_w.",
                    unit="none",
                    queries=((_PROVISIONED + '{cluster=~"$cluster"}', "{{cluster}}"),),
                ),
            ),
        ),
    ),
)

MODEL: Final = Board(
    uid="joulemark-model",
    title="joulemark / Model",
    about="Where a model's joules and tokens go.",
    variables={"cluster": _CLUSTER, "model": _MODEL, "power_kind": _KIND},
    rows=(
        (
            "Joules",
            (
                Panel(
                    title="Watts by state",
                    note="Idle is the measured loaded-idle baseline; unsplit: no baseline yet.",
                    unit="watt",
                    queries=(
                        (
                            "model_state:joulemark_model_energy_joules:rate5m" + _M,
                            "{{model_name}} {{state}}",
                        ),
                    ),
                ),
                Panel(
                    title="Watts by phase",
                    note="Prefill and decode only where the engine does one of them or says how "
                    "long each took; mixed otherwise.",
                    unit="watt",
                    queries=(
                        (
                            "model_phase:joulemark_model_energy_joules:rate5m" + _M,
                            "{{model_name}} {{phase}}",
                        ),
                    ),
                ),
                Panel(
                    title="Watts by method of attribution",
                    note="Exclusive is exact; SM share and MIG activity are estimates; token share "
                    "is the last resort.",
                    unit="watt",
                    queries=(
                        (
                            "sum by (model_name, method, power_kind) "
                            "(rate(joulemark_model_energy_joules_total" + _M + "[5m]))",
                            "{{model_name}} {{method}}",
                        ),
                    ),
                ),
                Panel(
                    title="CO2 per million generated tokens",
                    note="With PUE, at the configured carbon intensity.",
                    unit="massg",
                    queries=(
                        (
                            "model:joulemark_emissions_grams_per_million_generated_tokens"
                            ":ratio_rate5m" + _M,
                            "{{model_name}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Tokens",
            (
                Panel(
                    title="Tokens per second",
                    note="Computed, cached and generated, in one meaning for all engines.",
                    unit="none",
                    queries=tuple(
                        (f"model:joulemark_{kind}_tokens:rate5m{_M}", f"{{{{model_name}}}} {kind}")
                        for kind in ("computed", "cached", "generated")
                    ),
                ),
                Panel(
                    title="Cached share of the prompts",
                    note="Cached tokens cost next to nothing: joules per token moves with it.",
                    unit="percentunit",
                    queries=(
                        (
                            "model:joulemark_cached_tokens_per_prompt_tokens:ratio_rate5m" + _M,
                            "{{model_name}}",
                        ),
                    ),
                ),
                Panel(
                    title="Tokens without joules",
                    note="Made while no energy was metered; they are in no ratio.",
                    unit="none",
                    queries=(
                        (
                            (
                                "model:joulemark_uncovered_tokens:rate5m"
                                '{cluster=~"$cluster",model_name=~"$model"}'
                            ),
                            "{{model_name}}",
                        ),
                    ),
                ),
                Panel(
                    title="Wasted tokens",
                    note="Retracted, or drafted and rejected: their joules are in the model's.",
                    unit="none",
                    queries=(
                        (
                            (
                                "sum by (model_name, reason) (rate(joulemark_wasted_tokens_total"
                                '{cluster=~"$cluster",model_name=~"$model"}[5m]))'
                            ),
                            "{{model_name}} {{reason}}",
                        ),
                    ),
                    rare=True,
                ),
            ),
        ),
    ),
)

NODE: Final = Board(
    uid="joulemark-node",
    title="joulemark / Node",
    about="One node's devices, and whether its numbers can be trusted.",
    variables={"cluster": _CLUSTER, "instance": _INSTANCE, "power_kind": _KIND},
    rows=(
        (
            "Devices",
            (
                Panel(
                    title="Power by device, from the energy counter",
                    note="Rate of the joules: nothing between two scrapes is missed.",
                    unit="watt",
                    queries=((f"rate(joulemark_device_energy_joules_total{_NK}[1m])", "{{uuid}}"),),
                ),
                Panel(
                    title="Power as read, and its limit",
                    note="The newest reading of each kind; a sample, not a mean.",
                    unit="watt",
                    queries=(
                        (f"joulemark_device_power_watts{_NK}", "{{uuid}} {{sense}}"),
                        (f"joulemark_device_power_limit_watts{_N}", "{{uuid}} limit"),
                    ),
                ),
                Panel(
                    title="Loaded-idle baseline",
                    note="Watts with these models loaded and no request running.",
                    unit="watt",
                    queries=((f"joulemark_device_idle_power_watts{_N}", "{{uuid}} {{models}}"),),
                ),
                Panel(
                    title="Temperature",
                    note="As the driver says.",
                    unit="celsius",
                    queries=((f"joulemark_device_temperature_celsius{_N}", "{{uuid}}"),),
                ),
                Panel(
                    title="Throttling",
                    note="Looks in ten minutes that found the driver's throttle counter moved.",
                    unit="none",
                    queries=(
                        (
                            "increase(joulemark_device_throttle_changes_total" + _N + "[10m]) > 0",
                            "{{uuid}} {{reason}}",
                        ),
                    ),
                    rare=True,
                ),
                Panel(
                    title="Beside the devices",
                    note="CPU packages, memory, the whole node: they overlap, so never add them.",
                    unit="watt",
                    queries=(
                        (
                            f"rate(joulemark_host_energy_joules_total{_NK}[1m])",
                            "{{boundary}} {{uuid}}",
                        ),
                    ),
                    rare=True,
                ),
            ),
        ),
        (
            "Can it be trusted?",
            (
                Panel(
                    title="Conservation error",
                    note="Device energy less models' and unattributed energy, over device energy. "
                    "Anything above 1e-9 is a defect.",
                    unit="none",
                    queries=((f"joulemark_conservation_error_ratio{_N}", "{{uuid}}"),),
                ),
                Panel(
                    title="Energy of no model",
                    note="Share of the energy that no model owns, by reason below.",
                    unit="percentunit",
                    queries=(
                        (
                            "instance:joulemark_attribution_residual:ratio_rate5m" + _NK,
                            "{{instance}} {{power_kind}}",
                        ),
                    ),
                ),
                Panel(
                    title="Unattributed watts by reason",
                    note="No model on the device, a silent engine, a foreign process, no sign.",
                    unit="watt",
                    queries=(
                        (
                            (
                                "sum by (instance, reason, power_kind) "
                                f"(rate(joulemark_unattributed_energy_joules_total{_NK}[5m]))"
                            ),
                            "{{instance}} {{reason}}",
                        ),
                    ),
                ),
                Panel(
                    title="Time without joules",
                    note="Gaps, resets, lost devices, a stopped exporter: exported, not bridged.",
                    unit="percentunit",
                    queries=(("instance:joulemark_uncovered:ratio_rate5m" + _N, "{{instance}}"),),
                    rare=True,
                ),
                Panel(
                    title="Engines",
                    note="1: the last scrape gave its counters.",
                    unit="none",
                    queries=((f"joulemark_engine_up{_N}", "{{model_name}} {{instance_id}}"),),
                ),
                Panel(
                    title="Skew of the snapshot",
                    note="Largest distance between a meter's reading and a scrape in one snapshot.",
                    unit="s",
                    queries=((f"joulemark_snapshot_skew_seconds{_N}", "{{instance}}"),),
                ),
                Panel(
                    title="Findings",
                    note="What to know about this node's numbers; docs/production.md says what "
                    "each means.",
                    unit="none",
                    queries=((f"joulemark_findings{_N}", "{{instance}} {{code}}"),),
                    kind="table",
                    width=24,
                    rare=True,
                ),
            ),
        ),
    ),
)

BOARDS: Final = (FLEET, MODEL, NODE)
