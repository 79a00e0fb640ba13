"""When requests are due: closed loop, or a seeded open-loop schedule, computed before any load."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pattern = Literal["concurrency", "constant", "poisson", "gamma", "max", "trace"]
"""
`concurrency`: closed loop, the next request is due when one ends.
`constant`, `poisson`, `gamma`: open loop; they differ in how gaps scatter.
`max`: everything is due at once; only a cap on concurrency holds it back.
`trace`: each request brings its own `t_offset_s`.
"""

_OPEN: Final = frozenset({"constant", "poisson", "gamma"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSegment:
    """
    A stretch of time over which the request rate goes linearly from one value to another.

    Args:
        duration_s: how long; positive.
        start_per_s: requests a second at its beginning.
        end_per_s: and at its end; equal to the start for a step.
    """

    duration_s: float
    start_per_s: float
    end_per_s: float

    def __post_init__(self) -> None:
        numbers = (self.duration_s, self.start_per_s, self.end_per_s)
        if not all(map(math.isfinite, numbers)) or self.duration_s <= 0 or min(numbers) < 0:
            raise ConfigError(
                f"a rate segment of {self.duration_s} s from {self.start_per_s} to "
                f"{self.end_per_s} requests/s is not possible",
                remedy="give a positive duration and rates of 0 or more",
            )

    @property
    def requests(self) -> float:
        """How many requests fall due in it, a fraction included."""
        return (self.start_per_s + self.end_per_s) / 2 * self.duration_s

    def time_of_s(self, requests: float) -> float:
        """Seconds from the segment's start until *requests* have fallen due."""
        slope = (self.end_per_s - self.start_per_s) / self.duration_s
        # The root of slope/2·t² + start·t = requests, in the form that survives slope → 0.
        root = math.sqrt(max(self.start_per_s**2 + 2 * slope * requests, 0.0))
        below = self.start_per_s + root
        return min(2 * requests / below, self.duration_s) if below else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """
    The arrival process; closed loop if *pattern* is `concurrency`, open loop otherwise.

    Args:
        pattern: see Pattern.
        concurrency: slots of a closed loop, or the cap on requests in flight of an
            open one. Under a cap a due request waits; that wait is scheduling lag.
        request_rate_per_s: mean rate of an open loop.
        burstiness: shape of the gamma distribution of gaps: 1 is Poisson, below 1
            burstier, above 1 more regular; the mean rate stays.
        profile: rates over time instead of *request_rate_per_s*: ramps and steps.
            After its last segment the last rate goes on.
        ramp_up_s: a closed loop's slots start spread over this time, so that its
            streams do not run in step.
        time_scale: a trace's offsets are multiplied by it; 0.5 plays twice as fast.
    """

    pattern: Pattern
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burstiness: float = 1.0
    profile: tuple[RateSegment, ...] = ()
    ramp_up_s: float = 0.0
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        for wrong, problem, remedy in _faults(self):
            if wrong:
                raise ConfigError(problem, remedy=remedy)

    @property
    def closed(self) -> bool:
        """The next request waits for an answer, so a slow server slows the load."""
        return self.pattern == "concurrency"


def _faults(a: Arrivals) -> Iterator[tuple[bool, str, str]]:
    yield (
        a.pattern not in get_args(Pattern),
        f"there is no arrival pattern {a.pattern!r}",
        f"choose one of: {', '.join(get_args(Pattern))}",
    )
    yield (
        a.concurrency is not None and a.concurrency < 1,
        f"concurrency {a.concurrency} is not possible",
        "give 1 or more",
    )
    yield (
        a.closed and a.concurrency is None,
        "a closed loop needs a concurrency",
        "give `--concurrency N`, or `--request-rate R` for an open loop",
    )
    yield (
        a.closed and (a.request_rate_per_s is not None or bool(a.profile)),
        "a closed loop has no request rate: the server's answers set it",
        "choose an arrival pattern of constant, poisson or gamma",
    )
    rate = a.request_rate_per_s
    yield (
        rate is not None and not (math.isfinite(rate) and rate > 0),
        f"a request rate of {rate} a second is not possible",
        "give a positive number",
    )
    yield (
        a.pattern in _OPEN and (rate is None) == (not a.profile),
        f"arrivals of pattern {a.pattern} need either a request rate or a profile",
        "give `--request-rate R`",
    )
    yield (
        bool(a.profile) and not (a.profile and a.profile[-1].end_per_s > 0),
        "the rate profile ends at 0 requests a second",
        "let its last segment end at a positive rate and bound the run by its duration",
    )
    for name, value in (("burstiness", a.burstiness), ("time_scale", a.time_scale)):
        yield (
            not (math.isfinite(value) and value > 0),
            f"{name} {value} is not possible",
            "give a positive number",
        )
    yield (
        not (math.isfinite(a.ramp_up_s) and a.ramp_up_s >= 0),
        f"ramp_up_s {a.ramp_up_s} is not possible",
        "give 0 or more seconds",
    )


def due_offsets_s(arrivals: Arrivals, *, seed: int) -> Iterator[float]:
    """
    When the requests of an open loop are due.

    The same arrivals and seed give the same schedule on every machine.

    Args:
        arrivals: of pattern constant, poisson, gamma or max.
        seed: of the gaps.

    Yields:
        Seconds from the start of the load, never decreasing, without end.

    Raises:
        ConfigError: a closed loop or a trace, whose times are not known before.
    """
    if arrivals.pattern == "max":
        while True:
            yield 0.0
    if arrivals.pattern not in _OPEN:
        raise ConfigError(
            f"arrivals of pattern {arrivals.pattern} have no schedule of their own",
            remedy="choose constant, poisson or gamma",
        )
    gap = _unit_gap(arrivals, random.Random(seed))  # noqa: S311 - a reproducible schedule, no secret
    # Unit gaps are laid out on an axis of requests; the rate maps that axis to time.
    # The first request is due at once when gaps are constant, else after a gap.
    requests = 0.0 if arrivals.pattern == "constant" else gap()
    start_s, done = 0.0, 0.0
    for segment in arrivals.profile:
        while requests < done + segment.requests:
            yield start_s + segment.time_of_s(requests - done)
            requests += gap()
        start_s += segment.duration_s
        done += segment.requests
    rate_per_s = arrivals.profile[-1].end_per_s if arrivals.profile else arrivals.request_rate_per_s
    assert rate_per_s is not None  # noqa: S101 - __post_init__ has refused it
    while True:
        yield start_s + (requests - done) / rate_per_s
        requests += gap()


def _unit_gap(arrivals: Arrivals, rng: random.Random) -> Callable[[], float]:
    if arrivals.pattern == "constant":
        return lambda: 1.0
    if arrivals.pattern == "poisson":
        return lambda: rng.expovariate(1.0)
    shape = arrivals.burstiness
    return lambda: rng.gammavariate(shape, 1.0 / shape)


def slot_delays_s(arrivals: Arrivals) -> list[float]:
    """Seconds after the start at which each slot of a closed loop sends its first request."""
    slots = arrivals.concurrency or 0
    return [arrivals.ramp_up_s * slot / slots for slot in range(slots)]
