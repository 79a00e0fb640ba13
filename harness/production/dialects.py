"""Reads what we need out of an engine's exposition, however large it is, whichever engine it is."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness import plugins
from harness.errors import EngineError, JoulemarkError

if TYPE_CHECKING:
    from harness.contracts import TokenCounters

_WORDS: Final = (
    b"tokens",
    b"requests_running",
    b"running_req",
    b"requests_processing",
    b"inflight_requests",
    b"forward_execution_seconds",
)
"""Names of what is read have one of these in them."""
_MODEL: Final = re.compile(rb'[{,]model(?:_name)?="((?:[^"\\\n]|\\.)*)"')
_RUNNING: Final = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "dynamo_frontend_inflight_requests",
)
_FORWARD: Final = b"sglang:forward_execution_seconds_total{"
_CATEGORY: Final = re.compile(rb'[{,]category="([^"]*)"')
_NOT_COUNTS: Final = (b"_bucket", b"_created")
_PHASE_OF: Final = {"extend": "prefill", "prefill": "prefill", "decode": "decode"}
_MAX_NAME: Final = 120
_NOT_SERVERS: Final = {"fake", "attach"}
"""They borrow another engine's words, whose name would then be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounts:
    """
    One scrape in one meaning for all engines.

    Args:
        engine: whose dialect it was.
        model_name: as the labels say; None: they do not, or say several.
        token_clock: when the engine moves its counters.
        tokens: cumulative by kind; a kind it does not count is missing.
        running: requests in progress; None: it does not say.
        wasted: cumulative tokens for nobody, by reason.
        phase_s: cumulative busy seconds by phase.
    """

    engine: str
    model_name: str | None
    token_clock: str
    tokens: Mapping[str, float]
    running: float | None
    wasted: Mapping[str, float] = field(default_factory=dict)
    phase_s: Mapping[str, float] = field(default_factory=dict)


def dialect(engine: str) -> TokenCounters | None:
    """The token counters of an engine plugin; None: it has none."""
    kind = plugins.load("engine", engine)
    # Only its dialect is asked for, so what it would need to start is left empty.
    blank = {
        item.name: ""
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    made: Any = kind(**blank)
    counters: TokenCounters | None = made.counters()
    return counters


def dialects() -> dict[str, TokenCounters]:
    """Every dialect there is, by engine."""
    found: dict[str, TokenCounters] = {}
    for engine in plugins.kinds("engine").keys() - _NOT_SERVERS:
        with contextlib.suppress(ImportError, TypeError, ValueError, JoulemarkError):
            counters = dialect(engine)
            if counters is not None:
                found[engine] = counters
    return dict(sorted(found.items()))


def read(body: bytes, known: Mapping[str, TokenCounters]) -> EngineCounts:
    """
    The counts in an exposition.

    Args:
        body: of any size; only lines that can matter are parsed.
        known: dialects to try, in order.

    Raises:
        EngineError: it speaks none of them.
    """
    lines = _relevant(body)
    text = b"\n".join(lines).decode("utf-8", "replace") + "\n"
    for engine, counters in known.items():
        with contextlib.suppress(EngineError):
            counts = counters.read(text)
            return EngineCounts(
                engine=engine,
                model_name=_model(lines),
                token_clock=counters.updated,
                tokens={
                    kind: value
                    for kind in ("computed", "cached", "generated")
                    if (value := getattr(counts, kind)) is not None
                },
                running=_first(lines, _RUNNING),
                wasted=_wasted(lines),
                phase_s=_phases(lines),
            )
    raise EngineError(
        f"its metrics have the token counters of none of: {', '.join(known)}",
        remedy="set the engine's `kind`, and check that its metrics are switched on",
    )


def _relevant(body: bytes) -> list[bytes]:
    """
    The lines of an exposition whose metric's name has one of our words in it.

    A search for each word is many times quicker than a look at each line: a large
    engine's exposition is parsed sixteen times a second on a busy node.
    """
    found: dict[int, bytes] = {}
    for word in _WORDS:
        at = body.find(word)
        while at >= 0:
            begin = body.rfind(b"\n", 0, at) + 1
            end = body.find(b"\n", at)
            end = len(body) if end < 0 else end
            name = re.split(rb"[{ ]", body[begin:end], maxsplit=1)[0]
            if word in name and not name.startswith(b"#") and not name.endswith(_NOT_COUNTS):
                found[begin] = body[begin:end]
            at = body.find(word, end)
    return [found[begin] for begin in sorted(found)]


def _total(lines: list[bytes], name: str) -> float | None:
    """Sum over all series of one metric; None if there is none."""
    start = name.encode()
    values = [
        float(line.rpartition(b"}")[2].split()[0] if b"}" in line else line.split()[1])
        for line in lines
        if line.startswith((start + b"{", start + b" "))
    ]
    return sum(values) if values else None


def _model(lines: list[bytes]) -> str | None:
    names: set[bytes] = {name for line in lines for name in _MODEL.findall(line)}
    if len(names) != 1:
        return None
    # A path of weights is nobody's business who may read metrics.
    name = names.pop().decode("utf-8", "replace").replace(r"\"", '"')
    return (name.rsplit("/", 1)[-1] if name.startswith("/") else name)[:_MAX_NAME]


def _first(lines: list[bytes], names: tuple[str, ...]) -> float | None:
    values = (_total(lines, name) for name in names)
    return next((value for value in values if value is not None), None)


def _wasted(lines: list[bytes]) -> dict[str, float]:
    found = {}
    retracted = [
        _total(lines, f"sglang:num_retracted_{kind}_tokens_total") for kind in ("input", "output")
    ]
    if any(value is not None for value in retracted):
        found["retracted"] = sum(value or 0.0 for value in retracted)
    drafted = _total(lines, "vllm:spec_decode_num_draft_tokens_total")
    accepted = _total(lines, "vllm:spec_decode_num_accepted_tokens_total")
    if drafted is not None and accepted is not None:
        found["rejected_draft"] = drafted - accepted
    return found


def _phases(lines: list[bytes]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        category = _CATEGORY.search(line) if line.startswith(_FORWARD) else None
        if category is not None:
            phase = _PHASE_OF.get(category[1].decode("utf-8", "replace").lower(), "mixed")
            seconds = float(line.rpartition(b"}")[2].split()[0])
            found[phase] = found.get(phase, 0.0) + seconds
    return found
