"""deploy/: each way to run the exporter, checked by the tools of those who would run it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.production import settings

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PLAIN = DEPLOY / "kubernetes" / "joulemark-exporter.yaml"


def tool(name: str) -> str:
    """A linter of the `deploy` extra, from this environment or from PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install 'joulemark[deploy]'")
    return found


def checked(*command: object, cwd: Path = ROOT) -> str:
    """What a tool says; it must be content."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def parsed(text: str) -> list[dict]:
    yaml = pytest.importorskip("yaml", reason="joulemark[production] is not installed")
    return [one for one in yaml.safe_load_all(text) if one]


@pytest.fixture(scope="module")
def helm():
    """The real Helm: `lint`, `manifests`, or values to render → what it says."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("Helm is not installed: pip install 'joulemark[deploy]'")
    command = [sys.executable, Path(__file__).with_name("helm_worker.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(request: str | dict) -> dict:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer: dict = json.loads(process.stdout.readline())
            return answer

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def render(helm):
    """Values → documents by kind."""

    def run(values: dict | None = None) -> dict[str, dict]:
        texts = helm(values or {})["found"]
        manifests = (text for name, text in texts.items() if name.endswith(".yaml"))
        return {one["kind"]: one for text in manifests for one in parsed(text)}

    return run


def of_kind(kind: str) -> dict:
    return next(one for one in parsed(PLAIN.read_text(encoding="utf-8")) if one["kind"] == kind)


def pod_of(documents: dict[str, dict]) -> dict:
    found: dict = documents["DaemonSet"]["spec"]["template"]["spec"]
    return found


def config_of(documents: dict[str, dict]) -> settings.DaemonConfig:
    return settings.parse(tomllib.loads(documents["ConfigMap"]["data"]["exporter.toml"]))


# --- Kubernetes, plain ----------------------------------------------------------------------


def test_the_config_map_is_a_configuration_and_its_paths_are_mounted():
    config = config_of({"ConfigMap": of_kind("ConfigMap")})
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
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["runtimeClassName"] == "nvidia"
    assert all({"configMap", "emptyDir"} & volume.keys() for volume in pod["volumes"])
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "utility"
    assert of_kind("ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    ]


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_kubernetes_own_schemas_take_the_plain_manifests(version):
    said = checked(tool("kubernetes-validate"), "--strict", "-k", version, PLAIN)
    kinds = {one["kind"].lower() for one in parsed(PLAIN.read_text(encoding="utf-8"))}
    assert len(kinds) == 7
    assert all(f"resource {kind}/" in said for kind in kinds), said


def test_a_misspelt_key_would_be_found(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text(PLAIN.read_text().replace("runtimeClassName:", "runtimeClasName:"))
    done = subprocess.run(
        [tool("kubernetes-validate"), "--strict", broken],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "runtimeClasName" in done.stdout + done.stderr


# --- Helm -----------------------------------------------------------------------------------


def test_the_plain_manifests_are_the_charts(helm):
    found = helm("manifests")["found"]
    assert {Path(path).name for path in found} == {"joulemark-exporter.yaml", "podmonitor.yaml"}
    for path, text in found.items():
        assert Path(path).read_text() == text, "run `make manifests` and commit it"


def test_helm_has_nothing_to_complain_of(helm):
    found = helm("lint")["found"]
    assert found["errors"] == []
    # Severity 1 is advice: it would like a picture of the chart.
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]


def test_without_discovery_there_is_no_role_and_no_token(render):
    found = render({"discovery": {"enabled": False}, "extraConfig": '[[engine]]\nurl = "http://a"'})
    assert not {"ClusterRole", "ClusterRoleBinding"} & found.keys()
    assert pod_of(found)["automountServiceAccountToken"] is False
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False
    config = config_of(found)
    assert config.discovery.kubernetes is None
    assert [one.url for one in config.engines] == ["http://a"]
    assert {"ClusterRole", "ClusterRoleBinding"} <= render().keys()
    assert pod_of(render())["automountServiceAccountToken"] is True


VALUES = {
    "port": 9999,
    "hostPID": True,
    "webConfig": {"existingSecret": "web"},
    "extraConfig": "[cost]\nprice_per_kwh = 0.1\n",
    "targets": {"allow": ["10.1.0.0/16", "fd00::/8"]},
    "power": {"sources": ["nvml", "rapl"]},
    "networkPolicy": {
        "egress": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}],
    },
    "image": {"repository": "r/x", "tag": "1"},
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "priorityClassName": "system-node-critical",
    "affinity": {"nodeAffinity": {}},
}


@pytest.mark.parametrize("monitor", ["podMonitor", "serviceMonitor"])
def test_every_value_ends_in_documents_that_kubernetes_takes(render, tmp_path, monitor):
    said = {"enabled": True, "labels": {"release": "p"}, "endpoint": {"scheme": "https"}}
    found = render({**VALUES, monitor: said})
    kind = monitor[0].upper() + monitor[1:]
    own = found.pop(kind)
    (endpoint,) = own["spec"]["podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"]
    pod = pod_of(found)
    (container,) = pod["containers"]
    labels = found["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert own["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert own["metadata"]["labels"]["release"] == "p"
    assert endpoint["port"] == "metrics"
    assert endpoint["scheme"] == "https"
    if kind == "ServiceMonitor":
        assert (
            own["spec"]["selector"]["matchLabels"].items()
            <= found["Service"]["metadata"]["labels"].items()
        )
        assert found["Service"]["spec"]["selector"].items() <= labels.items()
    config = config_of(found)
    assert config.exporter.listen == "0.0.0.0:9999"
    assert config.targets.allow == ("10.1.0.0/16", "fd00::/8")
    assert config.power.sources == ("nvml", "rapl")
    assert config.cost.price_per_kwh == 0.1
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.exporter.web_config_file.parent) in mounted
    # A password is not the kubelet's: it knocks, and asks for nothing.
    assert container["livenessProbe"] == {"tcpSocket": {"port": "metrics"}}
    assert pod["hostPID"] is True
    assert "Egress" in found["NetworkPolicy"]["spec"]["policyTypes"]
    made = tmp_path / "made.yaml"
    made.write_text("---\n".join(json.dumps(one) + "\n" for one in found.values()))
    checked(tool("kubernetes-validate"), "--strict", made)


def test_every_value_is_used_and_described_by_the_schema():
    chart = DEPLOY / "helm" / "joulemark-exporter"
    (values,) = parsed((chart / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    # `global` is Helm's own: a parent chart may pass it.
    assert schema["properties"].keys() == values.keys() | {"global"}
    templates = "".join(path.read_text() for path in (chart / "templates").iterdir())
    assert all(f".Values.{key}" in templates for key in values)


def test_a_changed_configuration_starts_the_pods_anew(render):
    sums = {
        render(values)["DaemonSet"]["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        for values in ({}, {"extraConfig": "[cost]\npue = 1.3\n"}, {"nodeSelector": {}})
    }
    assert len(sums) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prot": 1}, "prot"),
        ({"port": 80}, "minimum: got 80"),
        ({"targets": {"allow": ["everywhere"]}}, "everywhere"),
        ({"targets": {"allow": []}}, "minItems"),
        ({"podMonitor": {"enabled": True, "interval": "15"}}, "pattern"),
        ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "scraped twice"),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(helm, values, message):
    assert message in helm(values)["refused"]


@pytest.mark.parametrize("discovery", [True, False])
def test_the_notes_say_how_engines_are_found(helm, discovery):
    notes = helm({"discovery": {"enabled": discovery}})["found"]["NOTES.txt"]
    assert ("joulemark.io/scrape" in notes) is discovery
    assert ("[[engine]]" in notes) is not discovery
    assert "kubectl -n joulemark port-forward daemonset/joulemark-exporter 9778" in notes


# --- systemd --------------------------------------------------------------------------------


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


def test_systemd_takes_every_line_of_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "systemd" / "joulemark-exporter.service").read_text(encoding="utf-8")
    assert "ExecStart=/opt/joulemark/bin/joulemark export" in text
    unit = tmp_path / "joulemark-exporter.service"
    # The one thing that is not here is the program.
    unit.write_text(text.replace("/opt/joulemark/bin/joulemark", sys.executable))
    assert checked("systemd-analyze", "verify", unit) == ""
    unit.write_text(unit.read_text().replace("LockPersonality", "LokPersonality"))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert "LokPersonality" in done.stderr


# --- containers, compose and Slurm ----------------------------------------------------------


def test_hadolint_has_nothing_to_say_of_the_containerfile():
    assert checked(tool("hadolint"), "--no-color", DEPLOY / "Containerfile") == ""


def test_the_image_holds_every_package_of_the_distribution():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = table["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert all(f"COPY {name} {name}\n" in text for name in packages)
    assert all(
        (ROOT / name).exists() for name in re.findall(r"^COPY (\w\S*) \S+$", text, re.MULTILINE)
    )


def test_compose_is_whole_by_its_schema_and_by_its_files(tmp_path):
    path = DEPLOY / "compose" / "compose.yaml"
    checked(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)
    (compose,) = parsed(path.read_text(encoding="utf-8"))
    mounted = {}
    for service in compose["services"].values():
        for source, target, *_ in (text.split(":") for text in service["volumes"]):
            if source.startswith("."):
                assert (path.parent / source).exists(), source
                mounted[target] = path.parent / source
            else:
                assert source in compose["volumes"]
    exporter, prometheus = (compose["services"][name] for name in ("exporter", "prometheus"))
    build = exporter["build"]
    assert (path.parent / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Containerfile")
    flag, config_file = exporter["command"]
    assert flag == "--config"
    config = settings.read(mounted[config_file])
    assert f"state:{config.exporter.state_file.parent}" in exporter["volumes"]
    (named,) = re.findall(r"--config\.file=(\S+)", " ".join(prometheus["command"]))
    (scraped,) = parsed(mounted[named].read_text(encoding="utf-8"))
    (target,) = scraped["scrape_configs"][0]["static_configs"]
    assert target["targets"] == [config.exporter.listen]
    # The folder as it is inside the container, before a real promtool.
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for target_path, source in mounted.items():
        if target_path.startswith("/etc/prometheus/"):
            place = tmp_path / Path(target_path).name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, place)
    checked("promtool", "check", "config", Path(named).name, cwd=tmp_path)


def test_shellcheck_has_nothing_to_say_of_the_slurm_script():
    script = DEPLOY / "slurm" / "joulemark-job.sh"
    assert checked(tool("shellcheck"), "--enable=all", "--exclude=SC2250", script) == ""
    assert script.stat().st_mode & 0o111
