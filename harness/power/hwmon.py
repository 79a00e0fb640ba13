"""Sensors that the kernel shows under hwmon: AMD sockets, Grace modules, ACPI meters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PER_MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Hwmon:
    """
    The sensors of hwmon whose boundary is known from their driver and label.

    Known are: `amd_energy` (energy of each socket), and ACPI's `power_meter`: on
    Grace the label says socket or module, without a label it meters the node's input.
    A sensor of any other driver is left out, since what it covers is not known.

    Args:
        root: where hwmon is mounted; another folder in tests.
    """

    root: Path = Path("/sys/class/hwmon")

    def open(self) -> _Session:
        """
        Find the readable sensors.

        Raises:
            PowerUnavailableError: there is none, or it may not be read.
        """
        found: list[tuple[Channel, Path]] = []
        denied: Path | None = None
        for folder in sorted(Path(self.root).glob("hwmon*")):
            for channel, path in _sensors(folder):
                try:
                    int(path.read_text(encoding="ascii"))
                except PermissionError:
                    denied = path
                except (OSError, ValueError):
                    continue
                else:
                    found.append((channel, path))
        if not found and denied is not None:
            raise PowerUnavailableError(
                f"hwmon has a power sensor but {denied} may not be read",
                remedy="run as root, or let this user read it",
            )
        if not found:
            raise PowerUnavailableError(
                f"no power sensor with a known boundary under {self.root}",
                remedy="use another power source (`joulemark list power`)",
            )
        return _Session(found)


def _sensors(folder: Path) -> list[tuple[Channel, Path]]:
    driver = _text(folder / "name")
    found: list[tuple[Channel, Path]] = []
    if driver == "amd_energy":
        for path in sorted(folder.glob("energy*_input")):
            label = _text(folder / path.name.replace("_input", "_label"))
            if label.startswith("Esocket"):
                found.append((_channel(path, "energy", "cpu_package", label), path))
    if driver == "power_meter":
        for path in sorted(folder.glob("power*_average")):
            label = _text(folder / path.name.replace("_average", "_oem_info"))
            label = label or _text(folder / "device" / path.name.replace("_average", "_oem_info"))
            boundary = _acpi_boundary(label)
            if boundary is not None:
                found.append((_channel(path, "power", boundary, label or "acpi"), path))
    return found


def _acpi_boundary(label: str) -> Boundary | None:
    if not label:
        return "node"
    if label.startswith("Module Power"):
        return "gpu_module"
    # "CPU Power" and "SysIO Power" are parts of what "Grace Power" covers.
    return "cpu_package" if label.startswith("Grace Power") else None


def _channel(
    path: Path, quantity: Literal["energy", "power"], boundary: Boundary, label: str
) -> Channel:
    stem = path.name.partition("_")[0]
    return Channel(
        name=f"hwmon:{path.parent.name}:{stem}",
        quantity=quantity,
        boundary=boundary,
        device=f"{path.parent.name}:{label}",
        power_kind="measured",
        method=f"hwmon {_text(path.parent / 'name')}, {label}",
        quantum=_PER_MICRO,
        sense="counter" if quantity == "energy" else "average",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


class _Session:
    """What `Hwmon.open` returns."""

    def __init__(self, found: Sequence[tuple[Channel, Path]]) -> None:
        self.calls: list[tuple[Channel, ...]] = [(channel,) for channel, _ in found]
        self.period_s: float | None = None
        self._paths = [path for _, path in found]

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        try:
            value = int(self._paths[call].read_text(encoding="ascii"))
        except PermissionError:
            return [(math.nan, ReadStatus.NO_PERMISSION)]
        except (OSError, ValueError):
            return [(math.nan, ReadStatus.LOST)]
        return [(value * _PER_MICRO, ReadStatus.OK)]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        return {"sensors": [str(path) for path in self._paths]}

    def close(self) -> None:
        pass


PLUGIN: type[PowerSource] = Hwmon
