"""The SkyDNS model's answers from the layout's keys equal the records, as far as SkyDNS can serve them."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns_compat.message import Message, decode
from skydns_compat.names import Name, parse_address, reverse_name
from skydns_compat.reader import Answer
from skydns_compat.records import NO_PORT, Alias, Data, Exists, Host, Mail, Pointer, Port, Record, Text
from skydns_compat.skydns import ServerSettings, SkydnsLayout, skydns_answer
from tests.skydns_compat.test_layout import neighbours, write
from tests.strategies import LAW, Present, clusters

ZONE = Name.parse("cluster.local")
WEB = Name.parse("web.shop.svc.cluster.local")
HTTP = WEB.child("_http", "_tcp")
A1, A2, A6 = (parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "fd00::1"))
S = "/skydns/local/cluster/svc/shop/web"


def query(keys: dict[bytes, bytes], name: Name | str, qtype: str) -> set[str]:
    answer = skydns_answer(keys, ZONE, name, qtype)
    assert answer.rcode == "NOERROR", f"{name} {qtype}: {answer.rcode}"
    return {one.data for one in answer.answers}


def srv_without_weights(keys: dict[bytes, bytes], name: Name) -> set[str]:
    """SRV answers without weights, which the server computes."""
    found = (data.split() for data in query(keys, name, "SRV"))
    return {f"{priority} {port} {target}" for priority, _, port, target in found}


def entries(
    *records: tuple[Name, Data], ttl: int = 5, layout: SkydnsLayout | None = None
) -> dict[bytes, bytes]:
    return (layout or SkydnsLayout()).entries([Record(name, data, ttl) for name, data in records], ZONE)


def cluster_entries(layout: SkydnsLayout) -> dict[bytes, bytes]:
    """Keys of a Namespace, a Service in it, its PTR, and the name server."""
    objects: list[list[tuple[Name, Data]]] = [
        [(ZONE, Exists()), (ZONE.child("ns", "dns"), Host(A2))],
        [(ZONE.child("shop", "svc"), Exists())],
        [(WEB, Host(A1)), (WEB, Host(A6)), (WEB, Port(80, WEB)), (HTTP, Port(80, WEB))],
        [(reverse_name(A1), Pointer(WEB))],
    ]
    return {key: value for records in objects for key, value in entries(*records, layout=layout).items()}


# --- law: answers equal the records


def assert_tree(keys: Iterable[bytes]) -> None:
    """No key is a directory of another, which etcd's v2 API would refuse."""
    ordered = sorted(keys)
    directories = {key[: at + 1] for key in ordered for at in range(len(key)) if key[at : at + 1] == b"/"}
    assert not {key + b"/" for key in ordered} & directories


@LAW
@given(clusters(), st.sampled_from(["headless", "all"]))
def test_answers_equal_the_records(cluster: Present, endpoint_names: str) -> None:
    keys, by_name = write(SkydnsLayout(), cluster, endpoint_names)
    assert_tree(keys)
    for name, records in by_name.items():
        if "any" in name.labels:
            continue  # a wildcard in SkyDNS, which has no rewrites
        if all(isinstance(one.data, Port) and one.data.port == NO_PORT for one in records):
            # SkyDNS cannot express a port without a number.
            assert skydns_answer(keys, ZONE, name, "SRV") == Answer("NXDOMAIN")
            continue
        if name.labels[-1] == "arpa":
            assert query(keys, name, "PTR") == {str(one.data) for one in records}
            continue
        expected = {
            qtype: {str(one.data) for one in records if one.rtype == qtype} for qtype in ("A", "AAAA", "TXT")
        }
        # Port names and aliases answer with their targets' addresses.
        if not name.labels[0].startswith("_") and not any(isinstance(one.data, Alias) for one in records):
            assert query(keys, name, "A") == expected["A"], str(name)
            assert query(keys, name, "AAAA") == expected["AAAA"], str(name)
        assert query(keys, name, "TXT") == expected["TXT"]
        ports = {str(one.data) for one in records if one.rtype == "SRV"}
        found = srv_without_weights(keys, name)
        # SRV also has values without a port, as port 0.
        assert {one for one in found if one.split()[1] != "0"} == {
            one for one in ports if one.split()[1] != "0"
        }, str(name)
        for qtype in ("CNAME", "MX"):
            assert query(keys, name, qtype) == set()
    above = {Name(name.labels[cut:]) for name in by_name for cut in range(len(name.labels))}
    for name in (one for one in {*neighbours(by_name)} - above if "any" not in one.labels):
        for qtype in ("A", "AAAA", "SRV", "TXT", "CNAME"):
            assert skydns_answer(keys, ZONE, name, qtype) == Answer("NXDOMAIN"), (str(name), qtype)


# --- keys


def by_directory(keys: dict[bytes, bytes]) -> dict[str, Message]:
    """Messages by their key's directory, one in each."""
    found = {key.decode().rpartition("/")[0]: decode(value) for key, value in keys.items()}
    assert len(found) == len(keys)
    return found


def leaf(host: object, depth: int, **fields: object) -> Message:
    values = {"priority": 65536 * depth, "ttl": 5, "group": f"a{depth}", "owner": "kube2etcd", **fields}
    return Message(host=str(host), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "keys"),
    [
        pytest.param([(WEB, Host(A1))], {S: leaf(A1, 5, targetstrip=1)}, id="address"),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Port(80, WEB)), (HTTP, Port(80, WEB))],
            {S: leaf(A1, 5, port=80, targetstrip=1), f"{S}/_tcp/_http": leaf(WEB, 7, port=80)},
            id="named port",
        ),
        pytest.param(
            [
                (WEB.child("ep"), Host(A1)),
                (WEB, Host(A1)),
                (WEB.child("ep"), Port(80, WEB.child("ep"), A1)),
                (WEB, Port(80, WEB.child("ep"), A1)),
                (HTTP, Port(80, WEB.child("ep"), A1)),
            ],
            {
                f"{S}/ep": leaf(A1, 6, port=80, targetstrip=1),
                f"{S}/_tcp/_http": leaf(WEB.child("ep"), 7, port=80),
            },
            id="endpoint, which also serves its headless Service",
        ),
        pytest.param([(WEB, Alias(Name.parse("x.example")))], {S: leaf("x.example", 5)}, id="CNAME"),
        pytest.param([(WEB, Text("hello"))], {S: leaf(WEB, 5, text="hello")}, id="TXT"),
        pytest.param(
            [(ZONE.child("shop", "svc"), Exists())],
            {"/skydns/local/cluster/svc/shop": leaf("shop.svc.cluster.local", 4)},
            id="empty non-terminal",
        ),
        pytest.param([(WEB, Mail(10, WEB))], {}, id="MX, which SkyDNS does not serve"),
        pytest.param([(WEB, Port(NO_PORT, WEB))], {}, id="port without a number"),
    ],
)
def test_keys(records: list[tuple[Name, Data]], keys: dict[str, Message]) -> None:
    assert by_directory(entries(*records)) == keys


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("arpa", id="above all reverse names"),
        pytest.param("0.10.in-addr.arpa", id="above some reverse names"),
        pytest.param("1.0.0.10.in-addr.arpa", id="reverse name"),
        pytest.param("any", id="wildcard"),
        pytest.param("web.any.svc.any.local", id="wildcards within a name"),
        pytest.param("any.any.any.any.any", id="wildcards only"),
        pytest.param("config", id="SkyDNS's settings"),
        pytest.param("local", id="above the domain"),
        pytest.param("cluster.local", id="domain"),
        pytest.param("svc.cluster.local", id="above the namespaces"),
        pytest.param("shop.svc.cluster.local", id="Namespace"),
    ],
)
@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV"])
def test_alias_never_answers_with_names_below_its_target(target: str, qtype: str) -> None:
    layout = SkydnsLayout(server=ServerSettings("cluster.local.", ttl=30))
    alias = ZONE.child("alias", "tenant", "svc")
    keys = cluster_entries(layout) | entries((alias, Alias(Name.parse(target))), layout=layout)
    answer = skydns_answer(keys, ZONE, alias, qtype)
    addresses = {str(A1), str(A2), str(A6)}
    assert answer.rcode == "NOERROR"
    assert not addresses & {one.data for one in (*answer.answers, *answer.additional)}


def test_alias_not_to_follow_has_no_addresses() -> None:
    keys = entries((WEB, Host(A1)), (WEB.child("alias"), Alias(WEB, follow=False)))
    assert query(keys, WEB.child("alias"), "A") == set()


def test_reverse_name_is_stored_at_its_exact_key() -> None:
    keys = entries((reverse_name(A1), Pointer(WEB)))
    assert keys == {
        b"/skydns/arpa/in-addr/10/0/0/1": b'{"host":"web.shop.svc.cluster.local","ttl":5,"owner":"kube2etcd"}'
    }


def test_leaves_depend_on_content_without_ttl() -> None:
    one, other = entries((WEB, Host(A1)), ttl=5), entries((WEB, Host(A1)), ttl=6)
    assert one.keys() == other.keys()
    assert one != other
    assert not one.keys() & entries((WEB, Host(A2))).keys()
    assert list(one) == [f"{S}/Hb70f449506".encode()], "a change would rewrite all keys on an upgrade"


def test_endpoints_with_one_address_and_port_are_all_targets() -> None:
    endpoints = [WEB.child(label) for label in ("ep2", "ep1", "ep3")]
    records: list[tuple[Name, Data]] = []
    for endpoint in endpoints:
        records += [
            (endpoint, Host(A1)),
            (endpoint, Port(80, endpoint, A1)),
            (WEB, Host(A1)),
            (WEB, Port(80, endpoint, A1)),
        ]
    keys = entries(*records)
    assert srv_without_weights(keys, WEB) == {f"0 80 {endpoint}." for endpoint in endpoints}
    assert keys == entries(*reversed(records)), "depends on the order"
    assert query(keys, WEB, "A") == {str(A1)}


def test_name_and_name_below_share_an_address() -> None:
    below = WEB.child("eth1")
    keys = entries((WEB, Host(A1)), (below, Host(A1)), (WEB.child("eth2"), Host(A2)))
    assert query(keys, WEB, "A") == {str(A1)}, "SkyDNS deduplicates by value"


def test_ports_of_one_of_two_addresses() -> None:
    keys = entries((WEB, Host(A1)), (WEB, Host(A6)), (WEB, Port(80, WEB, A1)), (WEB, Port(81, WEB, A1)))
    assert srv_without_weights(keys, WEB) == {
        "0 80 web.shop.svc.cluster.local.",
        "0 81 web.shop.svc.cluster.local.",
    } | {"0 0 web.shop.svc.cluster.local."}
    assert (query(keys, WEB, "A"), query(keys, WEB, "AAAA")) == ({str(A1)}, {str(A6)})


def test_name_server_can_be_resolved() -> None:
    keys = entries((ZONE, Exists()), (ZONE.child("ns", "dns"), Host(A1)))
    (target,) = query(keys, ZONE, "NS")
    assert target.endswith(".ns.dns.cluster.local.")
    assert query(keys, target, "A") == {str(A1)}


def test_config_of_skydns() -> None:
    full = ServerSettings(
        "cluster.local.", "hostmaster.cluster.local.", "0.0.0.0:53", ("192.0.2.53:53",), ttl=30, min_ttl=5
    )

    def config(layout: SkydnsLayout, zone: Name = ZONE) -> dict[str, object] | None:
        found = layout.entries([Record(zone, Exists(), 5)], zone)
        value = found.get(layout.prefix.encode() + b"/config")
        return None if value is None else json.loads(value)

    assert config(SkydnsLayout("/names", "me", full)) == {
        "domain": "cluster.local.",
        "hostmaster": "hostmaster.cluster.local.",
        "ttl": 30,
        "min_ttl": 5,
        "dns_addr": "0.0.0.0:53",
        "nameservers": ["192.0.2.53:53"],
        "owner": "me",
    }
    minimal = SkydnsLayout(server=ServerSettings("cluster.local.", ttl=30))
    assert config(minimal) == {"domain": "cluster.local.", "ttl": 30, "owner": "kube2etcd"}
    assert config(minimal, Name.parse("other.example")) is None
    assert config(SkydnsLayout()) is None


@pytest.mark.parametrize("name", ["", "svc.", "dns.", "*.", "*.svc.", "any.dns."])
@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV", "TXT"])
def test_names_above_services_answer_without_data_below(name: str, qtype: str) -> None:
    keys = cluster_entries(SkydnsLayout(empty=("svc", "dns")))
    answer = skydns_answer(keys, ZONE, f"{name}cluster.local", qtype)
    own_target = {f"0 100 0 {name.lstrip('*.').removeprefix('any.')}cluster.local."}
    assert (answer.rcode, {one.data for one in answer.answers}) == (
        "NOERROR",
        own_target if qtype == "SRV" else set(),
    )
    assert answer.additional == ()
    assert query(keys, WEB, "A") == {str(A1)}, "names below still answer"
    assert query(keys, ZONE, "NS")
