"""Writes the documents that are made from code; with --check, says whether they are current."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.metrics import BOUNDARIES, CARDS, STATISTICS  # noqa: E402 - the checkout, installed or not
from harness.production import metric_set  # noqa: E402 - likewise
from harness.push import series  # noqa: E402 - likewise

BEGIN = "<!-- made by docs/build.py from each file's first sentence -->"
PACKAGES = ("harness", "workloads", "exporters")
TOKENS_SECTION = (
    "## Output tokens, counted three ways",
    "",
    "`tokens` in a record holds the output tokens of the measured phase as",
    "",
    "- `usage`: the sum of `usage.completion_tokens` over the requests;",
    (
        "- `stream`: the sum of the last running count seen in each stream (llama.cpp's "
        "`timings.predicted_n`, vLLM's continuous usage); null if the server counts along in none;"
    ),
    (
        "- `server_counter`: the difference of the engine's own cumulative counter, read before "
        "the first and after the last measured request; null if the engine has none."
    ),
    "",
    (
        "Where two of them differ, the finding `tokens_disagree` says by how much. Metrics use "
        "`usage`, placed in time by the stream."
    ),
    "",
    (
        "`input` is the sum of `usage.prompt_tokens`, and `input_cached` what of it a prefix cache "
        "served: by `usage.prompt_tokens_details`, else by the engine's counters; null if nobody "
        "said. Where it is more than the prompts have in common, the finding `input_cached` warns."
    ),
)


def architecture() -> str:
    """`ARCHITECTURE.md`: the hand-written head, then a line for every source file."""
    head = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition(BEGIN)[0]
    lines = [BEGIN, ""]
    for package in PACKAGES:
        for folder in [ROOT / package, *sorted((ROOT / package).rglob("*/"))]:
            files = [path for path in sorted(folder.glob("*.py")) if _sentence(path)]
            if files:
                lines += [f"### {folder.relative_to(ROOT)}/", ""]
                lines += [f"- `{path.name}`: {_sentence(path)}" for path in files]
                lines.append("")
    return head + "\n".join(lines)


def _sentence(path: Path) -> str:
    """The first line of a file's docstring; empty for one that has none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def metrics_page() -> str:
    """`docs/metrics.md`: the cards of the catalogue, and how output tokens are counted."""
    lines = [
        "# Metrics",
        "",
        "Made from the cards in `harness/metrics.py` by `make docs`; do not edit.",
        "",
        f"`{{boundary}}` is one of {', '.join(f'`{name}`' for name in BOUNDARIES)}: what drew the "
        "energy. A key that ends in `.*` is a distribution: "
        + ", ".join(f"`.{name}`" for name in STATISTICS)
        + ".",
        "",
        (
            "A metric that is missing from a record could not be had, and a finding says why. "
            "`low` and `high` bound what `interval` names; they are null where no honest "
            "interval can be given. Every energy metric is as trustworthy as the record's "
            "`power_kind`: `measured`, `modelled` or `emulated`."
        ),
        "",
        "| key | unit | better | formula |",
        "|---|---|---|---|",
    ]
    for card in CARDS:
        key = card.key + (".*" if card.distribution else "")
        lines.append(f"| `{key}` | {card.unit} | {card.better or '-'} | {card.formula} |")
    return "\n".join([*lines, "", *TOKENS_SECTION, ""])


def main() -> int:
    """Write or check every generated document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check = parser.parse_args().check
    made = {
        "docs/metrics.md": f"{metrics_page()}\n{series.section()}",
        "docs/production-metrics.md": metric_set.page(),
        "ARCHITECTURE.md": architecture(),
    }
    stale = (
        [name for name, text in made.items() if (ROOT / name).read_text(encoding="utf-8") != text]
        if check
        else []
    )
    for name in stale:
        sys.stderr.write(f"{name} is not current: run `make docs` and commit it\n")
    if not check:
        for name, text in made.items():
            (ROOT / name).write_text(text, encoding="utf-8")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
