"""What happened when: requests, token events, power samples and windows on one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Boundary = Literal["gpu", "gpu_module", "gpu_memory", "cpu_package", "cpu_dram", "node", "chassis"]
"""What a joule was drawn by; the first word of every energy metric's key."""

PowerKind = Literal["measured", "modelled", "emulated"]
"""How far a joule can be trusted: read from a sensor, computed, or scripted."""

Phase = Literal["warmup", "measure"]
"""Which part of the run a request belongs to; warm-up requests enter no metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One request to be sent.

    Args:
        index: its place in the workload, from 0; the key that joins all tables.
        prompt: text, or token ids for engines that take them.
        max_osl_tokens: the output length asked for.
        isl_tokens: the input length the workload aimed at; what the server
            counted is in the result. None: the workload does not say.
        messages: a whole chat instead of *prompt*, as (role, content) pairs.
        t_offset_s: seconds from the start of the load at which a recorded
            trace issued it. None: the arrival process decides.
        session: requests of one conversation share it. None: stands alone.
    """

    index: int
    prompt: str | tuple[int, ...]
    max_osl_tokens: int
    isl_tokens: int | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    t_offset_s: float | None = None
    session: str | None = None


class EventKind(IntEnum):
    """What a row of the event table stands for."""

    SENT = 1
    """The last byte of the request was handed to the kernel."""
    CHUNK = 2
    """A piece of the stream that carries content (text or reasoning)."""
    END = 3
    """The response is complete, or failed: the request's row says which."""


EVENT_DTYPE: Final = np.dtype(
    [
        ("t_ns", "<i8"),  # CLOCK_MONOTONIC when the bytes reached this process
        ("request", "<i4"),  # Request.index
        ("tokens", "<i4"),  # output tokens so far as the server says; -1: it did not say
        ("chars", "<i4"),  # characters of content in this chunk
        ("kind", "<u1"),  # EventKind
        ("pad", "V3"),
    ]
)
"""One row of `tokens.parquet`, 24 bytes in the journal."""

NOT_SAID: Final = -1
"""In an event's `tokens`: the server gave no running count in this chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """
    One request as it went; one row of `requests.parquet`.

    Instants are CLOCK_MONOTONIC nanoseconds; None where the request did not
    get that far. Token counts are the server's (`usage`); None where it sent none.
    """

    request: int
    phase: Phase
    t_due_ns: int
    t_sent_ns: int | None
    t_first_ns: int | None
    """First chunk *with content*; an empty role chunk does not count."""
    t_last_ns: int | None
    t_end_ns: int
    isl_tokens: int | None
    osl_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    stream_tokens: int | None
    """The last running count seen in the stream; None if the server gave none."""
    chunks: int
    max_osl_tokens: int
    isl_asked_tokens: int | None
    finish_reason: str | None
    status: int | None
    """HTTP status; None if no response began."""
    error_kind: str | None
    """None: the request succeeded. Otherwise one word, e.g. `refused`, `http_500`, `cut`."""
    error: str | None
    reused_connection: bool


class ReadStatus(IntEnum):
    """Why a power reading has no value; the numbers are stored, so they never change."""

    OK = 0
    NOT_SUPPORTED = 1
    NO_PERMISSION = 2
    LOST = 3
    RESET_REQUIRED = 4
    DRIVER_MISMATCH = 5
    UNINITIALISED = 6
    TIMEOUT = 7
    STALE = 8
    UNREACHABLE = 9
    OTHER = 99


POWER_DTYPE: Final = np.dtype(
    [
        ("t_before_ns", "<i8"),  # CLOCK_MONOTONIC before the call
        ("t_after_ns", "<i8"),  # and after it: the value held at some instant between
        ("value", "<f8"),  # joules since an arbitrary zero, or watts; NaN unless status is OK
        ("channel", "<u2"),  # index into the journal header's channels
        ("status", "<u2"),  # ReadStatus
        ("pad", "V4"),
    ]
)
"""One row of `power.parquet`, 32 bytes in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """
    One number that a power source can read again and again.

    Args:
        name: unique in a run, e.g. `nvml:GPU-5ba7…:energy`.
        quantity: `energy` counts joules since some zero; `power` is watts.
        boundary: what draws it.
        device: the device's own identity (UUID, package number, host name).
        power_kind: measured, modelled or emulated.
        method: one sentence saying where the number comes from.
        quantum: the smallest step of the value, joules or watts; None: not known.
        wraps_at: joules at which a counter starts again at 0; None: it does not.
        gain_ratio: half-width of the sensor's stated gain error, e.g. 0.05; None: not stated.
        sense: what a power reading is: `instant` (a short sample), `average` (a
            longer mean, about 1 s on Hopper), or `mean` (over the time since the
            last reading). Energy counters say `counter`.
    """

    name: str
    quantity: Literal["energy", "power"]
    boundary: Boundary
    device: str
    power_kind: PowerKind
    method: str
    quantum: float | None = None
    wraps_at: float | None = None
    gain_ratio: float | None = None
    sense: Literal["counter", "instant", "average", "mean"] = "instant"


@dataclass(frozen=True, slots=True)
class PowerTrace:
    """
    What one channel read, in order of time.

    Args:
        channel: what was read.
        t_before_ns: shape (n,), int64, strictly increasing.
        t_after_ns: shape (n,), int64, each ≥ its t_before_ns.
        value: shape (n,), float64, joules or watts; NaN where status is not OK.
        status: shape (n,), uint16, ReadStatus.
    """

    channel: Channel
    t_before_ns: npt.NDArray[np.int64]
    t_after_ns: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    status: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    A stretch of time, [start_ns, end_ns), CLOCK_MONOTONIC nanoseconds.

    Args:
        name: `steady`, `run`, `loaded_idle`, …
        start_ns: first nanosecond inside.
        end_ns: first nanosecond after it; later than start_ns.
        planned: the edges were announced to the sampler when they happened, so
            that it polled them in a burst; False: found in the events afterwards.
    """

    name: str
    start_ns: int
    end_ns: int
    planned: bool = False

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns:
            msg = f"window {self.name!r} ends at {self.end_ns} ns, not after {self.start_ns} ns"
            raise ValueError(msg)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9
