"""The store: units touched by lists and events, and that both lead to the same objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import Changed, DnsEndpoint, Event, Metadata, Namespace, Rejected
from kube2etcd.kube.store import NAMES, Store, Unit
from tests.objects import changed, deleted, endpoint_slice, rejected, service, store_after, store_of
from tests.strategies import LAW, events

WEB, DB, SHOP = (
    Unit("services", "shop", "web"),
    Unit("services", "shop", "db"),
    Unit("namespaces", "", "shop"),
)


def filled() -> Store:
    slices = (endpoint_slice(of, name=name) for name, of in (("s2", "web"), ("s1", "web"), ("s3", "")))
    return store_of(service("web"), service("db"), *slices, Namespace(Metadata("", "shop")))


def apply(store: Store, one: Changed) -> set[Unit]:
    return store.apply(one.kind, one.event)


REJECTED = Rejected("services", "shop", "web", "unreadable")


@pytest.mark.parametrize(
    ("one", "touched"),
    [
        pytest.param(changed(service("web", "10.0.0.2")), {WEB}, id="changed Service"),
        pytest.param(changed(service("web")), set(), id="unchanged Service"),
        pytest.param(changed(service("new"), "ADDED"), {Unit("services", "shop", "new")}, id="new Service"),
        pytest.param(deleted("web"), {WEB}, id="deleted Service"),
        pytest.param(deleted("gone"), set(), id="unknown Service deleted"),
        pytest.param(Changed("services", Event("BOOKMARK")), set(), id="bookmark"),
        pytest.param(changed(service("db"), "RENAMED"), set(), id="unknown event type"),
        pytest.param(rejected("web"), {WEB}, id="rejected Service"),
        pytest.param(rejected("web", event_type="DELETED"), {WEB}, id="rejected Service deleted"),
        pytest.param(
            changed(endpoint_slice("db", name="s1")), {WEB, DB}, id="slice moved to another Service"
        ),
        pytest.param(changed(endpoint_slice("", name="s1")), {WEB}, id="slice without its Service label"),
        pytest.param(changed(endpoint_slice("db", name="s3")), {DB}, id="slice with a new Service label"),
        pytest.param(changed(endpoint_slice("", name="s3", age="2026")), set(), id="slice of no Service"),
        pytest.param(deleted("s1", kind="endpointslices"), {WEB}, id="deleted slice"),
        pytest.param(rejected("s1", kind="endpointslices"), {WEB}, id="rejected slice"),
        pytest.param(deleted("shop", "", "namespaces"), {SHOP}, id="deleted Namespace"),
    ],
)
def test_units_touched_by_an_event(one: Changed, touched: set[Unit]) -> None:
    assert filled().apply(one.kind, one.event) == touched


def test_list_touches_units_that_differ() -> None:
    store = filled()
    new = Unit("services", "shop", "new")
    assert store.replace("services", [service("web"), service("db")]) == set()
    assert store.replace("services", [service("web", "10.0.0.9"), service("new")]) == {WEB, DB, new}
    assert store.replace("endpointslices", []) == {WEB}
    assert store.slices(WEB) == []


def test_known_replaces_equal_objects_by_those_of_the_store() -> None:
    store = filled()
    same, other, new = service("web"), service("db", "10.0.0.9"), service("new")
    found = store.known("services", [same, other, new])
    assert found == [same, other, new]
    assert all(one is held for one, held in zip(found, (store.get(WEB), other, new), strict=True))


def test_slices_are_sorted_by_name() -> None:
    assert [one.metadata.name for one in filled().slices(WEB)] == ["s1", "s2"]


def test_units_are_sorted_and_exclude_slices() -> None:
    store = filled()
    assert store.units() == [SHOP, DB, WEB]
    assert [*map(str, store.units())] == ["namespaces/shop", "services/shop/db", "services/shop/web"]
    assert (store.count("services"), store.count("endpointslices"), store.count("pods")) == (2, 3, 0)


def test_rejected_object_is_absent_until_it_is_readable() -> None:
    store = filled()
    assert store.replace("services", [service("db")], [REJECTED]) == {WEB}
    assert store.get(WEB) is None
    assert store.rejected(WEB) == REJECTED
    assert store.rejects() == [REJECTED]
    assert apply(store, changed(service("web"))) == {WEB}
    assert store.rejected(WEB) is None
    assert store.get(WEB) == service("web")


def test_list_or_deletion_clears_rejected_objects() -> None:
    store = filled()
    store.replace("services", [], [REJECTED])
    store.replace("namespaces", [])
    assert store.rejects() == [REJECTED]
    assert store.replace("services", []) == {WEB}
    assert store.rejects() == []
    apply(store, rejected("web", event_type="ADDED"))
    assert (store.knows(WEB), store.knows(DB)) == (True, False), "readable or not"
    assert apply(store, deleted("web")) == {WEB}
    assert store.rejects() == []


@LAW
@given(st.lists(events(), max_size=20))
def test_events_equal_a_listing(history: list[tuple[str, Event]]) -> None:
    by_event, (by_list, _) = Store(), store_after(history)

    def units() -> dict[Unit, object]:
        return {unit: (by_event.get(unit), by_event.slices(unit)) for unit in by_event.units()}

    for kind, event in history:
        before = units()
        touched = by_event.apply(kind, event)
        after = units()
        assert {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)} <= touched
    assert by_event.units() == by_list.units()
    for unit in by_list.units():
        assert by_event.get(unit) == by_list.get(unit)
        assert by_event.slices(unit) == by_list.slices(unit)
    assert sorted(by_event.rejects(), key=str) == sorted(by_list.rejects(), key=str)


def endpoints(namespace: str, name: str, **addresses: str) -> DnsEndpoint:
    """A DNSEndpoint with an address for each name."""
    return DnsEndpoint(
        Metadata(namespace, name),
        tuple(ExternalEndpoint(f"{label}.x", (to,), "A") for label, to in addresses.items()),
    )


def test_endpoints_are_sorted_by_the_age_of_their_object() -> None:
    def holder(name: str, age: str = "", **refused: str) -> DnsEndpoint:
        endpoint = ExternalEndpoint("a.x", (name,), "CNAME")
        return DnsEndpoint(Metadata("s", name, creation_timestamp=age), (endpoint,), refused)

    store = Store()
    ages = {"b": "2026-01-02T00:00:00Z", "a": "2026-01-03T00:00:00Z", "c": "2026-01-01T00:00:00Z"}
    store.replace("dnsendpoints", [holder(name, age) for name, age in ages.items()])
    store.replace("webhook", [holder("w", b="bad")])
    assert [one.targets for one in store.endpoints("a.x")] == [("c",), ("b",), ("a",), ("w",)]
    assert list(store.refusals()) == [("b", "bad")]


def test_external_names_are_units_across_objects() -> None:
    store = Store()
    a, b = Unit(NAMES, "", "a.x"), Unit(NAMES, "", "b.x")
    one, two = Unit("dnsendpoints", "s", "1"), Unit("dnsendpoints", "s", "2")
    both = [endpoints("s", "2", a="1", b="2"), endpoints("s", "1", a="3")]
    assert store.replace("dnsendpoints", both) == {a, b}
    assert store.units() == [a, b]
    assert [each.targets for each in store.endpoints("a.x")] == [("3",), ("1",)]
    assert store.holders("a.x") == [one, two]
    assert apply(store, changed(endpoints("s", "2", a="1", b="4"))) == {b, two}
    assert apply(store, deleted("2", "s", "dnsendpoints")) == {a, b, two}
    assert store.units() == [a]
    assert (store.get(a), store.count("dnsendpoints")) == (None, 1)
    invalid = Rejected("dnsendpoints", "s", "1", "unreadable")
    assert store.apply("dnsendpoints", Event("MODIFIED", None, "s", "1", rejected=invalid)) == {a, one}
    assert store.rejected(one) == invalid
    assert apply(store, changed(endpoints("s", "1", a="3"))) == {a, one}
    assert store.replace("dnsendpoints", []) == {a}
    assert (store.units(), store.endpoints("a.x")) == ([], [])
