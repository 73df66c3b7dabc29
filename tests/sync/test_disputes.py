"""Two loops with one owner id on one etcd: both notice, neither deletes the other's keys without end."""

from __future__ import annotations

import pytest

from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.kube.objects import Event
from kube2etcd.sync.events import Changed, EtcdChanged, Wake
from kube2etcd.sync.safety import DISPUTE_WINDOW, PROBE_AFTER, PROBE_STANDS
from tests.sync.loop import Clock, Entries, World, clock, service

__all__ = ["clock"]


class Shared:
    """Two worlds over one etcd, each told by a watch of its own."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.etcd = clock, Entries()
        self.one = World(clock, self.etcd).listed(service("one", "10.0.0.1"))
        self.two = World(clock, self.etcd).listed(service("two", "10.0.0.2"))
        self._told = {id(self.one): 0, id(self.two): 0}

    def turn(self, world: World, *news: Changed) -> None:
        events = self.etcd.untold[self._told[id(world)] :]
        self._told[id(world)] = len(self.etcd.untold)
        told = [EtcdChanged(WatchBatch(self.etcd.revision, tuple(events)))] if events else []
        world.turn(*told, *news)

    def turns(self, count: int) -> int:
        before = len(self.etcd.written)
        for _ in range(count):
            self.turn(self.one)
            self.turn(self.two)
        return len(self.etcd.written) - before

    def holds(self, name: str) -> bool:
        return any(f"/shop/{name}".encode() in key for key in self.etcd.entries)


@pytest.fixture
def shared(clock: Clock) -> Shared:
    return Shared(clock)


def test_both_come_to_rest_with_the_names_of_both(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    assert shared.turns(20) < 60
    assert shared.turns(20) == 0
    assert shared.holds("one")
    assert shared.holds("two")
    for world in (shared.one, shared.two):
        assert not world.ready
        assert "--owner-id" in world.reasons
        assert not world.metric("kube2etcd_disputed_keys 0.0")
    assert caplog.text.count("another writer with owner id kube2etcd") == 2


def test_new_keys_of_others_stay(shared: Shared) -> None:
    shared.turns(20)
    shared.turn(shared.one, Changed("services", Event("ADDED", service("new", "10.0.0.9"), "shop", "new")))
    before = len(shared.etcd.written)
    shared.turns(5)
    assert shared.holds("new")
    assert not [one for one in shared.etcd.written[before:] if isinstance(one, changes.Delete)]


def test_more_keys_than_are_remembered(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.sync.safety.MAX_TRACKED", 1)
    shared.turns(40)
    assert shared.turns(20) == 0
    assert not shared.one.ready
    assert not shared.two.ready


def test_it_recovers_when_the_other_is_gone(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    shared.turns(20)
    for _ in range(int(PROBE_AFTER[0] + PROBE_STANDS) + 2):
        shared.clock.now += 1.0
        shared.turn(shared.one)
    assert "the other writer with owner id kube2etcd is gone" in caplog.text
    shared.one.assert_equal()
    assert not shared.holds("two")


def test_while_the_other_lives_one_key_is_tried_now_and_then(shared: Shared) -> None:
    shared.turns(20)
    before = len(shared.etcd.written)
    for _ in range(600):
        shared.clock.now += 1.0
        shared.turns(1)
    tried = shared.etcd.written[before:]
    assert shared.holds("one")
    assert shared.holds("two")
    assert not shared.one.ready
    assert 0 < len(tried) <= 2 * 2 * (len(PROBE_AFTER) + 2), "each a deletion and its repair, on both sides"


def test_a_change_of_one_key_by_hand_now_and_then_is_no_dispute(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    key = next(key for key in world.etcd.entries if key.endswith(b"-H"))
    for at in range(10):
        world.turn(world.etcd.by_hand(key, b'{"host":"10.9.9.%d","owner":"kube2etcd"}' % at))
        world.assert_equal()
        clock.now += DISPUTE_WINDOW
        world.turn(Wake())


def test_what_was_undone_long_ago_is_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.sync.safety.MAX_TRACKED", 1)
    world = World(clock).listed(service("web"))
    first, second = sorted(world.etcd.entries)[:2]
    theirs = b'{"host":"10.9.9.9","owner":"kube2etcd"}'
    world.turn(world.etcd.by_hand(first, theirs))
    clock.now += DISPUTE_WINDOW
    for _ in range(10):
        world.turn(world.etcd.by_hand(second, theirs))
    assert not world.ready, "there was room again for the second key"


def test_two_values_for_one_key_come_to_rest_too(clock: Clock) -> None:
    world = World(clock).listed(service("web"))
    key = next(key for key in world.etcd.entries if key.endswith(b"-H"))
    theirs = b'{"host":"10.9.9.9","owner":"kube2etcd"}'
    for _ in range(10):
        world.turn(world.etcd.by_hand(key, theirs))
    assert world.etcd.entries[key] == theirs
    assert "1 keys are left to it" in world.reasons
    world.turn(world.etcd.by_hand(key, world.publisher.desired[key]))
    clock.now += PROBE_AFTER[0]
    world.turn(Wake()).assert_equal()
