"""Objects to records (Kubernetes DNS specification 1.1.0), and reasons for what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kube2etcd.kube.objects import (
    TENANT_CLUSTER_IP,
    EndpointPort,
    EndpointSlice,
    Metadata,
    Namespace,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
)
from kube2etcd.zones.base import Published
from kube2etcd.zones.cluster import ClusterZone, dashed, is_headless
from skydns_compat.layout import Layout
from skydns_compat.names import Name, check_label, parse_address
from skydns_compat.reader import Entries, answer
from tests.strategies import LAW, services, slices
from tests.zones.published import publish, service, text


def zone_with(**settings: Any) -> ClusterZone:
    return ClusterZone(Name.parse("c.l"), ttl=5, **settings)


ZONE, ALL = zone_with(pods="verified"), zone_with(endpoint_names="all")
HTTP, DNS = ServicePort("http", "TCP", 80), ServicePort("dns", "UDP", 53)


def summary(published: Published) -> tuple[str, str, list[str]]:
    """Records, pointers and reasons; names relative to the namespace shop."""
    records = text(published.records, ".shop.svc.c.l.", ".shop.pod.c.l.")
    return records, text(published.pointers, ".in-addr.arpa.", ".shop.svc.c.l."), published.left_out


def endpoint_slice(
    *endpoints: SliceEndpoint, ports: tuple[EndpointPort, ...] = (), name: str = "s"
) -> EndpointSlice:
    return EndpointSlice(Metadata("shop", name), "web", "IPv4", ports, endpoints)


def test_own_records() -> None:
    apex = 'c.l. NODATA -, dns-version 28800 TXT "1.1.0"'
    assert text(ZONE.own().records, ".c.l.") == f"{apex}, ns.dns NODATA -"
    server = zone_with(dns_server_ips=(parse_address("10.0.0.10"), parse_address("fd00::a")))
    assert text(server.own().records, ".c.l.") == f"{apex}, ns.dns A 10.0.0.10, ns.dns AAAA fd00::a"


@pytest.mark.parametrize(
    ("name", "pods", "records", "left_out"),
    [
        ("shop", "disabled", "shop.svc.c.l. NODATA -", []),
        ("shop", "insecure", "shop.svc.c.l. NODATA -, shop.pod.c.l. NODATA -", []),
        ("shop", "verified", "shop.svc.c.l. NODATA -, shop.pod.c.l. NODATA -", []),
        ("a.b", "verified", "", ["the namespace has no name in DNS: 'a.b' cannot be a DNS label"]),
    ],
)
def test_namespaces(name: str, pods: str, records: str, left_out: list[str]) -> None:
    published = publish(zone_with(pods=pods), Namespace(Metadata("", name)))
    assert (text(published.records), published.left_out) == (records, left_out)


@pytest.mark.parametrize(
    ("pod", "records", "left_out"),
    [
        (
            Pod(Metadata("shop", "p"), "10.0.0.1", ("10.0.0.1", "fd00::1"), "Running"),
            "10-0-0-1 A 10.0.0.1, 10-0-0-1 SRV 0 0 10-0-0-1, fd00--1 AAAA fd00::1, fd00--1 SRV 0 0 fd00--1",
            [],
        ),
        (Pod(Metadata("shop", "p")), "", ["the pod has no address yet"]),
        (Pod(Metadata("shop", "p"), "10.0.0.1", phase="Failed"), "", ["the pod has ended"]),
        (Pod(Metadata("shop", "p"), "web"), "", ["'web' is not an IP address"]),
        (Pod(Metadata("a.b", "p"), "10.0.0.1"), "", ["'a.b' cannot be a DNS label"]),
    ],
    ids=["dual-stack", "no address", "ended", "invalid address", "invalid namespace"],
)
def test_pods(pod: Pod, records: str, left_out: list[str]) -> None:
    assert summary(publish(ZONE, pod)) == (records, "", left_out)


BOTH = service(cluster_ip="10.0.0.1", cluster_ips=("10.0.0.1", "fd00::1"), ports=(HTTP, DNS))


@pytest.mark.parametrize(
    ("one", "records", "pointers"),
    [
        (service(cluster_ip="10.0.0.1"), "web A 10.0.0.1", "1.0.0.10 PTR web"),
        (
            BOTH,
            "web A 10.0.0.1, web AAAA fd00::1, web SRV 0 80 web, _http._tcp.web SRV 0 80 web, "
            "web SRV 0 53 web, _dns._udp.web SRV 0 53 web",
            f"1.0.0.10 PTR web, 1.{'0.' * 27}0.0.d.f.ip6.arpa. PTR web",
        ),
        (
            service(cluster_ips=("10.0.0.1",), ports=(ServicePort("", "", 80), ServicePort("x", "", 81))),
            "web A 10.0.0.1, web SRV 0 80 web, _._tcp.web SRV 0 80 web, "
            "web SRV 0 81 web, _x._tcp.web SRV 0 81 web",
            "1.0.0.10 PTR web",
        ),
        (
            service(type="ExternalName", external_name="Ext.Example.", ports=(HTTP,)),
            "web CNAME ext.example.",
            "",
        ),
    ],
    ids=["no ports", "dual-stack with two ports", "port without name and protocol", "ExternalName"],
)
def test_services(one: Service, records: str, pointers: str) -> None:
    assert summary(publish(ZONE, one)) == (records, pointers, [])


HEADLESS = service(cluster_ip="None")
ONE, HTTP80 = SliceEndpoint(("10.1.0.1",)), (EndpointPort("http", "TCP", 80),)
PORTS = (EndpointPort("", "TCP", 80), EndpointPort("x", "", None))
READY, NOT_READY = True, False
NO_ENDPOINT = "the Service is headless and has no ready endpoint"
PLAIN = "10-1-0-1.web A 10.1.0.1, 10-1-0-1.web NODATA -"


def named(hostname: str) -> list[EndpointSlice]:
    return [endpoint_slice(SliceEndpoint(("10.1.0.1",), hostname=hostname))]


@pytest.mark.parametrize(
    ("endpoint_slices", "records", "left_out"),
    [
        pytest.param([endpoint_slice(SliceEndpoint(("10.1.0.1",), READY))], PLAIN, [], id="no ports"),
        pytest.param(
            [endpoint_slice(SliceEndpoint(("10.1.0.1",), hostname="E1"), ports=HTTP80)],
            "e1.web A 10.1.0.1, e1.web SRV 0 80 e1.web, _http._tcp.web SRV 0 80 e1.web",
            [],
            id="hostname and named port; unreported readiness is ready",
        ),
        pytest.param(
            [endpoint_slice(ONE, ports=PORTS)],
            "10-1-0-1.web A 10.1.0.1, 10-1-0-1.web SRV 0 80 10-1-0-1.web, "
            "_._tcp.web SRV 0 80 10-1-0-1.web, 10-1-0-1.web NODATA -, _x._tcp.web NODATA -",
            [],
            id="unnamed port and null port",
        ),
        pytest.param(
            [endpoint_slice(SliceEndpoint(("10.1.0.2",)), name="s2"), endpoint_slice(ONE, name="s1")],
            f"{PLAIN}, 10-1-0-2.web A 10.1.0.2, 10-1-0-2.web NODATA -",
            [],
            id="slices sorted by name",
        ),
        (named("_http"), PLAIN, ["hostname '_http' looks like a port's name"]),
        (named("any"), PLAIN, ["hostname 'any' is a wildcard to the DNS server"]),
        (named("a_"), PLAIN, ["hostname left out: 'a_' cannot be a DNS label"]),
        (
            [endpoint_slice(ONE, ports=(EndpointPort("a_", "TCP", 80),))],
            "10-1-0-1.web A 10.1.0.1, 10-1-0-1.web SRV 0 80 10-1-0-1.web",
            ["port left out of SRV: 'a_' cannot be a DNS label"],
        ),
        (
            [endpoint_slice(SliceEndpoint(("10.1.0.1",), NOT_READY))],
            "",
            ["endpoint 10.1.0.1 is not ready", NO_ENDPOINT],
        ),
        ([], "", [NO_ENDPOINT]),
    ],
)
def test_headless(endpoint_slices: list[EndpointSlice], records: str, left_out: list[str]) -> None:
    published = publish(ZONE, HEADLESS, *endpoint_slices)
    lines = [line for line in summary(published)[0].split(", ") if line]
    assert ", ".join(line for line in lines if not line.startswith("web ")) == records
    # The Service's name has the records of its endpoints.
    own = [line.partition(" ")[2] for line in records.split(", ") if line and line[0] != "_"]
    assert [line.partition(" ")[2] for line in lines if line.startswith("web ")] == own
    assert published.left_out == left_out


@pytest.mark.parametrize(
    ("own", "zone", "shares"),
    [
        pytest.param(HEADLESS, ZONE, {"10-1-0-1.web": 33, "web": 25, "_http._tcp.web": 50}, id="headless"),
        pytest.param(
            service(cluster_ip="10.0.0.1", ports=(HTTP,)),
            ALL,
            {"10-1-0-1.web": 33, "web": 100, "_http._tcp.web": 100},
            id="ClusterIP",
        ),
    ],
)
def test_srv_weights(own: Service, zone: ClusterZone, shares: dict[str, int]) -> None:
    """The kubernetes plugin counts a slice without ports as one port, but only in SRV weights."""
    endpoint_slices = [
        endpoint_slice(ONE, ports=HTTP80, name="s1"),
        endpoint_slice(ONE, name="s2"),
        endpoint_slice(ONE, SliceEndpoint(("10.1.0.2",), NOT_READY), name="s3"),
        endpoint_slice(SliceEndpoint(("10.1.0.3",)), ports=HTTP80, name="s4"),
    ]
    entries = Entries(Layout().entries(publish(zone, own, *endpoint_slices).records, zone.name))
    for name, share in shares.items():
        records = answer(entries, zone.name, f"{name}.shop.svc.c.l", "SRV").answers
        assert {int(record.data.split()[1]) for record in records} == {share}, name


def test_one_ptr_per_address_with_two_hostnames() -> None:
    endpoint_slices = [
        endpoint_slice(SliceEndpoint(("10.1.0.1",), hostname="b"), name="s1"),
        endpoint_slice(SliceEndpoint(("10.1.0.1",), hostname="a"), name="s2"),
    ]
    assert summary(publish(ZONE, HEADLESS, *endpoint_slices))[1] == "1.0.1.10 PTR b.web"


def test_endpoint_names_all_adds_endpoints_of_a_cluster_ip_service() -> None:
    one = service(cluster_ip="10.0.0.1", ports=(HTTP,))
    endpoint_slices = [endpoint_slice(ONE, ports=(EndpointPort("http", "TCP", 8080),))]
    (records, pointers, _), more = (
        summary(publish(ZONE, one, *endpoint_slices)),
        summary(publish(ALL, one, *endpoint_slices)),
    )
    endpoint = "10-1-0-1.web A 10.1.0.1, 10-1-0-1.web SRV 0 8080 10-1-0-1.web"
    assert more == (f"{records}, {endpoint}", f"{pointers}, 1.0.1.10 PTR 10-1-0-1.web", [])
    assert publish(ALL, one).left_out == []


@pytest.mark.parametrize(
    ("annotation", "fields", "expected", "reasons"),
    [
        ("10.9.9.9", {}, ["10.9.9.9"], 0),
        ("fd00::9", {}, ["fd00::9"], 0),
        (" 10.9.9.9 , fd00::9", {}, ["10.9.9.9", "fd00::9"], 0),
        ("", {}, ["10.0.0.1"], 0),
        ("None", {}, ["10.0.0.1"], 0),
        ("web", {}, ["10.0.0.1"], 1),
        ("010.1.1.3", {}, ["10.0.0.1"], 1),
        ("10.9.9.9,", {}, ["10.0.0.1"], 1),
        ("10.9.9.9", {"cluster_ips": ("10.0.0.1", "fd00::1")}, ["10.9.9.9"], 0),
        ("None", {"cluster_ip": "None"}, ["10.1.0.1", "-"], 0),
        ("10.9.9.9", {"cluster_ip": "None"}, ["10.9.9.9"], 0),
        (
            "10.9.9.9",
            {"type": "ExternalName", "external_name": "elsewhere.example."},
            ["elsewhere.example."],
            0,
        ),
    ],
)
def test_tenant_cluster_ip(
    annotation: str, fields: dict[str, Any], expected: list[str], reasons: int
) -> None:
    meta = Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: annotation})
    one = Service(meta, **{"cluster_ip": "10.0.0.1", **fields})
    published = publish(ZONE, one, endpoint_slice(ONE))
    lines = text(published.records, ".shop.svc.c.l.").split(", ")
    assert [line.split()[2] for line in lines if line.startswith("web ")] == expected
    assert len(published.left_out) == reasons
    plain = publish(zone_with(tenant_cluster_ip=False), one, endpoint_slice(ONE))
    assert (
        plain.records
        == publish(ZONE, replace(one, metadata=Metadata("shop", "web")), endpoint_slice(ONE)).records
    )


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
def test_dashed(text: str, label: str) -> None:
    assert dashed(parse_address(text)) == label


@LAW
@given(st.ip_addresses())
def test_dashed_address_is_a_label(address: object) -> None:
    label = dashed(parse_address(str(address)))
    assert check_label(label) == label


@LAW
@given(
    services("shop", "web"),
    st.tuples(slices("shop", "s1"), slices("shop", "s2")),
    st.sampled_from([ZONE, ALL]),
)
def test_every_service_has_records_or_a_reason(
    one: Service, endpoint_slices: tuple[EndpointSlice, ...], zone: ClusterZone
) -> None:
    published = publish(zone, one, *(replace(one_slice, service_name="web") for one_slice in endpoint_slices))
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
def test_alias_to_a_computed_pod_name_has_its_address(name: str, address: str | None) -> None:
    """The server follows an alias by reading keys, which bypasses the template that computes addresses."""
    zone = zone_with(pods="insecure")
    cname, *hosts = publish(zone, service(type="ExternalName", external_name=name)).records
    assert str(cname.data) == f"{name}."
    assert [(str(one.name), str(one.data)) for one in hosts] == ([(name, address)] if address else [])
