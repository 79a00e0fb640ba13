"""Renders the chart for tests in a process of its own: Go's runtime stays out of pytest's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"


def main() -> None:
    """One line of JSON values in, one line of JSON out: files, or what Helm refuses."""
    sys.path.insert(0, str(DEPLOY))
    import helm_python  # noqa: PLC0415
    import render  # noqa: PLC0415

    for line in sys.stdin:
        values = json.loads(line)
        try:
            if values == "lint":
                answer = {"found": helm_python.lint(str(render.CHART), strict=True)}
            elif values == "manifests":
                answer = {"found": {str(path): text for path, text in render.manifests().items()}}
            else:
                answer = {"found": render.render(values)}
        except helm_python.HelmError as error:
            answer = {"refused": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
