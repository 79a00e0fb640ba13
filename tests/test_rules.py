from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.production import metric_set
from harness.production.attribution import Owner
from harness.production.exposition_text import text
from harness.production.meter import Reading
from harness.production.node import Node
from harness.production.readings import Device, EngineReading
from harness.production.rows import Live, rows

RULES = Path(__file__).resolve().parent.parent / "dashboards" / "rules"
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["promtool", *arguments], cwd=RULES, input=stdin, capture_output=True, check=False
    )


@promtool
def test_the_rules_are_rules():
    done = run("check", "rules", "joulemark.rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
@pytest.mark.parametrize("name", [path.name for path in sorted(RULES.glob("*.test.yml"))])
def test_the_rules_give_the_numbers_worked_out_by_hand(name):
    done = run("test", "rules", name)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_the_exposition_is_without_fault_to_the_real_linter():
    node = Node()
    owner = Owner(model_name='a "quoted" \\ name\n', engine="vllm", instance_id="one")
    device = Device(uuid="g", boundary="gpu", power_kind="measured", source="nvml", method="m")
    node.add_device(device)
    for second in range(3):
        tokens = {"computed": 2.0 * second, "cached": 1.0, "generated": float(second)}
        engine = EngineReading(owner=owner, devices=("g",), tokens=tokens, running=1)
        reading = Reading(t_ns=second * 10**9, energy_j=300.0 * second)
        node.advance(second * 10**9, {"g": reading}, [engine])
    body = text(rows(node, Node(), Live(findings=("state_not_kept",))), openmetrics=False)
    done = run("check", "metrics", stdin=body)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_a_rule_reads_is_exported_or_recorded():
    source = (RULES / "joulemark.rules.yml").read_text(encoding="utf-8")
    source = re.sub(r"^\s*(summary|description):.*$|#.*$", "", source, flags=re.MULTILINE)
    recorded = set(re.findall(r"record: (\S+)", source))
    read = set(re.findall(r"(?<![\w:])(?:\w+:)?joulemark_\w+(?::\w+)?", source)) - recorded
    assert read <= metric_set.BY_NAME.keys()


def test_every_alert_is_tested_and_says_what_to_do():
    source = (RULES / "joulemark.rules.yml").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.test.yml"))
    alerts = re.findall(r"alert: (\w+)", source)
    assert len(alerts) == 8
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+eval_time: \w+\n\s+exp_alerts:\n", tests), alert
    assert source.count("description:") == len(alerts)
