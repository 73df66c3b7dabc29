"""The records of a publisher: changes between two states, and as a zone file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from kube2etcd.inspect.records import Row, RowChanges, change_line, count, rows, zone_file
from kube2etcd.kube.objects import (
    EndpointPort,
    EndpointSlice,
    Event,
    Metadata,
    Service,
    SliceEndpoint,
    VirtualMachineInstance,
)
from kube2etcd.kube.store import Store, Unit
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name, parse_address
from skydns_compat.records import Host, Port, Record
from tests.objects import ZONE, flat, publisher_of, service, vmi
from tests.strategies import LAW, histories
from tests.sync.test_publisher_laws import OTHERS, external_zones

WEB = Name.parse("web.shop.svc.cluster.local")


def records(publisher: Publisher) -> set[str]:
    return {str(row.record) for row in rows(publisher)}


@LAW
@given(histories())
def test_changes_lead_from_the_old_to_the_new_records(history: list[tuple[str, Event]]) -> None:
    publisher = Publisher(Store(), Layout(), ZONE, (*OTHERS, *external_zones("dtk.io")))
    changes, known = RowChanges(publisher), records(publisher)
    for step in history:
        touched = publisher.with_affected_services(publisher.store.apply(*step))
        found = changes.after(touched, flat(publisher.refresh(touched)))
        removed = {str(row.record) for sign, row in found if sign == "-"}
        added = {str(row.record) for sign, row in found if sign == "+"}
        assert (removed <= known, added & known) == (True, set())
        known = known - removed | added
    assert known == records(publisher)


def test_endpoint_of_a_headless_service_is_added_and_deleted() -> None:
    headless = Service(Metadata("shop", "db"), cluster_ip="None")
    ready = SliceEndpoint(("10.0.0.1",), hostname="a")
    one = EndpointSlice(Metadata("shop", "s"), "db", "IPv4", (EndpointPort("sql", "TCP", 5432),), (ready,))
    publisher = publisher_of(headless)
    changes, seen = RowChanges(publisher), []
    for step in ("ADDED", "DELETED"):
        touched = publisher.store.apply("endpointslices", Event(step, one, "shop", "s"))
        found = changes.after(touched, flat(publisher.refresh(touched)))
        seen.append({(sign, row.record.rtype) for sign, row in found})
    assert seen == [
        {("+", "A"), ("+", "SRV"), ("+", "PTR")},
        {("-", "A"), ("-", "SRV"), ("-", "PTR")},
    ]


def test_ptr_passes_to_the_next_claimant() -> None:
    publisher = publisher_of(service("a", age="1"), service("b", age="2"))
    changes = RowChanges(publisher)
    deleted = Event("DELETED", None, "shop", "a")
    touched = publisher.store.apply("services", deleted)
    lines = [
        (sign, str(row.record), str(row.unit))
        for sign, row in changes.after(touched, flat(publisher.refresh(touched)))
    ]
    assert lines == [
        ("-", "1.0.0.10.in-addr.arpa. 30 IN PTR a.shop.svc.cluster.local.", "services/shop/a"),
        ("+", "1.0.0.10.in-addr.arpa. 30 IN PTR b.shop.svc.cluster.local.", "services/shop/b"),
        ("-", "a.shop.svc.cluster.local. 30 IN A 10.0.0.1", "services/shop/a"),
    ]
    assert changes.after([], set()) == []
    assert count(publisher) == len(rows(publisher))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (
            vmi("web", ("nic1", "10.0.0.1")),
            vmi("my.web", ("nic1", "10.0.0.2")),
            {"web A 10.0.0.1", "nic1.web A 10.0.0.1", "my.web A 10.0.0.2", "nic1.my.web A 10.0.0.2"},
        ),
        (
            vmi("vm", ("my", "10.0.0.1")),
            vmi("my.vm", ("nic1", "10.0.0.2")),
            {"vm A 10.0.0.1", "my.vm A 10.0.0.1", "my.vm A 10.0.0.2", "nic1.my.vm A 10.0.0.2"},
        ),
    ],
    ids=["name below another's", "interface and VMI"],
)
def test_vmis_that_share_a_name(
    one: VirtualMachineInstance, other: VirtualMachineInstance, expected: set[str]
) -> None:
    found = records(publisher_of(one, other, cluster=None, zones=[VmZone(Name.parse("vm"))]))
    found = {record.replace(".shop.vm. 30 IN", "") for record in found if ".shop.vm." in record}
    assert found == expected


def test_change_line() -> None:
    row = Row(Record(WEB, Host(parse_address("10.0.0.1")), 30), Unit("services", "shop", "web"))
    text = change_line("+", row, "2026-01-01T00:00:00.000Z", "table")
    assert (
        text == "2026-01-01T00:00:00.000Z + web.shop.svc.cluster.local. 30 IN A 10.0.0.1 ; services/shop/web"
    )
    change = json.loads(change_line("-", row, "now", "json"))
    assert (change["time"], change["change"], change["name"], change["data"]) == (
        "now",
        "deleted",
        f"{WEB}.",
        "10.0.0.1",
    )


def test_zone_file_of_a_zone_has_soa_and_ns() -> None:
    unit = Unit("zones", "", "cluster.local")
    server = Row(Record(Name.parse("ns.dns.cluster.local"), Host(parse_address("10.0.0.10")), 30), unit)
    port = Row(Record(Name.parse("_dns._udp.cluster.local"), Port(53, WEB), 30), unit)
    soa = "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 30"
    assert zone_file([server, port], ZONE.name, 5, 7).splitlines() == [
        soa,
        "cluster.local. 5 IN NS ns.dns.cluster.local.",
        "ns.dns.cluster.local. 30 IN A 10.0.0.10 ; zones/cluster.local",
        "_dns._udp.cluster.local. 30 IN SRV 0 100 53 web.shop.svc.cluster.local. ; zones/cluster.local",
    ]
    assert zone_file([port], ZONE.name, 5, 7).splitlines()[:-1] == [soa]
    assert len(zone_file([port]).splitlines()) == 1
