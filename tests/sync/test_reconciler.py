"""The loop against a store of entries in memory: what it writes, when, and above all when it does not."""

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
from tests.objects import changed, external, said, service, stored
from tests.sync.loop import KINDS, OTHERS, Clock, Entries, World, added, many

FOREIGN = b"/skydns/local/cluster/foreign"


@pytest.mark.parametrize("missing", KINDS)
def test_nothing_is_touched_before_every_kind_is_listed(clock: Clock, missing: str) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    etcd = Entries({b"/skydns/local/cluster/svc/shop/old": stale})
    world = World(clock, etcd)
    for kind in KINDS:
        if kind != missing:
            world.turn(Listed(kind, many(1)))
    world.turn(changed(service("new"), "ADDED"), Wake())
    assert (etcd.tries, etcd.written) == (0, [])
    assert not world.ready
    assert f"{missing} are not listed yet" in world.reasons
    world.turn(Failing(missing, 990.0))
    assert etcd.tries == 0, "an error is no empty list"
    world.turn(Listed(missing, many(1)))
    gone = [change.key for change in etcd.written if isinstance(change, changes.Delete)]
    assert b"/skydns/local/cluster/svc/shop/old" in gone
    world.assert_equal()
    assert world.follows == [etcd.revision + 1], "the watch shows none of our own writes"
    assert world.metric("kube2etcd_ready 1")


def test_an_optional_kind_that_is_absent_holds_nobody_up(clock: Clock) -> None:
    world = World(clock, kinds=(*KINDS, "virtualmachineinstances")).listed(service("web"))
    assert world.etcd.tries == 0
    world.turn(Failing("virtualmachineinstances", 990.0, absent=True))
    world.assert_equal()
    assert world.status.snapshot().stale == {}


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([], id="a tick"),
        pytest.param([Wake()], id="a wake"),
        pytest.param([Listed("services", [service("web")])], id="the same listing"),
        pytest.param([EtcdLost("compacted")], id="etcd read anew"),
        pytest.param([EtcdChanged(WatchBatch(99))], id="a watch without news"),
        pytest.param([changed(service("web"))], id="no change"),
    ],
)
def test_nothing_is_written_when_nothing_differs(world: World, news: list[SyncEvent]) -> None:
    world.etcd.written.clear()
    world.clock.now += ETCD_RETRY
    world.turn(*news)
    assert world.etcd.written == []
    world.assert_equal()


def test_cost_follows_the_change(world: World) -> None:
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
    "value", [None, OTHERS, b"{", b"{}"], ids=["deleted", "taken", "malformed", "emptied"]
)
def test_a_key_changed_by_hand(world: World, told: pytest.LogCaptureFixture, value: bytes | None) -> None:
    world.turn(world.etcd.by_hand(WEB, value))
    assert "repaired 1 keys" in told.text
    world.assert_equal()


@pytest.mark.parametrize(
    "value", [OTHERS, encode(Message(host="10.9.9.9")), b"{"], ids=["other", "none", "malformed"]
)
def test_foreign_keys_are_counted(clock: Clock, told: pytest.LogCaptureFixture, value: bytes) -> None:
    world = World(clock, Entries({FOREIGN: value})).listed(service("web")).listed()
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("again"))
    assert world.etcd.entries[FOREIGN] == value
    assert FOREIGN not in {change.key for change in world.etcd.written}
    assert world.metric("kube2etcd_foreign_keys 1")
    assert told.text.count("is malformed") == (value == b"{"), "told once"
    world.turn(world.etcd.by_hand(FOREIGN, None))
    assert world.metric("kube2etcd_foreign_keys 0")


def test_what_a_former_watch_tells_means_nothing(world: World) -> None:
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


def test_between_transactions_the_loop_beats_and_can_be_stopped(clock: Clock) -> None:
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
            raise AssertionError("it goes on")

    stop, queue = threading.Event(), EventQueue()
    world = World(clock, Slow(), queue=queue, stop=stop)
    for kind in KINDS:
        queue.put(Listed(kind, many(1) if kind == "services" else []))
    world.loop.run()
    assert stop.is_set()


def test_a_resync_reads_both_sides_anew(world: World) -> None:
    world.etcd.entries[WEB] = OTHERS
    world.clock.now += 299.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == ([], 1)
    world.clock.now += 1.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == (["resync"], 2)
    world.assert_equal()
    world.turn()
    assert world.relists == ["resync"]


def test_a_namespace_of_a_full_store_may_be_deselected(clock: Clock) -> None:
    store = stored(Namespace(Metadata("", "shop", labels={"env": "stage"})), service("web"))
    zone = ServicesZone(Name.parse("stage.example"), namespace_selector=Selector.parse("env=stage"))
    world = World(clock, kinds=(), store=store, zones=[zone]).turn()
    key = b"/skydns/example/stage/shop/web"
    assert any(one.startswith(key) for one in world.etcd.entries)
    world.turn(changed(Namespace(Metadata("", "shop"))))
    assert not any(one.startswith(key) for one in world.etcd.entries)
    world.assert_equal()


def test_changed_external_zones(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    theirs = encode(Message(owner="a-writer"))
    own = b"/skydns/io/dtk/own_"
    world = World(clock, Entries({own: theirs}))
    zones = (external("dtk.io"),)
    world.listed().turn(Listed("dnsendpoints", [said("x", ("a.dtk.io", "10.0.0.1"))]), Rezoned(zones))
    assert world.etcd.entries[own] == theirs
    assert b"/skydns/io/dtk/a/own_/10-0-0-1-H" in world.etcd.entries
    assert world.metric("kube2etcd_contested_keys 1")
    world.turn(Rezoned(()))
    assert world.metric("kube2etcd_contested_keys 0")
    assert [key for key in world.etcd.entries if b"own_" in key] == [own]
    world.turn(Rezoned(zones))
    assert caplog.text.count("dtk.io is held by another writer") == 2


def test_an_event_that_changes_nothing_ends_at_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[None] = []
    monkeypatch.setattr(Report, "publish", lambda self: reports.append(None))
    world.turn(changed(service("web")))
    assert not reports
    world.turn()
    assert reports, "the state is published at every tick"
