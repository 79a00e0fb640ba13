"""A chunk that is recognised means what it would have meant had it been parsed."""

from __future__ import annotations

import asyncio
import itertools
import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_client import DONE, HEAD, STOP, Collector, chunk, content, event

from harness.client import Connection
from harness.load.progress import LoadProgress
from harness.stream import template
from harness.stream.answer import Answer
from harness.stream.receiver import Receiver
from harness.timeline import EVENT_DTYPE, Request

WORDS = ["a", " the", "x" * 40, "ing", " 7", "é", '"', "\\", "\n", "", " ☃", "null", '"content":"']


def outcome(pieces: list[bytes]):
    """Events and trace of *pieces*, each a read of its own, and how many were recognised."""

    async def main():
        loop = asyncio.get_running_loop()
        connection = Connection(loop, Receiver(loop))
        connection.connection_made(Collector())
        rows = bytearray()
        progress = LoadProgress()
        answer = Answer(
            Request(index=1, prompt="", max_osl_tokens=3),
            phase="measure",
            t_due_ns=0,
            write_event=rows.extend,
            progress=progress,
        )
        exchange = asyncio.create_task(connection.exchange(b"", answer, timeout_s=5))
        await asyncio.sleep(0)
        quick = 0
        for piece in pieces:
            if connection.quick is not None and connection.quick(7, piece):
                quick += 1
            else:
                connection.take(7, piece)
        connection.connection_lost(None)
        await exchange
        table = np.frombuffer(bytes(rows), EVENT_DTYPE)
        events = table[["request", "tokens", "chars", "kind"]][1:].tolist()
        trace = answer.trace()
        counts = (trace.isl_tokens, trace.osl_tokens, trace.cached_tokens, trace.stream_tokens)
        ended = (trace.error_kind, trace.finish_reason, trace.chunks, progress.output_tokens)
        return events, counts, ended, quick

    return asyncio.run(main())


def both_ways(chunks: list[bytes]) -> int:
    """Chunk by chunk and byte by byte come to the same; returns how many were recognised."""
    whole = HEAD + b"".join(chunks)
    *parsed, none = outcome([whole[at : at + 1] for at in range(len(whole))])
    *read, quick = outcome([HEAD, *chunks])
    assert read == parsed
    assert none == 0
    return quick


def vllm(text: str, count: int, isl: int = 11) -> bytes:
    usage = {"prompt_tokens": isl, "total_tokens": isl + count, "completion_tokens": count}
    return content(text, usage=usage)


def llama_cpp(text: str, count: int) -> bytes:
    timings = {"prompt_n": 9, "predicted_n": count, "predicted_ms": count * 3.7}
    return content(text, timings=timings)


def reasoning(text: str, _count: int) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"reasoning_content": text}}]})


def completion(text: str, _count: int) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": None}], "usage": None})


SHAPES = [lambda text, _: content(text), vllm, llama_cpp, reasoning, completion]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_further_chunk_of_a_stream_is_recognised(shape):
    texts = [" the", " house", "s", " of", " Berlin"] * 4
    chunks = [chunk(shape(text, number + 1)) for number, text in enumerate(texts)]
    assert both_ways([*chunks, chunk(STOP), chunk(DONE)]) == len(texts) - 1


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(SHAPES), st.sampled_from(WORDS), st.integers(0, 3)), max_size=14
    )
)
def test_any_mix_of_shapes_and_texts_means_the_same_recognised_or_parsed(parts):
    counts = itertools.accumulate(step for _, _, step in parts)
    chunks = [
        chunk(shape(text, count)) for (shape, text, _), count in zip(parts, counts, strict=True)
    ]
    both_ways([*chunks, chunk(STOP), chunk(DONE)])


def test_several_tokens_a_chunk_are_counted_as_the_server_counts_them():
    chunks = [chunk(vllm("abc", count)) for count in (3, 6, 9, 12)]
    assert both_ways([*chunks, chunk(STOP), chunk(DONE)]) == 3


def test_a_reasoning_model_that_begins_to_answer_is_recognised_again():
    thought = [chunk(reasoning(" hm", 0))] * 5
    said = [chunk(content(" so"))] * 5
    assert both_ways([*thought, *said, chunk(STOP), chunk(DONE)]) == 8


def test_capital_hexadecimal_is_recognised_too():
    """hyper, below every engine in Rust, writes chunk sizes in capitals."""
    data = content("x" * 93)
    framed = b"%X\r\n%s\r\n" % (len(data), data)
    assert framed != chunk(data)
    assert both_ways([framed] * 4 + [chunk(STOP), chunk(DONE)]) == 3


def test_a_changed_prompt_count_is_not_passed_over():
    chunks = [chunk(vllm("a", 1)), chunk(vllm("a", 2, isl=12)), chunk(vllm("a", 3))]
    assert both_ways([*chunks, chunk(STOP), chunk(DONE)]) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"5",
        lambda whole: whole.replace(b"\r\n", b";x=1\r\n", 1),
        lambda whole: b"0" + whole,
        lambda whole: whole + whole,
        lambda whole: whole.replace(b'"a"', b'"\\u00e9"'),
        lambda whole: whole.replace(b'"a"', b'"a","b":"c"'),
    ],
)
def test_what_is_not_one_whole_chunk_of_the_same_shape_is_left_to_the_parser(damage):
    whole = chunk(content("a"))
    pieces = [HEAD, whole, whole, damage(whole)]
    *_, quick = outcome(pieces)
    assert quick == 1


@pytest.mark.parametrize(
    "document",
    [
        {"choices": [{"delta": {"content": "a", "reasoning": "b"}}]},
        {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]},
        {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [{"delta": {"content": "a", "tool_calls": [{"function": {"name": "f"}}]}}]},
        {"choices": [{"delta": {"content": "é"}}]},
        {"choices": [{"delta": {"content": "a"}}], "x": {"content": "a"}},
        {"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": "1"}},
        {
            "choices": [{"delta": {"content": "a"}}],
            "usage": {"completion_tokens": 1, "x": {"completion_tokens": 1}},
        },
        {
            "choices": [{"delta": {"content": "a"}}],
            "usage": {"completion_tokens": 1},
            "timings": {"predicted_n": 1},
        },
    ],
)
def test_nothing_is_learnt_where_the_place_of_text_or_count_is_not_certain(document):
    payload = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    assert template.learn(payload, orjson.loads(payload)) is None
