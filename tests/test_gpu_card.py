"""On a real card: joules are measured, and counter and integral tell the same story."""

from __future__ import annotations

import time

import pynvml
import pytest

from harness.meter import metered


@pytest.fixture
def card() -> str:
    """The first GPU's name; the test is skipped, with the reason, where none is real."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"needs a real NVIDIA GPU: NVML does not start ({error})")
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        name = str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except pynvml.NVMLError as error:
        pytest.skip(f"needs a real NVIDIA GPU: {error}")
    finally:
        pynvml.nvmlShutdown()
    if "emulated" in driver:
        pytest.skip(f"needs a real NVIDIA GPU: driver {driver} is joulemark's emulator")
    return name


@pytest.mark.gpu
def test_a_second_of_a_real_card_is_measured(card):
    with metered([("nvml", {})]) as meter:
        time.sleep(3.0)
    assert meter.power_kind == "measured"
    energy = next(e for e in meter.energies if e.boundary in {"gpu", "gpu_module"})
    assert energy.low_j <= energy.energy_j <= energy.high_j, card
    # No card idles below 5 W or above its hardest limit.
    assert 5 < energy.average_w < 1500
    if energy.disagreement_ratio is not None:
        assert energy.disagreement_ratio < 0.1
