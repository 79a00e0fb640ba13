"""The physical limit: the least time and the least energy a token can take on given silicon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from harness.cost import formulas as cost
from harness.errors import ConfigError

from .model import ModelShape

Sharing = Literal["tp", "ep"]
"""`tp`: weights and cache divided over the devices. `ep`: experts divided, attention copied."""
Precision = Literal["fp4", "fp8", "bf16"]

ENERGY_OF_FP8: Final[Mapping[str, float]] = {"fp4": 0.5, "fp8": 1.0, "bf16": 2.0}
"""Energy of an operation over that at eight bits: in proportion to the width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """
    An accelerator, in SI units.

    Args:
        name: for the reader.
        tdp_w: the power it may draw for long.
        memory_bytes: of its own.
        bandwidth_bytes_per_s: of that memory.
        peak_flop_per_s: dense rate by precision; a precision it lacks is absent.
        link_bytes_per_s: scale-up, one direction.
        scale_up_domain: devices on one such link.
        static_w: board power, clocks up, no work; None if not calibrated, like the next two.
        memory_j_per_byte: board energy of a byte moved.
        fp8_j_per_flop: board energy of an eight-bit operation.
    """

    name: str
    tdp_w: float | None
    memory_bytes: float
    bandwidth_bytes_per_s: float
    peak_flop_per_s: Mapping[str, float]
    link_bytes_per_s: float
    scale_up_domain: int
    static_w: float | None = None
    memory_j_per_byte: float | None = None
    fp8_j_per_flop: float | None = None

    def peak(self, precision: str) -> float:
        """The rate at *precision*, or at the next wider one the device has."""
        widths = list(ENERGY_OF_FP8)
        for width in widths[widths.index(precision) :]:
            if width in self.peak_flop_per_s:
                return self.peak_flop_per_s[width]
        raise ConfigError(f"{self.name} has no rate for {precision}", remedy="add one to its entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """Transport and arithmetic without leakage or control; see `docs/cost.md` for sources."""

    memory_j_per_byte: float
    fp8_j_per_flop: float
    link_j_per_byte: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """
    How the model is served.

    Args:
        batch: sequences decoded at once, over all devices of the replica.
        devices: of the replica.
        sharing: how they divide the work.
        input_tokens: of a request.
        output_tokens: of a request.
        decode_only: leave the prompts' work out.
        kv_bytes: a cached value: 2 for BF16, 1 for FP8.
        expert_precision: at which the experts' products run.
        linear_precision: same of attention and dense layers.
    """

    batch: float
    devices: int = 1
    sharing: Sharing = "tp"
    input_tokens: float = 1024
    output_tokens: float = 1024
    decode_only: bool = False
    kv_bytes: float = 2.0
    expert_precision: Precision = "fp8"
    linear_precision: Precision = "bf16"

    @property
    def mean_context(self) -> float:
        """Tokens behind a decoded token, on average."""
        return self.input_tokens + self.output_tokens / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one device does, in bytes and operations; adds up over steps."""

    memory_bytes: float
    expert_flop: float
    linear_flop: float
    link_bytes: float

    def scaled(self, factor: float) -> Work:
        """The work of *factor* such steps."""
        return Work(
            memory_bytes=self.memory_bytes * factor,
            expert_flop=self.expert_flop * factor,
            linear_flop=self.linear_flop * factor,
            link_bytes=self.link_bytes * factor,
        )

    def plus(self, other: Work) -> Work:
        """Both, one after the other."""
        return Work(
            memory_bytes=self.memory_bytes + other.memory_bytes,
            expert_flop=self.expert_flop + other.expert_flop,
            linear_flop=self.linear_flop + other.linear_flop,
            link_bytes=self.link_bytes + other.link_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """
    The limit at one operating point; rates and powers are of one device.

    Args:
        serving: the point.
        time_tok_per_s: output tokens a second if only memory, arithmetic and link bound it.
        tok_per_s: the same under the board's power limit; equal to the above if not calibrated.
        interactivity_tok_per_s: of one user, from tok_per_s.
        bound_by: `memory`, `arithmetic`, `link` or `power`.
        j_phys_per_token: transport and arithmetic alone.
        j_roof_per_token: calibrated board energy; None if the device is not calibrated.
        device_w: board power at that point; None like the above.
        memory_bytes_per_token: moved, over all devices.
        flop_per_token: over all devices.
        coverage_ratio: share of experts a step touches.
    """

    serving: Serving
    time_tok_per_s: float
    tok_per_s: float
    interactivity_tok_per_s: float
    bound_by: str
    j_phys_per_token: float
    j_roof_per_token: float | None
    device_w: float | None
    memory_bytes_per_token: float
    flop_per_token: float
    coverage_ratio: float


def step(model: ModelShape, serving: Serving, *, prompt_tokens: float = 0.0) -> Work:
    """
    What each device does in one forward step.

    Args:
        model: the shape.
        serving: *batch* sequences are decoded at their mean context.
        prompt_tokens: of prompts processed in the same step (chunked prefill).
    """
    n, batch, context = serving.devices, serving.batch, serving.mean_context
    tokens = batch + prompt_tokens
    value_bytes = model.kv_values * serving.kv_bytes
    cache = (batch * model.attended(context) + tokens * model.layers) * value_bytes
    experts = model.all_experts_bytes * model.coverage(tokens)
    looked_up = tokens * model.hidden * model.float_bytes
    copied = model.step_bytes if serving.sharing == "ep" else model.step_bytes / n
    seen = model.attended(serving.input_tokens / 2)
    attention = model.attention_flop * (batch * model.attended(context) + prompt_tokens * seen)
    products = 2 * (tokens * (model.linear_params + model.router_params))
    linear_flop = products + 2 * batch * model.embedding_params + attention
    routed = 2 * model.moe_layers * model.top_k * model.expert_matrix_params
    return Work(
        memory_bytes=(experts + cache + looked_up) / n + copied,
        expert_flop=tokens * routed / n,
        linear_flop=linear_flop / n,
        link_bytes=_link_bytes(model, serving, tokens),
    )


def _link_bytes(model: ModelShape, serving: Serving, tokens: float) -> float:
    n = serving.devices
    if n == 1:
        return 0.0
    others = (n - 1) / n
    if serving.sharing == "tp":
        # Two ring all-reduces a layer, each sends the 16-bit activations twice.
        return 2 * model.layers * tokens * model.hidden * 2 * 2 * others
    # To the experts at eight bits, back at sixteen.
    return model.moe_layers * tokens / n * model.top_k * model.hidden * (1 + 2) * others


def seconds(work: Work, device: Device, serving: Serving) -> dict[str, float]:
    """The time each resource needs for *work*; the longest is the bound, overlap being perfect."""
    return {
        "memory": work.memory_bytes / device.bandwidth_bytes_per_s,
        "arithmetic": work.expert_flop / device.peak(serving.expert_precision)
        + work.linear_flop / device.peak(serving.linear_precision),
        "link": work.link_bytes / device.link_bytes_per_s,
    }


def physical_j(work: Work, serving: Serving, physics: Physics) -> float:
    """Transport and arithmetic of *work*; a link's byte is paid at both ends."""
    return (
        work.memory_bytes * physics.memory_j_per_byte
        + _fp8_flop(work, serving) * physics.fp8_j_per_flop
        + 2 * work.link_bytes * physics.link_j_per_byte
    )


def _fp8_flop(work: Work, serving: Serving) -> float:
    return (
        work.expert_flop * ENERGY_OF_FP8[serving.expert_precision]
        + work.linear_flop * ENERGY_OF_FP8[serving.linear_precision]
    )


def bound(model: ModelShape, device: Device, serving: Serving, physics: Physics) -> Bound:
    """
    The least time and energy an output token can take.

    Prompts ride along with decoding: of each window of *output_tokens* steps, as many steps as
    there are sequences carry a share of the prompts.

    Returns:
        Rates of one device, joules over all devices of the replica.

    Raises:
        ConfigError: a batch, length or device count that cannot be.
    """
    for name in ("batch", "devices", "input_tokens", "output_tokens", "kv_bytes"):
        cost.require(name, getattr(serving, name), above=True)
    plain = step(model, serving)
    mixed_steps = 0.0 if serving.decode_only else min(serving.batch, serving.output_tokens)
    plain_steps = serving.output_tokens - mixed_steps
    times = seconds(plain, device, serving)
    time_s = plain_steps * max(times.values())
    work = plain.scaled(plain_steps)
    if mixed_steps:
        prompts = serving.batch * serving.input_tokens / mixed_steps
        mixed = step(model, serving, prompt_tokens=prompts)
        time_s += mixed_steps * max(seconds(mixed, device, serving).values())
        work = work.plus(mixed.scaled(mixed_steps))
    tokens = serving.batch * serving.output_tokens
    capped_s, energy_j = _under_power(work, device, serving, time_s)
    all_devices = serving.devices / tokens
    return Bound(
        serving=serving,
        time_tok_per_s=tokens / time_s / serving.devices,
        tok_per_s=tokens / capped_s / serving.devices,
        interactivity_tok_per_s=serving.output_tokens / capped_s,
        bound_by="power" if capped_s > time_s else max(times, key=lambda name: times[name]),
        j_phys_per_token=physical_j(work, serving, physics) * all_devices,
        j_roof_per_token=None if energy_j is None else energy_j * all_devices,
        device_w=None if energy_j is None else energy_j / capped_s,
        memory_bytes_per_token=work.memory_bytes * all_devices,
        flop_per_token=(work.expert_flop + work.linear_flop) * all_devices,
        coverage_ratio=model.coverage(serving.batch),
    )


def _under_power(
    work: Work, device: Device, serving: Serving, time_s: float
) -> tuple[float, float | None]:
    """Time and board energy; where the board would pass its TDP the clocks fall, time stretches."""
    static_w, per_byte, per_flop = (
        device.static_w,
        device.memory_j_per_byte,
        device.fp8_j_per_flop,
    )
    if static_w is None or per_byte is None or per_flop is None or device.tdp_w is None:
        return time_s, None
    moving_j = work.memory_bytes * per_byte + _fp8_flop(work, serving) * per_flop
    capped_s = max(time_s, moving_j / (device.tdp_w - static_w))
    return capped_s, moving_j + static_w * capped_s
