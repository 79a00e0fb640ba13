"""Seeded prompts of ordinary English words with lengths drawn between two bounds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.contracts import Workload
from harness.errors import ConfigError
from harness.timeline import Request

# Common short words, which most byte-pair vocabularies hold as one token with
# the space before it, so that a prompt of n words has about n tokens.
_WORDS: Final = tuple(
    """
    time people year way day man thing woman life child world school state family student
    group country problem hand part place case week company system program question work
    number night point home water room mother area money story fact month lot right study
    book eye job word business issue side kind head house service friend father power hour
    game line end member law car city community name president team minute idea body
    information back parent face others level office door health person art war history
    party result change morning reason research girl guy moment air teacher force
    education
    """.split()  # noqa: SIM905 - a list of 110 strings hides that they are just words
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """
    Independent requests of the same shape.

    The input length is aimed at, not exact: a prompt has that many words, and
    the chat template adds its own tokens. What the server counted is reported.

    Args:
        isl_tokens: words in a prompt.
        osl_tokens: output length asked for.
        range_ratio: lengths are uniform in [ratio * L, L]; 1.0 makes them all L.
    """

    isl_tokens: int = 128
    osl_tokens: int = 128
    range_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("isl_tokens", self.isl_tokens), ("osl_tokens", self.osl_tokens)):
            if value < 1:
                raise ConfigError(f"workload.{name} is {value}, below 1", remedy="set at least 1")
        if not 0 < self.range_ratio <= 1:
            raise ConfigError(
                f"workload.range_ratio is {self.range_ratio}, not in (0, 1]",
                remedy="set 1.0 for equal lengths, 0.8 for lengths from 0.8 L to L",
            )

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Without end; every prompt differs, so that no prefix cache helps by chance."""
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        index = 0
        while True:
            isl = self._length(draw, self.isl_tokens)
            words = draw.choices(_WORDS, k=isl)
            yield Request(
                index=index,
                prompt=" ".join(words),
                max_osl_tokens=self._length(draw, self.osl_tokens),
                isl_tokens=isl,
            )
            index += 1

    def _length(self, draw: random.Random, longest: int) -> int:
        return draw.randint(max(1, round(self.range_ratio * longest)), longest)


PLUGIN: type[Workload] = Synthetic
