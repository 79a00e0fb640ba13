"""Writes the plain Kubernetes manifests from the Helm chart; with --check, says if they are so."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import helm_python

DEPLOY: Final = Path(__file__).resolve().parent
CHART: Final = DEPLOY / "helm" / "joulemark-exporter"
NAME, NAMESPACE = "joulemark-exporter", "joulemark"

_MADE: Final = "# Made from deploy/helm/joulemark-exporter by `make manifests`; do not edit.\n"
_HEAD: Final = f"""\
{_MADE}# One exporter a GPU node. It takes no privilege, no host namespace and no capability; the
# service account may list pods, and its token is there for that alone.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
_ORDER: Final = ("serviceaccount", "rbac", "configmap", "daemonset", "networkpolicy")


def render(values: dict[str, Any] | None = None) -> dict[str, str]:
    """The chart's templates as Helm renders them: file name without folders -> text."""
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values or {})
        found = chart.render(values or {}, name=NAME, namespace=NAMESPACE)
    return {Path(path).name: text.strip() for path, text in found.items()}


def manifests() -> dict[Path, str]:
    """The files that kubectl users apply."""
    plain = render()
    parts = [_HEAD, *(plain[f"{name}.yaml"] + "\n" for name in _ORDER)]
    monitor = render({"podMonitor": {"enabled": True}})["podmonitor.yaml"]
    folder = DEPLOY / "kubernetes"
    return {
        folder / "joulemark-exporter.yaml": "---\n".join(parts),
        folder / "podmonitor.yaml": (
            f"{_MADE}# For clusters with the Prometheus operator.\n{monitor}\n"
        ),
    }


def main() -> int:
    """Write or check the manifests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    for path, text in manifests().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{path.name} is not current: run `make manifests` and commit it\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
