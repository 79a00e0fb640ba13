"""What the daemon can be told: one frozen dataclass a section of `exporter.toml`."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.errors import ConfigError
from harness.schema import build, unknown
from harness.timeline import Boundary

from .books import Tariff, between

_SECTIONS = ("exporter", "power", "attribution", "cost", "targets", "discovery", "engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterConfig:
    """
    The daemon itself: `[exporter]`.

    Args:
        listen: address and port; loopback unless you say otherwise.
        web_config_file: TLS and passwords, in exporter-toolkit's format.
        state_file: where counters are kept over restarts; None: they start at 0 each time.
        state_s: seconds between saves; a kill loses at most this much.
        sync_s: seconds between saves that are forced to the disk.
        snapshot_s: seconds between snapshots of meters and engines.
        power_hz: how often a second watts are read.
        max_owners: distinct model instances that get series of their own.
        max_connections: open connections of scrapers; more are turned away.
    """

    listen: str = "127.0.0.1:9778"
    web_config_file: Path | None = None
    state_file: Path | None = None
    state_s: float = 1.0
    sync_s: float = 60.0
    snapshot_s: float = 1.0
    power_hz: float = 20.0
    max_owners: int = 256
    max_connections: int = 64

    def __post_init__(self) -> None:
        between("exporter.snapshot_s", self.snapshot_s, 0.1, 60)
        between("exporter.power_hz", self.power_hz, 0.1, 100)
        between("exporter.state_s", self.state_s, 0.1, 3600)
        between("exporter.max_owners", self.max_owners, 1, 100_000)
        between("exporter.max_connections", self.max_connections, 1, 10_000)
        self.address()

    def address(self) -> tuple[str, int]:
        """Host and port of *listen*."""
        host, colon, port = self.listen.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - a port
            raise ConfigError(
                f"exporter.listen is {self.listen!r}", remedy="write address:port, e.g. :9778"
            )
        return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - asked for by ":PORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterConfig:
    """
    Where joules are read: `[power]`, and `[power.KIND]` for a source's own options.

    Args:
        sources: kinds of power source; `auto`: NVML and RAPL, else the CPU model.
        boundaries: what is attributed to models; empty: GPUs if there are any, else
            the CPU packages. Everything else metered is exported beside, as host energy.
        max_gap_s: the longest silence that a counter bridges.
        provisioned_w: all-in power reserved for one device; None: not known.
        options: kind → its options.
    """

    sources: tuple[str, ...] = ("auto",)
    boundaries: tuple[Boundary, ...] = ()
    max_gap_s: float = 5.0
    provisioned_w: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionConfig:
    """
    Whose joules they are: `[attribution]`.

    Args:
        silent_after_s: an engine that has not answered for so long owns nothing.
        processes: ask NVML for the SM share of processes on shared GPUs.
        processes_s: how often.
        dcgm_url: a dcgm-exporter with profiling fields, for MIG activity; None: none.
    """

    silent_after_s: float = 15.0
    processes: bool = True
    processes_s: float = 2.0
    dcgm_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsConfig:
    """
    What may be scraped: `[targets]`.

    Args:
        allow: networks; link-local, multicast and unspecified addresses never are.
        timeout_s: for one scrape, from connecting to its last byte.
        max_bytes: of one answer.
    """

    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    timeout_s: float = 0.8
    max_bytes: int = 8_000_000

    def __post_init__(self) -> None:
        for text in self.allow:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ConfigError(
                    f"targets.allow has {text!r} ({error})", remedy="write e.g. 10.0.0.0/8"
                ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """
    Engines found by their pods' annotations: `[discovery.kubernetes]`.

    Args:
        node: only pods on this node; None: $NODE_NAME.
        api: the API server; None: the one in whose pod the daemon runs.
        token_file: read afresh at each request, since it is rotated.
        ca_file: the API server's authority.
    """

    node: str | None = None
    api: str | None = None
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    ca_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """
    Engines that come and go: `[discovery]`.

    Args:
        files: JSON files in Prometheus's file_sd format, read again when they change.
        kubernetes: pods of this node; None: not asked.
        refresh_s: how often files and the API are looked at.
    """

    files: tuple[Path, ...] = ()
    kubernetes: KubernetesConfig | None = None
    refresh_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """
    One engine: `[[engine]]`.

    Args:
        url: of its metrics, e.g. `http://127.0.0.1:8000/metrics`.
        kind: an engine plugin, whose dialect it speaks; `auto`: found out.
        instance_id: its name in the series; None: host and port of the URL.
        model_name: None: as its metrics say.
        devices: UUIDs of the devices it runs on; empty: found by *pid*, or the
            only device there is.
        pid: of its main process.
        pid_file: of a file that holds it.
        role: of an engine that only prefills or only decodes.
        mig_gpu_instance: `GI` number, on a MIG device.
        mig_slices: compute slices of the MIG instance, out of 7.
    """

    url: str
    kind: str = "auto"
    instance_id: str | None = None
    model_name: str | None = None
    devices: tuple[str, ...] = ()
    pid: int | None = None
    pid_file: Path | None = None
    role: Literal["prefill", "decode"] | None = None
    mig_gpu_instance: int | None = None
    mig_slices: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """All sections together."""

    exporter: ExporterConfig = field(default_factory=ExporterConfig)
    power: MeterConfig = field(default_factory=MeterConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    cost: Tariff = field(default_factory=Tariff)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    engines: tuple[EngineConfig, ...] = ()


def read(path: Path) -> DaemonConfig:
    """
    The configuration in a TOML file.

    Raises:
        ConfigError: no such file, not TOML, an unknown key or a value of the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror})", remedy="name a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}", remedy="mend the line it names"
        ) from error
    return parse(table)


def parse(table: Mapping[str, Any]) -> DaemonConfig:
    """
    The configuration in a table of sections.

    Raises:
        ConfigError: as `read`.
    """
    for section in table:
        if section not in _SECTIONS:
            raise unknown("section", section, _SECTIONS)
    power = dict(table.get("power", {}))
    options = {key: power.pop(key) for key in list(power) if isinstance(power[key], dict)}
    discovery = dict(table.get("discovery", {}))
    pods = discovery.pop("kubernetes", None)
    made = build(DiscoveryConfig, discovery, where="discovery")
    if pods is not None:
        kubernetes = build(KubernetesConfig, pods, where="discovery.kubernetes")
        made = DiscoveryConfig(files=made.files, refresh_s=made.refresh_s, kubernetes=kubernetes)
    return DaemonConfig(
        exporter=build(ExporterConfig, dict(table.get("exporter", {})), where="exporter"),
        power=build(MeterConfig, {**power, "options": options}, where="power"),
        attribution=build(
            AttributionConfig, dict(table.get("attribution", {})), where="attribution"
        ),
        cost=build(Tariff, dict(table.get("cost", {})), where="cost"),
        targets=build(TargetsConfig, dict(table.get("targets", {})), where="targets"),
        discovery=made,
        engines=tuple(
            build(EngineConfig, dict(one), where="engine") for one in table.get("engine", ())
        ),
    )
