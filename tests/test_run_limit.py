from __future__ import annotations

import cost_runs
import pytest

from harness.roofline import run_limit


def test_a_measured_run_of_the_known_model_is_compared_with_its_limit():
    lines = run_limit.sentences(cost_runs.record())
    assert lines[0].startswith("Throughput is ")
    share = float(lines[0].split("is ")[1].split("%")[0])
    assert 0 < share < 100
    assert any("times the joules of the calibrated limit" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "smollm2-135m"}, "shape of the model 'smollm2-135m' is not known"),
        ({"power_kind": "emulated"}, "power is emulated"),
        ({"power_kind": "modelled"}, "power is modelled"),
        ({"device_name": None}, "accelerator was not recognised"),
        ({"device_name": "NVIDIA Imaginary 1"}, "accelerator was not recognised"),
    ],
)
def test_otherwise_the_report_says_why_there_is_none(changes, why):
    (line,) = run_limit.sentences(cost_runs.record(**changes))
    assert line.startswith("Not given: ")
    assert why in line
