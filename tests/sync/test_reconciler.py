"""The loop against etcd in memory: what it writes, and when it writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest

from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import WatchBatch, WatchEvent
from kube2etcd.kube.objects import Failing, Listed, Metadata, Namespace
from kube2etcd.settings import Selector
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue, Rezoned, SyncEvent, Wake
from kube2etcd.sync.status import Report
from kube2etcd.sync.target import ETCD_RETRY
from kube2etcd.zones.services import ServicesZone
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import changed, dns_endpoint, external_zone, service, store_of
from tests.sync.loop import FOREIGN_VALUE, KINDS, Clock, Entries, World, added, many_services

FOREIGN = b"/skydns/local/cluster/foreign"


@pytest.mark.parametrize("missing", KINDS)
def test_etcd_is_not_touched_before_every_kind_is_listed(clock: Clock, missing: str) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    etcd = Entries({b"/skydns/local/cluster/svc/shop/old": stale})
    world = World(clock, etcd)
    for kind in KINDS:
        if kind != missing:
            world.turn(Listed(kind, many_services(1)))
    world.turn(changed(service("new"), "ADDED"), Wake())
    assert (etcd.attempts, etcd.written) == (0, [])
    assert not world.ready
    assert f"{missing} are not listed yet" in world.reasons
    world.turn(Failing(missing, 990.0))
    assert etcd.attempts == 0, "an error is not an empty list"
    world.turn(Listed(missing, many_services(1)))
    deletes = [change.key for change in etcd.written if isinstance(change, changes.Delete)]
    assert b"/skydns/local/cluster/svc/shop/old" in deletes
    world.assert_equal()
    assert world.follows == [etcd.revision + 1], "the watch starts after our own writes"
    assert world.metric("kube2etcd_ready 1")


def test_absent_optional_kind_delays_nothing(clock: Clock) -> None:
    world = World(clock, kinds=(*KINDS, "virtualmachineinstances")).listed(service("web"))
    assert world.etcd.attempts == 0
    world.turn(Failing("virtualmachineinstances", 990.0, absent=True))
    world.assert_equal()
    assert world.status.snapshot().stale == {}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="tick"),
        pytest.param([Wake()], id="wake"),
        pytest.param([Listed("services", [service("web")])], id="same list"),
        pytest.param([EtcdLost("compacted")], id="full read of etcd"),
        pytest.param([EtcdChanged(WatchBatch(99))], id="empty watch batch"),
        pytest.param([changed(service("web"))], id="unchanged object"),
    ],
)
def test_nothing_is_written_when_nothing_differs(world: World, events: list[SyncEvent]) -> None:
    world.etcd.written.clear()
    world.clock.now += ETCD_RETRY
    world.turn(*events)
    assert world.etcd.written == []
    world.assert_equal()


def test_only_changed_keys_are_written(world: World) -> None:
    world.etcd.written.clear()
    world.turn(added("db", "10.0.0.2"))
    assert {change.key for change in world.etcd.written} == {
        b"/skydns/local/cluster/svc/shop/db",
        b"/skydns/local/cluster/svc/shop/db/10-0-0-2-H",
        b"/skydns/arpa/in-addr/10/0/0/2",
    }
    assert world.etcd.snapshots == 1
    world.assert_equal()


WEB = b"/skydns/local/cluster/svc/shop/web/10-0-0-1-H"


@pytest.mark.parametrize(
    "value", [None, FOREIGN_VALUE, b"{", b"{}"], ids=["deleted", "other owner", "malformed", "no owner"]
)
def test_foreign_change_of_our_key_is_repaired(
    world: World, logged: pytest.LogCaptureFixture, value: bytes | None
) -> None:
    world.turn(world.etcd.foreign_write(WEB, value))
    assert "repaired 1 keys" in logged.text
    world.assert_equal()


@pytest.mark.parametrize(
    "value",
    [FOREIGN_VALUE, encode(Message(host="10.9.9.9")), b"{"],
    ids=["other owner", "no owner", "malformed"],
)
def test_foreign_keys_are_kept_and_counted(
    clock: Clock, logged: pytest.LogCaptureFixture, value: bytes
) -> None:
    world = World(clock, Entries({FOREIGN: value})).listed(service("web")).listed()
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("again"))
    assert world.etcd.entries[FOREIGN] == value
    assert FOREIGN not in {change.key for change in world.etcd.written}
    assert world.metric("kube2etcd_foreign_keys 1")
    assert logged.text.count("is malformed") == (value == b"{"), "logged once"
    world.turn(world.etcd.foreign_write(FOREIGN, None))
    assert world.metric("kube2etcd_foreign_keys 0")


def test_events_of_an_earlier_watch_are_dropped(world: World) -> None:
    before = dict(world.loop.target.mirror.items())
    world.watch = 7
    world.clock.now += ETCD_RETRY
    world.turn(EtcdLost("its data is gone"))
    old = WatchBatch(10_000, (WatchEvent(b"/skydns/local/cluster/svc/shop/web", b"{}", 10_000),))
    world.turn(EtcdChanged(old, 6), EtcdLost("late", 6))
    assert world.loop.target.mirror == before
    assert not world.loop.target.mirror.lost
    world.turn(EtcdLost("it ended", 7))
    assert world.loop.target.mirror.lost


def test_loop_sends_heartbeats_and_stops_between_transactions(clock: Clock) -> None:
    class Slow(Entries):
        def apply(
            self,
            generations: Iterable[Iterable[changes.Batch]],
            progress: Callable[[int], None] | None = None,
        ) -> changes.ApplyResult:
            clock.now += 60
            assert progress is not None
            progress(1)
            assert world.status.snapshot().heartbeat_age == 0
            stop.set()
            progress(1)
            raise AssertionError("not stopped")

    stop, queue = threading.Event(), EventQueue()
    world = World(clock, Slow(), queue=queue, stop=stop)
    for kind in KINDS:
        queue.put(Listed(kind, many_services(1) if kind == "services" else []))
    world.loop.run()
    assert stop.is_set()


def test_connection_that_is_closed_by_a_stop_is_no_loss(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    class Closing(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            stop.set()
            return [EtcdLost("closed")]

    stop = threading.Event()
    world = World(clock, queue=Closing(), stop=stop).listed(*many_services(1))
    world.loop.run()
    assert not world.loop.target.mirror.lost
    assert world.ready


def test_resync_relists_and_rereads_etcd(world: World) -> None:
    world.etcd.entries[WEB] = FOREIGN_VALUE
    world.clock.now += 299.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == ([], 1)
    world.clock.now += 1.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == (["resync"], 2)
    world.assert_equal()
    world.turn()
    assert world.relists == ["resync"]


def test_namespace_of_a_prefilled_store_can_be_deselected(clock: Clock) -> None:
    store = store_of(Namespace(Metadata("", "shop", labels={"env": "stage"})), service("web"))
    zone = ServicesZone(Name.parse("stage.example"), namespace_selector=Selector.parse("env=stage"))
    world = World(clock, kinds=(), store=store, zones=[zone]).turn()
    key = b"/skydns/example/stage/shop/web"
    assert any(one.startswith(key) for one in world.etcd.entries)
    world.turn(changed(Namespace(Metadata("", "shop"))))
    assert not any(one.startswith(key) for one in world.etcd.entries)
    world.assert_equal()


def test_external_zones_are_added_and_removed(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    foreign = encode(Message(owner="a-writer"))
    own = b"/skydns/io/dtk/own_"
    world = World(clock, Entries({own: foreign}))
    zones = (external_zone("dtk.io"),)
    world.listed().turn(Listed("dnsendpoints", [dns_endpoint("x", ("a.dtk.io", "10.0.0.1"))]), Rezoned(zones))
    assert world.etcd.entries[own] == foreign
    assert b"/skydns/io/dtk/a/own_/10-0-0-1-H" in world.etcd.entries
    assert world.metric("kube2etcd_contested_keys 1")
    world.turn(Rezoned(()))
    assert world.metric("kube2etcd_contested_keys 0")
    assert [key for key in world.etcd.entries if b"own_" in key] == [own]
    world.turn(Rezoned(zones))
    assert caplog.text.count("dtk.io is held by another writer") == 2


def test_event_that_changes_nothing_publishes_no_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[None] = []
    monkeypatch.setattr(Report, "publish", lambda self: reports.append(None))
    world.turn(changed(service("web")))
    assert not reports
    world.turn()
    assert reports, "the state is published at every tick"
