"""The store by unit: what a list or an event touches, and that both converge."""

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


def applied(store: Store, one: Changed) -> set[Unit]:
    return store.apply(one.kind, one.event)


ODD = Rejected("services", "shop", "web", "odd")


@pytest.mark.parametrize(
    ("one", "touched"),
    [
        pytest.param(changed(service("web", "10.0.0.2")), {WEB}, id="a Service changes"),
        pytest.param(changed(service("web")), set(), id="nothing changes"),
        pytest.param(changed(service("new"), "ADDED"), {Unit("services", "shop", "new")}, id="comes"),
        pytest.param(deleted("web"), {WEB}, id="goes"),
        pytest.param(deleted("gone"), set(), id="was never there"),
        pytest.param(Changed("services", Event("BOOKMARK")), set(), id="bookmark"),
        pytest.param(changed(service("db"), "NOVEL"), set(), id="unknown word"),
        pytest.param(rejected("web"), {WEB}, id="refused"),
        pytest.param(rejected("web", event_type="DELETED"), {WEB}, id="goes, and cannot be read"),
        pytest.param(
            changed(endpoint_slice("db", name="s1")), {WEB, DB}, id="a slice moves to another Service"
        ),
        pytest.param(changed(endpoint_slice("", name="s1")), {WEB}, id="a slice leaves"),
        pytest.param(changed(endpoint_slice("db", name="s3")), {DB}, id="a slice finds its Service"),
        pytest.param(
            changed(endpoint_slice("", name="s3", age="2026")), set(), id="a slice without a Service"
        ),
        pytest.param(deleted("s1", kind="endpointslices"), {WEB}, id="a slice goes"),
        pytest.param(rejected("s1", kind="endpointslices"), {WEB}, id="a slice is refused"),
        pytest.param(deleted("shop", "", "namespaces"), {SHOP}, id="a namespace goes"),
    ],
)
def test_what_an_event_touches(one: Changed, touched: set[Unit]) -> None:
    assert filled().apply(one.kind, one.event) == touched


def test_a_listing_touches_what_differs() -> None:
    store = filled()
    new = Unit("services", "shop", "new")
    assert store.replace("services", [service("web"), service("db")]) == set()
    assert store.replace("services", [service("web", "10.0.0.9"), service("new")]) == {WEB, DB, new}
    assert store.replace("endpointslices", []) == {WEB}
    assert store.slices(WEB) == []


def test_an_equal_object_is_replaced_by_the_one_in_the_store() -> None:
    store = filled()
    same, other, new = service("web"), service("db", "10.0.0.9"), service("new")
    found = store.known("services", [same, other, new])
    assert found == [same, other, new]
    assert all(one is held for one, held in zip(found, (store.get(WEB), other, new), strict=True))


def test_slices_come_by_name() -> None:
    assert [one.metadata.name for one in filled().slices(WEB)] == ["s1", "s2"]


def test_units_are_sorted_and_leave_slices_out() -> None:
    store = filled()
    assert store.units() == [SHOP, DB, WEB]
    assert [*map(str, store.units())] == ["namespaces/shop", "services/shop/db", "services/shop/web"]
    assert (store.count("services"), store.count("endpointslices"), store.count("pods")) == (2, 3, 0)


def test_a_refused_object_is_out_until_it_can_be_read() -> None:
    store = filled()
    assert store.replace("services", [service("db")], [ODD]) == {WEB}
    assert store.get(WEB) is None
    assert store.rejected(WEB) == ODD
    assert store.rejects() == [ODD]
    assert applied(store, changed(service("web"))) == {WEB}
    assert store.rejected(WEB) is None
    assert store.get(WEB) == service("web")


def test_a_list_or_a_deletion_clears_rejected_objects() -> None:
    store = filled()
    store.replace("services", [], [ODD])
    store.replace("namespaces", [])
    assert store.rejects() == [ODD]
    assert store.replace("services", []) == {WEB}
    assert store.rejects() == []
    applied(store, rejected("web", event_type="ADDED"))
    assert (store.knows(WEB), store.knows(DB)) == (True, False), "readable or not"
    assert applied(store, deleted("web")) == {WEB}
    assert store.rejects() == []


@LAW
@given(st.lists(events(), max_size=20))
def test_events_equal_a_listing(happened: list[tuple[str, Event]]) -> None:
    by_event, (at_once, _) = Store(), store_after(happened)

    def units() -> dict[Unit, object]:
        return {unit: (by_event.get(unit), by_event.slices(unit)) for unit in by_event.units()}

    for kind, event in happened:
        before = units()
        touched = by_event.apply(kind, event)
        after = units()
        assert {one for one in before.keys() | after.keys() if before.get(one) != after.get(one)} <= touched
    assert by_event.units() == at_once.units()
    for unit in at_once.units():
        assert by_event.get(unit) == at_once.get(unit)
        assert by_event.slices(unit) == at_once.slices(unit)
    assert sorted(by_event.rejects(), key=str) == sorted(at_once.rejects(), key=str)


def endpoints(namespace: str, name: str, **addresses: str) -> DnsEndpoint:
    """A DNSEndpoint with an address for each name."""
    return DnsEndpoint(
        Metadata(namespace, name),
        tuple(ExternalEndpoint(f"{label}.x", (to,), "A") for label, to in addresses.items()),
    )


def test_endpoints_of_the_oldest_object_come_first_and_without_age_last() -> None:
    def holder(name: str, age: str = "", **refused: str) -> DnsEndpoint:
        endpoint = ExternalEndpoint("a.x", (name,), "CNAME")
        return DnsEndpoint(Metadata("s", name, creation_timestamp=age), (endpoint,), refused)

    store = Store()
    ages = {"b": "2026-01-02T00:00:00Z", "a": "2026-01-03T00:00:00Z", "c": "2026-01-01T00:00:00Z"}
    store.replace("dnsendpoints", [holder(name, age) for name, age in ages.items()])
    store.replace("webhook", [holder("w", b="bad")])
    assert [one.targets for one in store.endpoints("a.x")] == [("c",), ("b",), ("a",), ("w",)]
    assert list(store.refusals()) == [("b", "bad")]


def test_names_are_units_whichever_objects_have_them() -> None:
    store = Store()
    a, b = Unit(NAMES, "", "a.x"), Unit(NAMES, "", "b.x")
    one, two = Unit("dnsendpoints", "s", "1"), Unit("dnsendpoints", "s", "2")
    both = [endpoints("s", "2", a="1", b="2"), endpoints("s", "1", a="3")]
    assert store.replace("dnsendpoints", both) == {a, b}
    assert store.units() == [a, b]
    assert [each.targets for each in store.endpoints("a.x")] == [("3",), ("1",)]
    assert store.holders("a.x") == [one, two]
    assert applied(store, changed(endpoints("s", "2", a="1", b="4"))) == {b, two}
    assert applied(store, deleted("2", "s", "dnsendpoints")) == {a, b, two}
    assert store.units() == [a]
    assert (store.get(a), store.count("dnsendpoints")) == (None, 1)
    odd = Rejected("dnsendpoints", "s", "1", "odd")
    assert store.apply("dnsendpoints", Event("MODIFIED", None, "s", "1", rejected=odd)) == {a, one}
    assert store.rejected(one) == odd
    assert applied(store, changed(endpoints("s", "1", a="3"))) == {a, one}
    assert store.replace("dnsendpoints", []) == {a}
    assert (store.units(), store.endpoints("a.x")) == ([], [])
