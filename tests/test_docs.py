"""What the documents say is so: commands run, generated pages are current, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def code(page: Path) -> str:
    """All that a page sets as code: fenced blocks, and words between backticks."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(fenced + re.findall(r"`[^`\n]+`", text))


def commands(page: Path) -> list[str]:
    """The command lines of a page's shell blocks, without their comments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_that_a_page_mentions_exists(page):
    verbs = set(cli.joulemark.list_commands(None))  # type: ignore[arg-type]
    mentioned = set(re.findall(r"(?:`|^ *)joulemark ([a-z][a-z-]+)", code(page), re.MULTILINE))
    assert mentioned <= verbs, f"{page.name} mentions {mentioned - verbs}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_mentions_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^ *)make ([a-z][a-z-]+)", code(page), re.MULTILINE))
    assert mentioned <= targets, f"{page.name} mentions {mentioned - targets}"


def test_make_help_lists_every_public_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "check", "docs", "help"):
        assert re.search(rf"^{target} ", done.stdout, flags=re.MULTILINE)


@pytest.mark.engine
def test_the_tutorials_commands_work_in_their_order(tmp_path, model):
    """In one folder, as a reader would; the set-up itself is what `make test` has just done."""
    assert model
    page = ROOT / "docs" / "tutorial.md"
    (tmp_path / "mine.toml").write_text(blocks(page, "toml")[0])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    ran = 0
    for command in commands(page):
        if not command.startswith("joulemark "):
            assert command in {"make install model", ". .venv/bin/activate"}
            continue
        done = subprocess.run(
            [sys.executable, "-m", "harness", *command.split()[1:]],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        # doctor's exit code tells whether a sensor was found; both are fine here.
        allowed = {0, 2} if command == "joulemark doctor" else {0}
        assert done.returncode in allowed, f"{command}: {done.stderr}"
        assert "Traceback" not in done.stderr
        assert done.stdout.strip(), f"{command} printed nothing"
        ran += 1
    assert ran >= 14


def test_readme_names_both_commands_first():
    assert commands(ROOT / "README.md")[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("verb", cli.joulemark.list_commands(None))  # type: ignore[arg-type]
def test_every_verb_has_help(verb):
    done = subprocess.run(
        [sys.executable, "-m", "harness", verb, "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("Usage: ")


def test_help_imports_nothing_heavy():
    """Start-up stays quick because of what is not imported; time itself is not tested."""
    code = (
        "import sys; from harness import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'pyarrow', 'rich', 'uvloop', 'xllamacpp'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
