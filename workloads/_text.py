"""Made-up prompts of a wanted length: words, token ids, or a harmony chat in token ids."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, Literal

from harness.errors import ConfigError

Form = Literal["text", "tokens", "harmony"]
"""`text`: about as long as wanted; `tokens`, `harmony`: exactly, for /v1/completions."""
Effort = Literal["low", "medium", "high"]

# Short common words, most of them one token with the space before them.
_WORDS: Final = tuple(
    """
    the of and to in is was for on are with as his they be at one have this from had hot word but
    what some we can out other were all there when up use your how said an each she which do their
    time if will way about many then them write would like so these her long make thing see him two
    has look more day could go come did number sound no most people my over know water than call
    first who may down side been now find any new work part take get place made live where after
    back little only round man year came show every good me give our under name very through just
    form sentence great think say help low line differ turn cause much mean before move right boy
    old too same tell does set three want air well also play small end put home read hand port large
    """.split()  # noqa: SIM905 - as quoted strings one could not read them
)

ORDINARY_HARMONY_TOKENS: Final = 199_998
"""Ids below this are text in o200k_harmony; those above are special or reserved."""
_FRAME_BEFORE_EFFORT: Final = (
    200006, 17360, 200008, 3575, 553, 17554, 162016, 11, 261, 4410, 6439, 2359, 22203, 656, 7788,
    17527, 558, 30377, 289, 25,
)  # fmt: skip
_EFFORT: Final[Mapping[Effort, int]] = {"low": 4465, "medium": 14093, "high": 1932}
_FRAME_AFTER_EFFORT: Final = (
    279, 2, 13888, 18403, 25, 8450, 11, 49159, 11, 1721, 13, 21030, 2804, 413, 7360, 395, 1753,
    3176, 13, 200007, 200006, 1428, 200008,
)  # fmt: skip
_FRAME_END: Final = (200007, 200006, 173781)
FRAME_TOKENS: Final = len(_FRAME_BEFORE_EFFORT) + 1 + len(_FRAME_AFTER_EFFORT) + len(_FRAME_END)


def frame_text(effort: Effort) -> tuple[str, str]:
    """
    What stands before and after the user's text in a harmony prompt.

    The ids above are these texts in o200k_harmony, as oss-harmony 0.0.11 encodes
    them; tests/test_workload_harmony.py compares them where it is installed.
    Knowledge cut-off and date are left out, so that the prompt is the same every day.
    """
    before = (
        "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
        f"Reasoning: {effort}\n\n# Valid channels: analysis, commentary, final. "
        "Channel must be included for every message.<|end|><|start|>user<|message|>"
    )
    return before, "<|end|><|start|>assistant"


def harmony_frame(effort: Effort) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same as token ids."""
    return (*_FRAME_BEFORE_EFFORT, _EFFORT[effort], *_FRAME_AFTER_EFFORT), _FRAME_END


def prompt(
    draw: random.Random, isl_tokens: int, *, form: Form, vocab_tokens: int, effort: Effort
) -> str | tuple[int, ...]:
    """
    One prompt.

    Args:
        draw: where its content comes from.
        isl_tokens: its length; the frame of a harmony prompt is counted in.
        form: see Form.
        vocab_tokens: ids of the form `tokens` are below it.
        effort: of a harmony prompt.

    Raises:
        ConfigError: a harmony prompt shorter than its frame.
    """
    if form == "text":
        return words(draw, isl_tokens)
    if form == "tokens":
        # Most vocabularies keep their special ids at the start or at the end.
        lowest = min(1000, vocab_tokens // 2)
        return tuple(draw.choices(range(lowest, vocab_tokens), k=isl_tokens))
    inner = isl_tokens - FRAME_TOKENS
    if inner < 1:
        raise ConfigError(
            f"a harmony prompt of {isl_tokens} tokens has no room for text",
            remedy=f"set an input length above {FRAME_TOKENS}, or workload.prompts = 'text'",
        )
    before, after = harmony_frame(effort)
    return (*before, *draw.choices(range(ORDINARY_HARMONY_TOKENS), k=inner), *after)


def words(draw: random.Random, count: int) -> str:
    """So many words."""
    return " ".join(draw.choices(_WORDS, k=count))


def check_length(name: str, value: int | None) -> None:
    """
    Refuse a length below 1.

    Raises:
        ConfigError: naming it.
    """
    if value is not None and value < 1:
        raise ConfigError(f"workload.{name} is {value}, below 1", remedy="set at least 1")
