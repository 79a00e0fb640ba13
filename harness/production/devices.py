"""Chooses among what the power sources offer: the devices to be attributed, and what is beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness import plugins
from harness.errors import ConfigError, PowerUnavailableError
from harness.schema import build
from harness.timeline import Boundary, Channel

from .reader import SourceReader
from .readings import Device
from .settings import MeterConfig

_GPUS: Final[tuple[Boundary, ...]] = ("gpu", "gpu_module")
_BESIDE: Final = {"gpu_memory"}
"""Part of what the GPU's own meter shows already."""
_METERS: Final = ("nvml", "rapl")
_WITHOUT_METER: Final = "cpu_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """
    One device and the channel that meters it.

    Args:
        device: for the account.
        reader: its source.
        channel: name of the channel its readings are under.
        attributed: its joules are divided among models; False: exported beside.
    """

    device: Device
    reader: SourceReader
    channel: str
    attributed: bool


def open_sources(config: MeterConfig, *, power_hz: float) -> list[SourceReader]:
    """
    Open the configured sources, or with `auto` every meter there is, else the CPU's model.

    Raises:
        PowerUnavailableError: one of them, or with `auto` all of them, cannot be read.
        ConfigError: an unknown source or option.
    """
    if config.sources != ("auto",):
        return [_open(kind, config.options, power_hz) for kind in config.sources]
    opened: list[SourceReader] = []
    refusals = []
    for kind in (*_METERS, _WITHOUT_METER):
        if kind == _WITHOUT_METER and opened:
            break
        try:
            opened.append(_open(kind, config.options, power_hz))
        except PowerUnavailableError as error:
            refusals.append(str(error))
    if not opened:
        raise PowerUnavailableError(
            f"no power source can be read here ({'; '.join(refusals)})",
            remedy="`joulemark doctor` says why",
        )
    return opened


def _open(kind: str, options: Mapping[str, Any], power_hz: float) -> SourceReader:
    source = build(plugins.load("power", kind), dict(options.get(kind, {})), where=f"power.{kind}")
    return SourceReader(kind, source, power_hz=power_hz)


def choose(readers: Sequence[SourceReader], wanted: Sequence[Boundary]) -> list[Metered]:
    """
    One channel for each device: a counter rather than watts, the first source that has it.

    Args:
        readers: opened sources.
        wanted: boundaries that are attributed; empty: GPUs if any, else CPU packages.

    Raises:
        ConfigError: nothing is left to attribute.
    """
    best: dict[tuple[str, str], tuple[Channel, SourceReader]] = {}
    for reader in readers:
        for channel in _by_trust(reader.channels):
            if channel.boundary not in _BESIDE:
                key = (_place(channel.boundary), channel.device)
                best.setdefault(key, (channel, reader))
    boundaries = {channel.boundary for channel, _ in best.values()}
    gpus = [boundary for boundary in _GPUS if boundary in boundaries]
    chosen = list(wanted) or gpus or ["cpu_package"]
    metered = [
        Metered(
            device=_device(channel, reader),
            reader=reader,
            channel=channel.name,
            attributed=channel.boundary in chosen,
        )
        for channel, reader in best.values()
    ]
    if not any(one.attributed for one in metered):
        raise ConfigError(
            f"no device with boundary {', '.join(chosen)} is metered, only {sorted(boundaries)}",
            remedy="set power.boundaries, or power.sources",
        )
    return metered


def _by_trust(channels: Iterable[Channel]) -> list[Channel]:
    senses = ("counter", "instant", "mean", "average")
    return sorted(channels, key=lambda one: (one.quantity != "energy", senses.index(one.sense)))


def _place(boundary: Boundary) -> str:
    # One board: what its only counter covers is what it is.
    return "gpu" if boundary in _GPUS else boundary


def _device(channel: Channel, reader: SourceReader) -> Device:
    return Device(
        uuid=channel.device,
        boundary=channel.boundary,
        power_kind=channel.power_kind,
        source=reader.name,
        method=channel.method,
        wraps_at_j=channel.wraps_at,
    )
