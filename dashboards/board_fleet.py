# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""The board of a fleet: what a token costs, by cluster, node and model, and where it goes."""

from __future__ import annotations

from typing import Final

from panels import CLUSTER, KIND, MODEL, OF_CLUSTER, OF_MODEL, Board, Panel

_RATIO: Final = "joulemark_model_energy_joules_per_generated_tokens:ratio_rate5m"
_COST: Final = "joulemark_cost_per_million_generated_tokens:ratio_rate5m"
_MEGAWATT: Final = "joulemark_generated_tokens_per_consumed_megawatt_seconds:ratio_rate5m"
_PROVISIONED: Final = (
    "cluster:joulemark_generated_tokens_per_provisioned_megawatt_seconds:ratio_rate5m"
    '{cluster=~"$cluster"}'
)


def _row(level: str, title: str, selector: str, legend: str) -> tuple[Panel, ...]:
    """The three figures of one level of the fleet, each a ratio of that level's own sums."""
    return (
        Panel(
            title=f"Joules per generated token by {title}",
            note="All of the models' device energy, idle included, over what they generated. A "
            "step up after an upgrade is a regression only if the load is the same.",
            unit="joule",
            queries=((f"{level}:{_RATIO}{selector}", f"{legend} {{{{power_kind}}}}"),),
            width=8,
        ),
        Panel(
            title=f"Cost per million generated tokens by {title}",
            note="Energy, facility (PUE) and device hours, as configured on the nodes.",
            unit="none",
            queries=((f"{level}:{_COST}{selector}", f"{legend} {{{{currency}}}}"),),
            width=8,
        ),
        Panel(
            title=f"Tokens/s per consumed megawatt by {title}",
            note="Generated tokens a second for each megawatt that the models' devices draw.",
            unit="none",
            queries=((f"{level}:{_MEGAWATT}{selector}", f"{legend} {{{{power_kind}}}}"),),
            width=8,
        ),
    )


_NOW: Final = (
    Panel(
        title="Joules per generated token",
        note="All of a model's device energy, idle included, over what it generated. "
        "Prefill is in it: compare models at one prompt length.",
        unit="joule",
        queries=((f"model:{_RATIO}{OF_MODEL}", "{{model_name}} {{power_kind}}"),),
        kind="stat",
        width=6,
    ),
    Panel(
        title="Cost per million generated tokens",
        note="Energy, facility (PUE) and device hours, in the currency of the label.",
        unit="none",
        queries=((f"model:{_COST}{OF_MODEL}", "{{model_name}} {{currency}}"),),
        kind="stat",
        width=6,
    ),
    Panel(
        title="Tokens/s per consumed megawatt",
        note="Generated tokens a second for each megawatt that the models' devices draw.",
        unit="none",
        queries=((f"model:{_MEGAWATT}{OF_MODEL}", "{{model_name}} {{power_kind}}"),),
        kind="stat",
        width=6,
    ),
    Panel(
        title="Tokens/s per provisioned megawatt",
        note="For each megawatt that is reserved, drawn or not; needs power.provisioned_w.",
        unit="none",
        queries=((_PROVISIONED, "{{cluster}}"),),
        kind="stat",
        width=6,
    ),
)

_SPLIT: Final = (
    Panel(
        title="Energy split, cooling included",
        note="Watts by state of the models, those of no model, and what the facility adds to all "
        "of them by its PUE: cooling and electrical losses.",
        unit="watt",
        queries=(
            (
                (
                    "sum by (state, power_kind) "
                    f"(model_state:joulemark_model_energy_joules:rate5m{OF_MODEL})"
                ),
                "{{state}}",
            ),
            (
                (
                    "sum by (power_kind) "
                    f"(instance:joulemark_unattributed_energy_joules:rate5m{OF_CLUSTER})"
                ),
                "no model",
            ),
            (
                (
                    "sum by (power_kind) "
                    f"(instance:joulemark_facility_overhead_joules:rate5m{OF_CLUSTER})"
                ),
                "cooling and losses",
            ),
        ),
    ),
    Panel(
        title="Cost split",
        note="Money a second: energy, facility (cooling and losses, PUE less 1) and device hours.",
        unit="none",
        queries=(
            (
                (
                    "sum by (component, currency, power_kind) "
                    f"(model_component:joulemark_cost:rate5m{OF_MODEL})"
                ),
                "{{component}} {{currency}}",
            ),
        ),
    ),
    Panel(
        title="CO2 split",
        note="Grams a second: energy and facility at the configured carbon intensity, and what "
        "making the devices took, if that is configured.",
        unit="none",
        queries=(
            (
                (
                    "sum by (component, power_kind) "
                    f"(model_component:joulemark_emissions_grams:rate5m{OF_MODEL})"
                ),
                "{{component}}",
            ),
        ),
    ),
    Panel(
        title="CO2 per million generated tokens",
        note="With PUE, at the configured carbon intensity.",
        unit="massg",
        queries=(
            (
                (
                    "model:joulemark_emissions_grams_per_million_generated_tokens"
                    f":ratio_rate5m{OF_MODEL}"
                ),
                "{{model_name}}",
            ),
        ),
    ),
)

FLEET: Final = Board(
    uid="joulemark-fleet",
    title="joulemark / Fleet",
    about="What a token costs, by cluster, node and model, and where joules and money go.",
    variables={"cluster": CLUSTER, "model": MODEL, "power_kind": KIND},
    rows=(
        ("Now", _NOW),
        ("By model", _row("model", "model", OF_MODEL, "{{model_name}}")),
        ("By cluster", _row("cluster", "cluster", OF_CLUSTER, "{{cluster}}")),
        ("By node", _row("instance", "node", OF_CLUSTER, "{{instance}}")),
        ("What it is made of", _SPLIT),
        (
            "Where joules go",
            (
                Panel(
                    title="Joules per computed token",
                    note="Over prompt tokens run through the model and generated ones: does not "
                    "move with the length of prompts or the cache's luck.",
                    unit="joule",
                    queries=(
                        (
                            "model:joulemark_model_energy_joules_per_computed_tokens:ratio_rate5m"
                            + OF_MODEL,
                            "{{model_name}} {{power_kind}}",
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
                            "model_phase:joulemark_model_energy_joules:rate5m" + OF_MODEL,
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
                            "(rate(joulemark_model_energy_joules_total" + OF_MODEL + "[5m]))",
                            "{{model_name}} {{method}}",
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
                        (
                            f"model:joulemark_{kind}_tokens:rate5m{OF_MODEL}",
                            f"{{{{model_name}}}} {kind}",
                        )
                        for kind in ("computed", "cached", "generated")
                    ),
                ),
                Panel(
                    title="Cached share of the prompts",
                    note="Cached tokens cost next to nothing: joules per token moves with it.",
                    unit="percentunit",
                    queries=(
                        (
                            "model:joulemark_cached_tokens_per_prompt_tokens:ratio_rate5m"
                            + OF_MODEL,
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
