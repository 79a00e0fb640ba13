"""`joulemark emulate`: the command's world, its exit code and the truth told at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here"),
    pytest.mark.skipif(
        os.path.exists("/proc/driver/nvidia/version"),  # noqa: PTH110 - at import, one call
        reason="a real driver is loaded: the emulator refuses, as it should",
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose cache is ours; the library is built into it once."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    environment.pop("JOULEMARK_EMULATOR", None)
    return environment


def _emulate(home: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "emulate", *arguments],
        env=home,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_sees_the_gpus_and_its_exit_code_and_words_are_its_own(
    home: dict[str, str],
) -> None:
    client = (
        "import os, pynvml as n; n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "p, = n.nvmlDeviceGetComputeRunningProcesses(h)\n"
        "print(n.nvmlDeviceGetCount(), p.pid == os.getpid(), n.nvmlDeviceGetName(h))\n"
        "raise SystemExit(7)"
    )
    # The list of processes is written just after the command has started.
    waited = f"import time; time.sleep(0.3)\n{client}"
    done = _emulate(
        home, "--gpus", "2", "--arch", "l40s", "--process", "1:self:50:1000",
        "--waveform", "constant:power_w=100", "--waveform", "constant:power_w=200",
        "--", sys.executable, "-c", waited,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout == "2 True NVIDIA L40S (emulated)\n"
    told = [
        json.loads(line.partition(": ")[2])
        for line in done.stderr.splitlines()
        if "true_energy_j" in line
    ]
    assert len(told) == 2
    for row, power_w in zip(told, (100, 200), strict=True):
        lasted_s = (row["end_ns"] - row["start_ns"]) / 1e9
        assert row["true_energy_j"] == pytest.approx(power_w * lasted_s, rel=1e-9)


def test_a_signal_is_passed_on_as_shells_report_it(home: dict[str, str]) -> None:
    assert _emulate(home, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_the_truth_is_printed_exactly(home: dict[str, str], tmp_path: Path) -> None:
    """500 W for 2 s are 1000 J, from the world file that the command was given."""
    client = f"cp $JOULEMARK_EMULATOR {tmp_path}/world.txt"
    done = _emulate(home, "--waveform", "constant:power_w=500", "--", "sh", "-c", client)
    assert done.returncode == 0, done.stderr
    world = str(tmp_path / "world.txt")
    truth = _emulate(
        home, "truth", "--start-ns", "1000000000", "--end-ns", "3000000000", "--world", world
    )
    assert float(truth.stdout) == pytest.approx(1000)
    beyond = _emulate(
        home, "truth", "--start-ns", "1", "--end-ns", "2", "--gpu", "4", "--world", world
    )
    assert beyond.returncode == 2
    assert "choose 0 to 0" in beyond.stderr


def test_a_built_folder_is_enough_for_a_client(home: dict[str, str], tmp_path: Path) -> None:
    """LD_LIBRARY_PATH alone: the world lies beside the library."""
    folder = tmp_path / "lib"
    done = _emulate(home, "--gpus", "3", "build", "--out", str(folder))
    assert done.stdout.strip() == str(folder)
    client = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetCount())"
    seen = subprocess.run(
        [sys.executable, "-c", client],
        env=home | {"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == "3"


def test_power_follows_the_command(home: dict[str, str], tmp_path: Path) -> None:
    """A second of full load on one core draws more than idle, and less than all cores would."""
    busy = "import time; e = time.perf_counter() + 1.2\nwhile time.perf_counter() < e: pass"
    begun_s = time.perf_counter()
    done = _emulate(home, "--follow-cpu", "10:1010", "--", sys.executable, "-c", busy)
    lasted_s = time.perf_counter() - begun_s
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stderr.partition("emulate: ")[2])
    assert 15 * 1.2 < told["true_energy_j"] < 1010 * lasted_s
    del tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--waveform", "saw:low_w=1", "--", "true"], "there is no waveform 'saw'"),
        (["--arch", "h1", "--", "true"], "knows no board 'h1'"),
        (["--fault", "lost:gpu=0", "--", "true"], "write e.g. lost:gpu=0,at_s=5"),
        (["--fault", "gone:at_s=1", "--", "true"], "there is no fault 'gone'"),
        (["--fault", "lost:at_s=1,gpus=2", "--", "true"], "unknown keys gpus"),
        (["--process", "0:me:1:1", "--", "true"], "with `self` for the command's own PID"),
        (["--follow-cpu", "70", "--", "true"], "is not two powers"),
        (["--", "/no/such/program"], "cannot be started"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    home: dict[str, str], arguments: list[str], says: str
) -> None:
    done = _emulate(home, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
