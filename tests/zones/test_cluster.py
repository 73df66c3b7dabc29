"""Objects to records, case by case (Kubernetes DNS specification 1.1.0), and what is left out and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kube2etcd.kube.objects import (
    TENANT_CLUSTER_IP,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Metadata,
    Namespace,
    Pod,
    Port,
    Service,
)
from kube2etcd.zones.base import Published
from kube2etcd.zones.cluster import ClusterZone, dashed, is_headless
from skydns_compat.layout import Layout
from skydns_compat.names import Name, check_label, parse_address
from skydns_compat.reader import Entries, answer
from tests.strategies import LAW, services, slices
from tests.zones.published import lines, publish, service

ZONE = ClusterZone(Name.parse("c.l"), ttl=5, pods="verified")
ALL = ClusterZone(Name.parse("c.l"), ttl=5, endpoint_names="all")
HTTP, DNS = Port("http", "TCP", 80), Port("dns", "UDP", 53)


def pointers(published: Published) -> list[str]:
    return [str(record) for record in published.pointers]


def piece(*endpoints: Endpoint, ports: tuple[EndpointPort, ...] = (), name: str = "s") -> EndpointSlice:
    return EndpointSlice(Metadata("shop", name), "web", "IPv4", ports, endpoints)


def test_the_zone_itself() -> None:
    assert lines(ZONE.own()) == [
        "c.l. 5 IN NODATA -",
        'dns-version.c.l. 28800 IN TXT "1.1.0"',
        "ns.dns.c.l. 5 IN NODATA -",
    ]
    server = ClusterZone(ZONE.name, dns_server_ips=(parse_address("10.0.0.10"), parse_address("fd00::a")))
    assert lines(server.own())[2:] == [
        "ns.dns.c.l. 30 IN A 10.0.0.10",
        "ns.dns.c.l. 30 IN AAAA fd00::a",
    ]


@pytest.mark.parametrize(
    ("name", "pods", "parents", "left_out"),
    [
        ("shop", "disabled", ["svc"], []),
        ("shop", "insecure", ["svc", "pod"], []),
        ("shop", "verified", ["svc", "pod"], []),
        ("a.b", "verified", [], ["the namespace has no name in DNS: 'a.b' cannot be a DNS label"]),
    ],
)
def test_namespaces(name: str, pods: str, parents: list[str], left_out: list[str]) -> None:
    published = publish(ClusterZone(ZONE.name, pods=pods), Namespace(Metadata("", name)))
    assert lines(published) == [f"shop.{parent}.c.l. 30 IN NODATA -" for parent in parents]
    assert published.left_out == left_out


@pytest.mark.parametrize(
    ("pod", "expected", "left_out"),
    [
        pytest.param(
            Pod(Metadata("shop", "p"), "10.0.0.1", ("10.0.0.1", "fd00::1"), "Running"),
            [
                "10-0-0-1.shop.pod.c.l. 5 IN A 10.0.0.1",
                "10-0-0-1.shop.pod.c.l. 5 IN SRV 0 0 10-0-0-1.shop.pod.c.l.",
                "fd00--1.shop.pod.c.l. 5 IN AAAA fd00::1",
                "fd00--1.shop.pod.c.l. 5 IN SRV 0 0 fd00--1.shop.pod.c.l.",
            ],
            [],
            id="both families",
        ),
        pytest.param(Pod(Metadata("shop", "p")), [], ["the pod has no address yet"], id="no address"),
        pytest.param(
            Pod(Metadata("shop", "p"), "10.0.0.1", phase="Failed"), [], ["the pod has ended"], id="ended"
        ),
        pytest.param(Pod(Metadata("shop", "p"), "web"), [], ["'web' is not an IP address"], id="a word"),
        pytest.param(
            Pod(Metadata("a.b", "p"), "10.0.0.1"), [], ["'a.b' cannot be a DNS label"], id="no namespace name"
        ),
    ],
)
def test_pods(pod: Pod, expected: list[str], left_out: list[str]) -> None:
    published = publish(ZONE, pod)
    assert lines(published) == expected
    assert published.left_out == left_out
    assert published.pointers == []


@pytest.mark.parametrize(
    ("one", "expected", "back"),
    [
        pytest.param(
            service(cluster_ip="10.0.0.1"),
            ["web.shop.svc.c.l. 5 IN A 10.0.0.1"],
            ["1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.svc.c.l."],
            id="no ports",
        ),
        pytest.param(
            service(cluster_ip="10.0.0.1", cluster_ips=("10.0.0.1", "fd00::1"), ports=(HTTP, DNS)),
            [
                "web.shop.svc.c.l. 5 IN A 10.0.0.1",
                "web.shop.svc.c.l. 5 IN AAAA fd00::1",
                "web.shop.svc.c.l. 5 IN SRV 0 80 web.shop.svc.c.l.",
                "_http._tcp.web.shop.svc.c.l. 5 IN SRV 0 80 web.shop.svc.c.l.",
                "web.shop.svc.c.l. 5 IN SRV 0 53 web.shop.svc.c.l.",
                "_dns._udp.web.shop.svc.c.l. 5 IN SRV 0 53 web.shop.svc.c.l.",
            ],
            [
                "1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.svc.c.l.",
                f"1.{'0.' * 27}0.0.d.f.ip6.arpa. 5 IN PTR web.shop.svc.c.l.",
            ],
            id="both families and two ports",
        ),
        pytest.param(
            service(cluster_ips=("10.0.0.1",), ports=(Port("", "", 80), Port("x", "", 81))),
            [
                "web.shop.svc.c.l. 5 IN A 10.0.0.1",
                "web.shop.svc.c.l. 5 IN SRV 0 80 web.shop.svc.c.l.",
                "_._tcp.web.shop.svc.c.l. 5 IN SRV 0 80 web.shop.svc.c.l.",
                "web.shop.svc.c.l. 5 IN SRV 0 81 web.shop.svc.c.l.",
                "_x._tcp.web.shop.svc.c.l. 5 IN SRV 0 81 web.shop.svc.c.l.",
            ],
            ["1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.svc.c.l."],
            id="a port without a name, one without a protocol",
        ),
        pytest.param(
            service(type="ExternalName", external_name="Ext.Example.", ports=(HTTP,)),
            ["web.shop.svc.c.l. 5 IN CNAME ext.example."],
            [],
            id="ExternalName",
        ),
    ],
)
def test_services(one: Service, expected: list[str], back: list[str]) -> None:
    published = publish(ZONE, one)
    assert lines(published) == expected
    assert pointers(published) == back
    assert published.left_out == []


HEADLESS = service(cluster_ip="None")
READY, NOT_READY, UNSAID = True, False, None
PORTS = (EndpointPort("", "TCP", 80), EndpointPort("x", "", None))
NO_ENDPOINT = "the Service is headless and has no ready endpoint"


@pytest.mark.parametrize(
    ("pieces", "expected", "left_out"),
    [
        pytest.param(
            [piece(Endpoint(("10.1.0.1",), READY))],
            ["10-1-0-1.web A 10.1.0.1", "10-1-0-1.web NODATA -"],
            [],
            id="no ports",
        ),
        pytest.param(
            [piece(Endpoint(("10.1.0.1",), UNSAID, hostname="E1"), ports=(EndpointPort("http", "TCP", 80),))],
            ["e1.web A 10.1.0.1", "e1.web SRV 0 80 e1.web", "_http._tcp.web SRV 0 80 e1.web"],
            [],
            id="a host's name and a named port; readiness that nobody reported is ready",
        ),
        pytest.param(
            [piece(Endpoint(("10.1.0.1",)), ports=PORTS)],
            [
                "10-1-0-1.web A 10.1.0.1",
                "10-1-0-1.web SRV 0 80 10-1-0-1.web",
                "_._tcp.web SRV 0 80 10-1-0-1.web",
                "10-1-0-1.web NODATA -",
                "_x._tcp.web NODATA -",
            ],
            [],
            id="a port without a name, and every port",
        ),
        pytest.param(
            [piece(Endpoint(("10.1.0.2",)), name="s2"), piece(Endpoint(("10.1.0.1",)), name="s1")],
            [
                "10-1-0-1.web A 10.1.0.1",
                "10-1-0-1.web NODATA -",
                "10-1-0-2.web A 10.1.0.2",
                "10-1-0-2.web NODATA -",
            ],
            [],
            id="slices by name",
        ),
        *(
            pytest.param(
                [piece(Endpoint(("10.1.0.1",), hostname=hostname))],
                ["10-1-0-1.web A 10.1.0.1", "10-1-0-1.web NODATA -"],
                [f"hostname {reason}"],
                id=f"a host named {hostname}",
            )
            for hostname, reason in (
                ("_http", "'_http' looks like a port's name"),
                ("any", "'any' is a wildcard to the DNS server"),
                ("a_", "left out: 'a_' cannot be a DNS label"),
            )
        ),
        pytest.param(
            [piece(Endpoint(("10.1.0.1",)), ports=(EndpointPort("a_", "TCP", 80),))],
            ["10-1-0-1.web A 10.1.0.1", "10-1-0-1.web SRV 0 80 10-1-0-1.web"],
            ["port left out of SRV: 'a_' cannot be a DNS label"],
            id="a port whose name is none",
        ),
        pytest.param(
            [piece(Endpoint(("10.1.0.1",), NOT_READY))],
            [],
            ["endpoint 10.1.0.1 is not ready", NO_ENDPOINT],
            id="not ready",
        ),
        pytest.param([], [], [NO_ENDPOINT], id="no slices"),
    ],
)
def test_headless(pieces: list[EndpointSlice], expected: list[str], left_out: list[str]) -> None:
    published = publish(ZONE, HEADLESS, *pieces)
    found = [line.replace(".shop.svc.c.l.", "").replace(" 5 IN", "") for line in lines(published)]
    assert [line for line in found if not line.startswith("web ")] == expected
    # The Service has what its endpoints have.
    own = [line.partition(" ")[2] for line in expected if line[0] != "_"]
    assert [line.partition(" ")[2] for line in found if line.startswith("web ")] == own
    assert published.left_out == left_out


@pytest.mark.parametrize(
    ("own", "zone", "shares"),
    [
        pytest.param(HEADLESS, ZONE, {"10-1-0-1.web": 33, "web": 25, "_http._tcp.web": 50}, id="headless"),
        pytest.param(
            service(cluster_ip="10.0.0.1", ports=(HTTP,)),
            ALL,
            {"10-1-0-1.web": 33, "web": 100, "_http._tcp.web": 100},
            id="with an address of its own",
        ),
    ],
)
def test_weights_of_slices(own: Service, zone: ClusterZone, shares: dict[str, int]) -> None:
    """The kubernetes plugin counts a slice without ports as one port, in the weights of SRV alone."""
    http = (EndpointPort("http", "TCP", 80),)
    pieces = [
        piece(Endpoint(("10.1.0.1",)), ports=http, name="s1"),
        piece(Endpoint(("10.1.0.1",)), name="s2"),
        piece(Endpoint(("10.1.0.1",)), Endpoint(("10.1.0.2",), NOT_READY), name="s3"),
        piece(Endpoint(("10.1.0.3",)), ports=http, name="s4"),
    ]
    entries = Entries(Layout().entries(publish(zone, own, *pieces).records, zone.name))
    for name, share in shares.items():
        records = answer(entries, zone.name, f"{name}.shop.svc.c.l", "SRV").answers
        assert {int(record.data.split()[1]) for record in records} == {share}, name


def test_one_pointer_for_each_address_the_first_name_has_it() -> None:
    pieces = [
        piece(Endpoint(("10.1.0.1",), hostname="b"), name="s1"),
        piece(Endpoint(("10.1.0.1",), hostname="a"), name="s2"),
    ]
    back = ["1.0.1.10.in-addr.arpa. 5 IN PTR b.web.shop.svc.c.l."]
    assert pointers(publish(ZONE, HEADLESS, *pieces)) == back


def test_endpoints_of_a_service_with_an_address_only_on_demand() -> None:
    one = service(cluster_ip="10.0.0.1", ports=(HTTP,))
    pieces = [piece(Endpoint(("10.1.0.1",)), ports=(EndpointPort("http", "TCP", 8080),))]
    plain, more = publish(ZONE, one, *pieces), publish(ALL, one, *pieces)
    assert lines(more) == [
        *lines(plain),
        "10-1-0-1.web.shop.svc.c.l. 5 IN A 10.1.0.1",
        "10-1-0-1.web.shop.svc.c.l. 5 IN SRV 0 8080 10-1-0-1.web.shop.svc.c.l.",
    ]
    assert pointers(more) == [*pointers(plain), "1.0.1.10.in-addr.arpa. 5 IN PTR 10-1-0-1.web.shop.svc.c.l."]
    assert publish(ALL, one).left_out == []


@pytest.mark.parametrize(
    ("annotation", "tenant", "expected", "reasons"),
    [
        ("10.9.9.9", True, ["10.9.9.9"], 0),
        (" 10.9.9.9 , fd00::9", True, ["10.9.9.9", "fd00::9"], 0),
        ("10.9.9.9", False, ["10.0.0.1"], 0),
        ("", True, ["10.0.0.1"], 0),
        ("None", True, ["10.0.0.1"], 0),
        ("web", True, ["10.0.0.1"], 1),
        ("10.9.9.9,", True, ["10.0.0.1"], 1),
    ],
)
def test_tenant_address(annotation: str, tenant: bool, expected: list[str], reasons: int) -> None:
    meta = Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: annotation})
    zone = ClusterZone(ZONE.name, tenant_cluster_ip=tenant)
    published = publish(zone, Service(meta, cluster_ip="10.0.0.1"))
    assert [str(one.data) for one in published.records] == expected
    assert len(published.left_out) == reasons


def test_a_headless_service_of_a_tenant_has_the_address_below() -> None:
    one = Service(Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: "10.9.9.9"}), cluster_ip="None")
    assert lines(publish(ZONE, one)) == ["web.shop.svc.c.l. 5 IN A 10.9.9.9"]


def test_headless_by_either_field() -> None:
    assert is_headless(service(cluster_ip="None"))
    assert is_headless(service(cluster_ips=("None",)))
    assert not is_headless(service(cluster_ip="10.0.0.1", cluster_ips=("10.0.0.1",)))
    assert not is_headless(service())


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("10.0.0.1", "10-0-0-1"),
        ("fd00::1", "fd00--1"),
        ("fd00::", "fd00--0"),
        ("::1", "0--1"),
        ("::", "0--0"),
        ("1:2:3:4:5:6:7:8", "1-2-3-4-5-6-7-8"),
    ],
)
def test_labels_of_addresses(text: str, label: str) -> None:
    assert dashed(parse_address(text)) == label


@LAW
@given(st.ip_addresses())
def test_every_address_has_a_label(address: object) -> None:
    label = dashed(parse_address(str(address)))
    assert check_label(label) == label


@LAW
@given(
    services("shop", "web"),
    st.tuples(slices("shop", "s1"), slices("shop", "s2")),
    st.sampled_from([ZONE, ALL]),
)
def test_records_or_a_reason(one: Service, pieces: tuple[EndpointSlice, ...], zone: ClusterZone) -> None:
    published = publish(zone, one, *(replace(piece, service_name="web") for piece in pieces))
    name = Name.parse("web.shop.svc.c.l")
    assert all(record.name.below(name) for record in published.records)
    assert published.records or published.left_out
    names = {str(record.name) for record in published.records}
    assert {str(record.data).removesuffix(".") for record in published.pointers} <= names


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("10-0-0-1.shop.pod.c.l", "10.0.0.1"),
        ("fd00--1.shop.pod.c.l", "fd00::1"),
        ("www.10-0-0-1.shop.pod.c.l", "10.0.0.1"),
        ("web.shop.pod.c.l", None),
        ("10-0-0-1.shop.svc.c.l", None),
        ("shop.pod.c.l", None),
        ("10-0-0-1.shop.pod.example.com", None),
    ],
)
def test_an_alias_of_a_computed_pod_name_comes_with_its_address(name: str, address: str | None) -> None:
    """The server follows an alias by reading keys, past the template that computes the address."""
    zone = ClusterZone(ZONE.name, pods="insecure")
    cname, *hosts = publish(zone, service(type="ExternalName", external_name=name)).records
    assert str(cname.data) == f"{name}."
    assert [(str(one.name), str(one.data)) for one in hosts] == ([(name, address)] if address else [])
