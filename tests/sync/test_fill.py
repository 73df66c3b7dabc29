"""An empty etcd is filled while records are still derived; what comes of it is the same."""

from __future__ import annotations

from kube2etcd.kube.objects import Metadata, Service
from kube2etcd.sync.events import EtcdLost
from kube2etcd.sync.listings import AT_ONCE
from kube2etcd.zones.services import ServicesZone
from skydns_compat.names import Name
from tests.sync.loop import OTHERS, Clock, Entries, World, clock, many, service

__all__ = ["clock"]

FOREIGN = b"/skydns/local/cluster/svc/shop/old"
MANY = 2 * AT_ONCE + 10


def crowd() -> list[Service]:
    """More than are published at once; the address of the first is every hundredth one's as well."""
    return [service(f"s{at}", f"10.0.{at % 100 and at // 250}.{at % 100 and at % 250}") for at in range(MANY)]


def test_what_is_filled_is_what_would_be_written(clock: Clock) -> None:
    filled = World(clock).listed(*crowd())
    filled.assert_equal()
    compared = World(clock, Entries({FOREIGN: OTHERS})).listed(*crowd())
    assert filled.etcd.entries | {FOREIGN: OTHERS} == compared.etcd.entries
    assert filled.follows == [filled.etcd.revision + 1]
    assert filled.turn().etcd.written == filled.etcd.written


def test_no_key_is_written_twice_or_taken_back(clock: Clock) -> None:
    named = ServicesZone(Name.parse("flat.example"), template="{service}")
    ages = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    rivals = [
        Service(Metadata(space, f"s{at}", ages[at % 2]), cluster_ip=f"10.{number}.{at // 250}.{at % 250}")
        for at in range(MANY)
        for number, space in enumerate(("shop", "other"))
    ]
    world = World(clock, zones=[named]).listed(*rivals)
    world.assert_equal()
    keys = [change.key for change in world.etcd.written]
    assert len(keys) == len(set(keys)) == len(world.etcd.entries)


def test_pointers_wait_for_all_claims(clock: Clock) -> None:
    world = World(clock).listed(*crowd())
    keys = [change.key for change in world.etcd.written]
    first = next(at for at, key in enumerate(keys) if key.startswith(b"/skydns/arpa/"))
    # The zone's own keys were known before.
    assert not any(key.startswith(b"/skydns/local/cluster/svc/") for key in keys[first:])
    assert first > MANY


def test_an_etcd_that_holds_something_is_compared_first(clock: Clock) -> None:
    world = World(clock, Entries({FOREIGN: OTHERS})).listed(*crowd())
    world.assert_equal()
    assert [change.key for change in world.etcd.written] == sorted(world.publisher.desired)


def test_a_standby_fills_nothing(clock: Clock) -> None:
    world = World(clock, other_leader=lambda: "another").listed(*many(20))
    assert world.etcd.written == []


def test_a_refused_key_costs_no_other(clock: Clock) -> None:
    refused = b"/skydns/local/cluster/svc/shop/s1"
    world = World(clock, Entries(refused={refused})).listed(*crowd())
    assert world.publisher.desired.keys() - world.etcd.entries.keys() == {refused}
    assert world.ready
    assert "etcd refuses 1 keys: too large" in world.reasons


def test_a_failing_etcd_is_filled_later(clock: Clock) -> None:
    etcd = Entries(fail_after=1)
    world = World(clock, etcd).listed(*crowd())
    assert 0 < len(etcd.entries) < len(world.publisher.desired)
    assert not world.ready
    etcd.trouble = None
    clock.now += 10
    world.turn().assert_equal()


def test_an_empty_etcd_for_which_nothing_is_new_is_read_once(clock: Clock) -> None:
    world = World(clock).listed(*many(3))
    world.etcd.entries.clear()
    world.etcd.revision = 1
    reads = world.etcd.snapshots
    for reason in ("it lost its data", None, None):
        clock.now += 1
        world.turn(*([EtcdLost(reason)] if reason else []))
    world.assert_equal()
    assert world.etcd.snapshots == reads + 1
