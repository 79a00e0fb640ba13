"""How many streams joulemark's client takes before it says that it cannot, and in how much memory.

    python benchmarks/load_scale.py

Each line is one load on a mock on this machine, with the findings that a record would have.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.arrivals import Arrivals
from harness.journal import JournalWriter
from harness.load.findings import audit_findings
from harness.load.loop import run
from harness.load.plan import LoadPlan
from harness.load.processes import run_processes
from harness.load.progress import LoadProgress
from harness.load.trial import mock_process
from harness.mock.settings import MockSettings
from harness.stream.descriptors import allow_sockets
from harness.timeline import EVENT_DTYPE, Request

PROMPT = "How many joules does a token cost on this machine? " * 8
CASES = (
    # streams, tokens a second and stream, tokens an answer, requests, client processes, in step
    (1024, 100, 200, 4096, 1, True),
    (1024, 100, 200, 12288, 1, False),
    (4000, 10, 100, 8000, 2, True),
    (4000, 20, 100, 16000, 2, True),
    (500, 100, 1000, 2000, 1, True),
)


def one(number: int) -> None:
    """One case, in a process of its own, whose memory is then this case's."""
    streams, rate, osl, count, processes, batch = CASES[number]
    settings = MockSettings(itl_s=1 / rate, batch=batch)
    ramp_s = 0.0 if batch else osl / rate
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        with mock_process(settings, None) as endpoint:
            allow_sockets(streams)
            journal = JournalWriter(folder / "events", EVENT_DTYPE, {})
            plan = LoadPlan(
                endpoint=endpoint,
                requests=(
                    Request(index=i, prompt=PROMPT, max_osl_tokens=osl) for i in itertools.count()
                ),
                phase="measure",
                arrivals=Arrivals(pattern="concurrency", concurrency=streams, ramp_up_s=ramp_s),
                request_count=count,
                duration_s=None,
                request_timeout_s=300,
                fixed_length={"ignore_eos": True},
            )
            common = {
                "journal": journal,
                "on_result": lambda _: None,
                "progress": LoadProgress(),
                "stop": threading.Event(),
            }
            if processes == 1:
                # One core for the client, whichever: the mock may have the other.
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
                audit = run(plan, **common)
            else:
                audit = run_processes(plan, processes=processes, shards=folder, **common)
            journal.close()
            size = (folder / "events").stat().st_size
    tokens = count * osl
    rss = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF,)]
    print(
        f"{streams} streams x {rate} tok/s, {'in step' if batch else 'staggered'}, {processes} "
        f"client process(es): {audit.requests}, {tokens} tokens, {tokens / audit.wall_s:.0f} "
        f"tok/s of {streams * osl / (settings.ttft_s + (osl - 1) / rate):.0f}, CPU "
        f"{audit.cpu_s * 1e6 / tokens:.1f} ms/1000 tokens, loop {audit.loop_share_ratio:.0%} of a "
        f"core, loop lag p50/p99/max {audit.loop_lag_p50_s * 1e3:.1f}/"
        f"{audit.loop_lag_p99_s * 1e3:.1f}/{audit.loop_lag_max_s * 1e3:.1f} ms, "
        f"{audit.reads_stamped_by_kernel} reads stamped by the kernel and "
        f"{audit.reads_stamped_by_client} by the client, peak memory {rss[0] / 1024:.0f} MB, "
        f"journal {size / 1e6:.0f} MB, load average {os.getloadavg()[0]:.1f}"
    )
    for finding in audit_findings(audit):
        print(f"    {finding.severity} {finding.code}: {finding.message}")


def main() -> None:
    """All cases, or those named by their number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", type=int, default=list(range(len(CASES))))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        one(given.one)
        return
    for number in given.cases:
        subprocess.run([sys.executable, __file__, "--one", str(number)], check=True)


if __name__ == "__main__":
    main()
