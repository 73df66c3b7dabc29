"""The loop before a deletion of many names, and before kinds that are gone: it asks again."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.etcd import changes
from kube2etcd.kube.objects import Event, Interface, Metadata, Namespace, Service, VirtualMachineInstance
from kube2etcd.sync.events import Changed, EventQueue, Failing, Healthy, Listed, SyncEvent, Wake
from kube2etcd.sync.listings import GONE_AFTER
from kube2etcd.sync.safety import ASK_AGAIN, HeldDeletes
from kube2etcd.zones.vmi import VmZone
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.sync.loop import KINDS, Clock, Entries, World, clock, many, service, told, world

__all__ = ["clock", "told", "world"]


MACHINES = "virtualmachineinstances"


def many_machines(count: int) -> list[VirtualMachineInstance]:
    return [
        VirtualMachineInstance(Metadata("shop", f"m{at}"), (Interface("eth0", (f"10.0.3.{at}",)),))
        for at in range(count)
    ]


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
    world.turn(absent, Listed("namespaces", [Namespace(Metadata("", "shop"))]))
    assert world.loop.held.keys
    world.turn(Listed("services", [service("web")]))
    world.assert_equal()
    assert not any(b"/m0" in key for key in world.etcd.entries)
    assert world.status.snapshot().stale == {}
    # Installed again: as if for the first time.
    world.turn(Listed(MACHINES, many_machines(5)))
    world.assert_equal()
    assert world.etcd.entries == before


def test_what_is_held_does_not_wait_for_ever_for_a_kind_that_is_gone(clock: Clock) -> None:
    machines = many_machines(30)
    world = with_machines(clock, machines)
    world.turn(*(Changed(MACHINES, Event("DELETED", None, "shop", one.metadata.name)) for one in machines))
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
    assert world.relists == ["a plan is held"]
    assert "held until a second listing agrees" in told.text
    assert "deletions are held" in world.reasons
    assert world.ready
    # Neither time nor half of the listings is a second opinion.
    world.turn(Wake()).turn(Listed("services", []))
    assert world.etcd.entries == before
    world.turn(Listed("namespaces", [Namespace(Metadata("", "shop"))]))
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
    world.turn(Changed("services", Event("DELETED", None, "shop", "last")))
    assert world.loop.held.keys == frozenset()
    world.assert_equal()


def test_an_empty_list_at_the_start_waits_for_another(clock: Clock) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    world = World(clock, Entries({b"/skydns/local/cluster/svc/shop/old": stale})).listed()
    assert b"/skydns/local/cluster/svc/shop/old" in world.etcd.entries
    world.listed().assert_equal()


def test_an_empty_list_of_what_was_empty_is_no_news(clock: Clock) -> None:
    world = World(clock, kinds=("namespaces", "services", "pods")).turn(Listed("pods", []))
    world.listed(service("web")).turn(Listed("pods", [])).turn(
        Changed("services", Event("DELETED", None, "shop", "web"))
    )
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
    world.turn(Changed("services", Event("ADDED", service("new", "10.0.0.7"), "shop", "new")))
    assert b"/skydns/local/cluster/svc/shop/new/10-0-0-7-H" in world.etcd.entries
    assert len(world.loop.held.keys) > 0
    world.turn(Changed("services", Event("ADDED", many(1)[0], "shop", "s0")))
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
    namespace = Listed("namespaces", [Namespace(Metadata("", "shop"))])
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
    assert world.relists == ["a plan is held"] * 2
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.assert_equal()
    assert world.loop.held.keys == frozenset()


def test_an_empty_list_while_a_plan_is_held_is_asked_about_as_well(clock: Clock) -> None:
    world = World(clock)
    namespace = Listed("namespaces", [Namespace(Metadata("", "shop"))])
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


def test_force_does_not_wait(clock: Clock) -> None:
    world = World(clock)
    world.loop.held = HeldDeletes("kube2etcd", force=True)
    world.listed(*many(20)).turn(Listed("services", []))
    world.assert_equal()
    assert world.relists == []


def test_a_held_plan_asks_again_and_again(clock: Clock) -> None:
    stop = threading.Event()
    asked: list[float] = []
    began = clock.now

    def relist(reason: str) -> None:
        assert reason == "a plan is held"
        asked.append(clock.now - began)
        if asked == [0.0]:
            asked.clear()  # at once, when it was held
        if len(asked) == len(ASK_AGAIN):
            stop.set()

    class Passing(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            clock.now += timeout
            return []

    world = World(clock, queue=Passing(), relist=relist, stop=stop).listed(*many(20))
    world.turn(Listed("services", []))
    world.loop.run()
    assert asked == pytest.approx(ASK_AGAIN, abs=1.0)
