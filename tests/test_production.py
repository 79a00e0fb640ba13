from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from harness.errors import ConfigError, EngineError
from harness.mock.metrics import Counts, exposition
from harness.mock.server import MockServer
from harness.mock.settings import MockSettings
from harness.production import (
    daemon,
    dialects,
    discovery,
    gpu_facts,
    gpu_processes,
    metric_set,
    mig_activity,
    settings,
)
from harness.production.attribution import Owner
from harness.production.engines import EnginePool
from harness.production.findings import Findings
from harness.production.node import Node
from harness.production.readings import EngineReading, Usage
from harness.production.scrape import Target

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


# --- what engines say ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama_cpp", "tensorrt_llm", "dynamo"])
def test_each_engines_counters_come_out_in_one_meaning(engine):
    known = dialects.dialects()
    if engine not in known:
        pytest.skip(f"no engine plugin {engine} yet")
    counts = Counts(prompt=700, generated=90, generated_finished=90, requests=3, running=2)
    body = exposition(engine, counts, model="m/x")
    # As a real server's: most of it has nothing to do with tokens.
    body += b"".join(b'python_gc_objects_total{generation="%d"} 1\n' % n for n in range(2000))
    read = dialects.read(body, known)
    assert read.engine == engine
    assert read.tokens == {"computed": 700, "cached": 0, "generated": 90}
    if engine != "tensorrt_llm":
        assert read.running == 2
    assert read.model_name == (None if engine == "llama_cpp" else "m/x")


def test_an_engine_without_token_counters_is_refused_by_name():
    with pytest.raises(EngineError, match=r"none of: .*vllm"):
        dialects.read(b"up 1\n", dialects.dialects())


def test_phases_and_waste_are_read_where_an_engine_has_them():
    body = exposition("sglang", Counts(prompt=7, generated=9), model="m")
    body += b'sglang:forward_execution_seconds_total{category="EXTEND",tp_rank="0"} 2.5\n'
    body += b'sglang:forward_execution_seconds_total{category="DECODE",tp_rank="0"} 7.5\n'
    body += b"sglang:num_retracted_output_tokens_total 4\n"
    known = dialects.dialects()
    if "sglang" not in known:
        pytest.skip("no engine plugin sglang yet")
    read = dialects.read(body, known)
    # Two ranks of one category are summed, and nothing is read out of a help text or a bucket.
    assert read.phase_s == {"prefill": 2.5, "decode": 7.5}
    assert read.wasted == {"retracted": 4.0}


def test_a_path_of_weights_is_not_shown():
    body = exposition("vllm", Counts(), model="/srv/secret-project/weights-7b")
    assert dialects.read(body, dialects.dialects()).model_name == "weights-7b"


# --- scraping ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A server that gives each connection the answers in turn."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, EOFError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
        writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def fetch(*answers: bytes, max_bytes: int = 1000, timeout_s: float = 5.0) -> bytes:
    async with answering(*answers) as port:
        target = Target(f"http://127.0.0.1:{port}/metrics", allow=LOOPBACK, max_bytes=max_bytes)
        try:
            return await target.fetch(timeout_s=timeout_s)
        finally:
            target.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_a_body_is_read_however_its_end_is_told(answer):
    assert asyncio.run(fetch(answer)) == b"hello"


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "redirects"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "1001 bytes, more than 1000"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 2000, "more than 1000"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n", "more than 1000"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "cannot be read"),
        (b"nonsense nonsense\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "cannot be read"),
    ],
)
def test_what_no_engine_should_answer_is_refused(answer, match):
    with pytest.raises(EngineError, match=match):
        asyncio.run(fetch(answer))


def test_an_engine_that_never_answers_costs_its_timeout_and_no_more():
    with pytest.raises(EngineError, match=r"did not answer within 0\.1 s"):
        asyncio.run(fetch(b"HTTP/1.1 200 OK\r\n", b"", timeout_s=0.1))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "0.0.0.0",
        "224.0.0.1",
        "10.1.2.3",
    ],
)
def test_addresses_that_are_not_allowed_are_never_connected_to(host):
    everything = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    allow = LOOPBACK if host == "10.1.2.3" else everything

    async def attempt() -> bytes:
        return await Target(f"http://{host}/m", allow=allow, max_bytes=9).fetch(timeout_s=5)

    with pytest.raises(EngineError, match=r"never scraped|targets\.allow"):
        asyncio.run(attempt())


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "http://a:b@x/", "http://x/ y"])
def test_what_is_no_url_of_metrics_is_refused(url):
    with pytest.raises(ConfigError):
        Target(url, allow=LOOPBACK, max_bytes=9)


# --- discovery -----------------------------------------------------------------------------


def test_engines_come_from_file_sd_and_a_broken_file_keeps_the_last_good(tmp_path):
    path = tmp_path / "sd.json"
    group = {"targets": ["127.0.0.1:8000"], "labels": {"devices": "a,b", "role": "decode"}}
    path.write_text(json.dumps([group]))
    files = discovery.Files([path])
    (found,) = files.engines()
    assert found.url == "http://127.0.0.1:8000/metrics"
    assert (found.devices, found.role) == (("a", "b"), "decode")
    path.write_text("[{]")
    assert files.engines() == [found]
    path.write_text("[]")
    assert files.engines() == []


def pod(name: str, phase: str = "Running", **notes: str) -> dict:
    annotations = {f"joulemark.io/{key}": value for key, value in notes.items()}
    return {
        "metadata": {"name": name, "namespace": "llm", "annotations": annotations},
        "status": {"phase": phase, "podIP": "127.0.0.9"},
    }


def test_engines_come_from_annotated_pods_of_this_node_through_a_read_only_call(tmp_path):
    pods = [
        pod("a", scrape="true", port="8123", kind="vllm", devices="g0"),
        pod("b"),
        pod("c", scrape="true", port="x"),
        pod("d", phase="Pending", scrape="true"),
        pod("e", scrape="true", role="nonsense"),
    ]
    body = orjson.dumps({"items": pods})
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    (tmp_path / "token").write_text("t0k3n\n")

    async def ask() -> list[settings.EngineConfig]:
        async with answering(head + body) as port:
            config = settings.KubernetesConfig(
                node="n1", api=f"http://127.0.0.1:{port}", token_file=tmp_path / "token"
            )
            return await discovery.pods(config, allow=LOOPBACK)

    (found,) = asyncio.run(ask())
    assert found.url == "http://127.0.0.9:8123/metrics"
    assert (found.instance_id, found.kind, found.devices) == ("llm/a", "vllm", ("g0",))


class Api:
    """A Kubernetes API server that knows one list, over TLS, to who shows the token."""

    def __init__(self) -> None:
        self.pods: list[dict] = []
        self.status = 200
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            known = b"\r\nAuthorization: Bearer t0k3n\r\n" in head
            body = orjson.dumps({"items": self.pods})
            status = self.status if known else 401
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            writer.write(body)
            await writer.drain()
        writer.close()


def test_the_daemon_follows_pods_by_the_read_only_api_and_keeps_them_when_it_refuses(tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", "k.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=kubernetes",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "token").write_text("t0k3n\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "k.pem")
    api = Api()

    async def follow() -> list[set[str]]:
        mock = MockServer(MockSettings(port=0, model="m"), log=None)
        engine = pod("a", scrape="true", port=str(await mock.start()))
        engine["status"]["podIP"] = "127.0.0.1"
        server = await asyncio.start_server(api.serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        kubernetes = {
            "node": "n1", "api": f"https://127.0.0.1:{port}",
            "token_file": str(tmp_path / "token"), "ca_file": str(tmp_path / "ca.pem"),
        }  # fmt: skip
        made = daemon.Daemon(
            settings.parse(
                {
                    "exporter": {"snapshot_s": 0.1},
                    "power": {"sources": ["scripted"]},
                    "discovery": {"refresh_s": 0.05, "kubernetes": kubernetes},
                }
            )
        )
        task = asyncio.create_task(made.run())
        seen = []

        async def looks(more: int) -> None:
            enough = len(api.requests) + more
            while len(api.requests) < enough:  # noqa: ASYNC110 - it counts
                await asyncio.sleep(0.02)
            seen.append({owner.instance_id for owner in made.node.instances})

        async with asyncio.timeout(60):
            await looks(3)
            api.pods = [pod("b"), engine]
            while not made.node.instances:  # noqa: ASYNC110 - it counts
                await asyncio.sleep(0.02)
            await looks(1)
            api.status = 403
            await looks(10)
            api.pods, api.status = [], 200
            while made.node.instances:  # noqa: ASYNC110 - it counts
                await asyncio.sleep(0.02)
            await looks(1)
        made.stop()
        await task
        server.close()
        await mock.stop()
        return seen

    assert asyncio.run(follow()) == [set(), {"llm/a"}, {"llm/a"}, set()]
    # Nothing but one read of this node's own pods was ever asked for.
    lines = {request.partition(b"\r\n")[0] for request in api.requests}
    assert lines == {b"GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1 HTTP/1.1"}


# --- who is on a GPU -----------------------------------------------------------------------


def test_processes_belong_to_the_engine_that_started_them(tmp_path):
    for pid, parent in ((30, 20), (20, 10), (10, 1), (40, 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 0")
    uses = [
        gpu_processes.ProcessUse(pid=30, sm_ratio=0.5, memory_bytes=100.0),
        gpu_processes.ProcessUse(pid=20, sm_ratio=0.1, memory_bytes=50.0),
        gpu_processes.ProcessUse(pid=40, sm_ratio=0.2, memory_bytes=None),
    ]
    found, foreign = gpu_processes.gather(uses, {10: "engine"}, proc=tmp_path)
    assert found == {"engine": Usage(sm_ratio=0.6, memory_bytes=150.0)}
    assert foreign == pytest.approx(0.2)


def test_nvml_says_what_each_process_uses(joulemark):
    """On the emulator: this very process at 40 % of the SMs, and one that is not ours at 20 %."""
    code = (
        "import os, pynvml; from harness.production import gpu_processes as g;"
        "n = g.NvmlProcesses();"
        "assert n.open(); u = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0));"
        "print(g.gather(n.read(u), {os.getpid(): 'engine'}))"
    )
    processes = ["--process", "0:self:40:1000", "--process", "0:1:20:500"]
    done = joulemark("emulate", *processes, "--", sys.executable, "-c", code)
    assert "sm_ratio=0.4, mig_ratio=None, memory_bytes=1048576000.0" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("0.2)")


def test_mig_activity_is_weighed_by_the_slice_it_has():
    text = 'DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="g0",GPU_I_PROFILE="3g",GPU_I_ID="2"} 0.5\n'
    text += 'DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="g1"} 0.9\n'
    assert mig_activity.activity(text) == {("g0", 2): 0.5}
    assert mig_activity.weight(0.5, 3) == pytest.approx(3 / 14)


def test_throttling_is_counted_by_looks_that_found_its_counter_moved():
    one = gpu_facts.FactsFollower()
    for raw in (5, 5, 9, 11):
        gpu = {"power_limit_w": 700.0, "throttle_counters": {"sw_thermal": raw}}
        one.advance({"driver": "d", "gpus": {"g0": gpu}})
    assert one.throttles == {("g0", "sw_thermal"): 2}
    assert one.gauges == {"g0": {"device_power_limit_watts": 700.0}}


@pytest.mark.parametrize(("most", "codes"), [(2, ()), (1, ("owners_overflow",))])
def test_more_instances_than_allowed_are_a_finding_and_exactly_as_many_are_none(most, codes):
    made = Node(max_owners=most)
    for t_s in range(2):
        engines = [
            EngineReading(
                owner=Owner(model_name="m", engine="vllm", instance_id=name),
                devices=("g",),
                tokens={"generated": 1.0 * t_s},
            )
            for name in ("one", "two")
        ]
        made.advance(t_s * 10**9, {}, engines)
    pool = EnginePool(settings.TargetsConfig())
    assert Findings(state_kept=True).codes(made, [], pool) == codes


# --- the configuration ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"exporter": {"lisen": ":1"}}, "did you mean 'listen'"),
        ({"nonsense": {}}, "no section"),
        ({"exporter": {"listen": "nowhere"}}, "write address:port"),
        ({"exporter": {"power_hz": 5000}}, "choose 0.1 to 100"),
        ({"cost": {"pue": 0.5}}, "choose 1 to 10"),
        ({"targets": {"allow": ["10.0.0.1/8"]}}, "targets.allow"),
        ({"engine": [{"role": "decode"}]}, "engine.url is missing"),
    ],
)
def test_a_wrong_configuration_is_refused_by_key_and_limit(table, match):
    with pytest.raises(ConfigError, match=match):
        settings.parse(table)


def test_the_example_in_the_manual_is_one():
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    config = settings.parse(__import__("tomllib").loads(example))
    assert config.engines


# --- the whole daemon ----------------------------------------------------------------------


def configured(tmp_path: Path, port: int, **power) -> settings.DaemonConfig:
    return settings.parse(
        {
            "exporter": {"state_file": str(tmp_path / "state"), "snapshot_s": 0.1, "state_s": 0.1},
            "power": {"sources": ["scripted"], "scripted": power},
            "cost": {"price_per_kwh": 0.1, "grams_per_kwh": 100.0},
            "engine": [{"url": f"http://127.0.0.1:{port}/metrics", "devices": ["scripted-0"]}],
        }
    )


async def run_for(config: settings.DaemonConfig, snapshots: int) -> daemon.Daemon:
    made = daemon.Daemon(config)
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(60):
        while made.live().own["joulemark_snapshots_total"] < snapshots:  # noqa: ASYNC110 - it counts
            await asyncio.sleep(0.05)
    made.stop()
    await task
    return made


def test_the_daemon_pairs_joules_with_tokens_and_goes_on_where_it_was(tmp_path):
    async def both() -> tuple[daemon.Daemon, daemon.Daemon]:
        mock = MockServer(MockSettings(port=0, model="m"), log=None)
        port = await mock.start()
        config = configured(tmp_path, port, devices=2)
        first = await run_for(config, 8)
        again = await run_for(config, 4)
        await mock.stop()
        return first, again

    first, again = asyncio.run(both())
    before = {uuid: one.meter.total_uj for uuid, one in first.node.accounts.items()}
    after = {uuid: one.meter for uuid, one in again.node.accounts.items()}
    assert all(after[uuid].total_uj > total > 0 for uuid, total in before.items())
    assert all("daemon_down" in meter.uncovered_by() for meter in after.values())
    text = again.exposition(False).decode()
    families = {family.name: family for family in parse_text(text)}
    energy = families["joulemark_model_energy_joules"].samples
    labels = {(one.labels["uuid"], one.labels["model_name"]) for one in energy}
    assert labels == {("scripted-0", "m")}
    assert {one.labels["power_kind"] for one in energy} == {"emulated"}
    errors = families["joulemark_conservation_error_ratio"].samples
    assert len(errors) == 2
    assert all(sample.value < 1e-9 for sample in errors)
    assert any(s.value > 0 for s in families["joulemark_unattributed_energy_joules"].samples)
    opened = list(parse_openmetrics(again.exposition(True).decode()))
    assert "joulemark_model_energy_joules" in {one.name for one in opened}
    assert b"power is emulated" in again.page()


def test_a_reset_and_a_lost_device_are_declared_and_nothing_goes_back(tmp_path):
    async def run() -> daemon.Daemon:
        return await run_for(configured(tmp_path, 9, reset_after_s=0.4, lost_after_s=0.9), 14)

    made = asyncio.run(run())
    meter = made.node.accounts["scripted-0"].meter
    assert meter.resets == 1
    assert {"reset", "lost"} <= meter.uncovered_by().keys()
    assert "engine_not_readable" in made.live().findings


def test_a_state_file_of_another_kind_of_power_is_refused(tmp_path):
    config = configured(tmp_path, 9)
    asyncio.run(run_for(config, 2))
    path = tmp_path / "state"
    body = path.read_bytes().partition(b"\n")[2].rstrip(b"\n").replace(b'"emulated"', b'"measured"')
    digest = __import__("hashlib").sha256(body).hexdigest().encode()
    path.write_bytes(digest + b"\n" + body + b"\n")
    with pytest.raises(ConfigError, match="of two kinds are never added"):
        daemon.Daemon(config)


def test_the_command_serves_is_killed_and_goes_on(tmp_path):
    """`kill -9` between snapshots: the counters come back, the time between is uncovered."""
    path = tmp_path / "exporter.toml"
    path.write_text(
        f'[exporter]\nlisten = "127.0.0.1:0"\nstate_file = "{tmp_path / "state"}"\n'
        'snapshot_s = 0.1\nstate_s = 0.1\n[power]\nsources = ["scripted"]\n'
    )
    seen = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "export", "--config", path],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        url = next(line.split()[0] for line in process.stdout if line.startswith("http"))
        energy = 0.0
        for _ in range(100):
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
                text = answer.read().decode()
            found = re.search(
                r"^joulemark_device_energy_joules_total\S* (\S+)$", text, re.MULTILINE
            )
            energy = float(found[1]) if found else 0.0
            if energy > (seen[-1] if seen else 0) + 100:
                break
            time.sleep(0.1)
        seen.append(energy)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert seen[1] > seen[0] > 100
    assert (
        'joulemark_device_uncovered_seconds_total{uuid="scripted-0",reason="daemon_down"}' in text
    )


def test_check_says_what_is_metered_and_ends(joulemark, tmp_path):
    (tmp_path / "e.toml").write_text('[power]\nsources = ["scripted"]\n')
    done = joulemark("export", "--config", "e.toml", "--check")
    assert done.returncode == 0
    assert "scripted-0: gpu, emulated, attributed" in done.stdout
    bad = joulemark("export", "--config", "e.toml", "--listen", "nowhere")
    assert (bad.returncode, "write address:port" in bad.stderr) == (2, True)


def test_the_page_shows_figures_in_a_real_browser(tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    (tmp_path / "e.toml").write_text(
        '[exporter]\nsnapshot_s = 0.1\n[power]\nsources = ["scripted"]\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "export", "--config", tmp_path / "e.toml",
         "--listen", "127.0.0.1:0"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = next(line.split()[0] for line in process.stdout if line.startswith("http"))
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             f"--user-data-dir={tmp_path}/profile", url.removesuffix("metrics")],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
    assert "power is emulated" in done.stdout
    assert "scripted-0" in done.stdout
    assert "300.0 W" in done.stdout


# --- the metric set ------------------------------------------------------------------------


def test_names_keep_the_conventions():
    for metric in metric_set.METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "info") == metric.name.endswith("_info")
        assert metric.help.endswith(".")
        assert not {"le", "job", "instance", "cluster"} & set(metric.labels)
    assert len(metric_set.BY_NAME) == len(metric_set.METRICS)
    assert "joulemark_model_energy_joules_total" in metric_set.page()
