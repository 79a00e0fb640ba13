"""The power beside the accelerator: metered at the wall, summed from parts, or from nameplates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import formulas as cost
from .catalogue import Accelerator, Catalogue, Figure, Source
from .point import Point

ACCELERATOR_BOUNDARIES: Final = frozenset({"gpu", "gpu_module"})
WHOLE_BOUNDARIES: Final = frozenset({"node", "chassis"})
DERIVED: Final = Source(
    key="derived",
    title="computed from other inputs",
    where="docs/cost.md",
    date="now",
    grade="derived",
)


def host_power(
    figures: dict[str, Figure],
    catalogue: Catalogue,
    point: Point,
    accelerator: Accelerator | None,
) -> str:
    """Add `other_active_w` by the best method there is; say which."""
    if "other_active_w" in figures:
        return "given"
    if point.boundary not in ACCELERATOR_BOUNDARIES | WHOLE_BOUNDARIES:
        return "left out"
    return _host_of_accelerator(figures, catalogue, point, accelerator)


def _host_of_accelerator(
    figures: dict[str, Figure],
    catalogue: Catalogue,
    point: Point,
    accelerator: Accelerator | None,
) -> str:
    if point.boundary in WHOLE_BOUNDARIES:
        figures["other_active_w"] = derived(0.0, "the meter sees the whole machine")
        return "inside the metered boundary"
    if point.wall_w is not None:
        other = cost.other_from_wall_w(point.wall_w, point.device_w)
        figures["other_active_w"] = derived(other, "wall meter less the devices")
        return "measured at the wall"
    if point.parts_w is not None:
        figures["other_active_w"] = derived(
            _from_parts(figures, point, point.parts_w), "RAPL and fans over the supply's efficiency"
        )
        return "RAPL and fans"
    tdp_w = None if accelerator is None else accelerator.value("tdp_w")
    if accelerator is None or tdp_w is None or "all_in_w" not in figures:
        return "left out"
    drawn = catalogue.defaults.figures["nameplate_drawn_ratio"]
    nameplate_w = cost.other_from_nameplate_w(figures["all_in_w"].value, tdp_w)
    figures["other_active_w"] = Figure(
        value=nameplate_w * drawn.value,
        low=nameplate_w * drawn.low,
        high=nameplate_w * drawn.high,
        source=DERIVED,
        note="all-in power less TDP, times the share of the nameplate that is drawn",
    )
    figures["nameplate_drawn_ratio"] = drawn
    figures["tdp_w"] = accelerator.figures["tdp_w"]
    return "nameplate: an upper estimate"


def _from_parts(figures: Mapping[str, Figure], point: Point, parts_w: float) -> float:
    efficiency = figures["psu_efficiency_ratio"].value
    fans_w = point.fans_w
    if fans_w is None:
        # Fans are a share of IT power, which they are part of: solved for IT power.
        fan_ratio = figures["fan_ratio"].value
        fans_w = fan_ratio * (point.device_w + parts_w) / (efficiency - fan_ratio)
    return cost.other_from_parts_w(parts_w, fans_w, point.device_w, psu_efficiency_ratio=efficiency)


def derived(value: float, note: str) -> Figure:
    """A figure computed from other inputs."""
    return Figure(value=value, source=DERIVED, low=value, high=value, note=note)
