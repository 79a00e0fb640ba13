# ruff: noqa: INP001 - a script beside the boards it makes
"""Writes the Grafana boards; with --check, says whether they are current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import panels  # noqa: E402 - beside this script, which is no package
from boards import BOARDS  # noqa: E402 - likewise

_SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT = 8
_BUILDERS = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
    "statetimeline": statetimeline.Panel,
}
_MERGE = models.DataTransformerConfig(id_val="merge", options={})
"""Queries of a table side by side, one row for each set of labels."""


def board(told: panels.Board) -> str:
    """The JSON of one board."""
    built = (
        dashboard.Dashboard(told.title)
        .uid(told.uid)
        .description(told.about)
        .tags(["joulemark"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("joulemark")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["joulemark"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
    )
    for name, query in told.variables.items():
        built.with_variable(
            dashboard.QueryVariable(name)
            .label(name.replace("_", " ").capitalize())
            .datasource(_SOURCE)
            .query(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
    if told.runs_marked:
        built.annotation(
            dashboard.AnnotationQuery()
            .name("Benchmark runs")
            .datasource(_SOURCE)
            .enable(True)
            .icon_color("purple")
            .expr("joulemark_run_active == 1")
            .step("10s")
            .title_format("{{run}} {{window}}")
            .tag_keys("run_id,engine,model")
        )
    for title, row in told.rows:
        built.with_row(dashboard.Row(title))
        for one in row:
            built.with_panel(_panel(one))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(
    told: panels.Panel,
) -> timeseries.Panel | stat.Panel | table.Panel | statetimeline.Panel:
    made = (
        _BUILDERS[told.kind]()
        .title(told.title)
        .description(told.note)
        .datasource(_SOURCE)
        .unit(told.unit)
        .height(_HEIGHT)
        .span(told.width)
        .no_value("no data")
    )
    for number, (text, legend) in enumerate(told.queries):
        target = prometheus.Dataquery().expr(text).legend_format(legend).ref_id("ABCDEF"[number])
        if told.kind in {"stat", "table"}:
            target.instant()
        if told.kind == "table":
            target.format("table")
        made.with_target(target)
    if told.kind == "table" and len(told.queries) > 1:
        made.with_transformation(_MERGE)
    if told.kind == "timeseries":
        made.min(0).fill_opacity(8).legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    return made


def main() -> int:
    """Write or check every board."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    stale = []
    for told in BOARDS:
        path = FOLDER / f"{told.uid}.json"
        text = board(told)
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        sys.stderr.write(f"dashboards/{name} is not current: run `make dashboards`, commit it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
