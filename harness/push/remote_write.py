"""Prometheus remote write 1.0: samples as one snappy-compressed protobuf message."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
"""What the protocol asks of every request."""

STALE: Final[float] = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0002))[0]
"""The one NaN that says: this series has ended. Queries then do not carry its last value on."""

Labels = tuple[tuple[str, str], ...]
Points = list[tuple[int, float]]


def grouped(families: Iterable[Metric]) -> dict[Labels, Points]:
    """
    Samples by series.

    Returns:
        Labels, sorted by name as the protocol wants, `__name__` among them -> points of
        (Unix time in milliseconds, value), in the order given.
    """
    found: dict[Labels, Points] = {}
    for family in families:
        for sample in family.samples:
            own: Mapping[str, str] = {**sample.labels, "__name__": sample.name}
            # An empty label is no label, and receivers may refuse it.
            labels = tuple(sorted((name, value) for name, value in own.items() if value))
            assert sample.timestamp is not None  # noqa: S101 - series of a run have dates
            t_ms = round(float(sample.timestamp) * 1e3)
            found.setdefault(labels, []).append((t_ms, float(sample.value)))
    return found


def requests(series: Mapping[Labels, Points], *, samples: int) -> Iterator[tuple[bytes, int]]:
    """
    Bodies to send one after another.

    Args:
        series: as `grouped` gives them.
        samples: in one body, at most.

    Yields:
        A compressed body, and how many samples are in it.
    """
    batch: list[bytes] = []
    room = samples
    for labels, points in series.items():
        start = 0
        while start < len(points):
            part = points[start : start + room]
            batch.append(_field(1, _series(labels, part)))
            start, room = start + len(part), room - len(part)
            if not room:
                yield _compressed(batch), samples
                batch, room = [], samples
    if batch:
        yield _compressed(batch), samples - room


def _compressed(batch: Sequence[bytes]) -> bytes:
    # Snappy's block format, not its framed one: so the protocol has it, and so Arrow writes it.
    body: bytes = pa.compress(b"".join(batch), codec="snappy", asbytes=True)
    return body


def _series(labels: Labels, points: Points) -> bytes:
    """`TimeSeries {Label labels = 1; Sample samples = 2}`."""
    said = [
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels
    ]
    # `Sample {double value = 1; int64 timestamp = 2}`
    seen = [
        _field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(t_ms))
        for t_ms, value in points
    ]
    return b"".join([*said, *seen])


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """
    Seven bits a byte, the lowest first.

    >>> _varint(300).hex()
    'ac02'
    """
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
