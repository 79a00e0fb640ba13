"""Run a command on emulated GPUs whose true energy is known."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from harness.emulator import build, follow, live, make, model, reader, waveform, world
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DRIVER: Final = Path("/proc/driver/nvidia/version")
_SHELL_SIGNALLED: Final = 128
_NOT_FOUND: Final = 127


class _Emulate(click.Group):
    """Takes what stands behind `--` for the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            args = [*args[:cut], "run", "--", *args[cut + 1 :]]
        return super().parse_args(ctx, args)


def _pairs(text: str) -> tuple[str, dict[str, str]]:
    kind, _, rest = text.partition(":")
    return kind, dict(pair.partition("=")[::2] for pair in filter(None, rest.split(",")))


def _fault(text: str) -> world.Fault:
    kind, given = _pairs(text)
    try:
        start_s = float(given.pop("at_s"))
        end_s = float(given.pop("until_s", "1e9"))
        gpu = int(given.pop("gpu")) if "gpu" in given else None
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"the fault {text!r} cannot be read", remedy="write e.g. lost:gpu=0,at_s=5,until_s=8"
        ) from error
    touches = given.pop("on", "all")
    if given:
        raise ConfigError(
            f"the fault {text!r} has unknown keys {', '.join(given)}",
            remedy="known are at_s, until_s, gpu and on",
        )
    any_kind: Any = kind  # checked by Fault itself
    return world.Fault(kind=any_kind, start_s=start_s, end_s=end_s, gpu=gpu, touches=touches)


def _process_line(text: str, own_pid: int) -> str:
    gpu, pid, sm_percent, memory_mib = (*text.split(":"), "", "", "")[:4]
    try:
        number = own_pid if pid == "self" else int(pid)
        return f"{int(gpu)} {number} {int(sm_percent)} 0 {int(memory_mib) << 20}"
    except ValueError as error:
        raise ConfigError(
            f"the process {text!r} cannot be read",
            remedy="write GPU:PID:SM_PERCENT:MEMORY_MIB, with `self` for the command's own PID",
        ) from error


@click.group(cls=_Emulate, name="emulate")
@click.option(
    "--waveform",
    "waveforms",
    multiple=True,
    metavar="KIND:KEY=VALUE,…",
    help="True power of GPU 0, 1, …; the last serves the rest. Default: a 2 s square.",
)
@click.option("--gpus", type=int, help="How many GPUs, up to 16; default: one a waveform.")
@click.option(
    "--arch", default="h100", show_default=True, help="The board, e.g. a100, l40s, gh200."
)
@click.option("--seed", default=0, help="Of UUIDs, sensor phases, noise and jitter.")
@click.option(
    "--follow-cpu",
    metavar="IDLE_W:BUSY_W",
    help="Instead of a waveform: power follows the command's CPU load.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND:at_s=…[,until_s=…,gpu=…,on=…]",
    help=f"One of {', '.join(world.FAULT_KINDS)}.",
)
@click.option(
    "--process",
    "processes",
    multiple=True,
    metavar="GPU:PID:SM_PERCENT:MEMORY_MIB",
    help="A process on a GPU; the PID `self` is the command's.",
)
@click.option("--tick-s", type=float, help="Period of the energy counter.")
@click.option("--lag-s", type=float, help="How old the energy is that the counter shows.")
@click.option("--jitter-s", type=float, help="Ticks come up to this much early or late.")
@click.option("--quantum-j", type=float, help="Smallest step of the counter.")
@click.option("--gain", type=float, help="What the sensors show per true joule.")
@click.option("--noise-w", type=float, help="Each power reading is off by up to this much.")
@click.option("--call-s", default=0.0, help="How long a power call takes.")
@click.option("--energy-call-s", default=0.0, help="How long reading the counter takes.")
@click.option("--mig", default=0, help="MIG instances a GPU, up to 7.")
@click.option("--despite-driver", is_flag=True, help="Go on although a real driver is loaded.")
@click.pass_context
def _emulate(ctx: click.Context, /, **options: Any) -> None:  # noqa: ANN401 - click's options
    """
    Run a command on emulated GPUs whose true energy is known.

    joulemark emulate --gpus 2 -- COMMAND… puts an NVML of our own before the
    command's libraries; the driver version it reports contains "emulated".
    When the command ends, the true energy of each GPU is told on stderr.
    """
    ctx.obj = options


def _world(options: dict[str, Any], folder: Path, origin_ns: int) -> world.World:
    specs = options["waveforms"] or ("square:low_w=70,high_w=680,period_s=2",)
    waves = [waveform.parse(spec) for spec in specs]
    if options["follow_cpu"]:
        waves = [waveform.live(folder / "live", idle_w=_watts(options["follow_cpu"])[0])]
    made = make.make_world(
        waves,
        gpus=options["gpus"],
        arch=options["arch"],
        seed=options["seed"],
        origin_ns=origin_ns,
    )
    names = ("tick_s", "lag_s", "jitter_s", "quantum_j", "gain", "noise_w")
    made = make.with_sensors(made, **{name: options[name] for name in names})
    gpus = tuple(dataclasses.replace(gpu, migs=options["mig"]) for gpu in made.gpus)
    return dataclasses.replace(
        made,
        gpus=gpus,
        power_latency_s=options["call_s"],
        energy_latency_s=options["energy_call_s"],
        faults=tuple(_fault(text) for text in options["faults"]),
        processes=folder / "processes" if options["processes"] else None,
    )


def _watts(text: str) -> tuple[float, float]:
    idle, _, busy = text.partition(":")
    try:
        return float(idle), float(busy)
    except ValueError as error:
        raise ConfigError(
            f"--follow-cpu {text!r} is not two powers", remedy="write e.g. --follow-cpu 70:680"
        ) from error


def _refuse_real_driver(options: dict[str, Any]) -> None:
    if _DRIVER.exists() and not options["despite_driver"]:
        raise ConfigError(
            "a real NVIDIA driver is loaded here, and the command would not see it",
            remedy="emulate on another machine, or insist with --despite-driver",
        )


@_emulate.command("run", hidden=True, context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def _run(options: dict[str, Any], command: Sequence[str]) -> int:
    """Run COMMAND on the emulated GPUs and pass its exit code on."""
    _refuse_real_driver(options)
    library = build.build()
    with tempfile.TemporaryDirectory(prefix="joulemark-emulator-") as scratch:
        folder = Path(scratch)
        start_ns = time.perf_counter_ns()
        made = _world(options, folder, start_ns)
        environment = build.environment(made.write(folder / "world.txt"), library=library)
        try:
            child = subprocess.Popen(command, env=environment)
        except OSError as error:
            raise ConfigError(
                f"{command[0]!r} cannot be started ({error.strerror})", remedy="check its name"
            ) from error
        lines = [_process_line(text, child.pid) for text in options["processes"]]
        (folder / "processes").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        code = _attend(child, options, folder)
        end_ns = time.perf_counter_ns()
        for index in range(len(made.gpus)):
            _tell(made, index, start_ns, end_ns)
    return code if code >= 0 else _SHELL_SIGNALLED - code


def _attend(child: subprocess.Popen[bytes], options: dict[str, Any], folder: Path) -> int:
    """Wait for the command; Ctrl-C is its own affair, SIGTERM is handed on to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    if not options["follow_cpu"]:
        return child.wait()
    idle_w, busy_w = _watts(options["follow_cpu"])
    writer = live.LiveWriter(folder / "live")
    follower = follow.CpuFollower(writer, child.pid, idle_w=idle_w, busy_w=busy_w)
    follower.start()
    code = child.wait()
    follower.stop()
    return code


def _tell(made: world.World, gpu: int, start_ns: int, end_ns: int) -> None:
    energy_j = model.SensorModel(made, gpu).true_energy_j(start_ns, end_ns)
    told = {
        "emulated_gpu": made.gpus[gpu].device_uuid,
        "true_energy_j": energy_j,
        "start_ns": start_ns,
        "end_ns": end_ns,
    }
    click.echo(f"joulemark emulate: {json.dumps(told)}", err=True)


@_emulate.command("build")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put it here, with a world of its own beside it; default: the cache.",
)
@click.pass_obj
def _build(options: dict[str, Any], out: Path | None) -> None:
    """Build the library and print the folder for LD_LIBRARY_PATH."""
    target = build.build(out)
    if out is not None:
        # Origin 0, so that the world is as good after the next boot.
        _world(options, target, 0).write(target / "world.txt")
    click.echo(str(target))


@_emulate.command("truth")
@click.option("--start-ns", type=int, required=True, help="CLOCK_MONOTONIC.")
@click.option("--end-ns", type=int, required=True, help="CLOCK_MONOTONIC.")
@click.option("--gpu", default=0, help="Index.")
@click.option(
    "--world",
    "world_file",
    envvar=world.WORLD_VARIABLE,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Default: $JOULEMARK_EMULATOR.",
)
def _truth(start_ns: int, end_ns: int, gpu: int, world_file: Path) -> None:
    """Print the true joules between two instants, exactly."""
    known = reader.read(world_file)
    if not 0 <= gpu < len(known.gpus):
        raise ConfigError(
            f"this world has no GPU {gpu}", remedy=f"choose 0 to {len(known.gpus) - 1}"
        )
    click.echo(repr(model.SensorModel(known, gpu).true_energy_j(start_ns, end_ns)))


COMMAND = _emulate
