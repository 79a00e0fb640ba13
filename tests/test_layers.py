"""Imports go strictly downward; plugins know the contracts and the vocabulary alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = {
    "L0": "errors clock timeline record journal files exposition models",
    "L1": "contracts plugins schema settings config token_counters request_fields workload_summary",
    "acquire": "guard launch live_facts sse chunk answer openai_api client dial proxy arrivals "
    "load load_audit load_bodies load_phase load_plan client_processes "
    "sampler sampler_process schedule mock emulator descriptors inbox settled_counts",
    "arithmetic": "tokens window integrate counter counter_energy edges inside lag lattice polygon "
    "steadiness trapezoid "
    "latency cost cost_range cost_split roofline roofline_fit roofline_model roofline_search "
    "stats stats_bootstrap stats_change stats_limit stats_sequential stats_verdict "
    "decompose level window_variants pareto",
    "L3": "run_log metrics energy performance provenance selection store doctor "
    "surroundings thresholds "
    "load_findings kept_engine trial certificate cooldown catalogue catalogue_files cost_case "
    "cost_host cost_hours cost_point cost_rate claims claims_formulas limit reproduce",
    "L4": "acquisition analysis report run_limit pipeline measure meter pytest_joules "
    "cost_document cost_picture explain explain_changes explain_compare explain_steps "
    "explain_text explain_walk compare compare_likeness compare_sets compare_text "
    "baseline history junit regress regress_runs regress_text production pytest_plugin "
    "sweep sweep_plan sweep_table",
    "L5": "cli __main__",
}
RANK = {"L0": 0, "L1": 1, "acquire": 2, "arithmetic": 2, "L3": 3, "L4": 4, "L5": 5}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names.split()}
PLUGIN_FOLDERS = ("harness/engines", "harness/power", "workloads", "exporters")
# An exporter writes metrics out, so it needs their catalogue.
PLUGIN_MAY = {"contracts", *LAYERS["L0"].split()}
EXPORTER_MAY = PLUGIN_MAY | {"metrics"}


def own_imports(path: Path) -> set[str]:
    """First names below `harness` that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inside = node.level == 1 and path.parent.name == "harness"
            if module == "harness" or (inside and not module):
                found |= {alias.name for alias in node.names}
            elif module.startswith("harness."):
                found.add(module.split(".")[1])
            elif inside:
                found.add(module.split(".")[0])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("harness.")]
            found |= {name.split(".")[1] for name in names}
    return found - {"__version__"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "harness").glob("[!_]*.py")), ids=lambda path: path.stem
)
def test_a_file_imports_only_from_below_or_beside(path: Path):
    assert path.stem in LAYER_OF, f"say in this test which layer {path.name} belongs to"
    mine = LAYER_OF[path.stem]
    for name in own_imports(path) - {"engines", "power"}:
        theirs = LAYER_OF[name]
        assert RANK[theirs] <= RANK[mine], f"{path.name} ({mine}) imports {name} ({theirs})"
        assert {mine, theirs} != {"acquire", "arithmetic"}, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "path",
    [path for folder in PLUGIN_FOLDERS for path in sorted((ROOT / folder).glob("[!_]*.py"))],
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_a_plugin_imports_contracts_and_vocabulary_only(path: Path):
    allowed = EXPORTER_MAY if path.parent.name == "exporters" else PLUGIN_MAY
    assert own_imports(path) <= allowed


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
