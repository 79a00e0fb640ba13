"""Server-sent events come out the same however the bytes were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stream import sse
from harness.stream.sse import EventSplitter, EventTooLongError

STREAM = (
    b": a comment\n\n"
    b'data: {"choices":[{"delta":{"content":"H\xc3\xa9"}}]}\n\n'
    b"event: message\r\nid: 7\r\ndata:no space\r\n\r\n"
    b"data: two\ndata: lines\n\n"
    b"data\n\n"
    b"retry: 10\rdata: carriage\r\r"
    b"data: [DONE]\n\n"
)
EVENTS = [
    b'{"choices":[{"delta":{"content":"H\xc3\xa9"}}]}',
    b"no space",
    b"two\nlines",
    b"",
    b"carriage",
    b"[DONE]",
]


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events + splitter.finish()


def test_every_single_cut_gives_the_same_events():
    assert split([STREAM]) == EVENTS
    for cut in range(len(STREAM) + 1):
        assert split([STREAM[:cut], STREAM[cut:]]) == EVENTS, cut


def test_byte_by_byte_gives_the_same_events():
    assert split([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_give_the_same_events(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert split(pieces) == EVENTS


ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_arbitrary_bytes_come_out_alike_whole_and_cut(data, cuts):
    """The shortcut for whole events and the slow path must not disagree on anything."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert split(pieces) == split([data[i : i + 1] for i in range(len(data))])


@given(st.text("ab:\n\r d", max_size=40), ENDS)
def test_texts_near_the_grammar_come_out_alike(text, end):
    data = (b"data: " + text.encode() + end + end) * 2
    assert split([data]) == split([data[i : i + 1] for i in range(len(data))])


def test_a_byte_order_mark_is_no_part_of_the_first_event():
    data = b"\xef\xbb\xbfdata: x\n\n"
    assert split([data]) == [b"x"]
    assert split([data[i : i + 1] for i in range(len(data))]) == [b"x"]


def test_a_last_event_without_its_empty_line_is_given_out_at_the_end():
    splitter = EventSplitter()
    assert splitter.feed(b"data: [DONE]\n") == []
    assert splitter.finish() == [b"[DONE]"]


def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = EventSplitter()
    splitter.feed(b"data: 0123456789" * 6)
    with pytest.raises(EventTooLongError, match="100"):
        splitter.feed(b"data: 0123456789")
