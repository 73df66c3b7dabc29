"""The loop while etcd is away, full, unwilling or empty."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdRefused, EtcdUnavailable
from kube2etcd.kube.objects import Event
from kube2etcd.sync.events import Changed, EtcdLost, EventQueue, SyncEvent, Wake
from kube2etcd.sync.target import ETCD_RETRY, FULL_RETRY, REFUSED_RETRY
from tests.sync.loop import Clock, Entries, World, clock, service, told, world

__all__ = ["clock", "told", "world"]


FOREIGN = b"/skydns/local/cluster/foreign"
WEB = b"/skydns/local/cluster/svc/shop/web/10-0-0-1-H"


@pytest.mark.parametrize(
    "trouble", [EtcdUnavailable("etcd is away"), EtcdRefused("etcd is away")], ids=["unavailable", "refused"]
)
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_etcd_outage(clock: Clock, told: pytest.LogCaptureFixture, trouble: EtcdError, when: str) -> None:
    world = World(clock)
    if when == "writing":
        world.listed(service("web"))
        clock.now += ETCD_RETRY
    world.etcd.trouble = trouble
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert not world.ready
    assert "etcd is away" in world.reasons
    tries = world.etcd.tries
    world.turn(Wake())
    assert world.etcd.tries == tries, "not tried again at once"
    clock.now += ETCD_RETRY
    world.turn()
    assert told.text.count("etcd is away") == 1
    assert not world.ready
    world.etcd.trouble = None
    clock.now += ETCD_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_etcd_up 1")


def test_no_pause_grows_however_long_etcd_is_away(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    """An hour of it, with news at every turn; gRPC's own pauses end at half a second (`kube2etcd.etcd`)."""
    stop, away = threading.Event(), 3600
    pauses: list[float] = []
    began = clock.now

    class Passing(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            if made.etcd.trouble is None:
                stop.set()
                return []
            pauses.append(timeout)
            made.clock.now += timeout
            if len(pauses) == 1:
                return [EtcdLost("gone")]
            if made.clock.now > began + away:
                made.etcd.trouble = None
            one = service("db", f"10.0.0.{len(pauses) % 200 + 2}")
            return [Changed("services", Event("MODIFIED", one, "shop", "db"))]

    made = World(clock, queue=Passing(), stop=stop).listed(service("web"))
    made.etcd.trouble = EtcdUnavailable("away")
    made.loop.run()
    assert max(pauses[1:]) <= ETCD_RETRY
    assert len(pauses) == pytest.approx(away / ETCD_RETRY, rel=0.01), "neither less often nor all the time"
    assert told.text.count("away") == 1
    made.assert_equal()
    assert made.metric("kube2etcd_repairs_total 0"), "what changed meanwhile was no damage"


def test_damage_during_an_outage_is_a_repair(world: World) -> None:
    world.turn(EtcdLost("gone"))
    world.clock.now += ETCD_RETRY
    del world.etcd.entries[WEB]
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.turn(Changed("services", Event("ADDED", service("db", "10.0.0.2"), "shop", "db")))
    assert world.metric("kube2etcd_repairs_total 0")
    world.etcd.full = None
    world.clock.now += FULL_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


def test_etcd_comes_back_empty(world: World) -> None:
    world.etcd.entries.clear()
    world.etcd.revision = 1
    clock = world.clock
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("its revision went back"))
    world.assert_equal()
    assert len(world.follows) == 2


def test_a_refused_key_is_named_and_others_are_written(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock, Entries(refused={WEB}))
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert f"etcd refuses {WEB.decode()}: too large" in told.text
    assert world.publisher.desired.keys() - world.etcd.entries.keys() == {WEB}
    assert world.ready, "it spoils its own name only"
    assert "etcd refuses 1 keys: too large" in world.reasons, "but a ready bridge says so"


def test_a_full_etcd_is_not_read_all_the_time(clock: Clock) -> None:
    world = World(clock)
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.listed(service("web"))
    assert "etcd is full" in world.reasons
    tries = world.etcd.tries
    clock.now += ETCD_RETRY
    world.turn(Wake())
    assert world.etcd.tries == tries
    world.etcd.full = None
    clock.now += FULL_RETRY
    world.turn(Wake())
    world.assert_equal()


def test_an_etcd_that_refuses_everything(clock: Clock) -> None:
    world = World(clock)
    world.etcd.refused = Everything()
    world.listed(service("web"))
    assert not world.ready
    assert "keys: too large" in world.reasons
    world.etcd.refused = set()
    world.turn(Wake())
    assert world.etcd.entries == {}, "not at every turn"
    clock.now += REFUSED_RETRY
    world.turn(Wake())
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 0"), "what was refused was no damage"
    assert world.ready


class Everything(set[bytes]):
    def __contains__(self, key: object) -> bool:
        return True
