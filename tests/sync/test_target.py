"""The loop while etcd is unavailable, out of space, refusing or empty, and as a standby."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, cast

import pytest

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdNoSpace, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import ApplyResult, WatchBatch
from kube2etcd.kube.objects import Listed, Metadata, Service, ServicePort
from kube2etcd.kube.store import Unit
from kube2etcd.log import MAX_LINES
from kube2etcd.sync.claims import FormerGroups
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue, SyncEvent, Wake
from kube2etcd.sync.listings import BATCH
from kube2etcd.sync.reconciler import TICK
from kube2etcd.sync.target import ACCEPT_AFTER, ETCD_RETRY, LEADER_GRACE, NO_SPACE_RETRY, REFUSED_RETRY
from kube2etcd.zones.services import ServicesZone
from skydns_compat.message import Message, decode, encode
from skydns_compat.names import Name
from tests.objects import changed, endpoint_slice, service
from tests.sync.loop import (
    FOREIGN_VALUE,
    KINDS,
    NAMESPACES_LISTED,
    Clock,
    Entries,
    World,
    added,
    many_services,
)

FOREIGN = b"/skydns/local/cluster/foreign"
WEB = b"/skydns/local/cluster/svc/shop/web/10-0-0-1-H"


@pytest.mark.parametrize(
    "trouble",
    [EtcdUnavailable("etcd is unavailable"), EtcdRefused("etcd is unavailable")],
    ids=["unavailable", "refused"],
)
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_etcd_outage(clock: Clock, logged: pytest.LogCaptureFixture, trouble: EtcdError, when: str) -> None:
    world = World(clock)
    if when == "writing":
        world.listed(service("web"))
        clock.now += ETCD_RETRY
    world.etcd.trouble = trouble
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert not world.ready
    assert "etcd is unavailable" in world.reasons
    attempts = world.etcd.attempts
    world.turn(Wake())
    assert world.etcd.attempts == attempts, "no immediate retry"
    clock.now += ETCD_RETRY
    world.turn()
    assert logged.text.count("etcd is unavailable") == 1
    assert not world.ready
    world.etcd.trouble = None
    clock.now += ETCD_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_etcd_up 1")


def test_retry_pause_does_not_grow_during_an_outage(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    """An hour, with an event at every turn; gRPC's own backoff ends at half a second (`kube2etcd.etcd`)."""
    stop, outage = threading.Event(), 3600
    pauses: list[float] = []
    start = clock.now

    class InstantQueue(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            if len(pauses) > 1 and world.etcd.trouble is None:
                stop.set()
                return []
            pauses.append(timeout)
            world.clock.now += timeout
            if len(pauses) == 1:
                return [NAMESPACES_LISTED, Listed("services", [service("web")])]
            if len(pauses) == 2:
                world.etcd.trouble = EtcdUnavailable("unavailable")
                return [EtcdLost("gone")]
            if world.clock.now > start + outage:
                world.etcd.trouble = None
            return [changed(service("db", f"10.0.0.{len(pauses) % 200 + 2}"))]

    world = World(clock, queue=InstantQueue(), stop=stop)
    world.loop.run()
    assert pauses[:2] == [TICK, TICK]
    assert max(pauses[2:]) <= ETCD_RETRY
    assert len(pauses) == pytest.approx(outage / ETCD_RETRY, rel=0.01), "neither more nor less often"
    assert logged.text.count("unavailable") == 1
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 0"), "changes of the cluster are no repairs"


def test_foreign_change_during_an_outage_counts_as_a_repair(world: World) -> None:
    world.turn(EtcdLost("gone"))
    world.clock.now += ETCD_RETRY
    del world.etcd.entries[WEB]
    world.etcd.no_space = EtcdNoSpace("etcd is full")
    world.turn(added("db", "10.0.0.2"))
    assert world.metric("kube2etcd_repairs_total 0")
    world.etcd.no_space = None
    world.clock.now += NO_SPACE_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


STALE = b"/skydns/local/cluster/svc/shop/gone"


@pytest.mark.parametrize("key", [STALE, WEB], ids=["stale", "changed"])
def test_repair_that_keeps_failing_is_no_dispute(world: World, key: bytes) -> None:
    world.etcd.no_space = EtcdNoSpace("etcd is full")
    world.turn(world.etcd.foreign_write(key, encode(Message(host="10.9.9.9", owner="kube2etcd"))))
    for _ in range(5):
        world.clock.now += NO_SPACE_RETRY
        world.turn()
    assert world.reasons == "etcd is full"
    world.etcd.no_space = None
    world.clock.now += NO_SPACE_RETRY
    world.turn().assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


def test_etcd_that_lost_its_data_is_refilled_once(world: World) -> None:
    world.etcd.entries.clear()
    world.etcd.revision = 1
    world.clock.now += ETCD_RETRY
    world.turn(EtcdLost("its revision went back"))
    for _ in range(2):
        world.clock.now += 1
        world.turn().assert_equal()
    assert (world.etcd.snapshots, len(world.follows)) == (2, 2)


def test_refused_key_is_reported_and_others_are_written(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    world = World(clock, Entries(refused={WEB}))
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert f"etcd refuses {WEB.decode()}: too large" in logged.text
    assert world.publisher.desired.keys() - world.etcd.entries.keys() == {WEB}
    assert world.ready, "it affects only its own name"
    assert "etcd refuses 1 keys: too large" in world.reasons, "reported although ready"


def test_log_lines_of_refused_keys_are_limited(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    world = World(clock).listed()
    world.etcd.refused = AllKeys()
    world.listed(*many_services(50))
    refused = world.publisher.desired.keys() - world.etcd.entries.keys()
    assert logged.text.count("etcd refuses /") == MAX_LINES
    assert f"{len(refused) - MAX_LINES} more keys are refused" in logged.text
    logged.clear()
    clock.now += REFUSED_RETRY
    world.turn(Wake())
    assert not logged.messages, "logged once, however often they are retried"


def test_log_lines_of_malformed_keys_are_limited(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    World(clock, Entries({FOREIGN + b"/%d" % at: b"{" for at in range(MAX_LINES + 7)})).listed()
    assert logged.text.count("breaks every name above it") == MAX_LINES
    assert "7 more foreign keys are malformed" in logged.text


class ReadinessLog(Entries):
    """Records whether the bridge is ready before each write."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.ready: list[bool] = []

    def apply(self, *arguments: Any) -> ApplyResult:
        if self.world is not None:
            self.ready.append(self.world.ready)
        return super().apply(*arguments)


@pytest.mark.parametrize(
    ("lost", "pause", "events", "ready"),
    [
        pytest.param(0, 300.0, [], True, id="a change"),
        pytest.param(3, 300.0, [], False, id="after etcd lost its keys"),
        pytest.param(0, ETCD_RETRY, [EtcdLost("its data is gone")], False, id="after the watch ended"),
    ],
)
def test_readiness_while_writing(
    clock: Clock, lost: int, pause: float, events: list[EtcdLost], ready: bool
) -> None:
    etcd = ReadinessLog()
    world = etcd.world = World(clock, etcd).listed(service("web"), service("db", "10.0.0.2"))
    for key in list(etcd.entries)[: len(etcd.entries) * lost // 4]:
        del etcd.entries[key]
    clock.now += pause
    world.turn(*events, added("new", "10.0.0.3"))
    assert etcd.snapshots == 2
    assert etcd.ready == [ready]
    world.assert_equal()


@pytest.mark.parametrize(("share", "ready"), [(1, False), (10, True)], ids=["all", "a tenth"])
def test_unready_while_most_keys_are_restored(clock: Clock, share: int, ready: bool) -> None:
    etcd = ReadinessLog()
    world = etcd.world = World(clock, etcd).listed(*many_services(20))
    world.turn(*(etcd.foreign_write(key, None) for key in sorted(etcd.entries)[::share]))
    assert etcd.ready == [ready]
    world.assert_equal()


def test_etcd_without_space_is_retried_less_often(clock: Clock) -> None:
    world = World(clock)
    world.etcd.no_space = EtcdNoSpace("etcd is full")
    world.listed(service("web"))
    assert "etcd is full" in world.reasons
    attempts = world.etcd.attempts
    clock.now += ETCD_RETRY
    world.turn(Wake())
    assert world.etcd.attempts == attempts
    world.etcd.no_space = None
    clock.now += NO_SPACE_RETRY
    world.turn(Wake())
    world.assert_equal()


def test_unready_while_etcd_refuses_all_keys(clock: Clock) -> None:
    world = World(clock)
    world.etcd.refused = AllKeys()
    world.listed(service("web"))
    assert not world.ready
    assert "keys: too large" in world.reasons
    world.etcd.refused = set()
    world.turn(Wake())
    assert world.etcd.entries == {}, "no immediate retry"
    clock.now += REFUSED_RETRY
    world.turn(Wake())
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 0"), "refused keys are no repairs"
    assert world.ready


class AllKeys(set[bytes]):
    def __contains__(self, key: object) -> bool:
        return True


OLD = b"/skydns/local/cluster/svc/shop/old"
COUNT = 2 * BATCH + 10


def batches_of_services() -> list[Service]:
    """More than one batch; every hundredth has the first one's address."""
    return [
        service(f"s{at}", f"10.0.{at % 100 and at // 250}.{at % 100 and at % 250}") for at in range(COUNT)
    ]


def test_fill_writes_what_a_comparison_would(clock: Clock) -> None:
    filled = World(clock).listed(*batches_of_services())
    filled.assert_equal()
    compared = World(clock, Entries({OLD: FOREIGN_VALUE})).listed(*batches_of_services())
    assert [change.key for change in compared.etcd.written] == sorted(filled.publisher.desired)
    assert filled.etcd.entries | {OLD: FOREIGN_VALUE} == compared.etcd.entries
    assert filled.follows == [filled.etcd.revision + 1]
    assert filled.turn().etcd.written == filled.etcd.written


def test_fill_writes_each_key_once(clock: Clock) -> None:
    named = ServicesZone(Name.parse("flat.example"), template="{service}")
    ages = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    rivals = [
        Service(Metadata(space, f"s{at}", ages[at % 2]), cluster_ip=f"10.{number}.{at // 250}.{at % 250}")
        for at in range(COUNT)
        for number, space in enumerate(("shop", "other"))
    ]
    world = World(clock, zones=[named]).listed(*rivals)
    world.assert_equal()
    keys = [change.key for change in world.etcd.written]
    assert len(keys) == len(set(keys)) == len(world.etcd.entries)


def test_key_changed_twice_during_the_fill_is_written_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error in a batch, units are published one by one by name, here each older than the last."""
    port = ServicePort("http", "TCP", 80)
    rivals = [
        Service(
            Metadata(space, "web", f"2026-01-0{9 - at}T00:00:00Z"), cluster_ip=f"10.0.0.{at}", ports=ports
        )
        for at, (space, ports) in enumerate([("a", (port,)), ("b", ()), ("c", (port,))])
    ]
    world = World(clock, zones=[ServicesZone(Name.parse("flat.example"), template="{service}")])
    real, generations = world.publisher.refresh, []

    def one_by_one(units: list[Unit]) -> FormerGroups:
        if len(units) > 1:
            raise ValueError("unforeseen")
        return real(units)

    def apply(given: Iterable[Iterable[changes.Batch]], progress: object) -> ApplyResult:
        generations.extend(whole := [list(one) for one in given])
        return Entries.apply(world.etcd, whole)

    monkeypatch.setattr(world.publisher, "refresh", one_by_one)
    monkeypatch.setattr(world.etcd, "apply", apply)
    world.listed(*rivals).assert_equal()
    for generation in generations:
        keys = [change.key for batch in generation for change in batch]
        assert len(keys) == len(set(keys))
    assert len(world.loop.target.mirror) == len(world.etcd.entries)


def test_later_better_claim_replaces_a_filled_key(clock: Clock) -> None:
    """The oldest unit is published first, but a Service beats an endpoint."""
    headless = service("headless", "None", age="2025-01-01T00:00:00Z")
    young = service("young", "10.9.9.9")
    world = World(clock, kinds=(*KINDS, "endpointslices"))
    world.turn(Listed("endpointslices", [endpoint_slice("headless", "10.9.9.9")]))
    world.listed(headless, *batches_of_services(), young).assert_equal()
    puts = [one for one in world.etcd.written if one.key.startswith(b"/skydns/arpa/in-addr/10/9/9/9")]
    assert [decode(cast(changes.Put, one).value).host for one in puts] == [
        "10-9-9-9.headless.shop.svc.cluster.local",
        "young.shop.svc.cluster.local",
    ]


def test_events_before_the_next_full_read_are_dropped(clock: Clock) -> None:
    """etcd fails during the fill, and another writer deletes the keys written so far."""
    world = World(clock, Entries(fail_after=1)).listed(*batches_of_services())
    assert 0 < len(world.etcd.entries) < len(world.publisher.desired)
    world.turn(*(world.etcd.foreign_write(key, None) for key in list(world.etcd.entries)))
    assert not world.ready
    world.etcd.trouble = None
    clock.now += 10
    world.turn().assert_equal()
    assert world.metric("kube2etcd_repairs_total 0")


LEADER = "standing by: another one writes to etcd"


class Standby(World):
    def __init__(self, clock: Clock, etcd: Entries) -> None:
        self.leader = LEADER
        super().__init__(clock, etcd, other_leader=lambda: self.leader)


@pytest.fixture
def leader(clock: Clock) -> World:
    return World(clock).listed(service("web"))


@pytest.fixture
def standby(clock: Clock, leader: World) -> Standby:
    world = Standby(clock, leader.etcd)
    world.listed(service("web"))
    return world


def watch_batch(leader: World) -> EtcdChanged:
    events, leader.etcd.undelivered = tuple(leader.etcd.undelivered), []
    return EtcdChanged(WatchBatch(leader.etcd.revision, events))


def test_standby_is_unready_until_the_leader_has_written(clock: Clock) -> None:
    etcd = Entries()
    standby = Standby(clock, etcd).listed(service("web"))
    assert etcd.written == []
    assert not standby.ready
    assert "keys in etcd differ from what this bridge would write" in standby.reasons
    leader = World(clock, etcd).listed(service("web"))
    standby.turn(watch_batch(leader))
    assert standby.ready


def test_standby_becomes_unready_after_the_grace_period(
    leader: World, standby: Standby, clock: Clock
) -> None:
    event = added("new", "10.0.0.7")
    standby.turn(event)
    clock.now += LEADER_GRACE
    assert standby.turn(Wake()).ready
    clock.now += 0.1
    assert not standby.turn(Wake()).ready
    leader.etcd.undelivered.clear()
    leader.turn(event)
    standby.turn(watch_batch(leader))
    assert standby.ready
    assert standby.etcd.written == leader.etcd.written


def test_standby_is_unready_while_etcd_is_empty(leader: World, standby: Standby) -> None:
    deleted = [leader.etcd.foreign_write(key, None) for key in list(leader.etcd.entries)]
    assert not standby.turn(*deleted).ready
    leader.turn(*deleted)
    assert standby.turn(watch_batch(leader)).ready
    standby.assert_equal()


def test_standby_accepts_a_lasting_difference(
    leader: World, standby: Standby, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    standby.turn(added("new", "10.0.0.7"))
    clock.now += ACCEPT_AFTER
    assert not standby.turn(Wake()).ready
    clock.now += 0.1
    standby.turn(Wake())
    assert standby.turn(Wake()).ready
    assert "3 keys in etcd differ from what this bridge would write" in standby.reasons
    assert caplog.text.count("keys differ from what this bridge would write") == 1
    assert leader.etcd.written == standby.etcd.written


def test_standby_never_accepts_an_empty_etcd(clock: Clock) -> None:
    standby = Standby(clock, Entries()).listed(service("web"))
    clock.now += ACCEPT_AFTER + 1
    assert not standby.turn(Wake()).ready


def test_elected_standby_writes_missing_keys(leader: World, standby: Standby) -> None:
    assert standby.reasons == standby.leader
    assert standby.metric("kube2etcd_leader 0")
    standby.turn(added("new", "10.0.0.7"))
    before = len(leader.etcd.written)
    standby.leader = ""
    standby.turn(Wake())
    standby.assert_equal()
    assert standby.reasons == ""
    assert standby.metric("kube2etcd_leader 1")
    assert len(leader.etcd.written) == before + 3, "the name, its address, the PTR"
    assert standby.metric("kube2etcd_repairs_total 0")


class Deposing(Entries):
    def apply(self, *_: object) -> ApplyResult:
        raise EtcdDeposed("another bridge leads")


def test_deposed_leader_rereads_etcd_and_writes_nothing(clock: Clock) -> None:
    etcd = Deposing()
    world = Standby(clock, etcd)
    world.leader = ""
    world.listed(service("web"))
    assert world.loop.target.mirror.lost
    assert not world.ready
    world.leader = LEADER
    etcd.entries.update(world.publisher.desired)
    clock.now += ETCD_RETRY
    assert world.turn(Wake()).ready
    assert [change for change in etcd.written if isinstance(change, changes.Put)] == []
