"""The model of SkyDNS answers from the layout's keys with the records, as far as SkyDNS can."""

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
from tests.skydns_compat.test_layout import neighbours, written
from tests.strategies import LAW, Present, clusters

ZONE = Name.parse("cluster.local")
WEB = Name.parse("web.shop.svc.cluster.local")
HTTP = WEB.child("_http", "_tcp")
A1, A2, A6 = (parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "fd00::1"))
S = "/skydns/local/cluster/svc/shop/web"


def said(keys: dict[bytes, bytes], name: Name | str, qtype: str) -> set[str]:
    answer = skydns_answer(keys, ZONE, name, qtype)
    assert answer.rcode == "NOERROR", f"{name} {qtype}: {answer.rcode}"
    return {one.data for one in answer.answers}


def services_said(keys: dict[bytes, bytes], name: Name) -> set[str]:
    """SRV without weights, which the server computes."""
    found = (data.split() for data in said(keys, name, "SRV"))
    return {f"{priority} {port} {target}" for priority, _, port, target in found}


def made(*records: tuple[Name, Data], ttl: int = 5, layout: SkydnsLayout | None = None) -> dict[bytes, bytes]:
    return (layout or SkydnsLayout()).entries([Record(name, data, ttl) for name, data in records], ZONE)


def a_cluster(layout: SkydnsLayout) -> dict[bytes, bytes]:
    """A Namespace, a Service in it and its reverse name, and a name server."""
    objects: list[list[tuple[Name, Data]]] = [
        [(ZONE, Exists()), (ZONE.child("ns", "dns"), Host(A2))],
        [(ZONE.child("shop", "svc"), Exists())],
        [(WEB, Host(A1)), (WEB, Host(A6)), (WEB, Port(80, WEB)), (HTTP, Port(80, WEB))],
        [(reverse_name(A1), Pointer(WEB))],
    ]
    return {key: value for records in objects for key, value in made(*records, layout=layout).items()}


# --- The law ---------------------------------------------------------------------------------------


def assert_tree(keys: Iterable[bytes]) -> None:
    """No key is a directory of another: etcd's v2 API would refuse it."""
    ordered = sorted(keys)
    directories = {key[: at + 1] for key in ordered for at in range(len(key)) if key[at : at + 1] == b"/"}
    assert not {key + b"/" for key in ordered} & directories


@LAW
@given(clusters(), st.sampled_from(["headless", "all"]))
def test_reader_answers_exactly_what_it_can_of_the_records(cluster: Present, endpoint_names: str) -> None:
    keys, everything = written(SkydnsLayout(), cluster, endpoint_names)
    assert_tree(keys)
    for name, records in everything.items():
        if "any" in name.labels:
            continue  # a wildcard in SkyDNS, which has no rewrites
        if all(isinstance(one.data, Port) and one.data.port == NO_PORT for one in records):
            # SkyDNS cannot express a port without a number, not even as a weight.
            assert skydns_answer(keys, ZONE, name, "SRV") == Answer("NXDOMAIN")
            continue
        if name.labels[-1] == "arpa":
            assert said(keys, name, "PTR") == {str(one.data) for one in records}
            continue
        wanted = {
            qtype: {str(one.data) for one in records if one.rtype == qtype} for qtype in ("A", "AAAA", "TXT")
        }
        # A port's name and an alias answer with the addresses of their targets.
        if not name.labels[0].startswith("_") and not any(isinstance(one.data, Alias) for one in records):
            assert said(keys, name, "A") == wanted["A"], str(name)
            assert said(keys, name, "AAAA") == wanted["AAAA"], str(name)
        assert said(keys, name, "TXT") == wanted["TXT"]
        ports = {str(one.data) for one in records if one.rtype == "SRV"}
        found = services_said(keys, name)
        # SRV also has every value without a port, with port 0.
        assert {one for one in found if one.split()[1] != "0"} == {
            one for one in ports if one.split()[1] != "0"
        }, str(name)
        for qtype in ("CNAME", "MX"):
            assert said(keys, name, qtype) == set()
    above = {Name(name.labels[cut:]) for name in everything for cut in range(len(name.labels))}
    for name in (one for one in {*neighbours(everything)} - above if "any" not in one.labels):
        for qtype in ("A", "AAAA", "SRV", "TXT", "CNAME"):
            assert skydns_answer(keys, ZONE, name, qtype) == Answer("NXDOMAIN"), (str(name), qtype)


# --- The keys --------------------------------------------------------------------------------------


def shape(keys: dict[bytes, bytes]) -> dict[str, Message]:
    """Leaves by their directory, one in each."""
    found = {key.decode().rpartition("/")[0]: decode(value) for key, value in keys.items()}
    assert len(found) == len(keys)
    return found


def leaf(host: object, depth: int, **fields: object) -> Message:
    given_ = {"priority": 65536 * depth, "ttl": 5, "group": f"a{depth}", "owner": "kube2etcd", **fields}
    return Message(host=str(host), **given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "keys"),
    [
        pytest.param([(WEB, Host(A1))], {S: leaf(A1, 5, targetstrip=1)}, id="an address"),
        pytest.param(
            [(WEB, Host(A1)), (WEB, Port(80, WEB)), (HTTP, Port(80, WEB))],
            {S: leaf(A1, 5, port=80, targetstrip=1), f"{S}/_tcp/_http": leaf(WEB, 7, port=80)},
            id="a named port",
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
            id="an endpoint stands for its headless Service too",
        ),
        pytest.param([(WEB, Alias(Name.parse("x.example")))], {S: leaf("x.example", 5)}, id="an alias"),
        pytest.param([(WEB, Text("hello"))], {S: leaf(WEB, 5, text="hello")}, id="a text"),
        pytest.param(
            [(ZONE.child("shop", "svc"), Exists())],
            {"/skydns/local/cluster/svc/shop": leaf("shop.svc.cluster.local", 4)},
            id="a name without data",
        ),
        pytest.param([(WEB, Mail(10, WEB))], {}, id="MX, which SkyDNS does not serve"),
        pytest.param([(WEB, Port(NO_PORT, WEB))], {}, id="a port without a number"),
    ],
)
def test_keys(records: list[tuple[Name, Data]], keys: dict[str, Message]) -> None:
    assert shape(made(*records)) == keys


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("arpa", id="above all reverse names"),
        pytest.param("0.10.in-addr.arpa", id="above some reverse names"),
        pytest.param("1.0.0.10.in-addr.arpa", id="a reverse name"),
        pytest.param("any", id="a wildcard"),
        pytest.param("web.any.svc.any.local", id="wildcards within a name"),
        pytest.param("any.any.any.any.any", id="wildcards only"),
        pytest.param("config", id="SkyDNS's settings"),
        pytest.param("local", id="above the domain"),
        pytest.param("cluster.local", id="the domain"),
        pytest.param("svc.cluster.local", id="above the namespaces"),
        pytest.param("shop.svc.cluster.local", id="a namespace"),
    ],
)
@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV"])
def test_an_alias_never_gives_what_lies_below_its_target(target: str, qtype: str) -> None:
    layout = SkydnsLayout(server=ServerSettings("cluster.local.", ttl=30))
    ours = ZONE.child("alias", "tenant", "svc")
    keys = a_cluster(layout) | made((ours, Alias(Name.parse(target))), layout=layout)
    answer = skydns_answer(keys, ZONE, ours, qtype)
    addresses = {str(A1), str(A2), str(A6)}
    assert answer.rcode == "NOERROR"
    assert not addresses & {one.data for one in (*answer.answers, *answer.additional)}


def test_an_alias_that_must_not_be_followed_has_no_addresses() -> None:
    keys = made((WEB, Host(A1)), (WEB.child("alias"), Alias(WEB, follow=False)))
    assert said(keys, WEB.child("alias"), "A") == set()


def test_a_reverse_name_is_the_value_itself() -> None:
    keys = made((reverse_name(A1), Pointer(WEB)))
    assert keys == {
        b"/skydns/arpa/in-addr/10/0/0/1": b'{"host":"web.shop.svc.cluster.local","ttl":5,"owner":"kube2etcd"}'
    }


def test_leaves_depend_on_their_content_and_not_on_its_ttl() -> None:
    one, other = made((WEB, Host(A1)), ttl=5), made((WEB, Host(A1)), ttl=6)
    assert one.keys() == other.keys()
    assert one != other
    assert not one.keys() & made((WEB, Host(A2))).keys()
    assert list(one) == [f"{S}/Hb70f449506".encode()], (
        "stable across versions, or an upgrade rewrites everything"
    )


def test_endpoints_that_share_an_address_and_a_port_are_all_targets() -> None:
    ends = [WEB.child(label) for label in ("ep2", "ep1", "ep3")]
    records: list[tuple[Name, Data]] = []
    for end in ends:
        records += [(end, Host(A1)), (end, Port(80, end, A1)), (WEB, Host(A1)), (WEB, Port(80, end, A1))]
    keys = made(*records)
    assert services_said(keys, WEB) == {f"0 80 {end}." for end in ends}
    assert keys == made(*reversed(records)), "whatever the order"
    assert said(keys, WEB, "A") == {str(A1)}


def test_a_name_and_one_below_it_share_an_address() -> None:
    below = WEB.child("eth1")
    keys = made((WEB, Host(A1)), (below, Host(A1)), (WEB.child("eth2"), Host(A2)))
    assert said(keys, WEB, "A") == {str(A1)}, "SkyDNS drops neither, since the values differ"


def test_addresses_with_ports_of_their_own() -> None:
    keys = made((WEB, Host(A1)), (WEB, Host(A6)), (WEB, Port(80, WEB, A1)), (WEB, Port(81, WEB, A1)))
    assert services_said(keys, WEB) == {
        "0 80 web.shop.svc.cluster.local.",
        "0 81 web.shop.svc.cluster.local.",
    } | {"0 0 web.shop.svc.cluster.local."}
    assert (said(keys, WEB, "A"), said(keys, WEB, "AAAA")) == ({str(A1)}, {str(A6)})


def test_the_name_server_has_a_name_that_can_be_asked_for() -> None:
    keys = made((ZONE, Exists()), (ZONE.child("ns", "dns"), Host(A1)))
    (target,) = said(keys, ZONE, "NS")
    assert target.endswith(".ns.dns.cluster.local.")
    assert said(keys, target, "A") == {str(A1)}


def test_servers_own_settings() -> None:
    whole = ServerSettings(
        "cluster.local.", "hostmaster.cluster.local.", "0.0.0.0:53", ("192.0.2.53:53",), ttl=30, min_ttl=5
    )

    def config(layout: SkydnsLayout, zone: Name = ZONE) -> dict[str, object] | None:
        written = layout.entries([Record(zone, Exists(), 5)], zone)
        value = written.get(layout.prefix.encode() + b"/config")
        return None if value is None else json.loads(value)

    assert config(SkydnsLayout("/names", "me", whole)) == {
        "domain": "cluster.local.",
        "hostmaster": "hostmaster.cluster.local.",
        "ttl": 30,
        "min_ttl": 5,
        "dns_addr": "0.0.0.0:53",
        "nameservers": ["192.0.2.53:53"],
        "owner": "me",
    }
    bare = SkydnsLayout(server=ServerSettings("cluster.local.", ttl=30))
    assert config(bare) == {"domain": "cluster.local.", "ttl": 30, "owner": "kube2etcd"}
    assert config(bare, Name.parse("other.example")) is None
    assert config(SkydnsLayout()) is None


@pytest.mark.parametrize("name", ["", "svc.", "dns.", "*.", "*.svc.", "any.dns."])
@pytest.mark.parametrize("qtype", ["A", "AAAA", "SRV", "TXT"])
def test_a_name_above_whole_trees_gives_nothing_of_them(name: str, qtype: str) -> None:
    keys = a_cluster(SkydnsLayout(empty=("svc", "dns")))
    answer = skydns_answer(keys, ZONE, f"{name}cluster.local", qtype)
    to_itself = {f"0 100 0 {name.lstrip('*.').removeprefix('any.')}cluster.local."}
    assert (answer.rcode, {one.data for one in answer.answers}) == (
        "NOERROR",
        to_itself if qtype == "SRV" else set(),
    )
    assert answer.additional == ()
    assert said(keys, WEB, "A") == {str(A1)}, "names below still answer"
    assert said(keys, ZONE, "NS")
