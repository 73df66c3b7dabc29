"""Events into the store: reasons logged once per object, stale kinds, and unforeseen errors."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from kube2etcd.kube.objects import (
    TENANT_CLUSTER_IP,
    Event,
    Failing,
    Healthy,
    Listed,
    Metadata,
    Rejected,
    Service,
)
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.log import MAX_LINES
from kube2etcd.metrics import Metrics
from kube2etcd.sync.events import EtcdLost
from kube2etcd.sync.listings import (
    LAST_REASON,
    MAX_REASON_LENGTH,
    MAX_REASONS_PER_OBJECT,
    ClusterEvent,
    Listings,
    unlogged_reason,
)
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Published, Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from tests.objects import changed, deleted, dns_endpoint, endpoint_slice, external_zone, rejected, service
from tests.sync.loop import NAMESPACES_LISTED, Clock, World, added

SLICES = "endpointslices"
REASON = "endpoints: expected array"
REJECTED = Rejected(SLICES, "shop", "web-1", REASON)
ALSO_REJECTED = Rejected(SLICES, "shop", "web-2", REASON)
SLICE = endpoint_slice("web", name="web-1")
DELETED, INVALID = deleted("web-1", kind=SLICES), rejected("web-1", REASON, SLICES)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Store(), Layout(), ClusterZone(Name.parse("cluster.local")))


@pytest.fixture
def listings(publisher: Publisher) -> Listings:
    return Listings(publisher, [SLICES], Metrics())


def times_logged(listings: Listings, caplog: pytest.LogCaptureFixture, events: Iterable[ClusterEvent]) -> int:
    for event in events:
        listings.apply(event)
        [*listings.refresh()]
    return caplog.text.count("web-1: cannot be read")


GONE = {
    "deleted": [DELETED],
    "deleted with an invalid last state": [rejected("web-1", REASON, SLICES, "DELETED")],
    "corrected, then deleted": [changed(SLICE), changed(SLICE, "DELETED")],
    "not in the next list": [Listed(SLICES, [])],
    "corrected, then not in the next list": [Listed(SLICES, [SLICE]), Listed(SLICES, [])],
}


@pytest.mark.parametrize(
    "first",
    [Listed(SLICES, [], [REJECTED]), rejected("web-1", REASON, SLICES, "ADDED")],
    ids=["list", "event"],
)
@pytest.mark.parametrize("after", GONE.values(), ids=GONE)
def test_reasons_of_a_deleted_object_are_forgotten(
    listings: Listings,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
    first: ClusterEvent,
    after: list[ClusterEvent],
) -> None:
    assert times_logged(listings, caplog, [first]) == 1
    times_logged(listings, caplog, after)
    assert listings.logged == {}


@pytest.mark.parametrize(
    "after",
    [
        [changed(SLICE), INVALID],
        [Listed(SLICES, [SLICE]), INVALID],
        [Listed(SLICES, [], [REJECTED, ALSO_REJECTED])],
    ],
    ids=["corrected, then invalid", "corrected by a list, then invalid", "invalid in the next list"],
)
def test_reason_is_logged_once_while_the_object_exists(
    listings: Listings, caplog: pytest.LogCaptureFixture, after: list[ClusterEvent]
) -> None:
    assert times_logged(listings, caplog, [Listed(SLICES, [], [REJECTED]), *after]) == 1


UNIT = Unit("services", "shop", "web")


def test_reasons_per_object_are_limited() -> None:
    logged: dict[Unit, tuple[int, ...]] = {}
    lines = [
        line
        for number in range(5 * MAX_REASONS_PER_OBJECT)
        if (line := unlogged_reason(logged, UNIT, f"address {number}"))
    ]
    assert len(lines) == MAX_REASONS_PER_OBJECT
    assert lines[-2:] == [f"address {MAX_REASONS_PER_OBJECT - 2}", LAST_REASON]


def test_rejected_objects_are_logged_and_counted(clock: Clock, logged: pytest.LogCaptureFixture) -> None:
    one = Rejected("services", "shop", "db", "spec.ports: expected array")
    world = World(clock).turn(Listed("namespaces", []), Listed("services", [service("web")], [one]))
    world.turn(rejected("db", one.reason))
    assert logged.text.count("services/shop/db: cannot be read: spec.ports: expected array") == 1
    world.turn(rejected("db", "spec.type: expected str"))
    assert logged.text.count("services/shop/db: cannot be read: spec.type: expected str") == 1
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 1.0')
    assert world.metric('kube2etcd_rejected_objects{kind="namespaces"} 0.0')
    world.assert_equal()
    world.turn(deleted("db"))
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 0.0')


def test_left_out_reasons_are_logged_once_escaped_and_cut(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    def annotated(value: str) -> Service:
        return Service(Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: value}), cluster_ip="10.0.0.1")

    world = World(clock).turn(Listed("namespaces", []), Listed("services", [annotated("evil\x1b[2J")]))
    for value in ("evil\x1b[2J", "worse" * MAX_REASON_LENGTH, "10.0.0.9", "worse" * MAX_REASON_LENGTH):
        world.turn(changed(annotated(value)))
    lines = [one.getMessage() for one in logged.records if "services/shop/web" in one.getMessage()]
    assert len(lines) == 2
    assert all(TENANT_CLUSTER_IP in line and line.isprintable() for line in lines)
    assert max(map(len, lines)) < MAX_REASON_LENGTH + 50
    assert [line.endswith("…") for line in lines] == [False, True]
    assert "more records" not in logged.text
    world.turn(deleted("web"))
    world.turn(changed(annotated("worse" * MAX_REASON_LENGTH), "ADDED"))
    assert logged.text.count("services/shop/web: ") == 3


def test_reasons_of_a_deleted_external_name_are_forgotten(clock: Clock) -> None:
    world = World(clock, kinds=(), zones=[external_zone("dtk.io")])
    for event, kinds in (
        (changed(dns_endpoint("1", ("a.dtk.io", "-"))), [NAMES]),
        (deleted("1", kind="dnsendpoints"), []),
    ):
        world.turn(event)
        assert [unit.kind for unit in world.loop.listings.logged] == kinds


def test_reasons_per_turn_are_limited_and_the_rest_counted(
    clock: Clock, logged: pytest.LogCaptureFixture
) -> None:
    services = [
        Service(Metadata("shop", f"s{at}"), type="ExternalName", external_name="192.0.2.1")
        for at in range(MAX_LINES + 5)
    ]
    World(clock).turn(Listed("namespaces", []), Listed("services", services))
    assert logged.text.count("is an address") == MAX_LINES
    assert any(one.getMessage().startswith("5 more records are left out") for one in logged.records)


def test_failing_kind_is_stale_until_it_recovers(world: World) -> None:
    since, wall = world.clock.now, time.time()
    for _ in range(3):
        world.clock.now += 100.0
        world.turn(Failing("services", since))
    assert world.status.snapshot().stale == {"services": 300.0}
    world.assert_equal()
    stale_since = world.metrics.registry.get_sample_value(
        "kube2etcd_stale_since_timestamp_seconds", {"kind": "services"}
    )
    assert stale_since == pytest.approx(wall - 300.0, abs=30.0)
    for end in (Healthy("services"), Listed("services", [service("web")])):
        world.turn(Failing("services", since), end)
        assert world.status.snapshot().stale == {}
        assert world.metric('kube2etcd_stale_since_timestamp_seconds{kind="services"} 0.0')


def test_blind_until_every_kind_is_listed_and_watched(clock: Clock) -> None:
    world = World(clock)
    clock.now += 5.0
    assert world.turn(NAMESPACES_LISTED).loop.listings.blind_for() == 5.0
    assert world.listed(service("web")).loop.listings.blind_for() == 0.0
    world.turn(Failing("services", clock.now - 3.0), Failing("namespaces", clock.now - 2.0))
    assert world.loop.listings.blind_for() == 3.0
    assert world.turn(Healthy("services"), Healthy("namespaces")).loop.listings.blind_for() == 0.0


def test_second_loss_before_the_full_read_is_not_logged(
    world: World, logged: pytest.LogCaptureFixture
) -> None:
    world.turn(EtcdLost("first"), EtcdLost("second"))
    assert "reading etcd in full: first" in logged.text
    assert "second" not in logged.text


@pytest.mark.parametrize("at", range(4))
def test_unit_that_raises_affects_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    names = [f"s{number}" for number in range(4)]
    publish, seen = ClusterZone.publish, list[str]()

    def faulty(zone: ClusterZone, unit: Unit, store: Store) -> Published:
        if unit.name not in seen:
            seen.append(unit.name)
        if seen[at:] and unit.name == seen[at]:
            raise ZeroDivisionError("a fault of ours")
        return publish(zone, unit, store)

    monkeypatch.setattr(ClusterZone, "publish", faulty)
    world.turn(*(added(name, f"10.0.0.1{name[1:]}") for name in names))
    written = {name for name in names if any(f"/{name}/".encode() in key for key in world.etcd.entries)}
    assert written == set(names) - {seen[at]}
    assert f"services/shop/{seen[at]}: unforeseen error" in caplog.text
    assert "a fault of ours" in caplog.text
    assert world.metric("kube2etcd_unforeseen_errors_total 1.0")
    world.assert_equal()


def test_name_released_by_a_unit_that_raises_is_written(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Service loses its name to another, then raises."""

    def web(space: str, age: str) -> Service:
        return Service(Metadata(space, "web", age), cluster_ip=f"10.0.0.{age}")

    world = World(clock, zones=[ServicesZone(Name.parse("flat.example"), template="{service}")])
    world.listed(web("a", "2"), web("b", "1"))
    by_zone = Publisher.by_zone

    def faulty(publisher: Publisher, unit: Unit) -> list[tuple[Zone, Published]]:
        if unit.namespace == "b":
            raise ZeroDivisionError("a fault of ours")
        return by_zone(publisher, unit)

    monkeypatch.setattr(Publisher, "by_zone", faulty)
    world.turn(changed(web("b", "3")))
    assert b"/skydns/example/flat/web/00-10-0-0-2-H" in world.etcd.entries
    world.assert_equal()


def test_units_that_raise_when_given_names_affect_no_other(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three Services lose their names, and the three that get them raise too."""

    def service_of(space: str, name: str, age: int) -> Service:
        return Service(Metadata(space, name, str(age)), cluster_ip=f"10.0.0.{age}")

    world = World(clock, zones=[ServicesZone(Name.parse("flat.example"), template="{service}")])
    names = "abc"
    world.listed(*(service_of(space, name, age) for name in names for space, age in (("x", 2), ("y", 1))))
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "by_zone", lambda *_: 1 / 0)
        world.turn(*(changed(service_of("y", name, 3)) for name in names))
    world.turn(changed(service_of("z", "web", 4)))
    assert b"/skydns/example/flat/web/00-10-0-0-4-H" in world.etcd.entries
    world.assert_equal()


def test_event_that_raises_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply = world.publisher.store.apply

    def faulty(kind: str, event: Event) -> set[Unit]:
        if event.name == "bad":
            raise ZeroDivisionError("a fault of ours")
        return apply(kind, event)

    monkeypatch.setattr(world.publisher.store, "apply", faulty)
    world.turn(added("bad", "10.0.0.7"), added("good", "10.0.0.8"))
    assert any(b"/good/" in key for key in world.etcd.entries)
    assert "bad" in caplog.text
    assert world.metric("kube2etcd_unforeseen_errors_total 1.0")
    world.assert_equal()
