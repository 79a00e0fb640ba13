"""The protocols that every plugin keeps: Engine, PowerSource, Workload, Exporter, TokenCounters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .record import RunRecord
    from .timeline import Channel, ReadStatus, Request

EndpointType = Literal["chat", "completions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    Where and how requests are sent.

    Args:
        base_url: scheme, host and port, with no path behind `/v1`.
        endpoint_type: `chat` is POST /v1/chat/completions, `completions` /v1/completions.
        model: the value of the request's `model` field.
        extra_body: JSON fields added to every request.
        headers: HTTP headers added to every request.
        api_key: sent as `Authorization: Bearer …`; never stored.
        takes_token_ids: `/v1/completions` takes prompts that are token ids.
    """

    base_url: str
    endpoint_type: EndpointType
    model: str
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = None
    takes_token_ids: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """
    A process to be started and how to tell that it is ready.

    Args:
        argv: the command line.
        environment: variables added to ours.
        ready_url: answers 200 once requests may be sent.
        ready_timeout_s: how long that may take.
        host: the address it will listen on.
        port: the port it will listen on; checked to be free before the start.
    """

    argv: Sequence[str]
    ready_url: str
    host: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """
    An engine's own cumulative token counters, in one meaning for all engines.

    Args:
        computed: input tokens that were run through the model.
        cached: input tokens served from a prefix cache; None: the engine does not count them.
        generated: output tokens.
    """

    computed: float | None
    cached: float | None
    generated: float


class TokenCounters(Protocol):
    """Turns one engine's Prometheus exposition into TokenCounts."""

    @property
    def path(self) -> str:
        """Path of the exposition on the engine's server, e.g. `/metrics`."""
        ...

    @property
    def updated(self) -> Literal["iteration", "request_end"]:
        """When the engine moves its counters."""
        ...

    def read(self, exposition: str) -> TokenCounts:
        """
        The counters in *exposition*.

        Raises:
            EngineError: a counter this dialect needs is not in it.
        """
        ...


class Engine(Protocol):
    """An inference server: how it is started, where it answers, what it counts."""

    @property
    def runs_on(self) -> Literal["gpu", "cpu", "elsewhere"]:
        """What the model's arithmetic runs on; decides which joules belong to its tokens."""
        ...

    def prepare(self, *, port: int) -> Engine:
        """
        The same engine with every default made definite: port, model path, threads.

        Args:
            port: a free port, used if the configuration names none.

        Raises:
            ModelError: the model is not there or is damaged.
            EngineError: the engine's program is not installed.
        """
        ...

    def launch(self) -> LaunchSpec | None:
        """What to start; None: it runs already and is only talked to."""
        ...

    def endpoint(self, endpoint_type: EndpointType | None) -> Endpoint:
        """Where to send requests; None: the endpoint type this engine does best."""
        ...

    def fixed_length(self) -> Mapping[str, Any]:
        """JSON fields that make every answer exactly as long as asked; empty: it cannot."""
        ...

    def counters(self) -> TokenCounters | None:
        """The engine's own token counters; None: it has none."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Version, model hash and effective settings, for the provenance."""
        ...


class PowerSource(Protocol):
    """The options of one way to read joules or watts; opened in the sampler's process only."""

    def open(self) -> PowerSession:
        """
        Find what can be read here, by trying.

        Raises:
            PowerUnavailableError: nothing can; the message names the cause and the remedy.
        """
        ...


class PowerSession(Protocol):
    """An opened power source; lives in the sampler's process, never in the load loop's."""

    @property
    def calls(self) -> Sequence[Sequence[Channel]]:
        """The channels, grouped by the one call into the driver that reads them together."""
        ...

    @property
    def period_s(self) -> float | None:
        """How often a new value can be had at most; None: as often as the sampler likes."""
        ...

    def read(self, call: int) -> Sequence[tuple[float, ReadStatus]]:
        """
        Make one call, by its index in `calls`.

        Returns:
            For each of its channels joules or watts and OK, or NaN and why there
            is no value. Never raises for a fault of the device: a lost GPU is a
            reading, too.

        A call of energy counters alone may be made in a thread of its own, while another
        makes other calls, `watch` or `facts`: they must share nothing that changes.
        """
        ...

    def watch(self, pids: Sequence[int]) -> None:
        """Process ids of the engine, for sources that account by process; others ignore it."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Driver, caps, clocks, temperatures, throttle counters: JSON, read afresh each call."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class Batch(Protocol):
    """Some calls of one power session, each stamped as it is made and understood afterwards."""

    @property
    def asks(self) -> Sequence[Callable[[], Any]]:
        """The bare calls into the driver, in their order; what they return goes to `answers`."""
        ...

    def answers(self, returned: Sequence[Any]) -> tuple[Sequence[float], Sequence[int]]:
        """
        What the calls just made have found.

        Returns:
            Values and statuses, as of `PowerSession.read`, of all channels of all
            the calls, in their order.
        """
        ...


@runtime_checkable
class BatchSession(PowerSession, Protocol):
    """A power session that offers its calls in batches: less is run between one and the next."""

    def batch(self, calls: Sequence[int]) -> Batch:
        """These calls, by their indices in `calls`, to be made again and again."""
        ...


class Workload(Protocol):
    """Says what to ask; seeded, so that the same seed gives the same requests."""

    def requests(self, *, seed: int) -> Iterator[Request]:
        """
        The requests in order, without end or until the data are used up.

        Raises:
            ConfigError: the workload's data cannot be read.
        """
        ...


class Exporter(Protocol):
    """Writes a finished run in another tool's format."""

    @property
    def file_name(self) -> str:
        """Name of the file it writes into the run folder."""
        ...

    def export(self, record: RunRecord, folder: Path) -> Path:
        """
        Write it.

        Returns:
            The path written.
        """
        ...
