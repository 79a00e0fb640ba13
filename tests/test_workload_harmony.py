"""The harmony frame in token ids is what oss-harmony, where it is installed, makes of its text."""

from __future__ import annotations

import random

import pytest

from harness.errors import ConfigError
from workloads import _text as text

DRAW = random.Random(1)  # noqa: S311 - reproducible, not secret


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_the_frame_s_ids_are_its_text(effort):
    harmony = pytest.importorskip("openai_harmony", reason="oss-harmony is not installed")
    encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    before, after = text.frame_text(effort)
    assert tuple(encoding.encode(before, allowed_special="all")) == text.harmony_frame(effort)[0]
    assert tuple(encoding.encode(after, allowed_special="all")) == text.harmony_frame(effort)[1]


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
@pytest.mark.parametrize("isl", [text.FRAME_TOKENS + 1, 100, 1024])
def test_a_harmony_prompt_is_exactly_as_long_as_asked_and_has_one_frame(effort, isl):
    ids = text.prompt(DRAW, isl, form="harmony", vocab_tokens=1, effort=effort)
    before, after = text.harmony_frame(effort)
    assert isinstance(ids, tuple)
    assert len(ids) == isl
    assert ids[: len(before)] == before
    assert ids[-len(after) :] == after
    inner = ids[len(before) : -len(after)]
    assert max(inner) < text.ORDINARY_HARMONY_TOKENS


def test_efforts_differ_in_one_token():
    low, high = text.harmony_frame("low")[0], text.harmony_frame("high")[0]
    assert sum(a != b for a, b in zip(low, high, strict=True)) == 1


def test_a_prompt_too_short_for_its_frame_is_refused():
    with pytest.raises(ConfigError, match=rf"no room for text; set an input length above {47}"):
        text.prompt(DRAW, 47, form="harmony", vocab_tokens=1, effort="low")
