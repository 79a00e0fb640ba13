"""Searches the ways to serve for the best limit at a given interactivity, and measures distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from harness.cost import formulas as cost

from .bound import Bound, Device, Physics, Precision, Serving, Sharing, bound, seconds, step
from .model import ModelShape

USABLE_MEMORY_RATIO: Final = 0.92
"""Share of device memory an engine can fill; the rest is activations and the runtime."""
NODE_DEVICES: Final = 8
"""Beyond one node's devices, experts are spread over the rack."""
MOST_SEQUENCES: Final = 4096
"""Per device; the search ends there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """
    How far a measurement is from the limit of its own operating point.

    Args:
        limit: the bound it is compared with.
        time_ratio: measured rate over the time bound; at most 1 unless the model is wrong.
        mbu_ratio: memory bandwidth used over what the device has.
        mfu_ratio: arithmetic used over what the device has.
        over_phys_ratio: measured joules over transport and arithmetic; None without joules.
        over_roof_ratio: measured joules over the calibrated limit; None without either.
    """

    limit: Bound
    time_ratio: float
    mbu_ratio: float
    mfu_ratio: float
    over_phys_ratio: float | None
    over_roof_ratio: float | None


def natural(model: ModelShape, serving: Serving) -> Serving:
    """The same serving with products at the precision the weights' width suggests."""
    return replace(
        serving,
        expert_precision=_precision(model.expert_bits),
        linear_precision=_precision(model.linear_bits),
    )


def _precision(bits: float) -> Precision:
    # Four-bit weights run against eight-bit activations in today's engines, hence not fp4.
    widest_quantised = 9
    return "fp8" if bits < widest_quantised else "bf16"


def distance(
    model: ModelShape,
    device: Device,
    serving: Serving,
    physics: Physics,
    *,
    tok_per_s: float,
    j_per_token: float | None,
) -> Distance:
    """
    Compare a measured point with its limit.

    Args:
        model: the shape.
        device: the accelerator.
        serving: the point's mean batch, lengths, devices.
        physics: of the floor.
        tok_per_s: measured output tokens a second of one device.
        j_per_token: measured board joules per output token, over all devices.
    """
    cost.require("tok_per_s", tok_per_s, above=True)
    limit = bound(model, device, serving, physics)
    realised_s = serving.batch / (tok_per_s * serving.devices)
    times = seconds(step(model, serving), device, serving)
    roof = limit.j_roof_per_token
    return Distance(
        limit=limit,
        time_ratio=tok_per_s / limit.time_tok_per_s,
        mbu_ratio=times["memory"] / realised_s,
        mfu_ratio=times["arithmetic"] / realised_s,
        over_phys_ratio=None if j_per_token is None else j_per_token / limit.j_phys_per_token,
        over_roof_ratio=None if j_per_token is None or roof is None else j_per_token / roof,
    )


def fits(model: ModelShape, device: Device, serving: Serving) -> bool:
    """Whether weights and the caches of a full batch fit into the devices' memory."""
    n = serving.devices
    if serving.sharing == "tp":
        weights = model.weight_bytes / n
    else:
        weights = model.all_experts_bytes / n + model.weight_bytes - model.all_experts_bytes
    length = serving.input_tokens + serving.output_tokens
    caches = serving.batch * model.attended(length) * model.kv_values * serving.kv_bytes / n
    return weights + caches < USABLE_MEMORY_RATIO * device.memory_bytes


def fewest_devices(model: ModelShape, device: Device, serving: Serving) -> int | None:
    """Devices that tensor parallelism needs for *serving* to fit: 1, 2, 4 or 8; None if more."""
    for devices in (1, 2, 4, NODE_DEVICES):
        if fits(model, device, replace(serving, devices=devices, sharing="tp")):
            return devices
    return None


def candidates(model: ModelShape, device: Device, serving: Serving) -> Iterator[Serving]:
    """Ways to serve: device counts of the scale-up domain, both sharings, batches 25 % apart."""
    wide = (NODE_DEVICES, 16, 36, 72)
    counts: dict[Sharing, tuple[int, ...]] = {
        "tp": (1, 2, 4, NODE_DEVICES),
        "ep": (2, 4, NODE_DEVICES) if device.scale_up_domain <= NODE_DEVICES else wide,
    }
    for sharing, numbers in counts.items():
        if sharing == "ep" and model.moe_layers == 0:
            continue
        for devices in numbers:
            if devices > device.scale_up_domain:
                continue
            batch = 1 if sharing == "tp" else devices
            while batch <= MOST_SEQUENCES * devices:
                yield replace(serving, sharing=sharing, devices=devices, batch=batch)
                batch = int(batch * 1.25) + 1


def frontier(model: ModelShape, device: Device, serving: Serving, physics: Physics) -> list[Bound]:
    """The limits of every way to serve that fits; `best` picks from them."""
    return [
        bound(model, device, way, physics)
        for way in candidates(model, device, serving)
        if fits(model, device, way)
    ]


def best(limits: list[Bound], *, interactivity_tok_per_s: float) -> Bound | None:
    """The highest rate at which each user still gets that many tokens a second; None if none."""
    fast = [one for one in limits if one.interactivity_tok_per_s >= interactivity_tok_per_s]
    return max(fast, key=lambda one: one.tok_per_s, default=None)
