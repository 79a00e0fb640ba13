"""
A pytest fixture that meters code, and `assert_energy`, which fails only on evidence.

    pytest_plugins = ["harness.pytest_plugin"]          # in conftest.py

    def test_it_is_frugal(joulemark_meter):
        assert_energy(joulemark_meter(work, repeats=5), at_most_j=100, boundary="gpu")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from .errors import PowerUnavailableError
from .measure import sensors
from .meter import metered
from .stats.effects import ALPHA
from .stats.limit import against_limit, mean_interval

if TYPE_CHECKING:
    from .meter import Meter


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pyproject.toml say where power is read: `joulemark_power = "nvml"`."""
    parser.addini("joulemark_power", "joulemark: power sources, default: sensors", type="args")


@pytest.fixture
def joulemark_meter(request: pytest.FixtureRequest) -> Callable[..., list[Meter]]:
    """
    Meter a function some times: `joulemark_meter(work, repeats=5)` gives a Meter a time.

    The test is skipped, with the reason, where nothing can be read.
    """
    named: list[str] = request.config.getini("joulemark_power")
    sources: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in named]
    try:
        sources = sources or sensors()
    except PowerUnavailableError as error:
        pytest.skip(str(error))

    def measure(work: Callable[[], object], *, repeats: int = 5) -> list[Meter]:
        meters = []
        for _ in range(repeats):
            with metered(sources) as meter:
                work()
            meters.append(meter)
        return meters

    return measure


def assert_energy(
    meters: Sequence[Meter] | Meter,
    *,
    at_most_j: float,
    boundary: str = "gpu",
    alpha: float = ALPHA,
    kind: Literal["measured", "modelled", "emulated"] = "measured",
    undecided: Literal["fail", "skip"] = "fail",
) -> None:
    """
    Assert that work takes at most so many joules.

    Several meters are judged by the interval of their mean, a single one by the
    bounds of its metering alone, which say nothing of the next run.

    Args:
        meters: of the same work.
        at_most_j: the limit, in joules of *boundary*.
        boundary: what draws the energy.
        alpha: chance of a wrong pass, and of a wrong failure.
        kind: what the joules must be; modelled ones never pass for measured.
        undecided: what to do where the interval straddles the limit.

    Raises:
        AssertionError: it takes more; or it cannot be told and *undecided* is `fail`;
            or the joules are not of that boundary and kind.
    """
    __tracebackhide__ = True
    several = list(meters) if isinstance(meters, Sequence) else [meters]
    energies = [
        energy for meter in several for energy in meter.energies if energy.boundary == boundary
    ]
    if len(energies) != len(several) or not energies:
        known = sorted({energy.boundary for meter in several for energy in meter.energies})
        raise AssertionError(f"no joules of {boundary!r} were metered, only of {known}")
    other = sorted({energy.power_kind for energy in energies} - {kind})
    if other:
        raise AssertionError(f"the joules are {other[0]}, not {kind}: say kind={other[0]!r}")
    interval = mean_interval([energy.energy_j for energy in energies], alpha=alpha)
    low, high = interval or (energies[0].low_j, energies[0].high_j)
    word = against_limit(low, high, at_most_j)
    found = f"{low:.4g} to {high:.4g} J of {boundary} ({kind}, {len(energies)} repeats)"
    if word == "above":
        raise AssertionError(f"{found}: more than {at_most_j:g} J")
    if word == "cannot tell":
        message = f"{found}: cannot tell whether it is at most {at_most_j:g} J; repeat more often"
        if undecided == "skip":
            pytest.skip(message)
        raise AssertionError(message)
