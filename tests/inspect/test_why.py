"""Reasons cost little where many objects share a name or an address: a running bridge's loop derives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kube2etcd.inspect import why
from kube2etcd.inspect.why import MOST_UNITS
from kube2etcd.kube.objects import Metadata, Service
from kube2etcd.kube.store import Store, Unit
from kube2etcd.settings import Selector
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Published, Zone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from skydns_compat.reader import Answer
from tests.objects import ZONE

COUNT = 40
FLAT = ServicesZone(Name.parse("ex.org"), template="{service}")
SELECTIVE = ServicesZone(Name.parse("ex.org"), selector=Selector.parse("dns=yes"), template="{service}")
NESTED = ServicesZone(Name.parse("in.ex.org"))


class CountingPublisher(Publisher):
    derived = 0

    def by_zone(self, unit: Unit) -> list[tuple[Zone, Published]]:
        self.derived += 1
        return super().by_zone(unit)


class CountingStore(Store):
    scans = 0

    def named(self, kind: str, name: str) -> Iterator[Unit]:
        self.scans += 1
        return super().named(kind, name)


def publisher(ip: str, *zones: Zone, store: Store | None = None) -> CountingPublisher:
    store = store or Store()
    labels = {COUNT - 1: {"dns": "yes"}}
    store.replace(
        "services",
        [
            Service(Metadata(f"ns{at:02}", "web", labels=labels.get(at, {})), cluster_ip=ip)
            for at in range(COUNT)
        ],
    )
    found = CountingPublisher(store, Layout(), None, zones)
    found.refresh(found.units())
    found.derived = 0
    return found


def reasons(publisher: Publisher, name: str, rtype: str = "A") -> list[str]:
    question = Name.parse(name)
    key = publisher.key(question)
    rows = why.rows_at(publisher, question, [key] if key in publisher.desired else [])
    return why.reasons(publisher, question, rtype, rows, Answer("NOERROR" if rows else "NXDOMAIN"))


@pytest.mark.parametrize(
    ("ip", "zone", "name", "last"),
    [
        pytest.param("10.0.0.1", FLAT, "web.ex.org", "29 more objects want web.ex.org", id="rivals"),
        pytest.param("", FLAT, "web.ex.org", "the Service has no external or internal", id="no address"),
        pytest.param("10.0.0.1", ZONE, "1.0.0.10.in-addr.arpa", "29 more objects claim 10.0.0.1", id="PTR"),
    ],
)
def test_only_few_of_many_objects_with_one_name_are_derived(
    ip: str, zone: Zone, name: str, last: str
) -> None:
    found = publisher(ip, zone)
    assert any(last in one for one in reasons(found, name, "PTR" if "arpa" in name else "A"))
    assert found.derived <= MOST_UNITS + 1


def test_selected_objects_come_first() -> None:
    found = reasons(publisher("", SELECTIVE), "web.ex.org")
    assert found[0] == "services/ns39/web: the Service has no external or internal address"
    assert len(found) == MOST_UNITS
    assert all(one.endswith("its labels are not selected for ex.org") for one in found[1:])


def test_long_name_scans_no_namespace() -> None:
    store = CountingStore()
    found = publisher("", FLAT, NESTED, store=store)
    long = ".".join(["web", "ns07", *("x" for _ in range(50)), "in.ex.org"])
    assert reasons(found, long) == ["services/ns07/web: the Service has no external or internal address"]
    assert store.scans == 0
