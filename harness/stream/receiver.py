"""Reads many sockets of one loop, and knows from the kernel when the bytes came."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    _Read = tuple[bytes, list[tuple[int, int, bytes]], int, object]

POOL_S: Final = 0.001
"""At most one turn of reading in so long: tokens that come meanwhile share its cost."""
_SO_TIMESTAMPNS: Final = 35
_READ_BYTES: Final = 16 * 1024
_NOTE_BYTES: Final = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
_SOCKETS_A_TURN: Final = 4096
_PARSED_RATIO: Final = 0.25
_AT_ONCE_NS: Final = 100_000_000
_STEP_NS: Final = 20_000
_TRIES: Final = 5
_timespec: Final = struct.Struct("qq").unpack
_now_ns: Final = time.perf_counter_ns


class Taker(Protocol):
    """What bytes are read for."""

    quick: Callable[[int, bytes], bool] | None
    """Tried before `take`; False: the bytes were not what it knows, and nothing was done."""

    def take(self, t_ns: int, data: bytes) -> None:
        """Bytes that reached this host at *t_ns*."""
        ...

    def lost(self, t_ns: int, reason: str) -> None:
        """The other side has closed, or the connection broke."""
        ...


class Receiver:
    """
    Reads sockets as they become readable and hands on the bytes with their time.

    The time is the kernel's, taken when the packet came in (SO_TIMESTAMPNS), so
    it does not matter how late this process looks. That allows to look only now
    and then and to read what has gathered: waking up costs more than reading.
    Where the kernel gives no time the bytes are stamped as they are read, and
    reading is never put off.

    Several tokens of one stream that are read at once would share one time. So
    reading is not put off, either, where much of what is read is not the one token
    that a taker's `quick` knows.

    Kernel times count the wall clock. They are brought to CLOCK_MONOTONIC, the
    clock of everything else, by the distance between the two, looked up in every
    turn; in a turn in which the wall clock has been set, our own stamps are used.

    Args:
        loop: its selector watches ours.
        pool_s: shortest time from one turn of reading to the next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, pool_s: float = POOL_S) -> None:
        self._loop = loop
        self._pool_ns = round(pool_s * 1e9)
        self._epoll = select.epoll()
        self._takers: dict[int, tuple[Taker, Callable[[int, int], _Read]]] = {}
        self._wall_ns = _wall_ns()
        self._turn_ns = 0
        self._pool_from_ns = 0
        self.by_kernel = 0
        """Reads whose time was the kernel's."""
        self.by_us = 0
        """Reads that were stamped here."""

    def add(self, sock: socket.socket, taker: Taker) -> None:
        """Read *sock* for *taker*, who removes it before it is closed."""
        with contextlib.suppress(OSError):  # without it we stamp ourselves
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if not self._takers:
            self._loop.add_reader(self._epoll.fileno(), self.turn)
        fd = sock.fileno()
        self._takers[fd] = (taker, sock.recvmsg)
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int, taker: Taker) -> None:
        """Read no more for *taker*; the descriptor may belong to another one by now."""
        if self._takers.get(fd, (None,))[0] is taker:
            del self._takers[fd]
            self._epoll.unregister(fd)
            if not self._takers:
                self._loop.remove_reader(self._epoll.fileno())

    def turn(self) -> None:
        """Read once from every socket that has something."""
        now_ns = self._begin_turn()
        wall_ns = self._distance_ns(now_ns)
        takers = self._takers
        count = ours = parsed = 0
        for fd, _ in self._epoll.poll(0, _SOCKETS_A_TURN):
            if fd not in takers:
                continue  # removed by one that was read before it in this turn
            taker, recvmsg = takers[fd]
            try:
                data, notes, _, _ = recvmsg(_READ_BYTES, _NOTE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                taker.lost(_now_ns(), os.strerror(error.errno or errno.EIO))
                continue
            if not data:
                taker.lost(_now_ns(), "the server closed the connection")
                continue
            count += 1
            if notes and wall_ns is not None:
                seconds, nanoseconds = _timespec(notes[0][2])
                stamp_ns = seconds * 1_000_000_000 + nanoseconds - wall_ns
            else:
                stamp_ns = _now_ns()
                ours += 1
            quick = taker.quick
            if quick is None or not quick(stamp_ns, data):
                taker.take(stamp_ns, data)
                parsed += 1
        self.by_kernel += count - ours
        self.by_us += ours
        if ours or parsed > count * _PARSED_RATIO:
            self._pool_from_ns = now_ns + _AT_ONCE_NS

    def _begin_turn(self) -> int:
        """Wait until the next turn may begin; returns that instant."""
        now_ns = _now_ns()
        early_ns = self._turn_ns + self._pool_ns - now_ns
        if early_ns > 0 and now_ns >= self._pool_from_ns:
            time.sleep(early_ns / 1e9)
            now_ns = _now_ns()
        self._turn_ns = now_ns
        return now_ns

    def _distance_ns(self, now_ns: int) -> int | None:
        """Wall clock minus ours; None: the wall clock was just set, so no kernel time is sure."""
        if abs(time.time_ns() - now_ns - self._wall_ns) < _STEP_NS:
            return self._wall_ns
        before_ns, self._wall_ns = self._wall_ns, _wall_ns()
        return self._wall_ns if abs(self._wall_ns - before_ns) < _STEP_NS else None


def _wall_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, from the tightest of a few readings."""
    best_ns, found_ns = 1 << 62, 0
    for _ in range(_TRIES):
        before_ns = _now_ns()
        wall_ns = time.time_ns()
        after_ns = _now_ns()
        if after_ns - before_ns < best_ns:
            best_ns = after_ns - before_ns
            found_ns = wall_ns - (before_ns + after_ns) // 2
    return found_ns
