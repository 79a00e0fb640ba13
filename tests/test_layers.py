"""Imports go strictly downward; plugins know the contracts and the vocabulary alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = {
    "L0": "errors clock timeline record journal files exposition models plural",
    "L1": "contracts plugins schema settings config token_counters request_fields "
    "workload_summary dialects engine_activity ticking",
    "acquire": "aim aside durations turns guard launch live_facts client arrivals sampler "
    "sampler_audit power_sessions sampler_process schedule mock "
    "emulator settled_counts ask rounds load.audit load.bodies load.loop load.phase "
    "load.plan load.processes load.progress stream.answer stream.chunk stream.chunked "
    "stream.descriptors stream.dial stream.openai_api stream.proxy stream.receiver "
    "stream.sse stream.template",
    "arithmetic": "tokens window integrate latency decompose level silence window_variants "
    "cost.formulas cost.range cost.split joules.chance joules.counter joules.counter_energy "
    "joules.edges joules.folding joules.following joules.inside joules.lag joules.lattice "
    "joules.numbering joules.polygon joules.steadiness joules.ticks joules.trapezoid "
    "phases.bins phases.checks phases.estimate phases.least_squares phases.work push.steps "
    "roofline.bound roofline.fit roofline.model "
    "roofline.search stats.bootstrap stats.change stats.effects stats.limit "
    "stats.precision stats.ratio stats.sequential stats.verdict sweep.pareto",
    "L3": "run_log run_writer metrics energy performance provenance selection store doctor "
    "cached_input silence_power surroundings kept_engine cooldown live conditions subjects "
    "checks roles engine_joules streams_in_step claims.formulas claims.recompute claims.reproduce "
    "compare.thresholds cost.case cost.catalogue cost.catalogue_files cost.host "
    "cost.hours cost.point cost.rate job.account job.readings load.certificate "
    "load.findings load.trial push.remote_write roofline.distance",
    "L4": "acquisition load_phases run_watcher analysis report pipeline measure meter baseline "
    "history junit production pytest_plugin repeats compare.comparison compare.likeness "
    "compare.sets compare.spread compare.text cost.document cost.picture explain.changes "
    "explain.comparisons explain.parts explain.steps explain.text explain.walk "
    "push.sending push.series regress.loop regress.runs regress.text "
    "roofline.run_limit sweep.plan sweep.running sweep.table watch.exporter "
    "watch.node watch.reading watch.run watch.tail",
    "L5": "cli __main__",
}
RANK = {"L0": 0, "L1": 1, "acquire": 2, "arithmetic": 2, "L3": 3, "L4": 4, "L5": 5}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
# Folders of modules that are layered one by one, as the files beside them are.
FAMILIES = sorted({name.partition(".")[0] for name in LAYER_OF if "." in name})
PLUGIN_FOLDERS = ("harness/engines", "harness/power", "workloads", "exporters")
# An exporter writes metrics out, so it needs their catalogue.
PLUGIN_MAY = {"contracts", "dialects", *LAYERS["L0"].split()}
EXPORTER_MAY = PLUGIN_MAY | {"metrics"}


def own_imports(path: Path) -> set[str]:
    """What a file imports of `harness`, functions included: `module`, or `family.module`."""
    found = set()
    here = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            module = [*above, *(node.module or "").split(".")]
            module = [part for part in module if part]
            found |= {_room([*module, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {_room(alias.name.split(".")) for alias in node.names}
    return found - {"", "__version__"}


def _room(parts: list[str]) -> str:
    """`harness.cost.split.Split` is the room `cost.split`; what is not of `harness` is none."""
    if parts[0] != "harness" or len(parts) == 1:
        return ""
    return ".".join(parts[1:3]) if parts[1] in FAMILIES else parts[1]


@pytest.mark.parametrize(
    "path",
    sorted(
        path for folder in ("", *FAMILIES) for path in (ROOT / "harness" / folder).glob("[!_]*.py")
    ),
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_a_file_imports_only_from_below_or_beside(path: Path):
    family = path.parent.name
    name = f"{family}.{path.stem}" if family in FAMILIES else path.stem
    assert name in LAYER_OF, f"say in this test which layer {name} belongs to"
    mine = LAYER_OF[name]
    for imported in own_imports(path) - {"engines", "power"}:
        theirs = LAYER_OF[imported]
        assert RANK[theirs] <= RANK[mine], f"{name} ({mine}) imports {imported} ({theirs})"
        assert {mine, theirs} != {"acquire", "arithmetic"}, f"{name} imports {imported}"


@pytest.mark.parametrize(
    "path",
    [path for folder in PLUGIN_FOLDERS for path in sorted((ROOT / folder).glob("[!_]*.py"))],
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_a_plugin_imports_contracts_and_vocabulary_only(path: Path):
    allowed = EXPORTER_MAY if path.parent.name == "exporters" else PLUGIN_MAY
    # Files whose name begins with `_` are the plugins' own tools, not plugins.
    assert own_imports(path) - {path.parent.name} <= allowed
    siblings = {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for name in ([node.module] if node.module else [alias.name for alias in node.names])
    }
    assert all(name.startswith("_") for name in siblings), siblings


def test_only_the_command_line_prints_or_exits():
    for path in (ROOT / "harness").rglob("*.py"):
        if path.parent.name == "cli" or path.stem == "__main__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name):
                assert called.id != "print", f"{path}:{node.lineno} prints"


def test_every_file_opens_with_one_sentence():
    for folder in ("harness", "workloads", "exporters"):
        for path in (ROOT / folder).rglob("*.py"):
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split(
                "\n"
            )[0]
            assert first.endswith("."), f"{path} says what it is for in no sentence: {first!r}"
