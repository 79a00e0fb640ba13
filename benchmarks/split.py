"""Prefill, decode and idle power found again on the mock engine, whose true costs are scripted."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness import store  # noqa: E402 - the checkout, installed or not
from harness.decompose import split  # noqa: E402
from harness.mock.writelog import WriteKind, read_write_log  # noqa: E402
from harness.phases.estimate import Split  # noqa: E402
from harness.timeline import Channel, PowerTrace, Window  # noqa: E402
from harness.tokens import TokenTimes, token_times  # noqa: E402

Floats = npt.NDArray[np.float64]
STEP_S: Final = 0.001
IDLE_S: Final = 15.0
TTFT_S: Final = 0.12
ITL_S: Final = 0.02
TRUTH: Final = {"prefill J/token": 0.05, "decode J/token": 0.4, "idle W": 120.0}


def run_the_mock(folder: Path, *, seconds: float, seed: int) -> tuple[store.RawRun, Path]:
    """A real run: the mock as a process, our client, Poisson arrivals; no power is metered."""
    log = folder / "writes"
    mock = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.mock",
         json.dumps({"ttft_s": TTFT_S, "itl_s": ITL_S, "jitter_ratio": 0.1}), str(log)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert mock.stdout is not None
        url = f"http://127.0.0.1:{int(mock.stdout.readline())}"
        config = folder / "split.toml"
        config.write_text(
            f'[run]\nseed = {seed}\n[engine]\nkind = "attach"\nurl = "{url}"\nmodel = "mock"\n'
            'server = "vllm"\n[workload]\nkind = "inferencex"\nprompts = "tokens"\n'
            "isl_tokens = 1500\nosl_tokens = 120\nrange_ratio = 0.05\n[load]\n"
            'pattern = "poisson"\nrequest_rate_per_s = 1.5\nwarmup_request_count = 2\n'
            f'endpoint_type = "completions"\nduration_s = {seconds}\n[power]\nsources = []\n'
            '[window]\nkind = "run"\nmin_s = 5.0\n'
        )
        subprocess.run(
            [sys.executable, "-m", "harness", "run", str(config), "--artifact-dir", str(folder)],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
    finally:
        mock.terminate()
        mock.wait()
    (run,) = folder.glob("split-*")
    return store.load(run), log


def scripted_power(log: Path, requests: pd.DataFrame, start_ns: int, steps: int) -> Floats:
    """Watts each millisecond, from when the server had a request and when it sent each token."""
    prefill, decode, idle = TRUTH.values()
    power = np.full(steps, idle)
    isl = requests.set_index("request")["isl_tokens"].to_dict()
    writes = read_write_log(log)

    def place(t_ns: int) -> int:
        return round((t_ns - start_ns) / 1e9 / STEP_S)

    for number in np.unique(writes["number"]):
        own = writes[writes["number"] == number]
        index = int(own["index"][0])
        sent = own[own["kind"] == WriteKind.TOKENS]
        if index not in isl or not len(sent) or own["t_ns"][0] < start_ns:
            continue
        begin, first = place(own["t_ns"][0]), place(sent["t_ns"][0])
        power[begin:first] += prefill * isl[index] / ((first - begin) * STEP_S)
        for t_ns, tokens in zip(sent["t_ns"], np.diff(sent["tokens"], prepend=0), strict=True):
            end = place(t_ns)
            power[end - round(ITL_S / STEP_S) : end] += decode * tokens / ITL_S
    return power


def counter(power: Floats, start_ns: int, *, seed: int, noise_w: float = 6.0) -> PowerTrace:
    """An energy counter of millijoules that ticks each 100 ms, read each 50 ms, of noisy power."""
    draw = np.random.default_rng(seed)
    noise = np.repeat(draw.normal(0, noise_w, len(power) // 100 + 1), 100)[: len(power)]
    energy = np.concatenate([[0.0], np.cumsum(power + noise) * STEP_S])
    reads = np.arange(0.013, len(power) * STEP_S - 0.2, 0.05)
    at = np.round(np.floor(reads / 0.1) * 0.1 / STEP_S).astype(int)
    stamps = start_ns + (reads * 1e9).astype(np.int64)
    channel = Channel(
        name="scripted", quantity="energy", boundary="gpu", device="scripted",
        power_kind="emulated", method="scripted from the mock engine's own log",
    )  # fmt: skip
    status = np.zeros(len(reads), np.uint16)
    return PowerTrace(channel, stamps, stamps + 1000, np.round(energy[at], 3), status)


def estimates(found: Split) -> dict[str, tuple[float, float, float]]:
    """Value and interval by the names of TRUTH."""
    numbers = (found.prefill_j_per_token, found.decode_j_per_token, found.idle_w)
    return {
        name: (number.value, number.low, number.high)
        for name, number in zip(TRUTH, numbers, strict=True)
        if number is not None
    }


def main() -> int:
    """Print how often each cost is found within 3 % and lies in its interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="length of the real run")
    parser.add_argument("--seeds", type=int, default=100, help="of the sensor's noise")
    parser.add_argument("--seed", type=int, default=0, help="of the load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raw, log = run_the_mock(Path(name), seconds=arguments.seconds, seed=arguments.seed)
        requests = raw.requests[raw.requests["phase"] == "measure"]
        tokens: TokenTimes = token_times(raw.events, requests)
        first, last = int(requests["t_sent_ns"].min()), int(requests["t_end_ns"].max())
        start_ns = first - int((IDLE_S + 1) * 1e9)
        steps = int((last - start_ns) / 1e9 / STEP_S) + 5000
        power = scripted_power(log, requests, start_ns, steps)
    idle_end = first - 500_000_000
    windows = [
        Window(name="idle", start_ns=start_ns + 500_000_000, end_ns=idle_end),
        Window(name="run", start_ns=idle_end, end_ns=last),
    ]
    close, covered = dict.fromkeys(TRUTH, 0), dict.fromkeys(TRUTH, 0)
    worst = dict.fromkeys(TRUTH, 0.0)
    for seed in range(arguments.seeds):
        found = split(counter(power, start_ns, seed=seed), windows, tokens, requests)
        if not isinstance(found, Split):
            continue
        for what, (value, low, high) in estimates(found).items():
            off = abs(value / TRUTH[what] - 1)
            worst[what] = max(worst[what], off)
            close[what] += off < 0.03
            covered[what] += low <= TRUTH[what] <= high
    print(f"one run of {(last - first) / 1e9:.0f} s on the mock engine, {len(requests)} requests,")
    print(f"{arguments.seeds} seeds of a sensor's noise; power is scripted (emulated)")
    print("| | truth | within 3 % | interval holds it | worst |\n|---|---|---|---|---|")
    for what, truth in TRUTH.items():
        print(f"| {what} | {truth:g} | {close[what]} | {covered[what]} | {worst[what]:.2%} |")
    good = min(close.values()) == arguments.seeds
    return 0 if good and min(covered.values()) >= 0.9 * arguments.seeds else 1


if __name__ == "__main__":
    sys.exit(main())
