"""The distance of a measured point from the physical limit of its own silicon."""

from __future__ import annotations

from typing import Final

from harness.cost.catalogue import Accelerator, device
from harness.cost.point import Point

from .bound import Physics, Serving
from .model import ModelShape
from .search import Distance, distance, natural

COMPARABLE: Final = frozenset({"measured", "given"})
"""Power kinds that may stand beside measured points: never emulated, never modelled."""
ASSUMED_TOKENS: Final = 300.0
"""Of a prompt or an answer whose length is not known; moves the bound by little."""


def running_sequences(point: Point) -> float | None:
    """How many are served at once: as measured, or by Little's law from the two rates."""
    if point.batch is not None:
        return point.batch
    if not point.interactivity_tok_per_s:
        return None
    return point.tok_per_s * point.devices / point.interactivity_tok_per_s


def distance_of_point(
    point: Point, accelerator: Accelerator | None, model: ModelShape, physics: Physics
) -> Distance | None:
    """
    Compare a point with the limit at its own batch and lengths.

    Args:
        point: measured; `cost_point.of_run` reads one from a record.
        accelerator: it ran on.
        model: it ran; the caller knows that it is this one.
        physics: `Catalogue.physics()`.

    Returns:
        The distance; None if accelerator or batch are not known, if the point does not count
        output tokens, or if its power is emulated or modelled.
    """
    batch = running_sequences(point)
    told = point.power_kind in COMPARABLE and point.basis == "output"
    if accelerator is None or batch is None or not told:
        return None
    serving = natural(
        model,
        Serving(
            batch=batch,
            devices=point.devices,
            input_tokens=point.input_tokens or ASSUMED_TOKENS,
            output_tokens=point.output_tokens or ASSUMED_TOKENS,
            decode_only=True,
        ),
    )
    return distance(
        model,
        device(accelerator),
        serving,
        physics,
        tok_per_s=point.tok_per_s,
        j_per_token=point.j_per_token,
    )
