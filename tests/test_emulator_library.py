"""The emulated libnvidia-ml, asked by the real nvidia-ml-py in processes of its own."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pynvml
import pytest

from harness.emulator import build, live, make, waveform
from harness.emulator.model import AVERAGE, INSTANT, SensorModel
from harness.emulator.world import Fault, FaultKind, Throttle, World
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
_S = 1_000_000_000
_CLIENT = """
import json, sys, time
import pynvml as n
def code(call):
    try:
        call()
    except n.NVMLError as error:
        return error.value
    return 0
out = {}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def ask(library: Path, tmp_path: Path) -> Callable[[World, str], dict[str, Any]]:
    """Run lines of pynvml in a world; what they put into `out` comes back."""

    def run(world: World, lines: str) -> dict[str, Any]:
        path = world.write(tmp_path / "world.txt")
        done = subprocess.run(
            [sys.executable, "-c", f"{_CLIENT}\n{lines}\nprint(json.dumps(out))"],
            env=build.environment(path, library=library),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def _world(count: int = 1, **changes: Any) -> World:
    world = make.make_world([waveform.constant(power_w=500)], gpus=count, seed=3)
    # Long before now, so that the one-second average has run in.
    return dataclasses.replace(world, origin_ns=world.origin_ns - 100 * _S, **changes)


def _loaded(library: Path, world: World, folder: Path) -> ctypes.CDLL:
    """Load a copy of the library, with its world beside it instead of in the environment."""
    folder.mkdir()
    shutil.copy(library / build.LIBRARY_NAME, folder)
    world.write(folder / "world.txt")
    loaded = ctypes.CDLL(str(folder / build.LIBRARY_NAME))
    for name in ("true_energy_j", "counter_mj", "power_mw"):
        getattr(loaded, f"joulemark_emulated_{name}").restype = ctypes.c_double
    return loaded


def test_the_library_and_the_model_agree(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every waveform, with jitter, lag, noise, gain, a reset and a freeze: to 1e-9."""
    monkeypatch.delenv("JOULEMARK_EMULATOR", raising=False)
    specs = [
        "constant:power_w=680",
        "square:low_w=70,high_w=680,period_s=2,phase_s=0.3",
        "ramp:low_w=0,high_w=700,period_s=3,phase_s=1.1",
        "sine:low_w=1,high_w=600,period_s=0.7",
        "decode:seed=3",
    ]
    world = make.make_world([waveform.parse(spec) for spec in specs], seed=5)
    world = make.with_sensors(
        world, jitter_s=0.003, noise_w=0.5, gain=1.03, lag_s=0.07, quantum_j=0.013
    )
    faults = (
        Fault(kind="reset", start_s=40.0),
        Fault(kind="reset", gpu=2, start_s=90.0),
        Fault(kind="freeze", gpu=1, start_s=20.0, end_s=25.0),
    )
    world = dataclasses.replace(world, faults=faults)
    loaded = _loaded(library, world, tmp_path / "beside")
    random = np.random.default_rng(1)
    t_ns = world.origin_ns + random.integers(-_S, 200 * _S, 1500)
    for gpu in range(len(specs)):
        model = SensorModel(world, gpu)
        start = ctypes.c_int64(world.origin_ns)
        energy, counter, instant, average = np.array(
            [
                (
                    loaded.joulemark_emulated_true_energy_j(gpu, 0, start, ctypes.c_int64(t)),
                    loaded.joulemark_emulated_counter_mj(gpu, ctypes.c_int64(t)),
                    loaded.joulemark_emulated_power_mw(gpu, INSTANT, 0, ctypes.c_int64(t)),
                    loaded.joulemark_emulated_power_mw(gpu, AVERAGE, 0, ctypes.c_int64(t)),
                )
                for t in t_ns.tolist()
            ]
        ).T
        assert energy == pytest.approx(model.energy_j(t_ns), rel=1e-9, abs=1e-9)
        assert counter == pytest.approx(model.counter_mj(t_ns), rel=1e-9)
        assert instant == pytest.approx(model.power_mw(t_ns), rel=1e-9)
        assert average == pytest.approx(model.power_mw(t_ns, field=AVERAGE), rel=1e-9)


def test_every_function_that_pynvml_looks_up_exists(library: Path) -> None:
    source = Path(pynvml.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', source))
    loaded = ctypes.CDLL(str(library / build.LIBRARY_NAME))
    assert len(names) > 300
    assert [name for name in sorted(names) if not hasattr(loaded, name)] == []
    assert b"emulator" in ctypes.string_at(
        ctypes.addressof(ctypes.c_char.in_dll(loaded, "joulemark_nvml_emulator"))
    )


def test_two_processes_see_one_world(library: Path, tmp_path: Path) -> None:
    """Each reading is what the model says for some instant within the call, in both."""
    world = make.make_world([waveform.parse("square:low_w=70,high_w=680,period_s=0.3")], seed=8)
    path = world.write(tmp_path / "world.txt")
    client = f"""{_CLIENT}
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
rows = []
for _ in range(300):
    a = time.perf_counter_ns()
    mj = n.nvmlDeviceGetTotalEnergyConsumption(h)
    b = time.perf_counter_ns()
    mw = n.nvmlDeviceGetFieldValues(h, [186])[0].value.uiVal
    rows.append((a, mj, b, mw, time.perf_counter_ns()))
    time.sleep(0.001)
print(json.dumps(rows))
"""
    environment = build.environment(path, library=library)
    both = [
        subprocess.Popen([sys.executable, "-c", client], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    model = SensorModel(world, 0)
    for process in both:
        printed, _ = process.communicate()
        rows = np.array(json.loads(printed), dtype=np.int64)
        before, millijoules, between, milliwatts, after = rows.T
        assert np.all(model.counter_mj(before) <= millijoules)
        assert np.all(millijoules <= model.counter_mj(between))
        assert len(np.unique(millijoules)) >= 3
        at_first, at_last = model.power_mw(between), model.power_mw(after)
        assert np.all((milliwatts == at_first) | (milliwatts == at_last))


def test_the_readings_have_the_right_units_and_the_board_its_names(
    ask: Callable[[World, str], dict[str, Any]],
) -> None:
    out = ask(
        _world(2),
        """
n.nvmlInit()
out["driver"], out["count"] = n.nvmlSystemGetDriverVersion(), n.nvmlDeviceGetCount()
h = n.nvmlDeviceGetHandleByIndex(1)
out["uuid"], out["name"] = n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetName(h)
out["same"] = n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(out["uuid"]))
out["pci"] = n.nvmlDeviceGetPciInfo(h).busId
out["by_pci"] = n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(out["pci"]))
out["usage_mw"] = n.nvmlDeviceGetPowerUsage(h)
fields = [83, 185, 186, (185, 2), (186, 2), (186, 1), 190, 191]
out["fields"] = [
    (v.nvmlReturn, v.value.ullVal if v.valueType == 3 else v.value.uiVal)
    for v in n.nvmlDeviceGetFieldValues(h, fields)
]
out["limit_mw"] = n.nvmlDeviceGetEnforcedPowerLimit(h)
out["limits"] = n.nvmlDeviceGetPowerManagementLimitConstraints(h)
memory = n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)
out["memory"] = [memory.total, memory.free + memory.used + memory.reserved]
out["v1"] = n.nvmlDeviceGetMemoryInfo(h).total
out["mhz"] = [n.nvmlDeviceGetClockInfo(h, 1), n.nvmlDeviceGetClockInfo(h, 2)]
out["architecture"] = n.nvmlDeviceGetArchitecture(h)
out["celsius"] = n.nvmlDeviceGetTemperature(h, 0)
out["busy"] = n.nvmlDeviceGetUtilizationRates(h).gpu
out["fan"] = code(lambda: n.nvmlDeviceGetFanSpeed(h))
a = n.nvmlDeviceGetTotalEnergyConsumption(h)
time.sleep(0.25)
out["moved_mj"] = n.nvmlDeviceGetTotalEnergyConsumption(h) - a
n.nvmlShutdown()
out["after"] = code(lambda: n.nvmlDeviceGetPowerUsage(h))
""",
    )
    assert out["driver"] == "emulated-580.0"
    assert out["count"] == 2
    assert out["uuid"].startswith("GPU-")
    assert "emulated" in out["name"]
    assert out["same"] == out["by_pci"] == 1
    assert out["usage_mw"] == 500_000
    returned = [code for code, _ in out["fields"]]
    assert returned == [0, 0, 0, 0, 3, 3, 0, 3]
    values = [value for _, value in out["fields"]]
    assert values[1:4] == [500_000, 500_000, 100_000]
    assert values[6] == out["limit_mw"] == 700_000
    assert values[0] > 1_000_000_000
    assert out["limits"] == [200_000, 700_000]
    assert out["memory"] == [80 << 30, 80 << 30]
    assert out["v1"] == 80 << 30
    assert out["mhz"] == [1980, 2619]
    assert out["architecture"] == 9
    assert 30 < out["celsius"] < 80
    assert out["busy"] == 71
    assert out["fan"] == pynvml.NVML_ERROR_NOT_SUPPORTED
    # 0.25 s hold two or three ticks of 50 J; a slow machine may see some more.
    assert out["moved_mj"] >= 100_000
    assert out["moved_mj"] % 50_000 == 0
    assert out["after"] == pynvml.NVML_ERROR_UNINITIALIZED


def test_each_fault_shows_as_its_code(ask: Callable[[World, str], dict[str, Any]]) -> None:
    broken: list[tuple[FaultKind, str]] = [
        ("lost", "all"),
        ("not_supported", "energy"),
        ("no_permission", "power"),
        ("timeout", "energy"),
        ("reset_required", "all"),
        ("unknown", "processes"),
    ]
    faults = tuple(
        Fault(kind=kind, gpu=gpu, start_s=0.0, touches=touches)
        for gpu, (kind, touches) in enumerate(broken)
    )
    # Handles are taken before the GPU is lost, as by any client that was running.
    late = dataclasses.replace(_world(6), origin_ns=time.perf_counter_ns() + _S, faults=faults)
    out = ask(
        late,
        f"""
n.nvmlInit()
hs = [n.nvmlDeviceGetHandleByIndex(i) for i in range(6)]
while time.perf_counter_ns() < {late.origin_ns}: time.sleep(0.01)
for name, call in [
    ("energy", n.nvmlDeviceGetTotalEnergyConsumption),
    ("power", n.nvmlDeviceGetPowerUsage),
    ("processes", n.nvmlDeviceGetComputeRunningProcesses),
    ("name", n.nvmlDeviceGetName),
]:
    out[name] = [code(lambda: call(h)) for h in hs]
out["handle"] = code(lambda: n.nvmlDeviceGetHandleByIndex(0))
out["fields"] = [v.nvmlReturn for v in n.nvmlDeviceGetFieldValues(hs[1], [83, 186])]
out["lost_fields"] = code(lambda: n.nvmlDeviceGetFieldValues(hs[0], [83, 186]))
""",
    )
    assert out["energy"] == [15, 3, 0, 10, 16, 0]
    assert out["power"] == [15, 0, 4, 0, 16, 0]
    assert out["processes"] == [15, 0, 0, 0, 16, 999]
    assert out["name"] == [15, 0, 0, 0, 0, 0]
    assert out["handle"] == out["lost_fields"] == 15
    assert out["fields"] == [3, 0]


def test_a_driver_mismatch_refuses_the_start(ask: Callable[[World, str], dict[str, Any]]) -> None:
    world = _world(faults=(Fault(kind="driver_mismatch", start_s=0.0),))
    assert ask(world, "out['code'] = code(n.nvmlInit)") == {"code": 18}


def test_without_a_world_there_is_no_driver(library: Path) -> None:
    environment = os.environ | {"LD_LIBRARY_PATH": str(library)}
    environment.pop("JOULEMARK_EMULATOR", None)
    client = f"{_CLIENT}print(code(n.nvmlInit))"
    done = subprocess.run(
        [sys.executable, "-c", client], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)


def test_a_stall_holds_a_call_and_latency_slows_it(
    ask: Callable[[World, str], dict[str, Any]],
) -> None:
    now_ns = time.perf_counter_ns()
    world = dataclasses.replace(
        _world(2),
        origin_ns=now_ns,
        power_latency_s=0.02,
        faults=(Fault(kind="stall", gpu=1, start_s=0.0, end_s=1.5),),
    )
    out = ask(
        world,
        """
n.nvmlInit()
free, stalled = (n.nvmlDeviceGetHandleByIndex(i) for i in (0, 1))
a = time.perf_counter_ns()
n.nvmlDeviceGetPowerUsage(free)
out["took_ns"] = time.perf_counter_ns() - a
n.nvmlDeviceGetPowerUsage(stalled)
out["back_ns"] = time.perf_counter_ns()
""",
    )
    assert out["took_ns"] >= 20_000_000
    assert out["back_ns"] >= now_ns + 1.5 * _S


@pytest.mark.parametrize("spin", [False, True])
def test_power_is_answered_while_another_thread_reads_the_energy(
    ask: Callable[[World, str], dict[str, Any]], *, spin: bool
) -> None:
    """As an H100's driver does: no lock is held while a call takes its time."""
    out = ask(
        _world(1, energy_latency_s=0.5, spin=spin),
        """
import threading
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
beginning = threading.Event()
def energy():
    beginning.set()
    n.nvmlDeviceGetTotalEnergyConsumption(gpu)
    out["energy_ns"] = time.perf_counter_ns()
thread = threading.Thread(target=energy)
thread.start()
beginning.wait()
out["power_mw"] = n.nvmlDeviceGetPowerUsage(gpu)
out["power_ns"] = time.perf_counter_ns()
thread.join()
""",
    )
    assert out["power_mw"] == 500_000
    assert out["power_ns"] < out["energy_ns"]


def test_mig_slices_have_identities_but_no_sensor(
    ask: Callable[[World, str], dict[str, Any]],
) -> None:
    world = _world(2)
    alone, shared = world.gpus
    gpus = (
        dataclasses.replace(alone, migs=2),
        dataclasses.replace(shared, migs=1, mig_power="parent"),
    )
    out = ask(
        dataclasses.replace(world, gpus=gpus),
        """
n.nvmlInit()
a, b = (n.nvmlDeviceGetHandleByIndex(i) for i in (0, 1))
out["mode"] = n.nvmlDeviceGetMigMode(a)
m = n.nvmlDeviceGetMigDeviceHandleByIndex(a, 1)
out["uuid"] = n.nvmlDeviceGetUUID(m)
out["energy"] = code(lambda: n.nvmlDeviceGetTotalEnergyConsumption(m))
out["power"] = code(lambda: n.nvmlDeviceGetPowerUsage(m))
out["parent"] = n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m))
out["again"] = n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(out["uuid"]))
out["gpu"] = n.nvmlDeviceGetUUID(a)
out["third"] = code(lambda: n.nvmlDeviceGetMigDeviceHandleByIndex(a, 2))
out["as_parent"] = n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetMigDeviceHandleByIndex(b, 0))
out["memory"] = n.nvmlDeviceGetMemoryInfo(m).total
""",
    )
    assert out["mode"] == [1, 1]
    assert re.fullmatch(r"MIG-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", out["uuid"])
    assert out["again"] == out["uuid"] != out["gpu"]
    assert out["energy"] == out["power"] == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert out["parent"] == 0
    assert out["third"] == pynvml.NVML_ERROR_NOT_FOUND
    assert out["as_parent"] == 500_000
    assert out["memory"] == (80 << 30) // 7


def test_a_superchip_answers_for_its_module(ask: Callable[[World, str], dict[str, Any]]) -> None:
    world = make.make_world([waveform.constant(power_w=400)], arch="gh200")
    out = ask(
        dataclasses.replace(world, origin_ns=world.origin_ns - 100 * _S),
        """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
out["c2c"] = n.nvmlDeviceGetC2cModeInfoV(h).isC2cEnabled
out["mw"] = [v.value.uiVal for v in n.nvmlDeviceGetFieldValues(h, [(186, 0), (186, 1)])]
""",
    )
    assert out == {"c2c": 1, "mw": [400_000, 520_000]}


def test_processes_and_throttling_are_told(
    ask: Callable[[World, str], dict[str, Any]], tmp_path: Path
) -> None:
    """Process 77 on GPU 1 uses 80 % of the SMs; 3 s of power cap lie in the past."""
    file = tmp_path / "processes"
    file.write_text("1 77 80 30 2147483648\n0 78 5 0 1024\n")
    throttles = (
        Throttle(reasons=4, start_s=2.0, end_s=5.0, gpu=1),
        Throttle(reasons=0x20, start_s=6.0, end_s=1e6, gpu=1),
    )
    out = ask(
        _world(2, processes=file, throttles=throttles),
        """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(1)
p, = n.nvmlDeviceGetComputeRunningProcesses(h)
out["process"] = [p.pid, p.usedGpuMemory]
u, = n.nvmlDeviceGetProcessUtilization(h, 0)
out["use"] = [u.pid, u.smUtil, u.memUtil]
out["newer"] = code(lambda: n.nvmlDeviceGetProcessUtilization(h, u.timeStamp + 10**6))
out["age_s"] = abs(time.time() - u.timeStamp / 1e6)
out["reasons"] = n.nvmlDeviceGetCurrentClocksEventReasons(h)
out["ns"] = [v.value.ullVal for v in n.nvmlDeviceGetFieldValues(h, [74, 269])]
out["violation_ns"] = n.nvmlDeviceGetViolationStatus(h, 0).violationTime
""",
    )
    assert out["process"] == [77, 2 << 30]
    assert out["use"] == [77, 80, 30]
    assert out["newer"] == pynvml.NVML_ERROR_NOT_FOUND
    assert out["age_s"] < 5
    assert out["reasons"] == 0x20
    assert out["ns"][0] == out["violation_ns"] == 3 * _S
    assert out["ns"][1] > 90 * _S


def test_a_live_file_is_followed(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records written after the library has opened the world count, torn ones do not."""
    monkeypatch.delenv("JOULEMARK_EMULATOR", raising=False)
    file = tmp_path / "live"
    world = make.make_world([waveform.live(file, idle_w=50)], origin_ns=0)
    loaded = _loaded(library, world, tmp_path / "beside")

    def drawn_j(end_s: int) -> float:
        end_ns = ctypes.c_int64(end_s * _S)
        energy: float = loaded.joulemark_emulated_true_energy_j(0, 0, ctypes.c_int64(0), end_ns)
        return energy

    assert drawn_j(10) == pytest.approx(500)
    row = np.array([(4 * _S, 100.0)], dtype=live.RECORD_DTYPE).tobytes()
    file.write_bytes(row + row[:7])
    assert drawn_j(10) == pytest.approx(4 * 50 + 6 * 100)
    assert drawn_j(10) == pytest.approx(SensorModel(world, 0).true_energy_j(0, 10 * _S))


def test_a_live_writer_is_heard(tmp_path: Path) -> None:
    writer = live.LiveWriter(tmp_path / "live", lead_s=0.0)
    at_ns = writer.set_power_w(300.0)
    writer.close()
    world = make.make_world([waveform.live(tmp_path / "live")], origin_ns=0)
    assert SensorModel(world, 0).true_energy_j(0, at_ns + _S) == pytest.approx(300)


def test_the_library_is_built_once_and_a_missing_compiler_is_named(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_ns = (library / build.LIBRARY_NAME).stat().st_mtime_ns
    assert build.build(library) == library
    assert (library / build.LIBRARY_NAME).stat().st_mtime_ns == made_ns
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ConfigError, match="no C compiler 'no-such-compiler'"):
        build.build(tmp_path / "other")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(ConfigError, match="failed"):
        build.build(tmp_path / "other")
    assert not (tmp_path / "other" / build.LIBRARY_NAME).exists()
