"""What the loop tells of odd objects and of kinds that cannot be followed, each once."""

from __future__ import annotations

import time

import pytest

from kube2etcd.kube.objects import TENANT_CLUSTER_IP, Event, Metadata, Rejected, Service
from kube2etcd.sync.events import Changed, EtcdLost, Failing, Healthy, Listed
from kube2etcd.sync.listings import AT_ONCE, LONGEST
from tests.sync.loop import Clock, World, clock, service, told, world

__all__ = ["clock", "told", "world"]


def test_unreadable_objects_are_told(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    odd = Rejected("services", "shop", "odd", "spec.ports: expected array")
    world = World(clock).turn(Listed("namespaces", []), Listed("services", [service("web")], [odd]))
    world.turn(Changed("services", Event("MODIFIED", None, "shop", "odd", rejected=odd)))
    assert told.text.count("services shop/odd is left out: spec.ports: expected array") == 1
    other = Rejected("services", "shop", "odd", "spec.type: expected str")
    world.turn(Changed("services", Event("MODIFIED", None, "shop", "odd", rejected=other)))
    assert told.text.count("services shop/odd is left out: spec.type: expected str") == 1
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 1.0')
    assert world.metric('kube2etcd_rejected_objects{kind="namespaces"} 0.0')
    world.assert_equal()
    world.turn(Changed("services", Event("DELETED", None, "shop", "odd")))
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 0.0')


def test_reasons_are_told_once(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    def annotated(value: str) -> Service:
        return Service(Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: value}), cluster_ip="10.0.0.1")

    world = World(clock).turn(Listed("namespaces", []), Listed("services", [annotated("evil\x1b[2J")]))
    for value in ("evil\x1b[2J", "worse" * LONGEST, "10.0.0.9", "worse" * LONGEST):
        world.turn(Changed("services", Event("MODIFIED", annotated(value), "shop", "web")))
    lines = [one.getMessage() for one in told.records if "services/shop/web" in one.getMessage()]
    assert len(lines) == 2
    assert all(TENANT_CLUSTER_IP in line and line.isprintable() for line in lines)
    assert max(map(len, lines)) < LONGEST + 50
    world.turn(Changed("services", Event("DELETED", None, "shop", "web")))
    world.turn(Changed("services", Event("ADDED", annotated("worse" * LONGEST), "shop", "web")))
    assert told.text.count("services/shop/web: ") == 3


def test_many_odd_records_at_once_are_counted(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    odd = [
        Service(Metadata("shop", f"s{at}"), type="ExternalName", external_name="192.0.2.1")
        for at in range(AT_ONCE + 5)
    ]
    World(clock).turn(Listed("namespaces", []), Listed("services", odd))
    assert told.text.count("is an address") == AT_ONCE
    assert "5 more records are left out" in told.text


def test_a_kind_that_cannot_be_followed_is_stale_until_it_can(world: World) -> None:
    world.turn(Failing("services", 900.0))
    assert world.status.snapshot().stale == {"services": 100.0}
    world.assert_equal()
    world.turn(Healthy("services"))
    assert world.status.snapshot().stale == {}
    world.turn(Failing("services", 900.0)).turn(Listed("services", [service("web")]))
    assert world.status.snapshot().stale == {}


def test_staleness_is_logged_once(world: World) -> None:
    since = world.clock.now
    wall = time.time()
    for _ in range(3):
        world.clock.now += 100.0
        world.turn(Failing("services", since))
    said = world.metrics.registry.get_sample_value(
        "kube2etcd_stale_since_timestamp_seconds", {"kind": "services"}
    )
    assert said == pytest.approx(wall - 300.0, abs=30.0)
    world.turn(Healthy("services"))
    assert world.metric('kube2etcd_stale_since_timestamp_seconds{kind="services"} 0.0')


def test_what_is_lost_twice_is_told_once(world: World, told: pytest.LogCaptureFixture) -> None:
    world.turn(EtcdLost("first"), EtcdLost("second"))
    assert "reading etcd in full: first" in told.text
    assert "second" not in told.text
