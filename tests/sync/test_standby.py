"""Two loops on one etcd, of which one may write: what the other does meanwhile, and when it takes over."""

from __future__ import annotations

import pytest

from kube2etcd.errors import EtcdDeposed
from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import ApplyResult, WatchBatch, WatchEvent
from kube2etcd.kube.objects import Event
from kube2etcd.sync.events import Changed, EtcdChanged, Wake
from kube2etcd.sync.target import ETCD_RETRY, OTHERWISE, PATIENCE
from tests.sync.loop import Clock, Entries, World, clock, service

__all__ = ["clock"]


class Standby(World):
    def __init__(self, clock: Clock, etcd: Entries) -> None:
        self.why = "standing by: another one writes to etcd"
        super().__init__(clock, etcd, other_leader=lambda: self.why)


@pytest.fixture
def leader(clock: Clock) -> World:
    return World(clock).listed(service("web"))


@pytest.fixture
def standby(clock: Clock, leader: World) -> Standby:
    made = Standby(clock, leader.etcd)
    made.listed(service("web"))
    return made


def come(name: str, ip: str) -> Changed:
    return Changed("services", Event("ADDED", service(name, ip), "shop", name))


def told_by(leader: World) -> EtcdChanged:
    told, leader.etcd.untold = tuple(leader.etcd.untold), []
    return EtcdChanged(WatchBatch(leader.etcd.revision, told))


def test_a_standby_is_ready_when_etcd_is_as_it_should_be(standby: Standby) -> None:
    assert standby.ready
    assert "standing by" in standby.reasons
    assert standby.metric("kube2etcd_leader 0")
    assert not standby.metric('kube2etcd_writes_total{op="put"} 1')


def test_a_standby_is_unready_before_the_leader_wrote(clock: Clock) -> None:
    etcd = Entries()
    standby = Standby(clock, etcd).listed(service("web"))
    assert etcd.written == []
    assert not standby.ready
    assert "keys in etcd differ from what this bridge would write" in standby.reasons
    leader = World(clock, etcd).listed(service("web"))
    standby.turn(told_by(leader))
    assert standby.ready


def test_a_standby_gives_the_leader_time(leader: World, standby: Standby, clock: Clock) -> None:
    news = come("new", "10.0.0.7")
    standby.turn(news)
    clock.now += PATIENCE
    assert standby.turn(Wake()).ready
    clock.now += 0.1
    assert not standby.turn(Wake()).ready
    leader.etcd.untold.clear()
    leader.turn(news)
    standby.turn(told_by(leader))
    assert standby.ready
    assert standby.etcd.written == leader.etcd.written


def test_a_lasting_difference_is_the_leaders(
    leader: World, standby: Standby, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    standby.turn(come("new", "10.0.0.7"))
    clock.now += OTHERWISE
    assert not standby.turn(Wake()).ready
    clock.now += 0.1
    standby.turn(Wake())
    assert standby.turn(Wake()).ready
    assert "3 keys in etcd differ from what this bridge would write" in standby.reasons
    assert caplog.text.count("do leader and standby have the same") == 1
    assert leader.etcd.written == standby.etcd.written


def test_a_standby_never_takes_an_empty_etcd_for_the_leaders_way(clock: Clock) -> None:
    standby = Standby(clock, Entries()).listed(service("web"))
    clock.now += OTHERWISE + 1
    assert not standby.turn(Wake()).ready


def test_a_standby_that_is_elected_writes_what_is_missing(leader: World, standby: Standby) -> None:
    standby.turn(come("new", "10.0.0.7"))
    before = len(leader.etcd.written)
    standby.why = ""
    standby.turn(Wake())
    standby.assert_equal()
    assert standby.reasons == ""
    assert standby.metric("kube2etcd_leader 1")
    assert len(leader.etcd.written) == before + 3, "the name, its address, the way back"
    assert standby.metric("kube2etcd_repairs_total 0")


def test_a_standby_leaves_what_is_changed_by_hand_to_the_leader(leader: World, standby: Standby) -> None:
    key = next(key for key in leader.etcd.entries if key.endswith(b"/shop/web"))
    written = len(leader.etcd.written)
    leader.etcd.by_hand(key, b"x")
    standby.turn(EtcdChanged(WatchBatch(99, (WatchEvent(key, b"x", 99),))))
    assert len(leader.etcd.written) == written
    assert standby.metric("kube2etcd_repairs_total 0")


class Deposing(Entries):
    def apply(self, *_: object) -> ApplyResult:
        raise EtcdDeposed("another bridge leads by now")


def test_a_leader_that_is_deposed_reads_anew_and_writes_nothing(clock: Clock) -> None:
    etcd = Deposing()
    world = Standby(clock, etcd)
    world.why = ""
    world.listed(service("web"))
    assert world.loop.target.mirror.lost
    assert not world.ready
    world.why = "standing by: another one writes to etcd"
    etcd.entries.update(world.publisher.desired)
    clock.now += ETCD_RETRY
    assert world.turn(Wake()).ready
    assert [change for change in etcd.written if isinstance(change, changes.Put)] == []
