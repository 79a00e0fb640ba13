# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""The board of one node: its devices, and whether its numbers can be trusted."""

from __future__ import annotations

from typing import Final

from panels import CLUSTER, INSTANCE, KIND, OF_NODE, OF_NODE_BY_KIND, Board, Panel

NODE: Final = Board(
    uid="joulemark-node",
    title="joulemark / Node",
    about="One node's devices, and whether its numbers can be trusted.",
    variables={"cluster": CLUSTER, "instance": INSTANCE, "power_kind": KIND},
    rows=(
        (
            "Devices",
            (
                Panel(
                    title="Power by device, from the energy counter",
                    note="Rate of the joules: nothing between two scrapes is missed.",
                    unit="watt",
                    queries=(
                        (
                            f"rate(joulemark_device_energy_joules_total{OF_NODE_BY_KIND}[1m])",
                            "{{uuid}}",
                        ),
                    ),
                ),
                Panel(
                    title="Power as read, and its limit",
                    note="The newest reading of each kind; a sample, not a mean.",
                    unit="watt",
                    queries=(
                        (
                            f"joulemark_device_power_watts{OF_NODE_BY_KIND}",
                            "{{uuid}} {{boundary}} {{sense}}",
                        ),
                        (f"joulemark_device_power_limit_watts{OF_NODE}", "{{uuid}} limit"),
                    ),
                ),
                Panel(
                    title="Idle and active",
                    note="Watts of the models on the node: idle is the measured loaded-idle "
                    "baseline, unsplit what no baseline is known for yet.",
                    unit="watt",
                    queries=(
                        (
                            (
                                "sum by (instance, state, power_kind) "
                                f"(rate(joulemark_model_energy_joules_total{OF_NODE_BY_KIND}[5m]))"
                            ),
                            "{{instance}} {{state}}",
                        ),
                    ),
                ),
                Panel(
                    title="Loaded-idle baseline",
                    note="Watts with these models loaded and no request running.",
                    unit="watt",
                    queries=(
                        (f"joulemark_device_idle_power_watts{OF_NODE}", "{{uuid}} {{models}}"),
                    ),
                ),
                Panel(
                    title="Temperature",
                    note="As the driver says.",
                    unit="celsius",
                    queries=((f"joulemark_device_temperature_celsius{OF_NODE}", "{{uuid}}"),),
                ),
                Panel(
                    title="Throttling",
                    note="Looks in ten minutes that found the driver's throttle counter moved.",
                    unit="none",
                    queries=(
                        (
                            "increase(joulemark_device_throttle_changes_total"
                            + OF_NODE
                            + "[10m]) > 0",
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
                            f"rate(joulemark_host_energy_joules_total{OF_NODE_BY_KIND}[1m])",
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
                    queries=((f"joulemark_conservation_error_ratio{OF_NODE}", "{{uuid}}"),),
                ),
                Panel(
                    title="Energy of no model",
                    note="Share of the energy that no model owns, by reason below.",
                    unit="percentunit",
                    queries=(
                        (
                            "instance:joulemark_attribution_residual:ratio_rate5m"
                            + OF_NODE_BY_KIND,
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
                                f"(rate(joulemark_unattributed_energy_joules_total{OF_NODE_BY_KIND}[5m]))"
                            ),
                            "{{instance}} {{reason}}",
                        ),
                    ),
                ),
                Panel(
                    title="Time without joules",
                    note="Gaps, resets, lost devices, a stopped exporter: exported, not bridged.",
                    unit="percentunit",
                    queries=(
                        ("instance:joulemark_uncovered:ratio_rate5m" + OF_NODE, "{{instance}}"),
                    ),
                    rare=True,
                ),
                Panel(
                    title="Engines",
                    note="1: the last scrape gave its counters.",
                    unit="none",
                    queries=((f"joulemark_engine_up{OF_NODE}", "{{model_name}} {{instance_id}}"),),
                ),
                Panel(
                    title="Skew of the snapshot",
                    note="Largest distance between a meter's reading and a scrape in one snapshot.",
                    unit="s",
                    queries=((f"joulemark_snapshot_skew_seconds{OF_NODE}", "{{instance}}"),),
                ),
                Panel(
                    title="Findings",
                    note="What to know about this node's numbers; docs/production.md says what "
                    "each means.",
                    unit="none",
                    queries=((f"joulemark_findings{OF_NODE}", "{{instance}} {{code}}"),),
                    kind="table",
                    width=24,
                    rare=True,
                ),
            ),
        ),
    ),
)
