"""Fits a board's power to measured points: static watts, energy a byte, energy an operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.errors import ConfigError

from .bound import Serving, step
from .model import ModelShape

LEAST_POINTS: Final = 5
TERMS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """
    A published or own measurement of one model on one kind of accelerator.

    Args:
        accelerator: key of the catalogue.
        devices: of the replica, tensor parallel.
        batch: sequences running, on average.
        output_tokens: of a request, on average.
        tok_per_s: output tokens a second over all devices.
        device_w: mean power of one board.
        j_per_token: board joules per output token, over all devices.
        median_itl_ms: between two chunks.
    """

    accelerator: str
    devices: int
    batch: float
    output_tokens: float
    tok_per_s: float
    device_w: float
    j_per_token: float
    median_itl_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """
    Board power = static + memory energy x bytes/s + work energy x operations/s.

    Args:
        static_w: clocks up, no work.
        memory_j_per_byte: effective at the board, 3 to 4 times the memory's own.
        work_j_per_flop: effective, everything a token brings that is not memory traffic.
        r2: share of the variance explained.
        rmse_w: of the fitted points.
        held_out_rmse_w: each point predicted from a fit to the others: the honest error.
        n: points.
    """

    static_w: float
    memory_j_per_byte: float
    work_j_per_flop: float
    r2: float
    rmse_w: float
    held_out_rmse_w: float
    n: int


def serving_of(point: MeasuredPoint, *, input_tokens: float) -> Serving:
    """The decode-dominated serving a point was measured at."""
    return Serving(
        batch=point.batch,
        devices=point.devices,
        input_tokens=input_tokens,
        output_tokens=point.output_tokens,
        decode_only=True,
    )


def fit(model: ModelShape, points: Sequence[MeasuredPoint], *, input_tokens: float) -> Fit:
    """
    Least squares over *points*, which must be of one kind of accelerator.

    Raises:
        ConfigError: too few points for three unknowns.
    """
    if len(points) < LEAST_POINTS:
        raise ConfigError(
            f"{len(points)} points cannot fit {TERMS} unknowns, {LEAST_POINTS} is the least",
            remedy="measure more batch sizes",
        )
    rows = []
    for point in points:
        work = step(model, serving_of(point, input_tokens=input_tokens))
        steps_per_s = point.tok_per_s / point.batch
        flop = work.expert_flop + work.linear_flop
        # In tera, so that the columns are of like size.
        rows.append((1.0, work.memory_bytes * steps_per_s / 1e12, flop * steps_per_s / 1e12))
    terms = np.array(rows)
    power = np.array([point.device_w for point in points])
    solved = np.linalg.lstsq(terms, power, rcond=None)[0]
    errors = power - terms @ solved
    leverage = np.einsum("ij,ji->i", terms, np.linalg.pinv(terms))
    held_out = errors / (1 - leverage)
    return Fit(
        static_w=float(solved[0]),
        memory_j_per_byte=float(solved[1]) / 1e12,
        work_j_per_flop=float(solved[2]) / 1e12,
        r2=1.0 - float(errors @ errors) / float(((power - power.mean()) ** 2).sum()),
        rmse_w=float(np.sqrt((errors**2).mean())),
        held_out_rmse_w=float(np.sqrt((held_out**2).mean())),
        n=len(points),
    )


def gemm_j_per_flop(fitted: Fit, *, tdp_w: float, gemm_flop_per_s: float) -> float:
    """What is left of the TDP over the fastest measured eight-bit matrix product."""
    return (tdp_w - fitted.static_w) / gemm_flop_per_s
