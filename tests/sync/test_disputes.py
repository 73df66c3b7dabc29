"""Another writer of the same keys, with our owner id or one of its own."""

from __future__ import annotations

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.kube.objects import (
    Changed,
)
from kube2etcd.sync.events import EtcdChanged, Wake
from kube2etcd.sync.safety import (
    DISPUTE_WINDOW,
    MAX_YIELD,
    PROBE_AFTER,
    PROBE_LASTS,
    TOLERATED_REVERTS,
    YIELD_FOR,
)
from tests.objects import service
from tests.sync.loop import Clock, Entries, World, added


class TwoBridges:
    """Two bridges with one owner id on one etcd, each with its own watch; relists are made at once."""

    def __init__(self, clock: Clock, names: int = 1) -> None:
        self.clock, self.etcd, self.relists = clock, Entries(), 0
        self.one, self.two = World(clock, self.etcd), World(clock, self.etcd)
        self._services = {
            id(world): [service(f"{name}{at or ''}", f"10.0.{net}.{at + 1}") for at in range(names)]
            for world, name, net in ((self.one, "one", 1), (self.two, "two", 1 if names > 1 else 2))
        }
        for world in (self.one, self.two):
            world.listed(*self._services[id(world)])
        self._delivered = {id(self.one): 0, id(self.two): 0}

    def turn(self, world: World, *events: Changed) -> None:
        undelivered = self.etcd.undelivered[self._delivered[id(world)] :]
        self._delivered[id(world)] = len(self.etcd.undelivered)
        batch = EtcdChanged(WatchBatch(self.etcd.revision, tuple(undelivered)))
        world.turn(*([batch] if undelivered else []), *events)
        if world.relists:
            world.relists.clear()
            self.relists += 1
            world.listed(*self._services[id(world)])

    def turns(self, count: int) -> int:
        before = len(self.etcd.written)
        for _ in range(count):
            self.turn(self.one)
            self.turn(self.two)
        return len(self.etcd.written) - before

    def has(self, name: str) -> bool:
        return any(f"/shop/{name}".encode() in key for key in self.etcd.entries)


@pytest.fixture
def bridges(clock: Clock) -> TwoBridges:
    return TwoBridges(clock)


def test_dispute_stops_and_keeps_the_names_of_both(
    bridges: TwoBridges, caplog: pytest.LogCaptureFixture
) -> None:
    assert bridges.turns(20) < 60
    assert bridges.turns(20) == 0
    assert bridges.has("one")
    assert bridges.has("two")
    for world in (bridges.one, bridges.two):
        assert not world.ready
        assert "--owner-id" in world.reasons
        assert not world.metric("kube2etcd_disputed_keys 0.0")
    assert caplog.text.count("another writer with owner id kube2etcd") == 2


def test_dispute_over_many_names_holds_no_deletions(clock: Clock) -> None:
    """Their deletion would be held, but disputed keys never are.

    Both have the same addresses, so they dispute PTR records too.
    """
    bridges = TwoBridges(clock, 20)
    bridges.turns(20)
    relists = bridges.relists
    assert bridges.turns(20) == 0
    probes = 0
    for _ in range(60):
        clock.now += 1.0
        probes += bridges.turns(1)
    assert 0 < probes <= 10
    assert bridges.relists == relists
    for name, world in (("one19", bridges.one), ("two19", bridges.two)):
        assert bridges.has(name)
        assert not world.ready
        assert world.loop.held.keys == frozenset()


def test_nothing_is_deleted_during_a_dispute(bridges: TwoBridges) -> None:
    bridges.turns(20)
    bridges.turn(bridges.one, added("new", "10.0.0.9"))
    before = len(bridges.etcd.written)
    bridges.turns(5)
    assert bridges.has("new")
    assert not [one for one in bridges.etcd.written[before:] if isinstance(one, changes.Delete)]


def test_dispute_over_more_keys_than_are_tracked(
    bridges: TwoBridges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube2etcd.sync.safety.MAX_TRACKED", 1)
    bridges.turns(40)
    assert bridges.turns(20) == 0
    assert not bridges.one.ready
    assert not bridges.two.ready


def test_dispute_ends_when_the_other_writer_is_gone(
    bridges: TwoBridges, caplog: pytest.LogCaptureFixture
) -> None:
    bridges.turns(20)
    for _ in range(int(PROBE_AFTER[0] + PROBE_LASTS) + 2):
        bridges.clock.now += 1.0
        bridges.turn(bridges.one)
    assert "the other writer with owner id kube2etcd is gone" in caplog.text
    bridges.one.assert_equal()
    assert not bridges.has("two")


@pytest.mark.parametrize("how", ["unavailable", "refused"])
def test_unwritten_probe_does_not_mean_that_the_other_writer_is_gone(
    how: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    bridges = TwoBridges(clock, 5)
    bridges.turns(20)
    names = sorted(key for key in bridges.etcd.entries if b"/shop/two" in key)
    clock.now += PROBE_AFTER[0]
    if how == "refused":
        bridges.etcd.refused = set(bridges.etcd.entries)
    else:
        bridges.etcd.trouble = EtcdUnavailable("no leader")
    bridges.turn(bridges.one)
    clock.now += PROBE_LASTS + 1
    bridges.turn(bridges.one)
    bridges.etcd.refused, bridges.etcd.trouble = set(), None
    for _ in range(10):
        clock.now += 1.0
        bridges.turns(1)
    assert "owner id kube2etcd is gone" not in caplog.text
    assert [key for key in names if key in bridges.etcd.entries] == names
    assert not bridges.one.ready


def test_only_one_key_is_probed_while_the_other_writer_lives(bridges: TwoBridges) -> None:
    bridges.turns(20)
    before = len(bridges.etcd.written)
    for _ in range(600):
        bridges.clock.now += 1.0
        bridges.turns(1)
    probes = bridges.etcd.written[before:]
    assert bridges.has("one")
    assert bridges.has("two")
    assert not bridges.one.ready
    assert 0 < len(probes) <= 2 * 2 * (len(PROBE_AFTER) + 2), (
        "a deletion and its repair per probe, on both sides"
    )


def test_rare_foreign_changes_are_no_dispute(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    key = next(key for key in world.etcd.entries if key.endswith(b"-H"))
    for at in range(10):
        world.turn(world.etcd.foreign_write(key, b'{"host":"10.9.9.%d","owner":"kube2etcd"}' % at))
        world.assert_equal()
        clock.now += DISPUTE_WINDOW
        world.turn(Wake())


def test_reverts_before_the_window_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.sync.safety.MAX_TRACKED", 1)
    world = World(clock).listed(service("web"))
    first, second = sorted(world.etcd.entries)[:2]
    value = b'{"host":"10.9.9.9","owner":"kube2etcd"}'
    world.turn(world.etcd.foreign_write(first, value))
    clock.now += DISPUTE_WINDOW
    for _ in range(10):
        world.turn(world.etcd.foreign_write(second, value))
    assert not world.ready, "the first key is no longer tracked"


def test_disputed_key_is_left_to_the_other_writer(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    key = next(key for key in world.etcd.entries if key.endswith(b"-H"))
    value = b'{"host":"10.9.9.9","owner":"kube2etcd"}'
    for _ in range(10):
        world.turn(world.etcd.foreign_write(key, value))
    assert world.etcd.entries[key] == value
    assert "1 keys are left to it" in world.reasons
    world.turn(world.etcd.foreign_write(key, world.publisher.desired[key]))
    clock.now += PROBE_AFTER[0]
    world.turn(Wake()).assert_equal()


PTR = b"/skydns/arpa/in-addr/10/0/0/1"


def test_rival_whose_owner_id_sorts_first_keeps_the_key(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    assert PTR in world.publisher.desired
    before = len(world.etcd.written)
    for at in range(10):
        theirs = b'{"host":"web%d.example","owner":"east"}' % at
        world.turn(world.etcd.foreign_write(PTR, theirs))
        assert world.ready
    assert world.etcd.entries[PTR] == theirs
    assert len(world.etcd.written) - before == TOLERATED_REVERTS
    assert world.count("contested_keys") == 1
    # Nothing is written as long as the other writer wants the key; without it, it is ours at once.
    for _ in range(int(YIELD_FOR) - 1):
        clock.now += 1.0
        world.turn(Wake())
    assert len(world.etcd.written) - before == TOLERATED_REVERTS
    world.turn(world.etcd.foreign_write(PTR, None)).assert_equal()
    assert world.count("contested_keys") == 0


@pytest.mark.parametrize(
    "theirs",
    [b'{"host":"web.example","owner":"west"}', b'{"host":"web.example"}', b"{"],
    ids=["sorts last", "no owner", "malformed"],
)
def test_key_is_repaired_however_often_another_rival_writes_it(clock: Clock, theirs: bytes) -> None:
    world = World(clock).listed(service("web"))
    for _ in range(10):
        world.turn(world.etcd.foreign_write(PTR, theirs)).assert_equal()


def test_value_that_a_former_owner_left_is_repaired(clock: Clock) -> None:
    entries = Entries({PTR: b'{"host":"web.example","owner":"east"}'})
    World(clock, entries).listed(service("web")).assert_equal()


def test_yielded_key_is_written_again_later_and_later(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    theirs = b'{"host":"web.example","owner":"east"}'
    for _ in range(5):
        world.turn(world.etcd.foreign_write(PTR, theirs))
    written: list[float] = []
    began = clock.now
    while clock.now < began + 4 * YIELD_FOR:
        clock.now += 10.0
        before = len(world.etcd.written)
        world.turn(Wake())
        if world.relists:  # a full pass
            world.relists.clear()
            world.listed(service("web"))
        if len(world.etcd.written) > before:
            written.append(clock.now - began)
            world.turn(world.etcd.foreign_write(PTR, theirs))
    first, second = written
    assert first == pytest.approx(YIELD_FOR, abs=20.0)
    assert second == pytest.approx(3 * YIELD_FOR, abs=20.0)
    clock.now += 8 * YIELD_FOR
    world.turn(Wake()).assert_equal()


def test_more_keys_than_are_tracked_are_left_to_a_rival(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube2etcd.sync.safety.MAX_TRACKED", 1)
    world = World(clock).listed(service("web"), service("db", "10.0.0.2"))
    other = PTR[:-1] + b"2"
    theirs = b'{"host":"web.example","owner":"east"}'
    for _ in range(5):
        world.etcd.foreign_write(PTR, theirs)
        world.turn(world.etcd.foreign_write(PTR, theirs))
    for _ in range(5):
        world.turn(world.etcd.foreign_write(other, theirs))
    assert world.etcd.entries[PTR] == world.etcd.entries[other] == theirs
    assert world.count("contested_keys") == 2
    clock.now += YIELD_FOR + MAX_YIELD
    world.turn(world.etcd.foreign_write(other, theirs))
    assert world.etcd.entries[other] == world.publisher.desired[other], "the first is tracked no more"
