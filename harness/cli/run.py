"""Measure one run: start the engine, load it, meter it, and print what a token cost."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, Final

import click

from harness.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED

# Flags that users know from AIPerf and vLLM, and the settings they stand for.
_FLAGS: Final = {
    "model": "engine.model",
    "engine": "engine.kind",
    "url": "engine.url",
    "endpoint_type": "load.endpoint_type",
    "concurrency": "load.concurrency",
    "request_rate": "load.request_rate_per_s",
    "request_count": "load.request_count",
    "benchmark_duration": "load.duration_s",
    "warmup_request_count": "load.warmup_request_count",
    "client_processes": "load.client_processes",
    "isl": "workload.isl_tokens",
    "osl": "workload.osl_tokens",
    "random_seed": "run.seed",
    "artifact_dir": "run.artifact_dir",
}


@click.command(short_help="Measure one run.")
@click.argument("config", metavar="CONFIG|PRESET")
@click.option(
    "-s",
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override one setting, e.g. -s load.concurrency=8; may be repeated.",
)
@click.option("-m", "--model", help="Model name or path.")
@click.option("--engine", help="Engine plugin; `joulemark list engines` shows them.")
@click.option("-u", "--url", help="Talk to a server that runs already (engine `attach`).")
@click.option(
    "--endpoint-type", type=click.Choice(["chat", "completions"]), help="Where requests go."
)
@click.option("--concurrency", type=int, help="Requests in flight (closed loop).")
@click.option("--request-rate", type=float, help="Requests a second (open loop, Poisson).")
@click.option("--request-count", type=int, help="Stop after so many requests.")
@click.option("--benchmark-duration", type=float, help="Stop issuing after so many seconds.")
@click.option("--warmup-request-count", type=int, help="Requests sent first, in no metric.")
@click.option("--client-processes", type=int, help="Share the load among so many processes.")
@click.option("--isl", type=int, help="Input length, tokens; the longest where lengths differ.")
@click.option("--osl", type=int, help="Output length, tokens; likewise.")
@click.option("--random-seed", type=int, help="Seed of workload and arrivals.")
@click.option("--artifact-dir", type=click.Path(file_okay=False), help="Where run folders go.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON on stdout.")
@click.option("--dry-run", is_flag=True, help="Print what would be started and sent.")
def COMMAND(  # noqa: N802 - the name every verb's file exports
    config: str,
    assignments: tuple[str, ...],
    *,
    as_json: bool,
    dry_run: bool,
    **flags: Any,  # noqa: ANN401
) -> int:
    """Measure one run, as CONFIG (a TOML file) or PRESET says."""
    # Imported here, so that `joulemark --help` does not wait for pandas.
    from harness import config as configuration  # noqa: PLC0415
    from harness import pipeline  # noqa: PLC0415
    from harness.cli._plan import print_plan, print_workload  # noqa: PLC0415
    from harness.cli._progress import Progress  # noqa: PLC0415
    from harness.cli._signals import ending  # noqa: PLC0415
    from harness.cli._table import print_record  # noqa: PLC0415

    table = configuration.read(config)
    _apply_flags(table, flags)
    for assignment in assignments:
        configuration.override(table, assignment)
    settings = configuration.parse(table, name=Path(config).stem)
    if dry_run:
        print_plan(settings)
        return 0
    print_workload(settings, to_stderr=True)
    stop = threading.Event()
    with ending(stop, "the run"), Progress() as progress:
        outcome = pipeline.measure(settings, watcher=progress, stop=stop)
    if as_json:
        sys.stdout.buffer.write((outcome.folder / "run.json").read_bytes())
        sys.stdout.flush()
    if outcome.error is None or outcome.record.tokens["requests"]:
        print_record(outcome.record, outcome.folder, to_stderr=as_json)
    if outcome.error is not None:
        click.echo(f"joulemark: {outcome.error}", err=True)
        click.echo(f"joulemark: what was recorded is in {outcome.folder}", err=True)
        return EXIT_BAD_INPUT
    return EXIT_INTERRUPTED if outcome.interrupted else 0


def _apply_flags(table: dict[str, Any], flags: dict[str, Any]) -> None:
    """Set what the user's flags stand for, and what follows from them."""
    given = {key: value for key, value in flags.items() if value is not None}
    for flag, value in given.items():
        section, _, key = _FLAGS[flag].partition(".")
        table.setdefault(section, {})[key] = value
    engine, load = table.setdefault("engine", {}), table.setdefault("load", {})
    if "url" in given and "engine" not in given:
        # Another engine's options in the preset would be unknown keys here.
        keys = ("url", "model", "runs_on", "server", "gpus", "prefill_gpus", "decode_gpus")
        kept = {key: engine[key] for key in keys if key in engine}
        table["engine"] = {"kind": "attach", **kept}
    elif "model" in given and engine.get("kind", "auto") == "auto":
        engine["kind"] = "llama_cpp"
    if "request_rate" in given:
        load["pattern"] = "poisson"
        if "concurrency" not in given:
            load.pop("concurrency", None)
    if "request_count" in given:
        load.pop("requests_per_slot", None)
        if "benchmark_duration" not in given:
            load.pop("duration_s", None)
    elif "benchmark_duration" in given:
        load.pop("requests_per_slot", None)
