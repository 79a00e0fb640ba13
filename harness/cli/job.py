"""Say what a batch job drew on this node, for how many tokens; for Slurm's prolog and epilog."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import click

_URL = "http://127.0.0.1:9778/metrics"


@click.group(short_help="Joules and tokens of a batch job (Slurm prolog, epilog).")
def COMMAND() -> None:  # noqa: N802
    """Called by deploy/slurm/joulemark-job.sh; SLURM_* variables say which job."""


_EXPORTER = click.option(
    "--exporter",
    "url",
    default=_URL,
    show_default=True,
    metavar="URL",
    help="Of `joulemark export`.",
)
_HEADERS = click.option(
    "--headers",
    "headers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="`Name: value` lines sent along, e.g. Authorization.",
)
_STATE = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/run/joulemark-jobs"),
    show_default=True,
    help="Keeps what was read at the beginning.",
)


@COMMAND.command()
@_EXPORTER
@_HEADERS
@_STATE
def begin(url: str, headers_file: Path | None, state_dir: Path) -> None:
    """Note the node's counters as the job begins."""
    from harness.ask import read_headers  # noqa: PLC0415
    from harness.job import readings  # noqa: PLC0415

    job_id = _job_id()
    reading = readings.take(url, read_headers(headers_file))
    click.echo(readings.keep(reading, state_dir, job_id))


@COMMAND.command(short_help="Read them again as it ends; write what the job took.")
@_EXPORTER
@_HEADERS
@_STATE
@click.option(
    "--out-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/log/joulemark-jobs"),
    show_default=True,
    help="Gets a file a job.",
)
def end(url: str, headers_file: Path | None, state_dir: Path, out_dir: Path) -> None:
    """Read them again as it ends, and write what the job took as JOB.NODE.json."""
    import orjson  # noqa: PLC0415

    from harness.ask import read_headers  # noqa: PLC0415
    from harness.job import readings  # noqa: PLC0415
    from harness.job.account import Job, account  # noqa: PLC0415

    job_id = _job_id()
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    names = os.environ.get("SLURM_JOB_GPUS")
    gpus = None if not names else tuple(name for name in names.split(",") if name)
    reading = readings.take(url, read_headers(headers_file))
    job = Job(job_id=job_id, node=node, gpus=gpus)
    document = account(job, readings.kept(state_dir, job_id), reading)
    path = readings.own(out_dir, mode=0o755) / f"{job_id}.{node.replace('/', '_')}.json"
    readings.write(path, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    group = os.environ.get("SLURM_JOB_GID", "")
    # The job's group may read it and nobody else; root's own file, so that nobody can change it.
    if group.isdecimal() and os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # a network file system that squashes root
            os.chown(path, -1, int(group))
    path.chmod(0o640)
    readings.forget(state_dir, job_id)
    click.echo(path)


def _job_id() -> str:
    from harness.errors import ConfigError  # noqa: PLC0415

    job_id = os.environ.get("SLURM_JOB_ID", "")
    if not (job_id.isascii() and job_id.isdecimal()):
        raise ConfigError(
            f"SLURM_JOB_ID is {job_id!r}", remedy="call this from Slurm's prolog and epilog"
        )
    return job_id
