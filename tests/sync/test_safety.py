"""Mass deletions, and kinds that are not installed."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd import changes
from kube2etcd.external import Domain
from kube2etcd.kube.objects import (
    Failing,
    Healthy,
    Listed,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.sync.events import EventQueue, Rezoned, SyncEvent, Wake
from kube2etcd.sync.listings import GONE_AFTER
from kube2etcd.sync.safety import (
    RELIST_AFTER,
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


def test_outage_after_a_kind_counts_as_empty_leaves_it_so(clock: Clock) -> None:
    vmis = many_vmis(30)
    world = world_with_vmis(clock, [])
    absent = Failing(VMIS, clock.now, absent=True)
    world.turn(absent)
    clock.now += GONE_AFTER
    world.turn(absent, Failing(VMIS, clock.now))
    assert world.status.snapshot().stale == {VMIS: 0.0}
    world.turn(absent)
    assert world.status.snapshot().stale == {}
    assert world.metric(f'kube2etcd_stale_since_timestamp_seconds{{kind="{VMIS}"}} 0.0')
    # A mass deletion of other names does not wait for it.
    world.listed(*many_services(20)).listed(service("web"))
    assert world.loop.held.keys
    world.listed(service("web")).turn(absent)
    world.assert_equal()
    # Once it has been listed, the time starts again.
    world.turn(Listed(VMIS, vmis), absent)
    world.assert_equal()
    assert any(b"/m0" in key for key in world.etcd.entries)


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
    assert "an empty list" in logged.text
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
