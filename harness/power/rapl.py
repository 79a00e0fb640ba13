"""CPU package and DRAM energy from Linux's powercap interface to RAPL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.contracts import PowerSource
from harness.errors import PowerUnavailableError
from harness.timeline import Boundary, Channel, ReadStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_JOULES_PER_MICROJOULE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rapl:
    """
    Energy counters of each CPU package and, where there is one, of its DRAM.

    The psys domain is left out: it contains the package, and on many boards it
    is not what its name says. The counters wrap, at `max_energy_range_uj`.

    Args:
        root: where powercap is mounted; another folder in tests.
    """

    root: Path = Path("/sys/class/powercap")

    def open(self) -> _Session:
        """
        Find the readable domains.

        Raises:
            PowerUnavailableError: there is no RAPL, or it may not be read.
        """
        found: list[tuple[Channel, Path]] = []
        denied: Path | None = None
        # A root given in TOML arrives as text.
        for zone in sorted(Path(self.root).glob("intel-rapl:*")):
            name = _text(zone / "name")
            boundary = _boundary(name)
            if boundary is None:
                continue
            energy = zone / "energy_uj"
            try:
                energy.read_text(encoding="ascii")
            except PermissionError:
                denied = energy
                continue
            except OSError:
                continue
            found.append((_channel(zone, boundary), energy))
        if not found and denied is not None:
            raise PowerUnavailableError(
                f"RAPL is here but {denied} may not be read",
                remedy="run as root, or `sudo chmod a+r` the energy_uj files",
            )
        if not found:
            raise PowerUnavailableError(
                f"no RAPL domain under {self.root}",
                remedy="use a machine whose kernel shows RAPL, or another power source",
            )
        return _Session(found)


def _boundary(name: str) -> Boundary | None:
    if name.startswith("package"):
        return "cpu_package"
    return "cpu_dram" if name == "dram" else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _channel(zone: Path, boundary: Boundary) -> Channel:
    limit = _text(zone / "max_energy_range_uj")
    # A sub-zone is intel-rapl:PACKAGE:N; its parent's number names the device.
    package = zone.name.split(":")[1]
    return Channel(
        name=f"rapl:{zone.name}",
        quantity="energy",
        boundary=boundary,
        device=f"package-{package}",
        power_kind="measured",
        method=f"RAPL {_text(zone / 'name')}, powercap {zone.name}",
        quantum=_JOULES_PER_MICROJOULE,
        wraps_at=float(limit) * _JOULES_PER_MICROJOULE if limit else None,
        sense="counter",
    )


class _Session:
    """What `Rapl.open` returns."""

    def __init__(self, found: Sequence[tuple[Channel, Path]]) -> None:
        self.calls: list[tuple[Channel, ...]] = [(channel,) for channel, _ in found]
        self.period_s: float | None = None
        self._paths = [path for _, path in found]
        # sysfs makes the text anew at each read from offset 0, so one open file serves.
        self._files = [path.open("rb", buffering=0) for path in self._paths]

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        handle = self._files[call]
        try:
            handle.seek(0)
            return [(int(handle.read(32)) * _JOULES_PER_MICROJOULE, ReadStatus.OK)]
        except PermissionError:
            return [(math.nan, ReadStatus.NO_PERMISSION)]
        except (OSError, ValueError):
            return [(math.nan, ReadStatus.LOST)]

    def watch(self, pids: Sequence[int]) -> None:
        del pids

    def facts(self) -> Mapping[str, Any]:
        domains = {}
        for path in self._paths:
            zone = path.parent
            domains[zone.name] = {
                "name": _text(zone / "name"),
                "max_energy_range_uj": _text(zone / "max_energy_range_uj"),
                "power_limit_uw": _text(zone / "constraint_0_power_limit_uw") or None,
            }
        return {"domains": domains}

    def close(self) -> None:
        for handle in self._files:
            handle.close()


PLUGIN: type[PowerSource] = Rapl
