"""A power session for tests: one energy counter a call, and nothing a test does not ask for."""

from __future__ import annotations

from harness.timeline import Channel

CHANNEL = Channel(
    name="c",
    quantity="energy",
    boundary="gpu",
    device="d",
    power_kind="emulated",
    method="written in this test",
    sense="counter",
)


class StubSession:
    """Has all of `PowerSession` but `read`."""

    period_s = None

    def __init__(self, calls=1):
        self.calls = [(CHANNEL,)] * calls

    def watch(self, pids):
        del pids

    def facts(self):
        return {}

    def close(self):
        pass
