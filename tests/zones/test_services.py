"""Zones of selected Services: addresses, their order, and names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.kube.objects import (
    EndpointPort,
    EndpointSlice,
    Ingress,
    Metadata,
    Namespace,
    Service,
    ServicePort,
    SliceEndpoint,
)
from kube2etcd.zones.base import Published
from kube2etcd.zones.services import EXTERNAL, INTERNAL, ServicesZone, flatten
from skydns_compat.names import Name, check_label
from skydns_compat.records import Host
from tests.strategies import LAW
from tests.zones.published import publish, service, text

ZONE = ServicesZone(Name.parse("shop.example"), ttl=5)


BOTH = service(
    cluster_ip="10.0.0.1",
    ports=(ServicePort("http", "TCP", 80),),
    load_balancer=(Ingress("192.0.2.1"), Ingress("", "lb.example")),
    external_ips=("192.0.2.2",),
)


def records(published: Published) -> str:
    return text(published.records, ".shop.shop.example.", ".shop.example.")


def test_own_records() -> None:
    own = "shop.example. NODATA -, ns.dns NODATA -"
    assert records(ZONE.own()) == own
    constant = replace(ZONE, template="{service}.{namespace}.k8s.prod")
    assert records(constant.own()) == f"{own}, k8s.prod NODATA -, prod NODATA -"


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((EXTERNAL, INTERNAL), ["192.0.2.1", "192.0.2.2", "10.0.0.1"]),
        ((INTERNAL, EXTERNAL), ["10.0.0.1", "192.0.2.1", "192.0.2.2"]),
        ((INTERNAL,), ["10.0.0.1"]),
        ((EXTERNAL,), ["192.0.2.1", "192.0.2.2"]),
    ],
)
def test_addresses_in_order(addresses: tuple[str, ...], expected: list[str]) -> None:
    published = publish(replace(ZONE, addresses=addresses), BOTH)
    hosts = [one.data for one in published.records if isinstance(one.data, Host)]
    assert [str(one) for one in hosts] == expected
    assert [one.order for one in hosts] == list(range(len(expected)))
    ports = [one for one in published.records if not isinstance(one.data, Host)]
    assert text(ports, ".shop.shop.example.") == "web SRV 0 80 web, _http._tcp.web SRV 0 80 web"
    assert (published.pointers, published.left_out) == ([], [])


SLICE = EndpointSlice(
    Metadata("shop", "s"),
    "web",
    "IPv4",
    (EndpointPort("http", "TCP", 80),),
    (SliceEndpoint(("10.1.0.1",), hostname="a"),),
)


def test_endpoints_of_a_headless_service_are_internal_addresses() -> None:
    one = service(cluster_ip="None")
    published = publish(ZONE, one, SLICE)
    assert "a.web A 10.1.0.1" in records(published)
    assert published.pointers == []
    for other, addresses in ((one, EXTERNAL), (service(), INTERNAL)):
        unaddressed = publish(replace(ZONE, addresses=(addresses,)), other, SLICE)
        assert (unaddressed.records, unaddressed.left_out) == (
            [],
            [f"the Service has no {addresses} address"],
        )


def load_balanced(*hostnames: str) -> Service:
    return service(load_balancer=tuple(Ingress("", one) for one in hostnames))


def alias(target: str) -> Service:
    return service(type="ExternalName", external_name=target)


@pytest.mark.parametrize(
    ("one", "expected", "left_out"),
    [
        (load_balanced("lb.example", "other.example"), "web CNAME lb.example.", ""),
        (
            load_balanced("-", "lb.example"),
            "web CNAME lb.example.",
            "load balancer's name left out: '-' cannot be a DNS label",
        ),
        (
            load_balanced("any.shop.example", "any.example"),
            "web CNAME any.example.",
            "load balancer's name left out: "
            "the label 'any' is a wildcard to the DNS server and cannot be served",
        ),
        (
            load_balanced("192.0.2.1"),
            "",
            "load balancer's name 192.0.2.1 is an address, which a CNAME cannot hold",
        ),
        (
            service(external_ips=("web", "192.0.2.1")),
            "web A 192.0.2.1",
            "external address left out: 'web' is not an IP address",
        ),
        (service(), "", "the Service has no external or internal address"),
        (alias("ext.example"), "web CNAME ext.example.", ""),
        (alias("192.0.2.1"), "", "externalName 192.0.2.1 is an address, which a CNAME cannot hold"),
        (alias("a.cluster.local"), "", "a.cluster.local is in another zone of this server"),
        (
            service("ns", "dns", cluster_ip="10.0.0.1"),
            "",
            "ns.dns.shop.example is a name that the server keeps for itself",
        ),
    ],
)
def test_services(one: Service, expected: str, left_out: str) -> None:
    published = publish(replace(ZONE, other_zones=(Name.parse("cluster.local"),)), one)
    assert (records(published), published.left_out) == (expected, [left_out] if left_out else [])


@pytest.mark.parametrize("one", [service("w" * 30, cluster_ip="10.0.0.1"), Namespace(Metadata("", "n" * 30))])
def test_zone_name_too_long_for_records(one: Service | Namespace) -> None:
    zone = replace(ZONE, name=Name.parse(".".join(["z" * 60] * 4)))
    published = publish(zone, one)
    assert published.records == []
    assert " has no name in zzz" in published.left_out[0]


@pytest.mark.parametrize(
    ("template", "name", "above", "parents"),
    [
        ("{service}.{namespace}", "web.shop", [], ["shop"]),
        ("{service}", "web", [], []),
        ("{service}-{namespace}", "web-shop", [], []),
        ("SVC-{service}.{namespace}", "svc-web.shop", [], ["shop"]),
        ("{service}.K8S", "web.k8s", [], []),
        ("{service}.prod.{namespace}", "web.prod.shop", [], ["prod.shop", "shop"]),
        ("{namespace}.{service}", "shop.web", ["web"], []),
        ("a.{service}.{namespace}", "a.web.shop", ["web.shop"], ["shop"]),
    ],
)
def test_templates(template: str, name: str, above: list[str], parents: list[str]) -> None:
    zone = replace(ZONE, template=template)
    found = text(publish(zone, service(cluster_ip="10.0.0.1")).records, ".shop.example.")
    assert found == ", ".join([f"{name} A 10.0.0.1", *(f"{one} NODATA -" for one in above)])
    namespace = text(publish(zone, Namespace(Metadata("", "shop"))).records, ".shop.example.")
    assert namespace == ", ".join(f"{one} NODATA -" for one in parents)


@LAW
@given(
    st.data(), st.sampled_from(["{service}.{namespace}", "{service}-{namespace}", "x-{namespace}-{service}"])
)
def test_no_two_services_share_a_name(data: st.DataObject, template: str) -> None:
    zone = replace(ZONE, template=template)
    labels = st.sampled_from(["a", "b", "a-b", "b-a", "a-b-a", "x-a", "a-x"])
    names = data.draw(st.lists(st.tuples(labels, labels), min_size=2, max_size=6, unique=True))
    found = [
        publish(zone, service(one, other, cluster_ip="10.0.0.1")).records[0].name for one, other in names
    ]
    assert len(set(found)) == len(names)


@pytest.mark.parametrize(
    ("label", "flat"),
    [
        ("web", "web"),
        ("a-1", "a-1"),
        ("Web", "web-"),
        ("a.b", "a-b-"),
        ("a_b", "a-b-"),
        ("-a-", "a-"),
        ("x" * 64, f"{'x' * 54}-"),
        ("é", ""),
    ],
)
def test_flatten(label: str, flat: str) -> None:
    assert flatten(label).startswith(flat)
    assert flatten(flatten(label)) == flatten(label)


@LAW
@given(st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=70))
def test_flatten_yields_distinct_labels(one: str, other: str) -> None:
    assert check_label(flatten(one)) == flatten(one)
    assert (flatten(one) == flatten(other)) is (one == other)
