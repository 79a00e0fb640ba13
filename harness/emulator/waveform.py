"""True power over time: piecewise linear, so that its energy is exact at any instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """
    Power of one GPU as straight pieces, from the world's origin on.

    Args:
        start_ns: shape (n,), int64, strictly increasing from 0: where each piece starts.
        first_w: shape (n,), watts at the start of each piece.
        last_w: shape (n,), watts at its end; a jump to the next piece's *first_w* is allowed.
        period_ns: after this long it starts again. 0: the first power of the last piece
            holds for ever.
        live: a file of records that go on where the pieces end, see `live.py`.
    """

    start_ns: npt.NDArray[np.int64]
    first_w: npt.NDArray[np.float64]
    last_w: npt.NDArray[np.float64]
    period_ns: int = 0
    live: Path | None = None

    def __post_init__(self) -> None:
        ends = [*self.start_ns[1:], self.period_ns] if self.period_ns else self.start_ns[1:]
        if (
            len(self.start_ns) == 0
            or self.start_ns[0] != 0
            or np.any(ends <= self.start_ns[: len(ends)])
        ):
            raise ConfigError(
                "the pieces of a waveform do not follow each other from 0 on",
                remedy="give strictly increasing times, the first 0, the period after the last",
            )
        if not (np.all(np.isfinite(self.first_w)) and np.all(np.isfinite(self.last_w))):
            raise ConfigError("a waveform has a power that is no number", remedy="give watts")
        if min(self.first_w.min(), self.last_w.min()) < 0:
            raise ConfigError("a waveform has a negative power", remedy="give watts ≥ 0")

    def energy_j(self, t_ns: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """
        Joules from the origin to *t_ns*, in the same order of operations as `nvml.c`.

        Args:
            t_ns: nanoseconds since the origin; negative instants continue backwards.
        """
        rest_ns = np.asarray(t_ns, dtype=np.int64)
        first, last, start = self.first_w, self.last_w, self.start_ns
        prefix_j = np.zeros(len(start))
        prefix_j[1:] = np.cumsum(0.5 * (first[:-1] + last[:-1]) * (np.diff(start) * 1e-9))
        whole_j = np.zeros(rest_ns.shape)
        if self.period_ns:
            turns = rest_ns // self.period_ns
            rest_ns = rest_ns - turns * self.period_ns
            last_s = (self.period_ns - start[-1]) * 1e-9
            whole_j = turns * (prefix_j[-1] + 0.5 * (first[-1] + last[-1]) * last_s)
        piece = np.maximum(np.searchsorted(start, rest_ns, side="right") - 1, 0)
        into_s = (rest_ns - start[piece]) * 1e-9
        lengths_s = np.append(np.diff(start), self.period_ns - start[-1]) * 1e-9
        sloped = (lengths_s[piece] > 0) & (rest_ns >= 0)
        share = np.divide(into_s, lengths_s[piece], out=np.zeros_like(into_s), where=sloped)
        power_w = first[piece] + (last[piece] - first[piece]) * share
        energy: npt.NDArray[np.float64] = whole_j + (
            prefix_j[piece] + 0.5 * (first[piece] + power_w) * into_s
        )
        return energy


def from_pieces(
    pieces: Sequence[tuple[float, float, float]], *, period_s: float = 0.0, phase_s: float = 0.0
) -> Waveform:
    """
    Build a waveform from (start_s, first_w, last_w).

    Args:
        pieces: start in seconds and the powers at both ends, in order.
        period_s: 0: do not repeat.
        phase_s: how far into the period the waveform is at the origin; needs a period.
    """
    start_ns = np.array([round(piece[0] * _NS) for piece in pieces], dtype=np.int64)
    first_w = np.array([piece[1] for piece in pieces], dtype=np.float64)
    last_w = np.array([piece[2] for piece in pieces], dtype=np.float64)
    period_ns = round(period_s * _NS)
    shift_ns = round(phase_s * _NS) % period_ns if period_ns else 0
    waveform = Waveform(start_ns, first_w, last_w, period_ns)
    return _rotated(waveform, shift_ns) if shift_ns else waveform


def _rotated(waveform: Waveform, shift_ns: int) -> Waveform:
    """Return the same waveform beginning *shift_ns* into its period."""
    start, period_ns = waveform.start_ns, waveform.period_ns
    cut = int(np.searchsorted(start, shift_ns, side="right")) - 1
    end_ns = start[cut + 1] if cut + 1 < len(start) else period_ns
    share = (shift_ns - start[cut]) / (end_ns - start[cut])
    at_cut_w = waveform.first_w[cut] + (waveform.last_w[cut] - waveform.first_w[cut]) * share
    starts = [np.array([0]), start[cut + 1 :] - shift_ns, start[:cut] + period_ns - shift_ns]
    first = [np.array([at_cut_w]), waveform.first_w[cut + 1 :], waveform.first_w[:cut]]
    last = [waveform.last_w[cut:], waveform.last_w[:cut]]
    if shift_ns > start[cut]:
        starts.append(np.array([start[cut] + period_ns - shift_ns]))
        first.append(waveform.first_w[cut : cut + 1])
        last.append(np.array([at_cut_w]))
    return Waveform(np.concatenate(starts), np.concatenate(first), np.concatenate(last), period_ns)


def constant(*, power_w: float) -> Waveform:
    """One power for ever."""
    return from_pieces([(0.0, power_w, power_w)])


def square(
    *, low_w: float, high_w: float, period_s: float, duty_ratio: float = 0.5, phase_s: float = 0.0
) -> Waveform:
    """High for the first *duty_ratio* of each period, low for the rest."""
    pieces = [(0.0, high_w, high_w), (duty_ratio * period_s, low_w, low_w)]
    return from_pieces(pieces, period_s=period_s, phase_s=phase_s)


def ramp(*, low_w: float, high_w: float, period_s: float, phase_s: float = 0.0) -> Waveform:
    """Rise in a straight line over each period, then fall at once."""
    return from_pieces([(0.0, low_w, high_w)], period_s=period_s, phase_s=phase_s)


def sine(*, low_w: float, high_w: float, period_s: float, phase_s: float = 0.0) -> Waveform:
    """Sine in 256 straight pieces; the pieces are the truth."""
    knots = np.linspace(0.0, 1.0, 257)
    power_w = low_w + (high_w - low_w) * (0.5 + 0.5 * np.sin(2 * np.pi * knots))
    pieces = [
        (float(knots[i] * period_s), float(power_w[i]), float(power_w[i + 1])) for i in range(256)
    ]
    return from_pieces(pieces, period_s=period_s, phase_s=phase_s)


def decode(
    *,
    prefill_w: float = 690.0,
    decode_w: float = 430.0,
    ripple_w: float = 80.0,
    step_s: float = 0.028,
    period_s: float = 60.0,
    seed: float = 0.0,
    phase_s: float = 0.0,
) -> Waveform:
    """
    Draw something like an engine under load: prefill bursts between decode steps with a ripple.

    Invented, not measured: bursts of 0.05 to 0.4 s at *prefill_w*, then 10 to 80 steps of
    about *step_s*, high for 60 % of each, at a level that changes with the batch.
    """
    random = np.random.default_rng(round(seed))
    pieces: list[tuple[float, float, float]] = []
    t_s = 0.0
    while t_s < period_s:
        pieces.append((t_s, prefill_w, prefill_w))
        t_s += float(random.uniform(0.05, 0.4))
        level_w = decode_w * float(random.uniform(0.7, 1.1))
        step = step_s * float(random.uniform(0.8, 1.3))
        for _ in range(int(random.integers(10, 80))):
            pieces.append((t_s, level_w + 0.4 * ripple_w, level_w + 0.4 * ripple_w))
            pieces.append((t_s + 0.6 * step, level_w - 0.6 * ripple_w, level_w - 0.6 * ripple_w))
            t_s += step
    kept = [piece for piece in pieces if piece[0] < period_s - 1e-6]
    return from_pieces(kept, period_s=period_s, phase_s=phase_s)


def trace(path: Path, *, period_s: float = 0.0, phase_s: float = 0.0) -> Waveform:
    """
    Follow a file of `t_s,power_w` lines; each power holds until the next line.

    Raises:
        ConfigError: the file cannot be read, or a line is not two numbers.
    """
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2, comments="#")
        pieces = [(float(t), float(w), float(w)) for t, w in rows]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the trace {path} cannot be used ({error})",
            remedy="give lines of `seconds,watts`, the first at 0, in order of time",
        ) from error
    return from_pieces(pieces, period_s=period_s, phase_s=phase_s)


def live(path: Path, *, idle_w: float = 0.0) -> Waveform:
    """*idle_w* until a process writes records into *path*, see `live.py`."""
    level = np.array([idle_w])
    return Waveform(np.array([0], dtype=np.int64), level, level, 0, path)


_SHAPES: Final[Mapping[str, Callable[..., Waveform]]] = {
    "constant": constant,
    "square": square,
    "ramp": ramp,
    "sine": sine,
    "decode": decode,
    "trace": trace,
    "live": live,
}


def parse(text: str) -> Waveform:
    """
    Read `kind:key=value,key=value`, e.g. `square:low_w=70,high_w=680,period_s=2`.

    Raises:
        ConfigError: an unknown kind, key or value; the message lists what exists.
    """
    kind, _, rest = text.partition(":")
    if kind not in _SHAPES:
        raise ConfigError(
            f"there is no waveform {kind!r}", remedy=f"choose one of: {', '.join(_SHAPES)}"
        )
    values: dict[str, float] = {}
    paths: list[Path] = []
    for pair in filter(None, rest.split(",")):
        key, _, value = pair.partition("=")
        if key == "file":
            paths.append(Path(value))
            continue
        try:
            values[key] = float(value)
        except ValueError as error:
            raise ConfigError(
                f"{pair!r} in the waveform {text!r} is not key=number",
                remedy="write e.g. square:low_w=70,high_w=680,period_s=2",
            ) from error
    try:
        return _SHAPES[kind](*paths, **values)
    except TypeError as error:
        raise ConfigError(
            f"the waveform {text!r} lacks a key or has one too many ({error})",
            remedy="see docs/emulator.md for the keys of each waveform",
        ) from error
