"""The loop before deletions of many names, before kinds that are gone, and beside another writer."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.external import Domain
from kube2etcd.kube.objects import (
    Changed,
    Failing,
    Healthy,
    Listed,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.sync.events import EtcdChanged, EventQueue, Rezoned, SyncEvent, Wake
from kube2etcd.sync.listings import GONE_AFTER
from kube2etcd.sync.safety import DISPUTE_WINDOW, PROBE_AFTER, PROBE_LASTS, RELIST_AFTER
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import changed, gone, machine, service
from tests.sync.loop import KINDS, LISTED, Clock, Entries, World, added, many

MACHINES = "virtualmachineinstances"


def many_machines(count: int) -> list[VirtualMachineInstance]:
    return [machine(f"m{at}", ("eth0", f"10.0.3.{at}")) for at in range(count)]


def with_machines(clock: Clock, machines: list[VirtualMachineInstance]) -> World:
    zone = VmZone(Name.parse("vm"))
    world = World(clock, kinds=(*KINDS, MACHINES), zones=[zone])
    world.turn(Listed(MACHINES, machines)).listed(service("web"))
    world.assert_equal()
    return world


def test_an_uninstalled_kind(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = with_machines(clock, many_machines(5))
    before = dict(world.etcd.entries)
    absent = Failing(MACHINES, clock.now, absent=True)
    # A server that starts says so for a while; nothing of that counts when it ends.
    for end in (Failing(MACHINES, clock.now), Healthy(MACHINES), Listed(MACHINES, many_machines(5))):
        world.turn(absent)
        clock.now += GONE_AFTER - 1
        world.turn(absent, end)
        clock.now += 1
    world.turn(absent)
    clock.now += GONE_AFTER - 1
    world.turn(absent)
    assert (world.etcd.entries, world.loop.held.keys) == (before, frozenset())
    clock.now += 1
    world.turn(absent)
    assert told.text.count("virtualmachineinstances: no longer installed") == 1
    assert world.etcd.entries == before, "as after any empty list: not at first sight"
    assert world.loop.held.keys
    world.turn(absent, LISTED)
    assert world.loop.held.keys
    world.turn(Listed("services", [service("web")]))
    world.assert_equal()
    assert not any(b"/m0" in key for key in world.etcd.entries)
    assert world.status.snapshot().stale == {}
    # Installed again: as if for the first time.
    world.turn(Listed(MACHINES, many_machines(5)))
    world.assert_equal()
    assert world.etcd.entries == before


@pytest.mark.parametrize("installed", [True, False], ids=["installed again", "never"])
def test_a_kind_absent_at_the_start_deletes_nothing_at_once(clock: Clock, installed: bool) -> None:
    machines = many_machines(5)
    etcd = with_machines(clock, machines).etcd
    before, absent = dict(etcd.entries), Failing(MACHINES, clock.now, absent=True)
    world = World(clock, etcd, kinds=(*KINDS, MACHINES), zones=[VmZone(Name.parse("vm"))])
    world.turn(absent).listed(service("web"), service("new", "10.0.0.9"))
    assert world.ready
    assert etcd.entries.items() > before.items()
    clock.now += GONE_AFTER
    if installed:
        world.turn(Listed(MACHINES, machines)).listed(service("web"), service("new", "10.0.0.9"))
        assert etcd.entries.items() > before.items()
    else:
        world.turn(absent, LISTED, Listed("services", [service("web")]))
    world.assert_equal()
    assert any(b"/m0" in key for key in etcd.entries) == installed


def test_what_is_held_does_not_wait_for_ever_for_a_kind_that_is_gone(clock: Clock) -> None:
    machines = many_machines(30)
    world = with_machines(clock, machines)
    world.turn(*(changed(one, "DELETED") for one in machines))
    assert world.loop.held.keys
    absent = Failing(MACHINES, clock.now, absent=True)
    world.listed(service("web")).turn(absent)
    assert world.loop.held.keys
    clock.now += GONE_AFTER
    world.turn(absent)
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_a_mass_deletion_waits_for_a_second_listing(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock).listed(*many(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.relists == ["deletions are held"]
    assert "held until a second listing agrees" in told.text
    assert "deletions are held" in world.reasons
    assert world.ready
    # Neither time nor half of the listings is a second opinion.
    world.turn(Wake()).turn(Listed("services", []))
    assert world.etcd.entries == before
    world.turn(LISTED)
    assert "confirmed by a second listing" in told.text
    assert world.metric("kube2etcd_repairs_total 0"), "what waited was no fault of etcd's"
    assert world.loop.held.keys == frozenset()
    world.assert_equal()
    assert len(world.etcd.entries) < len(before)


@pytest.mark.parametrize("second", [[], [service("web")]])
def test_an_empty_list_waits(world: World, told: pytest.LogCaptureFixture, second: list[Service]) -> None:
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.ready
    assert "a list came empty" in told.text
    world.listed(*second)
    world.assert_equal()
    assert (world.etcd.entries == before) == bool(second)
    # what goes afterwards, one by one, is not meant
    world.turn(Listed("services", [service("last")]), Wake())
    world.turn(gone("last"))
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_an_empty_list_at_the_start_waits_for_another(clock: Clock) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    world = World(clock, Entries({b"/skydns/local/cluster/svc/shop/old": stale})).listed()
    assert b"/skydns/local/cluster/svc/shop/old" in world.etcd.entries
    world.listed().assert_equal()


def test_nothing_is_deleted_without_a_late_kind(clock: Clock) -> None:
    """As for the webhook's state, whose domains are known late: their keys are no stale ones."""
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    late, old = b"/skydns/example/late/a/own_/1-H", b"/skydns/local/cluster/svc/shop/old"
    world = World(clock, Entries({late: stale, old: stale}), late=["webhook"]).listed(service("web"))
    assert world.ready
    world.listed(service("web")).listed(service("web"))
    assert world.etcd.entries.keys() > {late, old}
    assert world.loop.held.keys == {late, old}
    domain = Domain.parse("late.example")
    world.turn(Rezoned([ExternalZone(domain.name, (domain,))]), Listed("webhook", []))
    world.listed(service("web"))
    assert old not in world.etcd.entries
    world.assert_equal()


def test_an_empty_list_of_what_was_empty_is_no_news(clock: Clock) -> None:
    world = World(clock, kinds=("namespaces", "services", "pods")).turn(Listed("pods", []))
    world.listed(service("web")).turn(Listed("pods", [])).turn(gone("web"))
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_a_second_listing_that_disagrees_deletes_nothing(clock: Clock) -> None:
    world = World(clock).listed(*many(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", [])).listed(*many(20))
    assert world.etcd.entries == before
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_other_changes_go_on_while_a_plan_is_held(clock: Clock) -> None:
    world = World(clock).listed(*many(20)).turn(Listed("services", []))
    world.turn(added("new", "10.0.0.7"))
    assert b"/skydns/local/cluster/svc/shop/new/10-0-0-7-H" in world.etcd.entries
    assert len(world.loop.held.keys) > 0
    world.turn(changed(many(1)[0], "ADDED"))
    assert not any(b"/s0/" in key for key in world.loop.held.keys)
    world.listed(service("new", "10.0.0.7"))
    world.assert_equal()


def test_a_second_disaster_waits_for_its_own_second_listing(clock: Clock) -> None:
    world = World(clock).listed(*many(40)).turn(Listed("services", many(20)))
    assert len(world.loop.held.keys) > 0
    world.listed()
    assert len(world.loop.held.keys) > 0
    assert any(b"/svc/shop/s0/" in key for key in world.etcd.entries)
    assert not any(b"/svc/shop/s39/" in key for key in world.etcd.entries)
    world.listed()
    world.assert_equal()


def test_changes_during_a_held_plan_need_their_own_listing(clock: Clock) -> None:
    """A server that begins to answer wrongly does so for one kind after the other."""
    world = World(clock, kinds=(*KINDS, "nodes"))
    namespace = LISTED
    services = many(40)
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.turn(Listed("services", services[:20]), Listed("nodes", []))
    held = world.loop.held.keys
    assert any(b"/s39/" in key for key in held)
    # The listing that was asked for: the first half of it is even more wrong, the second says nothing.
    world.turn(Listed("services", services[:2]))
    assert held < world.loop.held.keys
    world.turn(namespace, Listed("nodes", []))
    gone = {change.key for change in world.etcd.written if isinstance(change, changes.Delete)}
    assert gone == held, "of these two listings say that they are gone; of the others one"
    assert world.relists == ["deletions are held"] * 2
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.assert_equal()
    assert world.loop.held.keys == frozenset()


def test_an_empty_list_while_a_plan_is_held_is_asked_about_as_well(clock: Clock) -> None:
    world = World(clock)
    namespace = LISTED
    world.listed(*many(20)).turn(Listed("services", many(5)))
    held = world.loop.held.keys
    # Few names: nothing but the empty list makes them suspect.
    world.turn(Listed("services", []))
    assert held < world.loop.held.keys
    world.turn(namespace)
    assert any(b"/s0/" in key for key in world.loop.held.keys)
    assert any(b"/s0/" in key for key in world.etcd.entries)
    assert not any(b"/s19/" in key for key in world.etcd.entries)
    world.turn(namespace, Listed("services", []))
    world.assert_equal()


def test_a_held_plan_asks_again_and_again(clock: Clock) -> None:
    stop = threading.Event()
    asked: list[float] = []
    began = clock.now

    def relist(reason: str) -> None:
        assert reason == "deletions are held"
        asked.append(clock.now - began)
        if asked == [0.0]:
            asked.clear()  # at once, when it was held
        if len(asked) == len(RELIST_AFTER):
            stop.set()

    class Passing(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            clock.now += timeout
            return []

    world = World(clock, queue=Passing(), relist=relist, stop=stop).listed(*many(20))
    world.turn(Listed("services", []))
    world.loop.run()
    assert asked == pytest.approx(RELIST_AFTER, abs=1.0)


def test_a_standby_asks_once_and_deletes_as_leader(clock: Clock) -> None:
    leader = ["another bridge writes"]
    entries = World(clock).listed(*many(20)).etcd
    world = World(clock, entries, other_leader=lambda: leader[0]).listed(*many(5))
    assert world.loop.held.keys
    world.listed(*many(5))
    for _ in range(60):
        clock.now += 1.0
        world.turn(Wake())
    assert world.relists == ["deletions are held"]
    leader[0] = ""
    world.turn(Wake()).assert_equal()
    assert world.relists == ["deletions are held"]


@pytest.mark.parametrize(("again", "held"), [([], True), (many(3), False)], ids=["empty", "not empty"])
def test_confirmed_deletions_while_etcd_is_away(clock: Clock, again: list[Service], held: bool) -> None:
    world = World(clock).listed(*many(20)).turn(Listed("services", many(3)))
    world.etcd.trouble = EtcdUnavailable("gone")
    world.listed(*many(3)).listed(*again)
    world.etcd.trouble = None
    clock.now += 1.0
    world.turn(Wake())
    assert bool(world.loop.held.keys) == held, "an empty list needs a second one of its own"
    world.listed(*again).assert_equal()


class Shared:
    """Two worlds over one etcd, each told by a watch of its own; both list again when they ask for it."""

    def __init__(self, clock: Clock, names: int = 1) -> None:
        self.clock, self.etcd, self.lists = clock, Entries(), 0
        self.one, self.two = World(clock, self.etcd), World(clock, self.etcd)
        self._services = {
            id(world): [service(f"{name}{at or ''}", f"10.0.{net}.{at + 1}") for at in range(names)]
            for world, name, net in ((self.one, "one", 1), (self.two, "two", 1 if names > 1 else 2))
        }
        for world in (self.one, self.two):
            world.listed(*self._services[id(world)])
        self._told = {id(self.one): 0, id(self.two): 0}

    def turn(self, world: World, *news: Changed) -> None:
        events = self.etcd.untold[self._told[id(world)] :]
        self._told[id(world)] = len(self.etcd.untold)
        told = [EtcdChanged(WatchBatch(self.etcd.revision, tuple(events)))] if events else []
        world.turn(*told, *news)
        if world.relists:
            world.relists.clear()
            self.lists += 1
            world.listed(*self._services[id(world)])

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


def test_many_names_of_both(clock: Clock) -> None:
    """So many that their deletion is held: what the other writer reverts is disputed all the same.

    Both have the same addresses, so they dispute PTR records as well.
    """
    shared = Shared(clock, 20)
    shared.turns(20)
    lists = shared.lists
    assert shared.turns(20) == 0
    tries = 0
    for _ in range(60):
        clock.now += 1.0
        tries += shared.turns(1)
    assert 0 < tries <= 10
    assert shared.lists == lists
    for name, world in (("one19", shared.one), ("two19", shared.two)):
        assert shared.holds(name)
        assert not world.ready
        assert world.loop.held.keys == frozenset()


def test_new_keys_of_others_stay(shared: Shared) -> None:
    shared.turns(20)
    shared.turn(shared.one, added("new", "10.0.0.9"))
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
    for _ in range(int(PROBE_AFTER[0] + PROBE_LASTS) + 2):
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
