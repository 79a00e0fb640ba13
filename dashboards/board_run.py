# ruff: noqa: INP001 - a script's data, beside the boards made from it
"""The board of benchmark runs: one run over time, its numbers, and runs beside each other."""

from __future__ import annotations

from typing import Final

from panels import Board, Panel

_RUN: Final = 'run_id=~"$run"'
_ANY_KIND: Final = "joulemark_run_(modelled_|emulated_)?"
"""Names of joules that were not measured say so; a run has one of them."""


def _joules(name: str) -> str:
    """A selector of one energy figure, of whichever boundary and kind the run has it."""
    return f'{{__name__=~"{_ANY_KIND}[a-z_]+_{name}",{_RUN},statistic=~"value(_low|_high)?"}}'


def _last(selector: str) -> str:
    # A run's numbers have one sample, at its end: an instant query would miss it minutes later.
    return f"last_over_time({selector}[$__range])"


def _number(name: str, statistic: str) -> str:
    return _last(f'joulemark_run_{name}{{{_RUN},statistic="{statistic}"}}')


RUN: Final = Board(
    uid="joulemark-run",
    title="joulemark / Run",
    about="Benchmark runs that were pushed: power, tokens and phases over time, and comparison.",
    variables={"run": "label_values(joulemark_run_info, run_id)"},
    rows=(
        (
            "Over time",
            (
                Panel(
                    title="Phases",
                    note="1 within a phase of the run, and within the window that its numbers "
                    "are of.",
                    unit="none",
                    queries=(
                        (f"joulemark_run_phase{{{_RUN}}}", "{{run_id}} {{phase}}"),
                        (f"joulemark_run_active{{{_RUN}}}", "{{run_id}} {{window}} (the numbers)"),
                    ),
                    kind="statetimeline",
                    width=24,
                ),
                Panel(
                    title="Power",
                    note="Mean power of each device over each step, from its counter where there "
                    "is one.",
                    unit="watt",
                    queries=(
                        (
                            f'{{__name__=~"{_ANY_KIND}[a-z_]+_power_watts",{_RUN}}}',
                            "{{run_id}} {{device}} {{power_kind}}",
                        ),
                    ),
                ),
                Panel(
                    title="Output tokens per second",
                    note="The client's own count, warm-up included.",
                    unit="none",
                    queries=((f"joulemark_run_output_tokens_per_second{{{_RUN}}}", "{{run_id}}"),),
                ),
            ),
        ),
        (
            "The run's numbers",
            (
                Panel(
                    title="Joules per output token",
                    note="Energy of the boundary in the window over output tokens in it, with the "
                    "interval's ends where the run has one.",
                    unit="joule",
                    queries=(
                        (
                            _last(_joules("joules_per_output_token")),
                            "{{run_id}} {{statistic}} {{power_kind}}",
                        ),
                    ),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    title="Output throughput",
                    note="Output tokens that arrived in the window over its length.",
                    unit="none",
                    queries=(
                        (_number("output_throughput_tokens_per_second", "value"), "{{run_id}}"),
                    ),
                    kind="stat",
                    width=8,
                ),
                Panel(
                    title="Interactivity",
                    note="Tokens a second of one user, median: read every other number with it.",
                    unit="none",
                    queries=((_number("interactivity_tokens_per_second", "p50"), "{{run_id}}"),),
                    kind="stat",
                    width=8,
                ),
            ),
        ),
        (
            "Comparison",
            (
                Panel(
                    title="Runs beside each other",
                    note="One row a run. Differences within the intervals say nothing: "
                    "`joulemark compare` gives the verdict.",
                    unit="none",
                    queries=(
                        (_last(_joules("joules_per_output_token")), "J per output token"),
                        (_last(_joules("average_watts")), "watts"),
                        (
                            _number("output_throughput_tokens_per_second", "value"),
                            "output tokens/s",
                        ),
                        (_number("ttft_seconds", "p50"), "TTFT p50 s"),
                        (_number("tpot_seconds", "p50"), "TPOT p50 s"),
                    ),
                    kind="table",
                    width=24,
                ),
                Panel(
                    title="Joules per output token of each run",
                    note="Runs in the order of their ends; a run has one point and its interval.",
                    unit="joule",
                    queries=((_joules("joules_per_output_token"), "{{run_id}} {{statistic}}"),),
                ),
                Panel(
                    title="Energy cost per million output tokens",
                    note="Energy alone, at the run's own price and PUE: no hardware, no rent.",
                    unit="none",
                    queries=(
                        (_last(_joules("energy_usd_per_million_output_tokens")), "{{run_id}}"),
                    ),
                    kind="stat",
                ),
                Panel(
                    title="What was run",
                    note="Engine, versions, kind of power and whether the run was whole.",
                    unit="none",
                    queries=((_last(f"joulemark_run_info{{{_RUN}}}"), "{{run_id}}"),),
                    kind="table",
                    width=24,
                ),
            ),
        ),
    ),
    runs_marked=False,
)
