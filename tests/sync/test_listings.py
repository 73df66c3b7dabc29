"""What the log is told of odd objects, and that it does not remember objects that are gone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kube2etcd.kube.objects import EndpointSlice, Event, Metadata, Rejected
from kube2etcd.kube.store import Store, Unit
from kube2etcd.metrics import Metrics
from kube2etcd.sync.events import Changed, Listed
from kube2etcd.sync.listings import AT_ONCE, ENOUGH, LONGEST, MOST, ClusterEvent, Listings, fresh, lines
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name

SLICES = "endpointslices"
ODD = Rejected(SLICES, "shop", "web-1", "endpoints: expected array")
OTHER = Rejected(SLICES, "shop", "web-2", "endpoints: expected array")
GOOD = EndpointSlice(Metadata("shop", "web-1"), "web")


def event(type_: str, one: EndpointSlice | Rejected | None = None) -> Changed:
    if isinstance(one, Rejected):
        return Changed(SLICES, Event(type_, None, one.namespace, one.name, rejected=one))
    return Changed(SLICES, Event(type_, one, "shop", "web-1"))


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Store(), Layout(), ClusterZone(Name.parse("cluster.local")))


@pytest.fixture
def listings(publisher: Publisher) -> Listings:
    return Listings(publisher, [SLICES], Metrics())


def told(listings: Listings, caplog: pytest.LogCaptureFixture, news: Iterable[ClusterEvent]) -> int:
    for item in news:
        listings.apply(item)
        [*listings.refresh()]
    return caplog.text.count("web-1 is left out")


GONE = {
    "deleted": [event("DELETED")],
    "deleted with an odd last state": [event("DELETED", ODD)],
    "put right, then deleted": [event("MODIFIED", GOOD), event("DELETED", GOOD)],
    "not in the next list": [Listed(SLICES, [])],
    "put right, then not in the next list": [Listed(SLICES, [GOOD]), Listed(SLICES, [])],
}


@pytest.mark.parametrize("first", [Listed(SLICES, [], [ODD]), event("ADDED", ODD)], ids=["list", "event"])
@pytest.mark.parametrize("after", GONE.values(), ids=GONE)
def test_an_odd_slice_that_is_gone_is_forgotten(
    listings: Listings,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
    first: ClusterEvent,
    after: list[ClusterEvent],
) -> None:
    assert told(listings, caplog, [first]) == 1
    told(listings, caplog, after)
    assert listings.logged == {}


@pytest.mark.parametrize(
    "after",
    [
        [event("MODIFIED", GOOD), event("MODIFIED", ODD)],
        [Listed(SLICES, [GOOD]), event("MODIFIED", ODD)],
        [Listed(SLICES, [], [ODD, OTHER])],
    ],
    ids=["put right and odd again", "the same by a list", "odd in the next list too"],
)
def test_of_an_odd_slice_that_is_still_there_a_reason_is_told_once(
    listings: Listings, caplog: pytest.LogCaptureFixture, after: list[ClusterEvent]
) -> None:
    assert told(listings, caplog, [Listed(SLICES, [], [ODD]), *after]) == 1


UNIT = Unit("services", "shop", "web")


def test_each_reason_is_logged_once_for_each_object() -> None:
    logged: dict[Unit, tuple[int, ...]] = {}
    assert [fresh(logged, UNIT, reason) for reason in "abac"] == ["a", "b", "", "c"]
    assert fresh(logged, Unit("services", "shop", "api"), "a") == "a"


def test_whoever_changes_its_reasons_for_ever_is_told_so_once() -> None:
    logged: dict[Unit, tuple[int, ...]] = {}
    said = [line for number in range(5 * MOST) if (line := fresh(logged, UNIT, f"address {number}"))]
    assert len(said) == MOST
    assert said[-2:] == [f"address {MOST - 2}", ENOUGH]


def test_a_log_is_told_no_more_than_somebody_reads() -> None:
    assert lines([]) == []
    assert lines([(UNIT, "a"), (UNIT, "b" * LONGEST)]) == [f"{UNIT}: a", f"{UNIT}: {'b' * LONGEST}"]
    assert lines([(UNIT, "b" * LONGEST + "c")]) == [f"{UNIT}: {'b' * LONGEST}…"]
    many = lines([(UNIT, str(number)) for number in range(AT_ONCE + 5)])
    assert len(many) == AT_ONCE + 1
    assert many[-1].startswith("5 more records are left out")


def test_slices_that_come_and_go_leave_nothing_behind(listings: Listings, publisher: Publisher) -> None:
    for number in range(50):
        odd = Rejected(SLICES, "shop", f"web-{number}", "endpoints: expected array")
        listings.apply(event("ADDED", odd))
        listings.apply(Changed(SLICES, Event("DELETED", None, "shop", f"web-{number}")))
        [*listings.refresh()]
    assert listings.logged == {}
