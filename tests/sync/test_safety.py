"""Mass deletions, kinds that are no longer installed, and disputes with another writer."""

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
from kube2etcd.sync.safety import (
    DISPUTE_WINDOW,
    MAX_YIELD,
    PROBE_AFTER,
    PROBE_LASTS,
    RELIST_AFTER,
    TOLERATED_REVERTS,
    YIELD_FOR,
)
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import changed, deleted, service, vmi
from tests.sync.loop import KINDS, NAMESPACES_LISTED, Clock, Entries, World, added, many_services

VMIS = "virtualmachineinstances"


def many_vmis(count: int) -> list[VirtualMachineInstance]:
    return [vmi(f"m{at}", ("eth0", f"10.0.3.{at}")) for at in range(count)]


def world_with_vmis(clock: Clock, vmis: list[VirtualMachineInstance]) -> World:
    zone = VmZone(Name.parse("vm"))
    world = World(clock, kinds=(*KINDS, VMIS), zones=[zone])
    world.turn(Listed(VMIS, vmis)).listed(service("web"))
    world.assert_equal()
    return world


def test_absent_kind_counts_as_an_empty_list_after_a_while(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    world = world_with_vmis(clock, many_vmis(5))
    before = dict(world.etcd.entries)
    absent = Failing(VMIS, clock.now, absent=True)
    # A server that starts reports a kind as absent for a while: each of these events starts the count again.
    for end in (Failing(VMIS, clock.now), Healthy(VMIS), Listed(VMIS, many_vmis(5))):
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
    assert logged.text.count("virtualmachineinstances: no longer installed") == 1
    assert world.etcd.entries == before, "held, as after any empty list"
    assert world.loop.held.keys
    world.turn(absent, NAMESPACES_LISTED)
    assert world.loop.held.keys
    world.turn(Listed("services", [service("web")]))
    world.assert_equal()
    assert not any(b"/m0" in key for key in world.etcd.entries)
    assert world.status.snapshot().stale == {}
    world.turn(Listed(VMIS, many_vmis(5)))
    world.assert_equal()
    assert world.etcd.entries == before


@pytest.mark.parametrize("installed", [True, False], ids=["listed later", "never listed"])
def test_kind_absent_at_start_deletes_nothing_before_it_counts_as_empty(
    clock: Clock, installed: bool
) -> None:
    vmis = many_vmis(5)
    etcd = world_with_vmis(clock, vmis).etcd
    before, absent = dict(etcd.entries), Failing(VMIS, clock.now, absent=True)
    world = World(clock, etcd, kinds=(*KINDS, VMIS), zones=[VmZone(Name.parse("vm"))])
    world.turn(absent).listed(service("web"), service("new", "10.0.0.9"))
    assert world.ready
    assert etcd.entries.items() > before.items()
    clock.now += GONE_AFTER
    if installed:
        world.turn(Listed(VMIS, vmis)).listed(service("web"), service("new", "10.0.0.9"))
        assert etcd.entries.items() > before.items()
    else:
        world.turn(absent, NAMESPACES_LISTED, Listed("services", [service("web")]))
    world.assert_equal()
    assert any(b"/m0" in key for key in etcd.entries) == installed


def test_absent_kind_confirms_held_deletions(clock: Clock) -> None:
    vmis = many_vmis(30)
    world = world_with_vmis(clock, vmis)
    world.turn(*(changed(one, "DELETED") for one in vmis))
    assert world.loop.held.keys
    absent = Failing(VMIS, clock.now, absent=True)
    world.listed(service("web")).turn(absent)
    assert world.loop.held.keys
    clock.now += GONE_AFTER
    world.turn(absent)
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_mass_deletion_is_held_until_a_second_listing(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    world = World(clock).listed(*many_services(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.relists == ["deletions are held"]
    assert "held until a second listing agrees" in logged.text
    assert "deletions are held" in world.reasons
    assert world.ready
    # Neither a turn nor the list of one kind confirms it.
    world.turn(Wake()).turn(Listed("services", []))
    assert world.etcd.entries == before
    world.turn(NAMESPACES_LISTED)
    assert "confirmed by a second listing" in logged.text
    assert world.metric("kube2etcd_repairs_total 0"), "held keys are no repairs"
    assert world.loop.held.keys == frozenset()
    world.assert_equal()
    assert len(world.etcd.entries) < len(before)


@pytest.mark.parametrize("second", [[], [service("web")]])
def test_deletions_after_an_empty_list_are_held(
    world: World, logged: pytest.LogCaptureFixture, second: list[Service]
) -> None:
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.ready
    assert "a list came empty" in logged.text
    world.listed(*second)
    world.assert_equal()
    assert (world.etcd.entries == before) == bool(second)
    # Later single deletions are not held.
    world.turn(Listed("services", [service("last")]), Wake())
    world.turn(deleted("last"))
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_empty_list_at_start_needs_a_second_listing(clock: Clock) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    world = World(clock, Entries({b"/skydns/local/cluster/svc/shop/old": stale})).listed()
    assert b"/skydns/local/cluster/svc/shop/old" in world.etcd.entries
    world.listed().assert_equal()


def test_nothing_is_deleted_before_a_late_kind_is_listed(clock: Clock) -> None:
    """Such as the webhook's state: until its domains are known, their keys look stale."""
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


def test_repeated_empty_list_holds_nothing(clock: Clock) -> None:
    world = World(clock, kinds=("namespaces", "services", "pods")).turn(Listed("pods", []))
    world.listed(service("web")).turn(Listed("pods", [])).turn(deleted("web"))
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_second_listing_with_the_objects_cancels_held_deletions(clock: Clock) -> None:
    world = World(clock).listed(*many_services(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", [])).listed(*many_services(20))
    assert world.etcd.entries == before
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_other_changes_are_written_while_deletions_are_held(clock: Clock) -> None:
    world = World(clock).listed(*many_services(20)).turn(Listed("services", []))
    world.turn(added("new", "10.0.0.7"))
    assert b"/skydns/local/cluster/svc/shop/new/10-0-0-7-H" in world.etcd.entries
    assert len(world.loop.held.keys) > 0
    world.turn(changed(many_services(1)[0], "ADDED"))
    assert not any(b"/s0/" in key for key in world.loop.held.keys)
    world.listed(service("new", "10.0.0.7"))
    world.assert_equal()


def test_next_mass_deletion_needs_its_own_second_listing(clock: Clock) -> None:
    world = World(clock).listed(*many_services(40)).turn(Listed("services", many_services(20)))
    assert len(world.loop.held.keys) > 0
    world.listed()
    assert len(world.loop.held.keys) > 0
    assert any(b"/svc/shop/s0/" in key for key in world.etcd.entries)
    assert not any(b"/svc/shop/s39/" in key for key in world.etcd.entries)
    world.listed()
    world.assert_equal()


def test_deletions_that_first_appear_in_the_second_listing_stay_held(clock: Clock) -> None:
    """A failing API server may lose one kind after the other."""
    world = World(clock, kinds=(*KINDS, "nodes"))
    namespace = NAMESPACES_LISTED
    services = many_services(40)
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.turn(Listed("services", services[:20]), Listed("nodes", []))
    held = world.loop.held.keys
    assert any(b"/s39/" in key for key in held)
    # The requested listing: Services are fewer still, the other kinds unchanged.
    world.turn(Listed("services", services[:2]))
    assert held < world.loop.held.keys
    world.turn(namespace, Listed("nodes", []))
    deletes = {change.key for change in world.etcd.written if isinstance(change, changes.Delete)}
    assert deletes == held, "two listings lack these, only one lacks the others"
    assert world.relists == ["deletions are held"] * 2
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.assert_equal()
    assert world.loop.held.keys == frozenset()


def test_empty_list_while_deletions_are_held_needs_its_own_listing(clock: Clock) -> None:
    world = World(clock)
    namespace = NAMESPACES_LISTED
    world.listed(*many_services(20)).turn(Listed("services", many_services(5)))
    held = world.loop.held.keys
    # Too few names for a mass deletion: held only because the list is empty.
    world.turn(Listed("services", []))
    assert held < world.loop.held.keys
    world.turn(namespace)
    assert any(b"/s0/" in key for key in world.loop.held.keys)
    assert any(b"/s0/" in key for key in world.etcd.entries)
    assert not any(b"/s19/" in key for key in world.etcd.entries)
    world.turn(namespace, Listed("services", []))
    world.assert_equal()


def test_relist_is_requested_repeatedly_while_deletions_are_held(clock: Clock) -> None:
    stop = threading.Event()
    requested: list[float] = []
    start = clock.now

    def relist(reason: str) -> None:
        assert reason == "deletions are held"
        requested.append(clock.now - start)
        if requested == [0.0]:
            requested.clear()  # the immediate one
        if len(requested) == len(RELIST_AFTER):
            stop.set()

    class InstantQueue(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            clock.now += timeout
            return []

    world = World(clock, queue=InstantQueue(), relist=relist, stop=stop).listed(*many_services(20))
    world.turn(Listed("services", []))
    world.loop.run()
    assert requested == pytest.approx(RELIST_AFTER, abs=1.0)


def test_standby_requests_one_relist_and_deletes_once_elected(clock: Clock) -> None:
    leader = ["another bridge"]
    entries = World(clock).listed(*many_services(20)).etcd
    world = World(clock, entries, other_leader=lambda: leader[0]).listed(*many_services(5))
    assert world.loop.held.keys
    world.listed(*many_services(5))
    for _ in range(60):
        clock.now += 1.0
        world.turn(Wake())
    assert world.relists == ["deletions are held"]
    leader[0] = ""
    world.turn(Wake()).assert_equal()
    assert world.relists == ["deletions are held"]


@pytest.mark.parametrize(
    ("again", "held"), [([], True), (many_services(3), False)], ids=["empty", "not empty"]
)
def test_confirmed_deletions_during_an_outage(clock: Clock, again: list[Service], held: bool) -> None:
    world = World(clock).listed(*many_services(20)).turn(Listed("services", many_services(3)))
    world.etcd.trouble = EtcdUnavailable("gone")
    world.listed(*many_services(3)).listed(*again)
    world.etcd.trouble = None
    clock.now += 1.0
    world.turn(Wake())
    assert bool(world.loop.held.keys) == held, "an empty list needs a second one"
    world.listed(*again).assert_equal()


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
