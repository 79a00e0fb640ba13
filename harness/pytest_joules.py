"""
A pytest fixture that meters a test; `pytest_plugins = ["harness.pytest_joules"]` brings it in.

    def test_it_is_frugal(joules):
        with joules() as meter:
            work()
        assert meter.joules["gpu"] < 100
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .errors import PowerUnavailableError
from .measure import sensors
from .meter import metered

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .meter import Meter


@pytest.fixture
def joules() -> Callable[..., AbstractContextManager[Meter]]:
    """`harness.meter.metered`; the test is skipped, with the reason, where nothing can be read."""
    try:
        sensors()
    except PowerUnavailableError as error:
        pytest.skip(str(error))
    return metered
