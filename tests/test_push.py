"""Runs in production's store: a real promtool, Prometheus and Pushgateway take what is pushed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

import golden_run
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from servers import serving

from harness import cli, store
from harness.analysis import analyse
from harness.push import remote_write, sending, series, steps
from harness.timeline import Channel, PowerTrace, ReadStatus

S = 10**9
T0 = golden_run.PROVENANCE["anchor"]["t_wall_ns"] / 1e9
"""The golden run's measured phase begins here, Unix time: a whole second."""
WATTS = "joulemark_run_emulated_gpu_power_watts"
TOKENS = "joulemark_run_output_tokens_per_second"


@pytest.fixture
def runs(tmp_path):
    """A folder of runs with the golden one in it."""
    golden_run.make(tmp_path / "runs" / "golden")
    return tmp_path / "runs"


@pytest.fixture
def joulemark(runs, monkeypatch, capsys):
    """The command line in this process, in the folder that holds the runs: fast."""
    monkeypatch.chdir(runs.parent)

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def complaint(done: Done) -> str:
    """The one line that says what is wrong; warnings do not begin with our name."""
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("joulemark: ")]
    return line.removeprefix("joulemark: ")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def program(*command: str, url: str, cwd: Path):
    """A server of Debian's, until its URL answers and until the end of the test."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (Debian: {command[0]})")
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end_s = time.monotonic() + 60
        while True:
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < end_s, f"{command[0]} does not answer"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
                break
            time.sleep(0.05)  # it has no other way to say that it is ready
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def prometheus(folder: Path):
    """A Prometheus that scrapes nothing and takes remote writes; yields its port."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "p.yml").write_text("scrape_configs: []\n")
    with program(
        "prometheus", "--config.file=p.yml", "--storage.tsdb.path=data",
        "--storage.tsdb.retention.time=50y", "--web.enable-remote-write-receiver",
        f"--web.listen-address=127.0.0.1:{port}",
        url=f"http://127.0.0.1:{port}/-/ready", cwd=folder,
    ):  # fmt: skip
        yield port


def query(port: int, text: str, at_s: float) -> list[dict]:
    options = urllib.parse.urlencode({"query": text, "time": at_s})
    url = f"http://127.0.0.1:{port}/api/v1/query?{options}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: list[dict] = json.loads(answer.read())["data"]["result"]
    return found


def value(port: int, text: str, at_s: float) -> float:
    (row,) = query(port, text, at_s)
    return float(row["value"][1])


def samples(port: int, text: str) -> dict[float, float]:
    """Every stored sample of the one series, as stored."""
    (row,) = query(port, f"{text}[1h]", T0 + 600)
    return {t_s: float(number) for t_s, number in row["values"]}


PHASES_AT_5_S = {"loaded_idle": "0", "warm_up": "0", "measure": "1"}


def check_golden(port: int) -> None:
    """
    What the golden run is, by hand: 300 W throughout; 4 slots of 25 tok/s with pauses.

    Each request sends 20 tokens in 0.96 s and the next begins as it ends: 4 x 20 / 0.96 =
    83.3 tok/s, 800 tokens in all.
    """
    watts = samples(port, WATTS)
    assert set(watts) == {T0 + second for second in range(-5, 12)}
    assert all(one == pytest.approx(300, rel=1e-9) for one in watts.values())
    rates = samples(port, TOKENS)
    assert sum(rates.values()) == pytest.approx(800)
    # From the first request to the last token, at 9.6 s: outside it nobody counted.
    assert set(rates) == {T0 + second for second in range(1, 11)}
    assert rates[T0 + 3] == pytest.approx(80, abs=4.1)
    active = samples(port, "joulemark_run_active")
    record = [one for one, on in sorted(active.items()) if on == 1]
    # The edges of the record's window, cut to the millisecond: 0.990219443 s to 8.689950620 s.
    assert record[0] == pytest.approx(T0 + 0.990, abs=1e-9)
    after = min(one for one in active if one > record[-1])
    assert after == pytest.approx(T0 + 8.689, abs=1e-9)
    assert value(port, "joulemark_run_active", T0 + 5.5) == 1
    assert value(port, "joulemark_run_active", T0 + 9.5) == 0
    # Marks of the golden run: idle from -6 s to -1 s, warm-up to 0 s, measured to 11 s.
    phase = {row["metric"]["phase"]: row for row in query(port, "joulemark_run_phase", T0 + 5)}
    assert {name: row["value"][1] for name, row in phase.items()} == PHASES_AT_5_S
    joules = "joulemark_run_emulated_gpu_joules_per_output_token"
    assert value(port, joules + '{statistic="value"}', T0 + 13) == pytest.approx(2310 / 640)
    # What Grafana's annotations and joins ask for.
    (row,) = query(port, "joulemark_run_active == 1", T0 + 5)
    assert row["metric"] == {
        "__name__": "joulemark_run_active", "run_id": "golden", "run": "golden",
        "engine": "attach", "model": "made-up", "window": "steady", "power_kind": "emulated",
        "cluster": "a",
    }  # fmt: skip
    inside = f"avg_over_time(({WATTS} and on (run_id) joulemark_run_active == 1)[12s:1s])"
    assert value(port, inside, T0 + 12) == pytest.approx(300)
    assert not query(port, '{__name__=~"joulemark_run_gpu_.+"}', T0 + 5)


def test_promtool_makes_blocks_of_the_file_and_prometheus_answers_from_them(joulemark, tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = joulemark("push", "golden", "--openmetrics", "golden.om", "--label", "cluster=a")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "golden.om").read_bytes().endswith(b"# EOF\n")
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "golden.om", "p/data"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    with prometheus(tmp_path / "p") as port:
        check_golden(port)


def test_remote_write_into_a_real_prometheus_and_a_second_time(joulemark, tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "_SAMPLES", 7)  # many requests, series cut in their middle
    with prometheus(tmp_path / "p") as port:
        words = ("push", "--label", "cluster=a", "--remote-write",
                f"http://127.0.0.1:{port}/api/v1/write")  # fmt: skip
        done = joulemark(*words)
        assert done.returncode == 0, done.stderr
        check_golden(port)
        # The series ended: nothing lingers for the five minutes that Prometheus looks back.
        assert not query(port, WATTS, T0 + 15)
        said = complaint(joulemark(*words))
        assert "answers 400: out of order sample" in said
        assert "pushed before" in said
        assert complaint(joulemark(*words[:-1], f"http://127.0.0.1:{port}/nowhere")).count("404")
        # Three hours on there are other samples, and what is as old as a first push is too old.
        for name, later_ns in (("later", 3 * 3600 * S), ("old", 0)):
            golden_run.make(tmp_path / "runs" / name)
            manifest = tmp_path / "runs" / name / "manifest.json"
            about = json.loads(manifest.read_text()) | {"run_id": name}
            about["provenance"]["anchor"]["t_wall_ns"] += later_ns
            manifest.write_text(json.dumps(about))
        assert joulemark(*words, "later").returncode == 0
        assert "answers 400: out of bounds" in complaint(joulemark(*words, "old"))


def test_a_pushgateway_shows_the_summary_and_takes_it_again(joulemark, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with program(
        "prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}",
        url=f"{url}/-/ready", cwd=tmp_path,
    ):  # fmt: skip
        for _ in range(2):
            done = joulemark("push", "--pushgateway", url, "--label", "cluster=a")
            assert done.returncode == 0, done.stderr
        group = done.stdout.rpartition(": ")[0]
        assert group == f"{url}/metrics/job/joulemark/run_id/golden"
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310
            shown = answer.read().decode()
        line = next(
            one for one in shown.splitlines()
            if one.startswith("joulemark_run_emulated_gpu_joules_per_output_token{")
            and 'statistic="value"' in one
        )  # fmt: skip
        assert 'cluster="a"' in line
        assert float(line.rpartition(" ")[2]) == 2310 / 640
        request = urllib.request.Request(group, method="DELETE")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            assert answer.status == 202


def test_what_a_server_refuses_is_said_in_its_words(joulemark, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("Authorization: Bearer abc\nX-Scope-OrgID: team\n")
    seen = []

    def answer(handler, number):
        seen.append(dict(handler.headers))
        body = b"" if number < 1 else b"tenant over its limit\nask the owner"
        handler.send_response(429 if body else 204)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving(answer) as url:
        words = ("push", "--headers", "secret", "--remote-write", f"{url}/w?a=1")
        assert joulemark(*words, "golden").returncode == 0
        said = complaint(joulemark(*words))
    assert "answers 429: tenant over its limit ask the owner; " in said
    assert seen[0]["Authorization"] == "Bearer abc"
    assert seen[0]["X-Scope-OrgID"] == "team"
    assert seen[0]["Content-Encoding"] == "snappy"
    assert seen[0]["Content-Type"] == "application/x-protobuf"
    assert seen[0]["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    monkeypatch.setattr(sending, "_SAMPLES", 50)
    with serving(answer) as url:
        said = complaint(joulemark(*words[:-1], url))
    assert re.search(r"ask the owner \(after 50 of \d{3} samples were taken\); ", said)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("measured", "joulemark_run_gpu_power_watts"),
        ("modelled", "joulemark_run_modelled_gpu_power_watts"),
        ("emulated", "joulemark_run_emulated_gpu_power_watts"),
    ],
)
def test_joules_that_were_not_measured_never_have_a_measured_name(runs, kind, name):
    raw = store.load(runs / "golden")
    channels = [one | {"power_kind": kind} for one in raw.power_header["channels"]]
    raw = dataclasses.replace(raw, power_header=raw.power_header | {"channels": channels})
    found = {one.name: one for one in series.series(analyse(raw), raw, step_s=1.0)}
    assert {one.labels["power_kind"] for one in found[name].samples} == {kind}
    marked = {one for one in found if re.search("_(joules|watts|usd|megawatt_consumed)", one)}
    prefix = name.removesuffix("gpu_power_watts")
    assert len(marked) > 5
    others = {f"joulemark_run_{word}_" for word in ("modelled", "emulated")} - {prefix}
    assert all(one.startswith(prefix) for one in marked)
    assert not any(one.startswith(tuple(others)) for one in marked)


def test_a_run_that_has_no_window_and_no_power_is_pushed_without_them(joulemark, runs, tmp_path):
    """As of a run that was cut short: a warning for each, and no series that would be a guess."""
    (runs / "golden" / "power.journal").unlink()
    (runs / "golden" / "tokens.journal").unlink()
    done = joulemark("push", "--openmetrics", "f")
    assert done.returncode == 0, done.stderr
    assert "no window was found" in done.stderr
    assert "no power was recorded" in done.stderr
    names = set(re.findall(r"^(\w+)\{", (tmp_path / "f").read_text(), re.MULTILINE))
    assert names == {"joulemark_run_info", "joulemark_run_phase"}
    for name in ("marks.jsonl", "requests.jsonl"):
        (runs / "golden" / name).unlink()
    assert "recorded nothing that has a date" in complaint(joulemark("push", "--openmetrics", "f"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no place to push to; give --openmetrics"),
        (("--remote-write", "http://127.0.0.1:1/w"), "is not reached"),
        (("--pushgateway", "http://127.0.0.1:1"), "is not reached"),
        (("--remote-write", "127.0.0.1:9090"), "is not an http or https address"),
        (("--remote-write", "http://a:b@127.0.0.1:1/w"), "--headers"),
        (("--openmetrics", "no/such/folder/f"), "cannot write no/such/folder/f"),
        (("--openmetrics", "f", "--step", "0"), "outside 0.1 to 60"),
        (("--openmetrics", "f", "--label", "a"), "write NAME=VALUE"),
        (("--openmetrics", "f", "--label", "run_id=a"), "has a label 'run_id' of its own"),
        (("--openmetrics", "f", "--label", "a-b=a"), "no name of a label"),
        (("--openmetrics", "f", "--headers", "none"), "cannot be read"),
        (("--openmetrics", "f", "nosuchrun"), "there is no run 'nosuchrun'"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(joulemark, arguments, message):
    words = complaint(joulemark("push", *arguments))
    assert message in words
    assert "a:b@" not in words


def test_several_runs_share_a_file_each_under_its_own_id(joulemark, runs, tmp_path):
    golden_run.make(runs / "other")
    manifest = runs / "other" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"run_id": "golden"', '"run_id": "other"'))
    done = joulemark("push", "golden", "other", "--openmetrics", "both.om")
    assert done.returncode == 0, done.stderr
    parsed = text_string_to_metric_families((tmp_path / "both.om").read_text())
    families = {family.name: family for family in parsed}
    ids = {sample.labels["run_id"] for sample in families[WATTS].samples}
    assert ids == {"golden", "other"}


def power_trace(times_s, values, *, quantity="power", sense="instant", status=None):
    """A channel read at *times_s*."""
    t_ns = (np.array(times_s) * S).astype(np.int64)
    return PowerTrace(
        channel=Channel(
            name="c", quantity=quantity, boundary="gpu", device="d", power_kind="emulated",
            method="made up", sense=sense,
        ),
        t_before_ns=t_ns, t_after_ns=t_ns, value=np.array(values, dtype=np.float64),
        status=np.full(len(t_ns), ReadStatus.OK) if status is None else np.array(status),
    )  # fmt: skip


def watts(trace, edges_s):
    return steps.step_power_w(trace, (np.array(edges_s) * S).astype(np.int64)).tolist()


def test_watts_of_a_step_by_hand():
    """A ramp of 10 W each second has its middle's power; a step beyond the readings has none."""
    times = np.arange(0, 4.01, 0.25)
    found = watts(power_trace(times, 10 * times), [-1, 0, 1, 2, 4, 5])
    assert found == pytest.approx([np.nan, 5, 15, 30, np.nan], nan_ok=True)


def test_a_mean_reading_holds_back_to_the_one_before_it():
    found = watts(power_trace([0, 0.5, 1, 1.5, 2], [9, 10, 20, 30, 40], sense="mean"), [0, 1, 2])
    assert found == pytest.approx([15, 35])


def test_an_average_reading_stands_for_the_middle_of_its_second():
    """Half a second earlier: the ramp is 5 W higher at any instant."""
    times = np.arange(0, 4.01, 0.25)
    found = watts(power_trace(times, 10 * times, sense="average"), [0, 1, 2])
    assert found == pytest.approx([10, 20])


def test_a_counters_watts_do_not_depend_on_where_its_ticks_fall():
    """100 W, a tick each 0.3 s: naive differences over 1 s would read 90 or 120 W."""
    times = np.arange(0, 10, 0.05)
    joules = np.floor((times + 1e-9) / 0.3) * 30
    found = watts(power_trace(times, joules, quantity="energy", sense="counter"), range(1, 9))
    assert found == pytest.approx([100.0] * 7, rel=0.06)


def test_a_silence_a_reset_and_a_lost_device_leave_a_gap_and_nothing_else():
    times = np.delete(np.arange(0, 10, 0.05), slice(62, 95))  # silent from 3.05 to 4.75 s
    found = watts(power_trace(times, np.full(len(times), 7.0)), range(10))
    assert found == pytest.approx([7, 7, 7, np.nan, np.nan, 7, 7, 7, 7], nan_ok=True)
    times = np.arange(0, 10, 0.05)
    joules = 7 * np.where(times > 5.51, times - 5, times)
    found = watts(power_trace(times, joules, quantity="energy", sense="counter"), range(1, 9))
    assert found == pytest.approx([7, 7, 7, 7, np.nan, 7, 7], nan_ok=True, rel=0.06)
    status = np.where((times > 2.4) & (times < 2.6), ReadStatus.LOST, ReadStatus.OK)
    found = watts(
        power_trace(times, 7 * times, quantity="energy", sense="counter", status=status),
        range(1, 5),
    )
    assert found == pytest.approx([7, np.nan, 7], nan_ok=True, rel=0.06)


def message(data: bytes):
    """Fields of a protobuf message as (number, value), read by the specification alone."""

    def varint(at: int) -> tuple[int, int]:
        number = shift = 0
        while True:
            number |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return number, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            found, at = varint(at)
        elif key & 7 == 1:
            found, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
        else:
            assert key & 7 == 2
            size, at = varint(at)
            found, at = data[at : at + size], at + size
        yield key >> 3, found


def decoded(body: bytes) -> dict:
    # Snappy's block format begins with the length of what is inside.
    length = shift = place = 0
    while True:
        length |= (body[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if body[place - 1] < 0x80:
            break
    plain = pa.decompress(body, decompressed_size=length, codec="snappy", asbytes=True)
    found: dict = {}
    for _, one in message(plain):
        parts = list(message(one))
        labels = tuple(
            tuple(text.decode() for _, text in message(part))
            for number, part in parts
            if number == 1
        )
        points = [dict(message(part)) for number, part in parts if number == 2]
        found.setdefault(labels, []).extend((point[2], point[1]) for point in points)
    return found


@given(
    series=st.dictionaries(
        st.lists(
            st.tuples(st.text("ab_", min_size=1, max_size=3), st.text(min_size=1, max_size=200)),
            min_size=1, max_size=3, unique_by=lambda one: one[0],
        ).map(lambda labels: tuple(sorted(labels))),
        st.lists(
            st.tuples(st.integers(0, 2**45), st.floats(allow_nan=False)), min_size=1, max_size=9
        ),
        max_size=4,
    ),
    limit=st.integers(1, 20),
)  # fmt: skip
def test_a_write_request_holds_what_was_put_into_it_however_it_is_cut(series, limit):
    found: dict = {}
    for body, count in remote_write.requests(series, samples=limit):
        part = decoded(body)
        assert sum(map(len, part.values())) == count <= limit
        for labels, points in part.items():
            found.setdefault(labels, []).extend(points)
    assert found == {labels: points for labels, points in series.items() if points}


def test_one_write_request_byte_by_byte():
    """By hand, from the message's definition; the varint of 300 is ac 02."""
    ((body, count),) = remote_write.requests({(("a", "b"),): [(300, 1.0)]}, samples=10)
    plain = bytes.fromhex("0a160a060a0161120162120c09000000000000f03f10ac02")
    assert count == 1
    # A literal of 24 bytes: length, then (24 - 1) << 2, then the bytes.
    assert body == bytes([24, 23 << 2]) + plain


def test_the_mark_of_a_series_end_is_the_one_that_prometheus_knows():
    assert struct.pack(">d", remote_write.STALE).hex() == "7ff0000000000002"


def test_a_run_cut_short_while_its_engine_idled_was_not_warming_up(runs):
    raw = store.load(runs / "golden")
    kept = [{"t_ns": 993_000_000_000, "mark": "engine_ready"}]
    kept += [mark for mark in raw.marks if mark["mark"] == "loaded_idle_start"]
    cut = dataclasses.replace(raw, marks=kept)
    found = {one.name: one for one in series.series(analyse(raw), cut, step_s=1.0)}
    phases = {one.labels["phase"] for one in found["joulemark_run_phase"].samples}
    assert phases == {"loaded_idle"}
