"""Invalid objects lose only their own names, and say why."""

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
from tests.objects import KIND_OF, publisher_of, service


def db_service(**fields: object) -> Service:
    return Service(Metadata("shop", "db"), **fields)  # type: ignore[arg-type]


def slices_of(*endpoints: SliceEndpoint) -> list[EndpointSlice]:
    return [EndpointSlice(Metadata("shop", "s"), "db", "IPv4", (), endpoints)]


HEADLESS = db_service(cluster_ip="None")

LONG = "x" * 64

INVALID_PORTS = (ServicePort(LONG, "TCP", 80), ServicePort("x", "T/P", 81))

NO_NAME = "no name in DNS"
ANY = "'any' is a wildcard"


@pytest.mark.parametrize(
    ("invalid", "slices", "reason"),
    [
        pytest.param(db_service(), [], "no cluster address yet", id="no address yet"),
        pytest.param(
            db_service(cluster_ip="10.0.0"), [], "'10.0.0' is not an IP address", id="invalid address"
        ),
        pytest.param(
            db_service(cluster_ip="fe80::1%eth0"), [], "carries a zone", id="address with an IPv6 zone"
        ),
        pytest.param(
            db_service(cluster_ip="10.0.0.7", cluster_ips=("10.0.0.7", "x")),
            [],
            "'x' is not an IP address",
            id="invalid second address",
        ),
        pytest.param(
            HEADLESS, slices_of(SliceEndpoint(("web",))), "not an IP", id="endpoint with an invalid address"
        ),
        pytest.param(
            HEADLESS, slices_of(SliceEndpoint(())), "no ready endpoint", id="endpoint without address"
        ),
        pytest.param(
            HEADLESS,
            slices_of(SliceEndpoint(("10.1.0.1",), hostname=LONG)),
            "hostname left out: label .* has 64 characters",
            id="hostname of 64 characters",
        ),
        pytest.param(
            HEADLESS,
            [EndpointSlice(Metadata("shop", "s"), "db", "FQDN", (), (SliceEndpoint(("a.example",)),))],
            "holds names, not addresses",
            id="FQDN slice",
        ),
        pytest.param(
            db_service(type="ExternalName", external_name="192.0.2.1"),
            [],
            "is an address",
            id="CNAME to IPv4",
        ),
        pytest.param(
            db_service(type="ExternalName", external_name="192.0.2.1."),
            [],
            "is an address",
            id="CNAME to IPv4 with a final dot",
        ),
        pytest.param(db_service(type="ExternalName"), [], "the name is empty", id="empty CNAME target"),
        pytest.param(
            db_service(type="ExternalName", external_name="a/b"),
            [],
            "cannot be a DNS label",
            id="invalid CNAME target",
        ),
        pytest.param(
            db_service(cluster_ip="10.0.0.7", ports=INVALID_PORTS),
            [],
            "port left out of SRV",
            id="invalid port names",
        ),
        pytest.param(
            Service(Metadata("shop", LONG), cluster_ip="10.0.0.7"), [], NO_NAME, id="name of 64 characters"
        ),
        pytest.param(Service(Metadata("", ""), cluster_ip="10.0.0.7"), [], NO_NAME, id="empty name"),
        pytest.param(
            Service(Metadata("shop", "a.b"), cluster_ip="10.0.0.7"), [], NO_NAME, id="name with a dot"
        ),
        pytest.param(Service(Metadata("shop", "*"), cluster_ip="10.0.0.7"), [], NO_NAME, id="name *"),
        pytest.param(Service(Metadata("shop", "any"), cluster_ip="10.0.0.7"), [], ANY, id="name any"),
        pytest.param(Service(Metadata("any", "web"), cluster_ip="10.0.0.7"), [], ANY, id="namespace any"),
        pytest.param(Namespace(Metadata("", LONG)), [], "64 characters", id="Namespace of 64 characters"),
    ],
)
def test_invalid_object_affects_only_its_own_names(
    invalid: Service | Namespace, slices: list[EndpointSlice], reason: str
) -> None:
    alone, beside = publisher_of(service("web")), publisher_of(service("web"), invalid, *slices)
    assert alone.desired.items() <= beside.desired.items()
    own = beside.layout.key(Name.parse("svc.cluster.local").child("shop")) + b"/db"
    more = beside.desired.keys() - alone.desired.keys()
    assert all(key.startswith(own) or b"/arpa/" in key for key in more)
    unit = Unit(KIND_OF[type(invalid)], invalid.metadata.namespace, invalid.metadata.name)
    reasons = "; ".join(beside.published(unit).left_out)
    assert re.search(reason, reasons), reasons
    assert beside.left_out_counts.total() == len(beside.published(unit).left_out)


def test_service_with_5000_ports() -> None:
    ports = tuple(ServicePort(f"p{at}", "TCP", at) for at in range(1, 5001))
    publisher = publisher_of(db_service(cluster_ip="10.0.0.7", ports=ports))
    assert b"/skydns/local/cluster/svc/shop/db/_tcp/_p5000/10-0-0-7-P5000" in publisher.desired
    assert publisher.left_out_counts.total() == 0


@pytest.mark.parametrize("kind", ["port", "hostname"])
def test_too_long_name_is_left_out(kind: str) -> None:
    meta = Metadata("n" * 63, "s" * 63)
    label = "p" * 62
    one = Service(meta, cluster_ip="None", ports=(ServicePort(label, "TCP", 80),))

    zone = "cluster.local" if kind == "port" else ".".join(["z" * 30] * 2)
    endpoint_slice = EndpointSlice(
        Metadata("n" * 63, "e"),
        "s" * 63,
        "IPv4",
        (EndpointPort(label if kind == "port" else "", "TCP", 80),),
        (SliceEndpoint(("10.0.0.1",), hostname="h" * 63),),
    )
    publisher = publisher_of(one, service("web"), endpoint_slice, cluster=ClusterZone(Name.parse(zone)))
    assert publisher.left_out_counts.total() > 0
    assert any(key.endswith(b"/svc/shop/web") for key in publisher.desired)
