from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.production import state_file
from harness.production.attribution import Owner, Tenant, attribute
from harness.production.baseline import Baseline
from harness.production.books import Tariff
from harness.production.follower import CounterFollower
from harness.production.meter import Meter, Reading
from harness.production.node import OVERFLOW, Node
from harness.production.readings import Device, EngineReading, Usage
from harness.production.split import split
from harness.timeline import ReadStatus

A = Owner(model_name="a", engine="vllm", instance_id="one")
B = Owner(model_name="b", engine="sglang", instance_id="two")
S = 1_000_000_000


def meter(**options) -> Meter:
    return Meter(max_gap_ns=5 * S, **options)


def read(t_s: float, energy_j: float | None, status: ReadStatus = ReadStatus.OK) -> Reading:
    return Reading(t_ns=round(t_s * S), energy_j=energy_j, status=status)


# --- splitting -----------------------------------------------------------------------------


@given(
    st.integers(0, 10**15),
    st.lists(st.floats(0, 1e12, allow_nan=False), min_size=1, max_size=20).filter(any),
)
def test_the_parts_of_a_split_sum_to_the_whole_and_follow_the_weights(amount, weights):
    parts = split(amount, weights)
    assert sum(parts) == amount
    assert all(part >= 0 for part in parts)
    for part, weight in zip(parts, weights, strict=True):
        assert part == pytest.approx(amount * weight / math.fsum(weights), abs=1.5, rel=1e-9)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_weights_without_a_ratio_are_refused(weights):
    with pytest.raises(ValueError, match="no ratio"):
        split(10, weights)


# --- the meter -----------------------------------------------------------------------------


def test_two_good_readings_give_their_difference_and_cover_the_time():
    one = meter()
    one.advance(read(0, 1000))
    step = one.advance(read(1, 1300.5))
    assert (step.energy_uj, step.covered_ns, step.why) == (300_500_000, S, None)


@pytest.mark.parametrize(
    ("second", "why"),
    [(read(1, 10.0), "reset"), (read(6, 2000.0), "gap"), (read(1, 1e9), "implausible")],
)
def test_what_a_counter_cannot_have_metered_is_time_without_joules(second, why):
    one = meter()
    one.advance(read(0, 1000))
    step = one.advance(second)
    assert (step.energy_uj, step.covered_ns, step.why) == (0, 0, why)
    assert step.uncovered_ns == second.t_ns
    assert one.resets == (why == "reset")


def test_a_missed_reading_is_bridged_by_the_counter_itself():
    one = meter()
    one.advance(read(0, 1000))
    assert one.advance(read(1, None, ReadStatus.TIMEOUT)).why is None
    step = one.advance(read(2, 1600))
    assert (step.energy_uj, step.covered_ns) == (600_000_000, 2 * S)


def test_a_lost_device_is_not_bridged_however_soon_it_is_back():
    one = meter()
    one.advance(read(0, 1000))
    assert one.advance(read(1, None, ReadStatus.LOST)).why == "lost"
    step = one.advance(read(2, 1600))
    assert (step.energy_uj, step.why) == (0, "lost")
    assert one.advance(read(3, 1700)).energy_uj == 100_000_000


def test_a_wrapped_counter_goes_on_and_a_reset_one_does_not():
    one = meter(wraps_at_j=262_144.0)
    one.advance(read(0, 262_000))
    assert one.advance(read(1, 100)).energy_uj == 244_000_000
    assert one.advance(read(2, 50)).why == "reset"


# --- attribution ---------------------------------------------------------------------------


def shares(postings) -> dict[tuple[str, str, str], int]:
    found: dict[tuple[str, str, str], int] = {}
    for one in postings:
        key = (one.owner.model_name if one.owner else "", one.state, one.reason or one.method)
        found[key] = found.get(key, 0) + one.energy_uj
    return found


def test_one_model_on_a_device_owns_its_idle_and_its_active_joules():
    found = attribute(300_000_000, 1.0, [Tenant(owner=A, busy=True)], idle_w=70.0)
    assert shares(found) == {
        ("a", "idle", "exclusive"): 70_000_000,
        ("a", "active", "exclusive"): 230_000_000,
    }


def test_without_a_measured_baseline_nothing_is_called_active():
    found = attribute(300_000_000, 1.0, [Tenant(owner=A, busy=True)], idle_w=None)
    assert shares(found) == {("a", "unsplit", "exclusive"): 300_000_000}


def test_an_idle_device_is_idle_whatever_it_draws():
    found = attribute(90_000_000, 1.0, [Tenant(owner=A, busy=False)], idle_w=70.0)
    assert shares(found) == {("a", "idle", "exclusive"): 90_000_000}


def test_two_models_share_by_sm_time_and_idle_by_memory():
    two = [
        Tenant(owner=A, busy=True, sm_ratio=0.6, memory_bytes=30, tokens=1),
        Tenant(owner=B, busy=True, sm_ratio=0.2, memory_bytes=10, tokens=99),
    ]
    found = attribute(500_000_000, 1.0, two, idle_w=100.0)
    assert shares(found) == {
        ("a", "idle", "memory_share"): 75_000_000,
        ("b", "idle", "memory_share"): 25_000_000,
        ("a", "active", "sm_share"): 300_000_000,
        ("b", "active", "sm_share"): 100_000_000,
    }


def test_mig_slices_share_by_activity_and_tokens_are_the_last_resort():
    mig = [Tenant(owner=A, busy=True, mig_ratio=0.3), Tenant(owner=B, busy=True, mig_ratio=0.1)]
    assert shares(attribute(400, 1.0, mig, idle_w=0.0)) == {
        ("a", "active", "mig_activity"): 300,
        ("b", "active", "mig_activity"): 100,
    }
    tokens = [Tenant(owner=A, busy=True, tokens=1), Tenant(owner=B, busy=True, tokens=3)]
    assert shares(attribute(400, 1.0, tokens, idle_w=0.0)) == {
        ("a", "active", "token_share"): 100,
        ("b", "active", "token_share"): 300,
    }


def test_where_no_sign_tells_models_apart_nothing_is_guessed():
    two = [Tenant(owner=A, busy=True), Tenant(owner=B, busy=True)]
    assert shares(attribute(400, 1.0, two, idle_w=0.0)) == {("", "active", "no_signal"): 400}


def test_a_foreign_process_gets_its_share_and_no_model_pays_for_it():
    two = [Tenant(owner=A, busy=True, sm_ratio=0.3), Tenant(owner=None, sm_ratio=0.1)]
    assert shares(attribute(400, 1.0, two, idle_w=0.0)) == {
        ("a", "active", "sm_share"): 300,
        ("", "active", "foreign_process"): 100,
    }
    assert shares(attribute(400, 1.0, [], idle_w=50.0)) == {("", "active", "no_model"): 400}


def test_phases_come_from_the_role_or_from_busy_time_and_are_else_mixed():
    by_time = Tenant(owner=A, busy=True, phase_s={"prefill": 1.0, "decode": 3.0})
    phases = {one.phase: one.energy_uj for one in attribute(400, 1, [by_time], idle_w=0.0)}
    assert phases == {"prefill": 100, "decode": 300}
    by_role = Tenant(owner=A, busy=True, role="decode")
    assert {one.phase for one in attribute(400, 1, [by_role], idle_w=1e-4)} == {"decode"}


def test_the_baseline_needs_settled_idleness():
    one = Baseline()
    one.observe(400_000_000, 1.0, idle=False)
    for _ in range(8):
        one.observe(70_000_000, 1.0, idle=True)
    assert one.known_w() is None
    one.observe(70_000_000, 1.0, idle=True)
    assert one.known_w() == pytest.approx(70.0)


def test_an_engines_restart_is_counted_and_its_new_tokens_too():
    one = CounterFollower()
    assert one.advance({"generated": 100.0}) == {}
    assert one.advance({"generated": 150.0}) == {"generated": 50.0}
    assert one.advance({"generated": 20.0}) == {"generated": 20.0}
    assert one.resets == 1


# --- the node ------------------------------------------------------------------------------


def device(uuid: str, **options) -> Device:
    return Device(
        uuid=uuid, boundary="gpu", power_kind="emulated", source="test", method="test", **options
    )


def engine(owner: Owner, generated: float | None, **options) -> EngineReading:
    tokens = None if generated is None else {"computed": 2 * generated, "generated": generated}
    return EngineReading(owner=owner, tokens=tokens, **{"devices": ("g0",), **options})


def check(node: Node) -> None:
    """The law: each device's joules are its models' and the residual, exactly and as exported."""
    for uuid, account in node.accounts.items():
        parts = node.books.attributed_uj(uuid) + node.books.residual_uj(uuid)
        assert parts == account.meter.total_uj
        exported = math.fsum(
            [value / 1e6 for key, value in node.books.energy_uj.items() if key.uuid == uuid]
            + [v / 1e6 for (of, _), v in node.books.unattributed_uj.items() if of == uuid]
        )
        assert exported == pytest.approx(account.meter.total_uj / 1e6, rel=1e-9)


READS = st.one_of(
    st.floats(0, 700).map(lambda watts: ("run", watts)),
    st.sampled_from([("reset", 0.0), ("lost", 0.0), ("timeout", 0.0), ("missing", 0.0)]),
)
ENGINE = st.tuples(
    st.sampled_from(["up", "up", "up", "down", "gone", "restart"]),
    st.integers(0, 500),
    st.sampled_from([("g0",), ("g1",), ("g0", "g1"), ()]),
    st.one_of(st.none(), st.floats(0, 4)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
)
RESTART = st.tuples(
    st.sampled_from([0.0, 3.0, 600.0]),  # seconds without the daemon
    st.booleans(),  # the machine was booted again: the monotonic clock starts anew
    st.sampled_from([0.0, 0.0, 3600.0, -3600.0]),  # what somebody set the wall clock by
)
HISTORY = st.lists(
    st.tuples(
        # Below zero: a reading that comes late, with an older stamp than the one before.
        st.sampled_from([0.5, 1.0, 1.0, 2.0, 7.0, 30.0, -0.25]),
        st.tuples(READS, READS),
        st.tuples(ENGINE, ENGINE),
        st.sampled_from([0.0, 0.0, 0.5]),
        st.one_of(st.none(), st.none(), st.none(), RESTART),
    ),
    max_size=30,
)


def fields(node: Node) -> list[dict]:
    books = node.books
    return [
        dict(books.energy_uj), dict(books.unattributed_uj), dict(books.tokens),
        dict(books.uncovered_tokens), dict(books.cost), dict(books.emissions_g),
        {uuid: account.meter.total_uj for uuid, account in node.accounts.items()},
        {uuid: account.meter.covered_ns for uuid, account in node.accounts.items()},
    ]  # fmt: skip


class World:
    """Devices and two engines that do what a drawn history says, on clocks that are set about."""

    def __init__(self, devices: int = 2) -> None:
        # Stamps of the machine's own clock would make the history depend on the hour.
        self.now = state_file.Now(t_ns=10**15, t_wall_ns=10**18, boot_id="boot")
        # The first reading of all may be late itself.
        self.elapsed_ns = self.believed_ns = S // 4
        """What the daemon can at most think has passed: a wall clock set forward misleads it."""
        self.joules = {f"g{n}": 5000.0 * (n == 0) for n in range(devices)}
        self.tokens = {A: 0.0, B: 0.0}

    def readings(self, gap_s: float, reads) -> dict[str, Reading]:
        late = gap_s < 0
        self.pass_time(0 if late else round(gap_s * S))
        t_ns = self.now.t_ns + (round(gap_s * S) if late else 0)
        found = {}
        for uuid, (what, watts) in zip(self.joules, reads, strict=True):
            value = 0.0 if what == "reset" else self.joules[uuid] + watts * max(gap_s, 0)
            self.joules[uuid] = value
            if what in {"run", "reset"}:
                found[uuid] = Reading(t_ns=t_ns, energy_j=value)
            elif what != "missing":
                status = ReadStatus.LOST if what == "lost" else ReadStatus.TIMEOUT
                found[uuid] = Reading(t_ns=t_ns, energy_j=None, status=status)
        return found

    def pass_time(self, ns: int, *, boot: bool = False, step_ns: int = 0) -> None:
        self.elapsed_ns += ns
        self.believed_ns += ns + (max(step_ns, 0) if boot else 0)
        self.now = state_file.Now(
            t_ns=10**10 if boot else self.now.t_ns + ns,
            t_wall_ns=self.now.t_wall_ns + ns + step_ns,
            boot_id=self.now.boot_id + "+" if boot else self.now.boot_id,
        )

    def engines(self, engines) -> list[EngineReading]:
        found = []
        for owner, (what, more, devices, running, sm, mig) in zip((A, B), engines, strict=True):
            self.tokens[owner] = more if what == "restart" else self.tokens[owner] + more
            usage = {one: Usage(sm_ratio=sm, mig_ratio=mig) for one in devices}
            shown = None if what == "down" else self.tokens[owner]
            reading = engine(owner, shown, devices=devices, running=running, usage=usage)
            found += [] if what == "gone" else [reading]
        return found


def fresh() -> Node:
    prices = Tariff(
        price_per_kwh=0.1, pue=1.2, grams_per_kwh=400.0,
        device_price_per_hour=2.0, device_grams_per_hour=30.0,
    )  # fmt: skip
    return Node(tariff=prices, max_owners=3)


def restarted(node: Node, path: Path, world: World, restart) -> Node:
    """The same account after a restart of the daemon, or of the machine."""
    down_s, boot, step_s = restart
    state_file.save(node, path, t_ns=world.now.t_ns, sync=False, at=world.now)
    world.pass_time(round(down_s * S), boot=boot, step_ns=round(step_s * S))
    again = fresh()
    found, told_s = state_file.load(again, path, at=world.now)
    assert found
    # Within a boot the monotonic clock tells; across one only a wall clock that went on can.
    assert told_s == pytest.approx(down_s) or (boot and step_s)
    assert fields(again) == fields(node)
    return again


def live(world: World, path: Path, history) -> None:
    """Play a history, and check after every snapshot what must always hold."""
    node = fresh()
    for uuid in world.joules:
        node.add_device(device(uuid))
    for gap_s, reads, engines, foreign, restart in history:
        before = fields(node)
        readings = world.readings(gap_s, reads)
        node.advance(world.now.t_ns, readings, world.engines(engines), foreign={"g0": foreign})
        check(node)
        for old, new in zip(before, fields(node), strict=True):
            assert all(new[key] >= value for key, value in old.items())
        for account in node.accounts.values():
            meter = account.meter
            accounted_ns = meter.covered_ns + sum(meter.uncovered_by().values())
            assert 0 <= accounted_ns <= world.believed_ns
            assert meter.covered_ns <= world.elapsed_ns
        node = restarted(node, path, world, restart) if restart else node


@given(HISTORY)
def test_energy_is_conserved_and_every_second_accounted_for_over_any_history(
    tmp_path_factory, history
):
    """
    Whatever happens to two devices and two engines.

    Engines come, go, restart and share, by MIG or not; counters go back, devices are lost, scrapes
    are missed or late, the daemon or the machine is restarted, the wall clock is set.
    """
    live(World(), tmp_path_factory.mktemp("state") / "state.json", history)


EIGHT = tuple(f"g{n}" for n in range(8))
ON_EIGHT = st.tuples(
    st.sampled_from(["up", "up", "down", "gone", "restart"]),
    st.integers(0, 500),
    st.one_of(
        st.just(EIGHT), st.sets(st.sampled_from(EIGHT)).map(lambda some: tuple(sorted(some)))
    ),
    st.one_of(st.none(), st.floats(0, 4)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(0, 1)),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 1.0, 7.0]),
            st.tuples(*[READS] * 8),
            st.tuples(ON_EIGHT, ON_EIGHT),
            st.sampled_from([0.0, 0.5]),
            st.one_of(st.none(), st.none(), RESTART),
        ),
        max_size=6,
    )
)
def test_a_model_over_eight_devices_conserves_each_of_them(tmp_path_factory, history):
    """Tensor parallel over all or some of eight devices, another model beside it on any of them."""
    live(World(8), tmp_path_factory.mktemp("state") / "state.json", history)


def test_every_second_is_covered_or_uncovered_once():
    node = Node()
    node.add_device(device("g0"))
    lost = read(2, None, ReadStatus.LOST)
    good = [(3, 250), (4, 300), (5, 10), (6, 60), (16, 900), (17, 1000)]
    for reading in [read(0, 0), read(1, 100), lost, *(read(t_s, value) for t_s, value in good)]:
        node.advance(reading.t_ns, {"g0": reading}, [])
    account = node.accounts["g0"].meter
    assert account.covered_ns == 4 * S
    assert account.uncovered_by() == {"lost": 2 * S, "reset": 1 * S, "gap": 10 * S}
    assert account.total_uj == 300_000_000
    assert account.resets == 1


def test_a_models_series_are_there_at_zero_before_their_first_joule():
    """Prometheus only sees an increase of a series that it has scraped before."""
    node = Node(tariff=Tariff(price_per_kwh=0.1, device_price_per_hour=2.0))
    node.add_device(device("g0"))
    node.advance(0, {"g0": read(0, 0)}, [engine(A, 0.0)])
    assert node.books.cost == {(A, "g0", part): 0.0 for part in ("energy", "facility", "device")}
    assert not node.books.emissions_g
    assert {(key.owner, key.state): value for key, value in node.books.energy_uj.items()} == {
        (A, "active"): 0,
        (A, "idle"): 0,
    }
    check(node)


def test_one_model_over_eight_devices_owns_all_of_them_once():
    node = Node()
    names = tuple(f"g{n}" for n in range(8))
    for name in names:
        node.add_device(device(name))
    for t_s in range(3):
        readings = {name: read(t_s, 100.0 * t_s) for name in names}
        node.advance(t_s * S, readings, [engine(A, 10.0 * t_s, devices=names, running=1)])
    assert sum(node.books.energy_uj.values()) == 8 * 200_000_000
    assert node.books.tokens[A, "generated"] == 20.0


def test_tokens_whose_joules_were_not_metered_stay_out_of_the_ratio():
    node = Node()
    node.add_device(device("g0"))
    node.advance(0, {"g0": read(0, 0)}, [engine(A, 0.0)])
    node.advance(S, {"g0": read(1, 100)}, [engine(A, 10.0)])
    node.advance(2 * S, {"g0": read(2, None, ReadStatus.LOST)}, [engine(A, 25.0)])
    assert node.books.tokens[A, "generated"] == 10.0
    assert node.books.uncovered_tokens[A, "generated"] == 15.0


def test_a_silent_engine_owns_nothing_after_a_while_and_its_backlog_has_no_joules():
    node = Node()
    node.add_device(device("g0"))
    for t_s in range(30):
        node.advance(t_s * S, {"g0": read(t_s, 100.0 * t_s)}, [engine(A, 0.0 if t_s < 2 else None)])
    owned = sum(node.books.energy_uj.values())
    assert owned == 16 * 100_000_000
    assert node.books.unattributed_uj["g0", "engine_silent"] == 13 * 100_000_000
    node.advance(30 * S, {"g0": read(30, 3000.0)}, [engine(A, 70.0)])
    assert node.books.uncovered_tokens[A, "generated"] == 70.0


def test_a_price_and_an_intensity_make_each_component_of_emissions():
    node = Node(tariff=Tariff(grams_per_kwh=400.0, pue=1.25, device_grams_per_hour=36.0))
    node.add_device(device("g0"))
    for t_s in range(2):
        node.advance(t_s * S, {"g0": read(t_s, 3.6e4 * t_s)}, [engine(A, t_s, running=1)])
    grams = {part: value for (_, _, part), value in node.books.emissions_g.items()}
    # 0.01 kWh, a quarter more for the facility, and a second of 36 g an hour.
    assert grams == pytest.approx({"energy": 4.0, "facility": 1.0, "device": 0.01})


def test_instances_of_a_known_model_beyond_the_limit_share_a_series_of_that_model():
    """Pods have new names at each rollout: the model's own rates must survive that."""
    node = Node(max_owners=1)
    node.add_device(device("g0"))
    later = dataclasses.replace(A, instance_id="two")
    for t_s in range(3):
        both = [engine(one, 10.0 * t_s, running=1) for one in (A, later)]
        node.advance(t_s * S, {"g0": read(t_s, 100.0 * t_s)}, both)
    assert {key.owner for key in node.books.energy_uj} == {
        A, dataclasses.replace(A, instance_id="overflow")
    }  # fmt: skip
    check(node)


def test_baselines_of_ever_new_sets_of_models_are_forgotten_and_the_present_one_is_kept():
    node = Node(max_owners=1000)
    node.add_device(device("g0"))
    for t_s in range(100):
        name = "kept" if t_s % 2 else f"lora-{t_s}"
        owner = Owner(model_name=name, engine="vllm", instance_id="one")
        node.advance(t_s * S, {"g0": read(t_s, 100.0 * t_s)}, [engine(owner, 0.0, running=0)])
    baselines = node.accounts["g0"].baselines
    assert len(baselines) == 32
    assert baselines["kept"].idle_s > 40


def test_owners_beyond_the_limit_share_one_series():
    node = Node(max_owners=1)
    node.add_device(device("g0"))
    for t_s in range(3):
        node.advance(t_s * S, {"g0": read(t_s, 100.0 * t_s)}, [engine(A, t_s), engine(B, t_s)])
    assert {key.owner for key in node.books.energy_uj} == {A, OVERFLOW}
    check(node)


def test_a_price_makes_each_component_and_they_sum_to_the_bill():
    node = Node(tariff=Tariff(price_per_kwh=0.1, pue=1.25, device_price_per_hour=3.6))
    node.add_device(device("g0"))
    for t_s in range(2):
        node.advance(t_s * S, {"g0": read(t_s, 3.6e4 * t_s)}, [engine(A, t_s, running=1)])
    cost = {part: value for (_, _, part), value in node.books.cost.items()}
    assert cost == pytest.approx({"energy": 0.001, "facility": 0.00025, "device": 0.001})


# --- the state file ------------------------------------------------------------------------


def test_a_damaged_or_foreign_state_file_is_refused(tmp_path):
    path = tmp_path / "state.json"
    node = Node()
    node.add_device(device("g0"))
    state_file.save(node, path, t_ns=0, sync=True)
    path.write_bytes(path.read_bytes().replace(b"emulated", b"measured"))
    with pytest.raises(StoreError, match="checksum"):
        state_file.load(Node(), path)


def test_time_without_the_daemon_is_uncovered_and_its_tokens_have_no_joules(tmp_path):
    path = tmp_path / "state.json"
    node = Node()
    node.add_device(device("g0"))
    now_ns = time.perf_counter_ns()
    node.advance(now_ns - 20 * S, {"g0": Reading(t_ns=now_ns - 20 * S, energy_j=0)}, [engine(A, 5)])
    node.advance(now_ns - 19 * S, {"g0": Reading(t_ns=now_ns - 19 * S, energy_j=9)}, [engine(A, 6)])
    state_file.save(node, path, t_ns=now_ns - 19 * S, sync=False)
    again = Node()
    found, down_s = state_file.load(again, path)
    assert found
    assert down_s == pytest.approx(19, abs=1)
    again.advance(now_ns, {"g0": Reading(t_ns=now_ns, energy_j=3000)}, [engine(A, 400)])
    meter = again.accounts["g0"].meter
    assert meter.total_uj == 9_000_000
    assert meter.uncovered_by()["daemon_down"] == pytest.approx(19 * S, abs=S // 10)
    assert again.books.tokens[A, "generated"] == 1.0
    assert again.books.uncovered_tokens[A, "generated"] == 394.0
