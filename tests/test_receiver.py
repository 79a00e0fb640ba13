"""Sockets are read in turns, and their bytes bear the time at which the kernel had them."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from harness.stream import receiver as receiver_module
from harness.stream.receiver import Receiver


class Taken:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.quick = None
        self.got = []
        self.ended = []

    def take(self, t_ns, data) -> None:
        self.got.append((t_ns, data))

    def lost(self, t_ns, reason) -> None:
        del t_ns
        self.ended.append(reason)


def pairs(count):
    """Connected sockets: the client's ends, not blocking, and the server's."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=count)
    ours, theirs = [], []
    for _ in range(count):
        sock = socket.create_connection(listener.getsockname())
        sock.setblocking(False)
        ours.append(sock)
        theirs.append(listener.accept()[0])
    listener.close()
    return ours, theirs


def reading(count, what):
    """Run *what*(receiver, takers, client ends, server ends) in a loop that reads for takers."""

    async def main():
        ours, theirs = pairs(count)
        receiver = Receiver(asyncio.get_running_loop())
        takers = [Taken() for _ in ours]
        for sock, taker in zip(ours, takers, strict=True):
            receiver.add(sock, taker)
        try:
            return await what(receiver, takers, ours, theirs)
        finally:
            for sock, taker in zip(ours, takers, strict=True):
                receiver.remove(sock.fileno(), taker)
            for sock in [*ours, *theirs]:
                sock.close()

    return asyncio.run(main())


def stamped_by_kernel(receiver, taker, theirs) -> bool:
    """The kernel begins to stamp a moment after it was asked for the first time."""
    end_s = time.monotonic() + 2
    while not receiver.by_kernel and time.monotonic() < end_s:
        theirs.send(b"?")
        receiver.turn()
    taker.got.clear()
    return receiver.by_kernel > 0


def test_bytes_bear_the_time_they_came_not_the_time_they_were_read():
    async def what(receiver, takers, _ours, theirs):
        if not stamped_by_kernel(receiver, takers[0], theirs[0]):
            pytest.skip("this kernel gives no times")
        before_ns = time.perf_counter_ns()
        theirs[0].send(b"token")
        after_ns = time.perf_counter_ns()
        while time.perf_counter_ns() < after_ns + 20_000_000:
            pass  # a client that is busy with other things
        receiver.turn()
        return before_ns, after_ns, takers[0].got

    before_ns, after_ns, got = reading(1, what)
    (t_ns, data), *more = got
    assert (data, more) == (b"token", [])
    slack_ns = receiver_module._STEP_NS
    assert before_ns - slack_ns <= t_ns <= after_ns + slack_ns


def test_a_wall_clock_that_is_set_moves_no_stamp(monkeypatch):
    """In the turn that finds it set, bytes are stamped as they are read; then all is as before."""
    real = time.time_ns

    async def what(receiver, takers, _ours, theirs):
        if not stamped_by_kernel(receiver, takers[0], theirs[0]):
            pytest.skip("this kernel gives no times")
        receiver.turn()
        by_us = receiver.by_us
        monkeypatch.setattr(receiver_module.time, "time_ns", lambda: real() + 3_600_000_000_000)
        theirs[0].send(b"a")
        before_ns = time.perf_counter_ns()
        receiver.turn()
        return by_us, receiver.by_us, before_ns, takers[0].got[0][0], time.perf_counter_ns()

    by_us, by_us_then, before_ns, t_ns, after_ns = reading(1, what)
    assert by_us_then == by_us + 1
    assert before_ns <= t_ns <= after_ns


@pytest.mark.parametrize("known", [True, False])
def test_reading_is_put_off_only_where_reads_are_single_known_tokens(monkeypatch, known):
    """Two tokens of one stream in one read would bear one time."""
    slept = []
    monkeypatch.setattr(receiver_module.time, "sleep", slept.append)

    async def what(receiver, takers, _ours, theirs):
        if not stamped_by_kernel(receiver, takers[0], theirs[0]):
            pytest.skip("this kernel gives no times")
        receiver._pool_from_ns = 0
        takers[0].quick = lambda _t_ns, _data: known
        slept.clear()
        for _ in range(2):
            theirs[0].send(b"token")
            receiver.turn()
        return len(slept)

    # The first turn may wait for the one in which the kernel began to stamp.
    assert (reading(1, what) == 2) == known


def test_one_taker_may_remove_another_in_the_same_turn():
    async def what(receiver, takers, ours, theirs):
        def take(_t_ns, data) -> None:
            first.got.append(data)
            receiver.remove(ours[1].fileno(), takers[1])

        first = takers[0]
        first.take = take
        for sock in theirs:
            sock.send(b"x")
        receiver.turn()
        receiver.turn()
        return first.got, takers[1].got, takers[1].ended

    assert reading(2, what) == ([b"x"], [], [])


def test_an_end_and_a_reset_are_told():
    async def what(receiver, takers, ours, theirs):
        theirs[0].close()
        theirs[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs[1].close()
        receiver.turn()
        for sock, taker in zip(ours, takers, strict=True):
            receiver.remove(sock.fileno(), taker)
        return [taker.ended for taker in takers]

    closed, reset = reading(2, what)
    assert closed == ["the server closed the connection"]
    assert "reset" in reset[0]


def test_a_number_that_belongs_to_another_by_now_is_not_removed():
    async def what(receiver, takers, ours, theirs):
        receiver.remove(ours[0].fileno(), takers[1])
        theirs[0].send(b"y")
        receiver.turn()
        return [data for _, data in takers[0].got]

    assert reading(2, what) == [b"y"]


def test_a_kernel_that_refuses_times_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(receiver_module, "_SO_TIMESTAMPNS", 9999)

    async def what(receiver, takers, _ours, theirs):
        theirs[0].send(b"z")
        before_ns = time.perf_counter_ns()
        receiver.turn()
        return before_ns, takers[0].got, receiver.by_us, receiver.by_kernel

    before_ns, got, by_us, by_kernel = reading(1, what)
    assert got[0][1] == b"z"
    assert got[0][0] >= before_ns
    assert (by_us, by_kernel) == (1, 0)
