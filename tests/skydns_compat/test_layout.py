"""Answers from the layout's keys equal the records; keys map back to names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from kube2etcd.kube.objects import EndpointPort, EndpointSlice, Metadata, Pod, Service, SliceEndpoint
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.corefile import CorefileSettings, blocks
from skydns_compat.layout import PRIORITY_ZERO, Layout
from skydns_compat.message import Message, decode
from skydns_compat.names import Address, Name, parse_address, reverse_name
from skydns_compat.reader import Answer, Entries, Rr
from skydns_compat.reader_served import served_answer
from skydns_compat.records import NO_PORT, Alias, Data, Exists, Host, Mail, Pointer, Port, Record, Srv, Text
from tests.objects import store_of
from tests.skydns_compat.test_names import NAMES
from tests.strategies import LAW, NAMESPACES, SERVICES, Present, clusters
from tests.zones.published import publish

ZONE = Name.parse("cluster.local")
RULES = blocks(CorefileSettings(ZONE, pods="verified", upstream="none"))
TYPES = ("A", "AAAA", "CNAME", "SRV", "TXT", "PTR")
WEB = Name.parse("web.shop.svc.cluster.local")
A1, A2, A6 = (parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "fd00::1"))

Keys = dict[bytes, bytes]


def write(layout: Layout, cluster: Present, endpoint_names: str) -> tuple[Keys, dict[Name, list[Record]]]:
    """The keys of a cluster, checked to be of names with records, and the records by name.

    Only uncontested PTR records, and no Pods, since two may share a name.
    """
    zone = ClusterZone(ZONE, endpoint_names=endpoint_names, pods="verified", dns_server_ips=(A2,))
    store = store_of(*(one for one in cluster.values() if not isinstance(one, Pod)))
    units = [zone.own(), *(zone.publish(unit, store) for unit in store.units())]
    pointers: dict[Name, Record] = {}
    for pointer in (one for unit in units for one in unit.pointers):
        pointers.setdefault(pointer.name, pointer)
    keys: Keys = {}
    by_name: dict[Name, list[Record]] = {}
    for records in [*(unit.records for unit in units), *([one] for one in pointers.values())]:
        made = layout.entries(records, ZONE)
        assert not keys.keys() & made.keys()
        keys |= made
        names = {record.name for record in records}
        for found in map(layout.name, made):
            assert found is not None
            # Endpoints of a named port are below the port's name.
            assert found in names or Name(found.labels[1:]) in names or found == ZONE.child("apex", "dns")
        for record in records:
            by_name.setdefault(record.name, []).append(record)
    return keys, by_name


def expected(records: list[Record], qtype: str) -> set[str]:
    """The TTL and data of a name's own records of that type."""
    return {f"{one.ttl} {one.data}" for one in records if one.rtype == qtype}


def without_weight(answer: Rr) -> str:
    """TTL and data of an answer; tests/stack/compare.py compares the weights of SRV."""
    priority, _, port, target = answer.data.split() if answer.rtype == "SRV" else [""] * 4
    return f"{answer.ttl} {priority} {port} {target}" if target else f"{answer.ttl} {answer.data}"


def neighbours(names: Iterable[Name]) -> Iterator[Name]:
    """Names close to those of the records."""
    services = ZONE.child("svc")
    for namespace in (*NAMESPACES, "gone"):
        yield Name((namespace, *services.labels))
        for service in (*SERVICES, "gone"):
            name = Name((service, namespace, *services.labels))
            yield name
            yield from (Name((label, *name.labels)) for label in ("gone", "ep1", "_quic"))
            yield from (Name((port, "_tcp", *name.labels)) for port in ("_gone", "_http"))
    for name in names:
        if name.below(services) and len(name.labels) > len(services.labels) + 1:
            yield Name(("gone", *name.labels))


@LAW
@given(clusters(), st.sampled_from(["headless", "all"]))
def test_answers_equal_the_records(cluster: Present, endpoint_names: str) -> None:
    keys, by_name = write(Layout(), cluster, endpoint_names)
    entries = Entries(keys)
    for name, records in by_name.items():
        alias = any(isinstance(record.data, Alias) for record in records)
        # An alias answers with its target's records, from anywhere, and a PTR question with its PTR.
        for qtype in ("CNAME", "SRV") if alias else TYPES:
            if name.labels[0].startswith("_") and qtype in ("A", "AAAA"):
                # The server also returns the port's addresses.
                continue
            if name.labels[-1] == "arpa" and qtype != "PTR":
                # Reverse zones answer PTR only.
                continue
            response = served_answer(entries, RULES, name, qtype)
            assert response.rcode == "NOERROR", (str(name), qtype)
            assert {one.name for one in response.answers} <= {f"{name}."}
            found = Counter(map(without_weight, response.answers))
            assert found == Counter(expected(records, qtype)), (str(name), qtype)
    for name in set(neighbours(by_name)) - by_name.keys():
        for qtype in TYPES:
            assert served_answer(entries, RULES, name, qtype) == Answer("NXDOMAIN"), (str(name), qtype)


S = "/skydns/local/cluster/svc/shop/web"


def host(address: Address, **fields: object) -> Message:
    values = {
        "priority": PRIORITY_ZERO,
        "ttl": 5,
        "targetstrip": 1,
        "group": "a5",
        "port": NO_PORT,
        **fields,
    }
    return convert({"host": str(address), "owner": "kube2etcd", **values}, Message)


MARKER = Message(owner="kube2etcd")


def alias(target: str, followed: str) -> dict[str, Message]:
    """The keys of an alias: for CNAME, and for all other types."""
    return {
        key: Message(host=to, port=NO_PORT, ttl=5, owner="kube2etcd")
        for key, to in ((S, target), (f"{S}/C", followed))
    }


@pytest.mark.parametrize(
    ("records", "keys"),
    [
        pytest.param([(WEB, Host(A1))], {S: MARKER, f"{S}/10-0-0-1-H": host(A1)}, id="address"),
        pytest.param(
            [(WEB, Host(A6, 0)), (WEB, Host(A1, 1))],
            {S: MARKER, f"{S}/00-fd00--1-H": host(A6), f"{S}/01-10-0-0-1-H": host(A1)},
            id="addresses in order",
        ),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Port(80, WEB))],
            {S: MARKER, f"{S}/10-0-0-1-P80": host(A1, port=80)},
            id="unnamed port",
        ),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Port(80, WEB)), (WEB.child("_http", "_tcp"), Port(80, WEB))],
            {
                S: MARKER,
                f"{S}/_tcp/_http": MARKER,
                f"{S}/_tcp/_http/10-0-0-1-P80": host(A1, port=80, targetstrip=3),
            },
            id="named port, which also serves the Service",
        ),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Port(53, WEB)), (WEB, Port(53, WEB))],
            {S: MARKER, f"{S}/10-0-0-1-P53": host(A1, port=53), f"{S}/10-0-0-1-P53-2": host(A1, port=53)},
            id="one number, two protocols",
        ),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Host(A2)), (WEB, Port(80, WEB, A1))],
            {S: MARKER, f"{S}/10-0-0-1-P80": host(A1, port=80), f"{S}/10-0-0-2-H": host(A2)},
            id="port of one address",
        ),
        pytest.param(
            [(WEB, Alias(Name.parse("any.example")))], alias("any.example", "any.example"), id="CNAME"
        ),
        pytest.param(
            [(WEB, Alias(Name.parse("shop.svc.cluster.local"), follow=False))],
            alias("shop.svc.cluster.local", "m.web.shop.svc.cluster.local"),
            id="CNAME not to follow",
        ),
        pytest.param(
            [(reverse_name(A1), Pointer(WEB))],
            {"/skydns/arpa/in-addr/10/0/0/1": Message(host=str(WEB), ttl=5, owner="kube2etcd")},
            id="PTR",
        ),
        pytest.param(
            [(WEB, Text("hello"))],
            {S: MARKER, f"{S}/T": Message(text="hello", ttl=5, owner="kube2etcd")},
            id="TXT",
        ),
        pytest.param(
            [(ZONE, Exists())],
            {"/skydns/local/cluster": MARKER, "/skydns/local/cluster/dns/apex": MARKER},
            id="apex",
        ),
        pytest.param(
            [(ZONE.child("shop", "svc"), Exists())],
            {"/skydns/local/cluster/nt_/svc/shop": MARKER},
            id="empty non-terminal",
        ),
        pytest.param(
            [(WEB, Exists(guarded=True))],
            {
                S: MARKER,
                f"{S}/M": Message(
                    host="m.web.shop.svc.cluster.local", port=NO_PORT, group="a5", owner="kube2etcd"
                ),
            },
            id="guarded name",
        ),
        pytest.param(
            [(ZONE.child("ns", "dns"), Exists(guarded=True))],
            {"/skydns/local/cluster/dns/ns": MARKER},
            id="guarded ns.dns",
        ),
    ],
)
def test_keys(records: list[tuple[Name, Data]], keys: dict[str, Message]) -> None:
    made = Layout().entries([Record(name, data, 5) for name, data in records], ZONE)
    assert {key.decode(): decode(value) for key, value in made.items()} == keys


def test_names_above_others_have_their_data_below_nt() -> None:
    zone = Name.parse("shop.example")
    above = Record(zone.child("ns"), Host(A1), 5)
    made = Layout().entries([Record(zone.child("staging"), Exists(), 5), above], zone, above=1)
    assert made.keys() == {
        b"/skydns/example/shop/nt_/staging",
        b"/skydns/example/shop/nt_/ns",
        b"/skydns/example/shop/nt_/ns/10-0-0-1-H",
    }
    assert b"/skydns/example/shop/web/staging" in Layout().entries(
        [Record(zone.child("staging", "web"), Host(A1), 5)], zone, above=1
    )


@pytest.mark.parametrize("prefix", ["/names", "names", "/names/", "names/"])
def test_prefix(prefix: str) -> None:
    layout = Layout(prefix, "me")
    assert layout.key(ZONE) == b"/names/local/cluster"
    assert layout.zone_range(ZONE) == b"/names/local/cluster/"
    assert layout.entries([Record(WEB, Host(A1), 5)], ZONE)[layout.key(WEB)] == b'{"owner":"me"}'


@LAW
@given(NAMES, st.sampled_from(["", "T", "10-0-0-1-H", "A"]))
def test_keys_map_back_to_names(name: Name, leaf: str) -> None:
    assert Layout().name(Layout().key(name, leaf)) == name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (b"/skydns/local/cluster/nt_/svc/shop", "shop.svc.cluster.local"),
        (b"/skydns/local", "local"),
        (b"/skydns", None),
        (b"/skydns/", None),
        (b"/other/skydns/local", None),
        (b"/skydns/local//web", None),
        (b"/skydns/local/a b", None),
        (b"/skydns/local/\xff", None),
        (b"/skydns/A", None),
    ],
)
def test_name_of_foreign_keys(key: bytes, name: str | None) -> None:
    found = Layout().name(key)
    assert (found and str(found)) == name


def test_apex_of_a_zone_below_a_label_dns() -> None:
    zone = Name.parse("k8s.dns.example")
    assert b"/skydns/example/dns/k8s/dns/apex" in Layout().entries([Record(zone, Exists(), 5)], zone)


def test_port_without_a_number_has_addresses_and_counts_in_weights() -> None:
    slices = [
        EndpointSlice(
            Metadata("shop", f"s{number}"),
            "web",
            "IPv4",
            (EndpointPort("x", "TCP", 80 if number == 1 else None),),
            (SliceEndpoint((f"10.1.0.{number}",)),),
        )
        for number in (1, 2)
    ]
    service = Service(Metadata("shop", "web"), cluster_ip="None")
    records = publish(ClusterZone(ZONE), service, *slices).records
    entries = Entries(Layout().entries(records, ZONE))
    for name in (WEB, WEB.child("_x", "_tcp")):
        hosts = {one.data for one in served_answer(entries, RULES, name, "A").answers}
        assert hosts == {"10.1.0.1", "10.1.0.2"}
        ports = [one.data for one in served_answer(entries, RULES, name, "SRV").answers]
        assert ports == [f"0 50 80 10-1-0-1.{WEB}."]


def test_port_shared_with_a_name_below() -> None:
    endpoint, http = WEB.child("ep"), WEB.child("_http", "_tcp")
    data: list[tuple[Name, Data]] = [
        (WEB, Host(A1)),
        (endpoint, Host(A2)),
        (http, Port(80, WEB)),
        (http, Port(81, endpoint)),
    ]
    made = Layout().entries([Record(name, one, 5) for name, one in data], ZONE)
    assert f"{S}/_tcp/_http/10-0-0-1-P80".encode() in made
    assert f"{S}/_tcp/_http/ep/10-0-0-2-P81".encode() in made
    assert f"{S}/_tcp/_http/10-0-0-1-P81".encode() not in made


@pytest.mark.parametrize("data", [Srv(0, 0, 80, WEB), Mail(0, WEB)])
def test_types_of_external_domains_are_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="only names of external domains"):
        Layout().entries([Record(WEB, data, 5)], ZONE)
