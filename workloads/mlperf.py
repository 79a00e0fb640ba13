"""MLPerf Inference's prompts of gpt-oss-120b, from its own tokenized data file."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import Workload
from harness.errors import ConfigError
from harness.timeline import Request

from . import _files as files
from . import _text as text


@dataclass(frozen=True, slots=True, kw_only=True)
class MlPerf:
    """
    Samples of the reference data set, in an order drawn from the seed, again and again.

    Source: mlcommons/inference language/gpt-oss-120b/run_mlperf.py: the prompts
    come already rendered in harmony, as ids (`tok_input`) or as text
    (`text_input`), to a plain completion endpoint; answers end where the model
    ends them, so `load.fixed_length` must be false. Limits of the 99th
    percentiles: Server TTFT 3 s and TPOT 80 ms; Interactive TTFT 2 s and TPOT
    15 ms in loadgen/mlperf.conf but 20 ms in inference_rules.adoc. Runs last at
    least 600 s. What this gives compares with MLPerf; it is no submission.

    Args:
        path: the .parquet, .jsonl or .json file (a .pkl runs code when it is read:
            convert it with pandas first).
        osl_tokens: output length at most; 10240 in generation_config.json, while the
            rules say 10000.
        prompts: `tokens` sends the ids, `text` the rendered text.
    """

    path: Path
    osl_tokens: int = 10_240
    prompts: text.Form = "tokens"

    def __post_init__(self) -> None:
        text.check_length("osl_tokens", self.osl_tokens)
        if self.prompts == "harmony":
            raise ConfigError(
                "workload.prompts is 'harmony', but the data are rendered already",
                remedy="set 'tokens' or 'text'",
            )
        if self.path.suffix.lower() in {".pkl", ".pickle"}:
            raise ConfigError(
                f"{self.path} is a pickle, which runs code when it is read",
                remedy="convert it: pandas.read_pickle(…).to_parquet(…)",
            )

    def requests(self, *, seed: int) -> Iterator[Request]:
        """Each sample once, then each once more in another order, without end."""
        samples = [self._sample(where, row) for where, row in files.rows(self.path)]
        if not samples:
            raise files.none_found(self.path, "sample")
        draw = random.Random(seed)  # noqa: S311 - reproducible, not secret
        index = 0
        while True:
            draw.shuffle(samples)
            for prompt in samples:
                yield Request(
                    index=index,
                    prompt=prompt,
                    max_osl_tokens=self.osl_tokens,
                    isl_tokens=None if isinstance(prompt, str) else len(prompt),
                )
                index += 1

    def _sample(self, where: str, row: Mapping[str, Any]) -> str | tuple[int, ...]:
        keys = ("text_input", "input", "prompt")
        if self.prompts == "tokens":
            keys = ("tok_input", "input_ids", "tokens")
        for key in keys:
            value = row.get(key)
            if isinstance(value, str) and value and self.prompts == "text":
                return value
            if isinstance(value, list) and value and self.prompts == "tokens":
                return tuple(int(token) for token in value)
        raise ConfigError(
            f"{where} has none of the columns {', '.join(keys)} filled in",
            remedy="check workload.prompts: `tokens` needs ids, `text` needs text",
        )


PLUGIN: type[Workload] = MlPerf
