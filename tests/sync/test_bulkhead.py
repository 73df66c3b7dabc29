"""An unforeseen error over one object or event costs that one; a full pass in ordinary times stays ready."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kube2etcd.etcd import changes
from kube2etcd.kube.objects import Event
from kube2etcd.kube.store import Store, Unit
from kube2etcd.sync.claims import Former
from kube2etcd.sync.events import Changed, EtcdLost
from kube2etcd.sync.target import ETCD_RETRY
from kube2etcd.zones.base import Published
from kube2etcd.zones.cluster import ClusterZone
from tests.sync.loop import Clock, Entries, World, clock, service, world

__all__ = ["clock", "world"]


def changed(name: str, ip: str) -> Changed:
    return Changed("services", Event("MODIFIED", service(name, ip), "shop", name))


def test_a_unit_that_raises_costs_its_own_names(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refresh = world.publisher.refresh

    def faulty(units: Iterable[Unit]) -> Former:
        units = list(units)
        if any(unit.name == "bad" for unit in units):
            raise ZeroDivisionError("a fault of ours")
        return refresh(units)

    monkeypatch.setattr(world.publisher, "refresh", faulty)
    world.turn(changed("bad", "10.0.0.7"), changed("good", "10.0.0.8"), changed("web", "10.0.0.9"))
    assert any(b"/good/10-0-0-8-H" in key for key in world.etcd.entries)
    assert any(b"/web/10-0-0-9-H" in key for key in world.etcd.entries)
    assert not any(b"/bad" in key for key in world.etcd.entries)
    assert "services/shop/bad: unforeseen error" in caplog.text
    assert "a fault of ours" in caplog.text
    assert world.metric("kube2etcd_unforeseen_errors_total 1.0")
    world.assert_equal()


@pytest.mark.parametrize("at", range(4))
def test_what_changed_before_a_unit_raised_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
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
    world.turn(*(changed(name, f"10.0.0.1{name[1:]}") for name in names))
    written = {name for name in names if any(f"/{name}/".encode() in key for key in world.etcd.entries)}
    assert written == set(names) - {seen[at]}
    world.assert_equal()


def test_an_event_that_raises_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply = world.publisher.store.apply

    def faulty(kind: str, event: Event) -> set[Unit]:
        if event.name == "bad":
            raise ZeroDivisionError("a fault of ours")
        return apply(kind, event)

    monkeypatch.setattr(world.publisher.store, "apply", faulty)
    world.turn(changed("bad", "10.0.0.7"), changed("good", "10.0.0.8"))
    assert any(b"/good/" in key for key in world.etcd.entries)
    assert "bad" in caplog.text
    assert world.metric("kube2etcd_unforeseen_errors_total 1.0")
    world.assert_equal()


class Watched(Entries):
    """Notes whether the bridge says that it is ready while its changes are written."""

    world: World | None = None

    def apply(self, *args: object, **more: object) -> changes.ApplyResult:
        if self.world is not None:
            self.said.append(self.world.ready)
        return super().apply(*args, **more)  # type: ignore[arg-type]

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bool] = []


@pytest.mark.parametrize(
    ("lost", "ready"), [(0, True), (3, False)], ids=["an ordinary change", "after etcd lost its keys"]
)
def test_what_a_full_pass_says_while_it_writes(clock: Clock, lost: int, ready: bool) -> None:
    etcd = Watched()
    world = etcd.world = World(clock, etcd).listed(service("web"), service("db", "10.0.0.2"))
    etcd.said.clear()
    for key in list(etcd.entries)[: len(etcd.entries) * lost // 4]:
        del etcd.entries[key]
    clock.now += 300.0
    world.turn(changed("new", "10.0.0.3"))
    assert etcd.snapshots == 2
    assert etcd.said == [ready]
    world.assert_equal()


def test_a_cut_watch_does_not_make_it_ready(clock: Clock) -> None:
    etcd = Watched()
    world = etcd.world = World(clock, etcd).listed(service("web"))
    etcd.said.clear()
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("its data is gone"), changed("new", "10.0.0.3"))
    assert etcd.said == [False]
    world.assert_equal()
