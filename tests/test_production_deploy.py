from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from harness.production import settings

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def documents(name: str) -> list[dict]:
    yaml = pytest.importorskip("yaml", reason="joulemark[production] is not installed")
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def of_kind(kind: str) -> dict:
    found = documents("kubernetes/joulemark-exporter.yaml")
    return next(one for one in found if one["kind"] == kind)


def test_the_config_map_is_a_configuration_and_its_paths_are_mounted():
    text = of_kind("ConfigMap")["data"]["exporter.toml"]
    config = settings.parse(tomllib.loads(text))
    assert config.discovery.kubernetes is not None
    (container,) = of_kind("DaemonSet")["spec"]["template"]["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.exporter.state_file.parent) in mounted
    port = config.exporter.address()[1]
    assert [item["containerPort"] for item in container["ports"]] == [port]


def test_the_pod_asks_for_no_privilege():
    """What the `restricted` pod security standard wants, which the namespace enforces."""
    pod = of_kind("DaemonSet")["spec"]["template"]["spec"]
    assert not {"hostPID", "hostNetwork", "hostIPC"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert all({"configMap", "emptyDir"} & volume.keys() for volume in pod["volumes"])
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert of_kind("ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    ]


def test_the_unit_exposes_little():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = DEPLOY / "systemd" / "joulemark-exporter.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot judge here: {done.stderr[:200]}")
    assert float(found[1]) <= 2.0


def test_prometheus_takes_the_example(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    (tmp_path / "rules").mkdir()
    shutil.copy(DEPLOY / "compose" / "prometheus.yml", tmp_path)
    rules = DEPLOY.parent / "dashboards" / "rules" / "joulemark.rules.yml"
    shutil.copy(rules, tmp_path / "rules")
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
