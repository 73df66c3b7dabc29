"""Desired entries of odd objects: they cost their own names only, and say why."""

from __future__ import annotations

import re

import pytest

from kube2etcd.kube.objects import (
    EndpointPort,
    EndpointSlice,
    Metadata,
    Namespace,
    Service,
    ServicePort,
    SliceEndpoint,
)
from kube2etcd.kube.store import Unit
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.names import Name
from tests.objects import published, service


def odd_service(**fields: object) -> Service:
    return Service(Metadata("shop", "odd"), **fields)  # type: ignore[arg-type]


def odd_slice(*endpoints: SliceEndpoint) -> list[EndpointSlice]:
    return [EndpointSlice(Metadata("shop", "s"), "odd", "IPv4", (), endpoints)]


HEADLESS = odd_service(cluster_ip="None")

LONG = "x" * 64

ODD_PORTS = (ServicePort(LONG, "TCP", 80), ServicePort("x", "T/P", 81))

NO_NAME = "no name in DNS"
ANY = "'any' is a wildcard"


@pytest.mark.parametrize(
    ("one", "pieces", "reason"),
    [
        pytest.param(odd_service(), [], "no cluster address yet", id="nothing in it"),
        pytest.param(odd_service(cluster_ip="10.0.0"), [], "'10.0.0' is not an IP address", id="no address"),
        pytest.param(odd_service(cluster_ip="fe80::1%eth0"), [], "carries a zone", id="address with a zone"),
        pytest.param(
            odd_service(cluster_ip="10.0.0.7", cluster_ips=("10.0.0.7", "x")),
            [],
            "'x' is not an IP address",
            id="half an address",
        ),
        pytest.param(
            HEADLESS, odd_slice(SliceEndpoint(("web",))), "not an IP", id="endpoint without address"
        ),
        pytest.param(HEADLESS, odd_slice(SliceEndpoint(())), "no ready endpoint", id="endpoint of nothing"),
        pytest.param(
            HEADLESS,
            odd_slice(SliceEndpoint(("10.1.0.1",), hostname=LONG)),
            "hostname left out: label .* has 64 characters",
            id="64 letters for a host",
        ),
        pytest.param(
            HEADLESS,
            [EndpointSlice(Metadata("shop", "s"), "odd", "FQDN", (), (SliceEndpoint(("a.example",)),))],
            "holds names, not addresses",
            id="endpoints by name",
        ),
        pytest.param(
            odd_service(type="ExternalName", external_name="192.0.2.1"),
            [],
            "is an address",
            id="CNAME to IPv4",
        ),
        pytest.param(
            odd_service(type="ExternalName", external_name="192.0.2.1."),
            [],
            "is an address",
            id="a final dot",
        ),
        pytest.param(odd_service(type="ExternalName"), [], "the name is empty", id="CNAME to nothing"),
        pytest.param(
            odd_service(type="ExternalName", external_name="a/b"),
            [],
            "cannot be a DNS label",
            id="CNAME to no name",
        ),
        pytest.param(
            odd_service(cluster_ip="10.0.0.7", ports=ODD_PORTS),
            [],
            "port left out of SRV",
            id="ports without names",
        ),
        pytest.param(Service(Metadata("shop", LONG), cluster_ip="10.0.0.7"), [], NO_NAME, id="64 letters"),
        pytest.param(Service(Metadata("", ""), cluster_ip="10.0.0.7"), [], NO_NAME, id="no name"),
        pytest.param(Service(Metadata("shop", "a.b"), cluster_ip="10.0.0.7"), [], NO_NAME, id="a dot"),
        pytest.param(Service(Metadata("shop", "*"), cluster_ip="10.0.0.7"), [], NO_NAME, id="wildcard"),
        pytest.param(Service(Metadata("shop", "any"), cluster_ip="10.0.0.7"), [], ANY, id="any"),
        pytest.param(Service(Metadata("any", "web"), cluster_ip="10.0.0.7"), [], ANY, id="any as namespace"),
    ],
)
def test_bad_input_hurts_its_own_name_only(one: Service, pieces: list[EndpointSlice], reason: str) -> None:
    alone, beside = published(service("web")), published(service("web"), one, *pieces)
    assert alone.desired.items() <= beside.desired.items()
    own = beside.layout.key(Name.parse("svc.cluster.local").child("shop")) + b"/odd"
    more = beside.desired.keys() - alone.desired.keys()
    assert all(key.startswith(own) or b"/arpa/" in key for key in more)
    unit = Unit("services", one.metadata.namespace, one.metadata.name)
    said = "; ".join(beside.published(unit).left_out)
    assert re.search(reason, said), said
    assert beside.left_out_counts.total() == len(beside.published(unit).left_out)


def test_a_namespace_that_is_no_label_says_so() -> None:
    publisher = published(Namespace(Metadata("", LONG)))
    assert publisher.left_out_counts.total() == 1
    assert publisher.desired == published().desired


def test_thousands_of_ports() -> None:
    ports = tuple(ServicePort(f"p{at}", "TCP", at) for at in range(1, 5001))
    publisher = published(odd_service(cluster_ip="10.0.0.7", ports=ports))
    assert b"/skydns/local/cluster/svc/shop/odd/_tcp/_p5000/10-0-0-7-P5000" in publisher.desired
    assert publisher.left_out_counts.total() == 0


@pytest.mark.parametrize("kind", ["port", "hostname"])
def test_a_name_that_grows_too_long_hurts_nobody(kind: str) -> None:
    meta = Metadata("n" * 63, "s" * 63)
    label = "p" * 62
    one = Service(meta, cluster_ip="None", ports=(ServicePort(label, "TCP", 80),))

    zone = "cluster.local" if kind == "port" else ".".join(["z" * 30] * 2)
    piece = EndpointSlice(
        Metadata("n" * 63, "e"),
        "s" * 63,
        "IPv4",
        (EndpointPort(label if kind == "port" else "", "TCP", 80),),
        (SliceEndpoint(("10.0.0.1",), hostname="h" * 63),),
    )
    publisher = published(one, service("web"), piece, cluster=ClusterZone(Name.parse(zone)))
    assert publisher.left_out_counts.total() > 0
    assert any(key.endswith(b"/svc/shop/web") for key in publisher.desired)
