"""Each power source against a fake of what it reads: sysfs trees, processes, HTTP servers."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from harness.errors import PowerUnavailableError
from harness.power.cpu_model import CpuModel
from harness.power.dcgm import Dcgm
from harness.power.hwmon import Hwmon
from harness.power.prometheus import Prometheus
from harness.power.rapl import Rapl
from harness.power.redfish import Redfish
from harness.power.scripted import Scripted
from harness.timeline import ReadStatus

S = 1_000_000_000


def zone(root, name, kind, energy_uj, limit_uj=1_000_000):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit_uj}\n")
    return folder


def test_rapl_reads_packages_and_their_memory(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000, 262_143_328_850)
    zone(tmp_path, "intel-rapl:0:0", "dram", 1_000_000)
    zone(tmp_path, "intel-rapl:0:1", "core", 7)
    zone(tmp_path, "intel-rapl:1", "psys", 9)
    session = Rapl(root=tmp_path).open()
    channels = [call[0] for call in session.calls]
    assert [(c.boundary, c.device) for c in channels] == [
        ("cpu_package", "package-0"),
        ("cpu_dram", "package-0"),
    ]
    assert channels[0].wraps_at == pytest.approx(262_143.32885)
    assert session.read(0) == [(5.0, ReadStatus.OK)]
    (package / "energy_uj").write_text("6500000\n")
    assert session.read(0) == [(6.5, ReadStatus.OK)]
    session.close()


def test_rapl_without_a_domain_says_so(tmp_path):
    with pytest.raises(PowerUnavailableError, match="no RAPL domain"):
        Rapl(root=tmp_path).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_rapl_without_permission_names_the_remedy(tmp_path):
    (zone(tmp_path, "intel-rapl:0", "package-0", 5) / "energy_uj").chmod(0)
    with pytest.raises(PowerUnavailableError, match="may not be read"):
        Rapl(root=tmp_path).open()


def test_hwmon_knows_sockets_and_graces_modules_and_nothing_else(tmp_path):
    amd = tmp_path / "hwmon0"
    amd.mkdir()
    (amd / "name").write_text("amd_energy")
    for number, label in ((1, "Ecore000"), (2, "Esocket0")):
        (amd / f"energy{number}_input").write_text("3000000")
        (amd / f"energy{number}_label").write_text(label)
    for number, label in ((1, "Grace Power Socket 0"), (2, "CPU Power Socket 0"), (3, "")):
        meter = tmp_path / f"hwmon{number}"
        meter.mkdir()
        (meter / "name").write_text("power_meter")
        (meter / "power1_average").write_text("250000000")
        if label:
            (meter / "power1_oem_info").write_text(label)
    other = tmp_path / "hwmon9"
    other.mkdir()
    (other / "name").write_text("corsairpsu")
    (other / "power1_input").write_text("1")
    session = Hwmon(root=tmp_path).open()
    assert [session.read(index)[0][0] for index in range(3)] == [3.0, 250.0, 250.0]
    assert [call[0].boundary for call in session.calls] == ["cpu_package", "cpu_package", "node"]


def test_hwmon_without_a_known_sensor_says_so(tmp_path):
    with pytest.raises(PowerUnavailableError, match="known boundary"):
        Hwmon(root=tmp_path).open()


BURN = "import time\nt = time.process_time()\nwhile time.process_time() - t < {seconds}: pass\n"


def test_the_model_counts_the_cpu_time_of_watched_processes():
    options = CpuModel(idle_w_per_core=0.0, busy_w_per_core=10.0, cores=1)
    session = options.open()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    session.watch([process.pid])
    before_j = session.read(0)[0][0]
    process.communicate(b"\n")
    session.read(0)
    assert before_j < 1.0
    child = subprocess.Popen(
        [sys.executable, "-c", BURN.format(seconds=0.3) + "input()"], stdin=subprocess.PIPE
    )
    session.watch([child.pid])
    energies = []
    while not energies or energies[-1] < 2.9:
        energies.append(session.read(0)[0][0])
        time.sleep(0.01)
    assert energies == sorted(energies)
    child.communicate(b"\n")
    assert session.read(0)[0][0] >= energies[-1]


def test_cpu_time_of_children_that_ended_does_not_vanish():
    """A shell that runs one burning child after another, each gone before the next look."""
    session = CpuModel(idle_w_per_core=0.0, busy_w_per_core=10.0, cores=1).open()
    burn = f"{sys.executable} -c '{BURN.format(seconds=0.15)}'"
    process = subprocess.Popen(
        ["sh", "-c", f"{burn}; {burn}; {burn}; read line"], stdin=subprocess.PIPE
    )
    session.watch([process.pid])
    last_j, deadline = 0.0, time.monotonic() + 30
    while last_j < 10 * 0.44 and time.monotonic() < deadline:
        energy_j = session.read(0)[0][0]
        assert energy_j >= last_j
        last_j = energy_j
        time.sleep(0.02)
    assert last_j >= 10 * 0.44
    process.communicate(b"\n")
    for _ in range(3):
        time.sleep(0.21)
        assert session.read(0)[0][0] >= last_j


def test_the_model_has_idle_power_even_with_nothing_to_watch():
    session = CpuModel(idle_w_per_core=2.0, busy_w_per_core=10.0, cores=4).open()
    (first_j, _), _ = session.read(0)
    time.sleep(0.05)
    (second_j, _), (watts, status) = session.read(0)
    assert second_j > first_j
    assert status == ReadStatus.OK
    assert watts == pytest.approx(8.0)


def test_the_model_is_never_called_measured():
    channels = CpuModel().open().calls[0]
    assert {channel.power_kind for channel in channels} == {"modelled"}


@pytest.mark.parametrize("waveform", ["constant", "square", "ramp", "trace"])
def test_a_scripted_energy_is_the_integral_of_its_power(waveform):
    source = Scripted(
        waveform=waveform, low_w=50, high_w=150, period_s=0.5, trace=((0.2, 10.0), (0.3, 40.0))
    )
    total_j, step_ns = 0.0, 100_000
    for t_ns in range(0, 1_300_000_000, step_ns):
        total_j += source.true_power_w(t_ns + step_ns // 2) * step_ns / 1e9
    assert source.true_energy_j(1_300_000_000) == pytest.approx(total_j, rel=1e-3)


@contextlib.contextmanager
def answering(pages, *, context=None):
    """Serve GET: path → body, or status; yields the base URL and what was asked."""
    asked = []

    class Own(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            page = pages.get(urllib.parse.urlsplit(self.path).path, 404)
            status, body = (page, "") if isinstance(page, int) else (200, page)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    scheme = "https" if context else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def dcgm_page(energy_mj, *, label="UUID"):
    return (
        "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n"
        f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",{label}="GPU-a"}} {energy_mj}\n'
        f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="0",{label}="GPU-a",GPU_I_ID="1"}}'
        f" {energy_mj}\n"
        f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{gpu="1",{label}="GPU-b"}} 7000\n'
        "# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n"
        f'DCGM_FI_DEV_POWER_USAGE{{gpu="0",{label}="GPU-a"}} 300.5\n'
    )


@pytest.mark.parametrize("label", ["UUID", "uuid"])
def test_dcgm_reads_joules_and_counts_a_sliced_gpu_once(label):
    pages = {"/metrics": dcgm_page(5_000_000, label=label)}
    with answering(pages) as (url, _):
        session = Dcgm(url=f"{url}/metrics").open()
        found = dict(
            zip(
                [channel.name for channel in session.calls[0]],
                session.read(0),
                strict=True,
            )
        )
    assert found == {
        "dcgm:GPU-a:counter": (5000.0, ReadStatus.OK),
        "dcgm:GPU-b:counter": (7.0, ReadStatus.OK),
        "dcgm:GPU-a:average": (300.5, ReadStatus.OK),
    }


def test_dcgm_whose_numbers_stand_still_is_stale():
    pages = {"/metrics": dcgm_page(1)}
    with answering(pages) as (url, _):
        session = Dcgm(url=f"{url}/metrics", stale_after_s=0.05).open()
        assert session.read(0)[0][1] == ReadStatus.OK
        time.sleep(0.06)
        value, status = session.read(0)[0]
        assert status == ReadStatus.STALE
        assert math.isnan(value)
        pages["/metrics"] = dcgm_page(2)
        assert session.read(0)[0] == (0.002, ReadStatus.OK)


def test_dcgm_that_goes_away_is_unreachable():
    with answering({"/metrics": dcgm_page(1)}) as (url, _):
        session = Dcgm(url=f"{url}/metrics").open()
    assert {status for _, status in session.read(0)} == {ReadStatus.UNREACHABLE}


def test_dcgm_without_the_field_names_it():
    with (
        answering({"/metrics": "up 1\n"}) as (url, _),
        pytest.raises(PowerUnavailableError, match="DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"),
    ):
        Dcgm(url=f"{url}/metrics").open()


CHASSIS = {
    "/redfish/v1/Chassis": json.dumps(
        {
            "Members": [
                {"@odata.id": "/redfish/v1/Chassis/A"},
                {"@odata.id": "/redfish/v1/Chassis/B"},
            ]
        }
    ),
    "/redfish/v1/Chassis/A/EnvironmentMetrics": json.dumps({"PowerWatts": {"Reading": 6543.0}}),
    "/redfish/v1/Chassis/B/Power": json.dumps({"PowerControl": [{"PowerConsumedWatts": 812}]}),
}


def test_redfish_reads_new_and_old_chassis(monkeypatch):
    monkeypatch.setenv("SECRET", "s3")
    with answering(CHASSIS) as (url, asked):
        session = Redfish(url=url, username="me", password_env="SECRET").open()
        names = [call[0].name for call in session.calls]
        assert names == ["redfish:A", "redfish:B"]
        assert {call[0].boundary for call in session.calls} == {"chassis"}
        assert [session.read(index) for index in (0, 1)] == [
            [(6543.0, ReadStatus.OK)],
            [(812.0, ReadStatus.OK)],
        ]
    assert all(headers["Authorization"] == "Basic bWU6czM=" for _, headers in asked)
    assert "s3" not in str(session.facts())


def test_redfish_that_refuses_asks_for_credentials():
    with (
        answering({"/redfish/v1/Chassis": 401}) as (url, _),
        pytest.raises(PowerUnavailableError, match="REDFISH_PASSWORD"),
    ):
        Redfish(url=url).open()


def certificate(folder):
    path = folder / "pair.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {folder / 'ca.pem'}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "ca.pem").read_text())
    return path


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_redfish_checks_the_certificate_unless_told_not_to(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with answering(CHASSIS, context=context) as (url, _):
        with pytest.raises(PowerUnavailableError, match="certificate"):
            Redfish(url=url).open()
        assert Redfish(url=url, ca_file=str(tmp_path / "ca.pem")).open().calls
        assert Redfish(url=url, verify_tls=False).open().calls


def prometheus_page(*rows, status="success"):
    result = [{"metric": {"instance": name}, "value": [1.0, value]} for name, value in rows]
    return json.dumps({"status": status, "data": {"resultType": "vector", "result": result}})


def test_prometheus_reads_each_series_of_the_query():
    pages = {"/api/v1/query": prometheus_page(("pdu1", "1500"), ("pdu2", "2500"))}
    with answering(pages) as (url, asked):
        session = Prometheus(
            url=url, query="pdu_mw", quantity="power", boundary="node", scale=0.001
        ).open()
        assert [channel.device for channel in session.calls[0]] == ["pdu1", "pdu2"]
        assert session.read(0) == [(1.5, ReadStatus.OK), (2.5, ReadStatus.OK)]
        pages["/api/v1/query"] = prometheus_page(("pdu2", "2000"))
        lost, kept = session.read(0)
        assert lost[1] == ReadStatus.LOST
        assert kept == (2.0, ReadStatus.OK)
    assert asked[0][0] == "/api/v1/query?query=pdu_mw"


@pytest.mark.parametrize(
    ("page", "match"),
    [
        (prometheus_page(), "gives no series"),
        (prometheus_page(("a", "1"), ("a", "2")), "aggregate"),
        (json.dumps({"status": "error", "error": "parse error"}), "parse error"),
        (400, "400"),
    ],
)
def test_prometheus_refuses_what_it_cannot_use(page, match):
    with (
        answering({"/api/v1/query": page}) as (url, _),
        pytest.raises(PowerUnavailableError, match=match),
    ):
        Prometheus(url=url, query="x", quantity="power", boundary="node").open()
