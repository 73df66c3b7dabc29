"""Endpoints to records: what goes together at a name, what the server cannot have, and rings."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from kube2etcd.external import Domain, Endpoint, plain_name
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.zones.base import Published
from kube2etcd.zones.external import MAX_TEXT, ExternalZone, zones_of
from kube2etcd.zones.targets import MAX_ALIASES, parse_targets
from skydns_compat.names import Name, parse_address
from tests.objects import stored

DTK, MY, ONLY_BELOW = Domain.parse("dtk.io"), Domain.parse("mydomain.io"), Domain.parse(".c.d")
IPS = (parse_address("192.0.2.1"), parse_address("2001:db8::1"))
ZONE = ExternalZone(DTK.name, (DTK,), 30, all_domains=(DTK, MY))
AT_CLUSTER = ExternalZone(DTK.name, (DTK,), 30, IPS, all_domains=(DTK, MY))


def end(name: str, rtype: str, *targets: str, ttl: int = 0, **more: object) -> Endpoint:
    return Endpoint(name, targets, rtype, ttl=ttl, **more)  # type: ignore[arg-type]


def publish(name: str, endpoints: Sequence[Endpoint], zone: ExternalZone = ZONE) -> Published:
    return zone.publish(Unit(NAMES, "", name), stored(DnsEndpoint(Metadata("shop", "x"), tuple(endpoints))))


def lines(published: Published) -> list[str]:
    return [f"{record.ttl} {record.rtype} {record.data}" for record in published.records]


def test_the_apex_exists() -> None:
    assert [str(record) for record in ZONE.own().non_terminals] == ["dtk.io. 30 IN NODATA -"]


@pytest.mark.parametrize(
    ("said", "found", "left_out"),
    [
        pytest.param([("A", "10.0.0.5", "10.0.0.6")], ["30 A 10.0.0.5", "30 A 10.0.0.6"], 0, id="addresses"),
        pytest.param(
            [("A", "10.0.0.6"), ("AAAA", "2001:db8:0:0::5")],
            ["30 A 10.0.0.6", "30 AAAA 2001:db8::5"],
            0,
            id="two families",
        ),
        pytest.param(
            [("A", "10.0.0.5"), ("A", "10.0.0.4", "10.0.0.5")],
            ["30 A 10.0.0.4", "30 A 10.0.0.5"],
            0,
            id="sets",
        ),
        pytest.param([("A", "fd00::1", "x", "10.0.0.5")], ["30 A 10.0.0.5"], 2, id="odd addresses"),
        pytest.param([("AAAA", "::ffff:10.0.0.5")], [], 1, id="an IPv4 address written as IPv6"),
        pytest.param([("A",)], [], 1, id="no targets"),
        pytest.param([("CNAME", "Foo.Dtk.io.")], ["30 CNAME foo.dtk.io."], 0, id="alias"),
        pytest.param([("CNAME", "b.x", "a.x")], ["30 CNAME b.x."], 1, id="two aliases: the first one"),
        pytest.param(
            [("CNAME", "b.x"), ("CNAME", "a.x")], ["30 CNAME b.x."], 1, id="two aliases: the older endpoint's"
        ),
        pytest.param([("CNAME", "10.0.0.5")], [], 1, id="alias to an address"),
        pytest.param([("MX", "10 10.0.0.5"), ("SRV", "0 0 1 10.0.0.5")], [], 2, id="address for a name"),
        pytest.param([("MX", "0 ."), ("SRV", "0 0 0 .")], [], 2, id="null MX and SRV"),
        pytest.param(
            [("MX", "10  a.x", "20\tb.x"), ("SRV", " 0  5\t443  a.x ")],
            ["30 SRV 0 5 443 a.x.", "30 MX 10 a.x.", "30 MX 20 b.x."],
            0,
            id="any blanks between numbers",
        ),
        pytest.param(
            [("CNAME", "Bücher.example.")], ["30 CNAME xn--bcher-kva.example."], 0, id="alias in Unicode"
        ),
        pytest.param([("A", "10.0.0.5", "web.x")], ["30 A 10.0.0.5"], 1, id="an address and a host"),
        pytest.param(
            [("TXT", "v=spf1 -all", "heritage=external-dns")], ['30 TXT "v=spf1 -all"'], 0, id="SPF beside"
        ),
        pytest.param(
            [("TXT", '"v=DKIM1; "  "p=AB"', '"c""d"', "k=1\\; p=2", '"\\"q\\""', "\\195\\188")],
            [
                r'30 TXT "\"q\""',
                r'30 TXT "\195\188"',
                '30 TXT "cd"',
                '30 TXT "k=1; p=2"',
                '30 TXT "v=DKIM1; p=AB"',
            ],
            0,
            id="strings and escapes",
        ),
        pytest.param(
            [("TXT", '"a" b', '"a', "\\256", "\\255", "a\\\\b", "a\\")],
            [],
            6,
            id="broken strings and escapes",
        ),
        pytest.param([("CNAME", "x"), ("A", "10.0.0.5")], ["30 A 10.0.0.5"], 1, id="addresses win"),
        pytest.param(
            [("CNAME", "a.x"), ("TXT", "t"), ("PTR", "p.x")], ["30 CNAME a.x."], 2, id="an alias stands alone"
        ),
        pytest.param([("CNAME", "*.x")], [], 1, id="alias to no name"),
        pytest.param(
            [("CNAME", "any.any.dtk.io"), ("TXT", "t")], ['30 TXT "t"'], 1, id="alias to what is not asked"
        ),
        pytest.param([("CNAME", "any.any.io")], ["30 CNAME any.any.io."], 0, id="any twice elsewhere"),
        pytest.param([("TXT", '"v=spf1 -all"', "b")], ['30 TXT "b"', '30 TXT "v=spf1 -all"'], 0, id="texts"),
        pytest.param([("TXT", '"a" "b"')], ['30 TXT "ab"'], 0, id="a text in pieces"),
        pytest.param(
            [("TXT", '""', "a\\b", "\x07", "x" * (MAX_TEXT + 1), "x" * 65536)],
            [],
            5,
            id="texts that would be lost",
        ),
        pytest.param([("SRV", "10 5 443 a.x.")], ["30 SRV 10 5 443 a.x."], 0, id="SRV"),
        pytest.param([("SRV", "5 443 a.x", "1 2 65536 a.x", "a b c d", "", "1 2 3 .")], [], 5, id="odd SRV"),
        pytest.param([("MX", "10 mail.x")], ["30 MX 10 mail.x."], 0, id="MX"),
        pytest.param([("MX", "10", f"10 {'a.' * 120}x")], [], 2, id="odd MX"),
        pytest.param([("PTR", "b.x", "a.x")], ["30 PTR a.x."], 1, id="one PTR"),
        pytest.param([("NS", "ns.x")], [], 1, id="NS"),
        pytest.param([("CAA", "0 issue x")], [], 1, id="unknown type"),
        pytest.param([("TXT", "heritage=external-dns,external-dns/owner=me")], [], 0, id="bookkeeping"),
    ],
)
def test_what_a_name_has(said: list[tuple[str, ...]], found: list[str], left_out: int) -> None:
    endpoints = [end("a.dtk.io", rtype, *targets) for rtype, *targets in said]
    published = publish("a.dtk.io", endpoints)
    assert (lines(published), len(published.left_out)) == (found, left_out), published.left_out
    assert published.non_terminals == []


def test_the_order_of_endpoints_does_not_matter() -> None:
    said = [
        end("a.dtk.io", "A", "10.0.0.5", ttl=9),
        end("a.dtk.io", "A", "10.0.0.4", ttl=7),
        end("a.dtk.io", "TXT", "t"),
    ]
    assert publish("a.dtk.io", said).records == publish("a.dtk.io", said[::-1]).records


@pytest.mark.parametrize(
    ("ttls", "expected"),
    [
        ((0,), ["30 A 10.0.0.1"]),
        ((120, 60), ["60 A 10.0.0.1"]),
        ((0, 60), ["30 A 10.0.0.1"]),
        ((-1,), []),
        ((2**31,), []),
    ],
)
def test_one_ttl_for_a_type(ttls: tuple[int, ...], expected: list[str]) -> None:
    published = publish("a.dtk.io", [end("a.dtk.io", "A", "10.0.0.1", ttl=ttl) for ttl in ttls])
    assert lines(published) == expected


def test_the_names_between_exist() -> None:
    published = publish("a.b.c.dtk.io", [end("A.B.c.dtk.io.", "A", "10.0.0.1")])
    assert [str(record.name) for record in published.non_terminals] == ["b.c.dtk.io", "c.dtk.io"]
    assert publish("a.b.dtk.io", [end("a.b.dtk.io", "NS", "ns.x")]).non_terminals == []


@pytest.mark.parametrize(
    ("name", "zone", "reason"),
    [
        ("*.dtk.io", ZONE, "wildcard"),
        ("a-*.dtk.io", ZONE, "label"),
        ("any.any.dtk.io", ZONE, "cannot be asked"),
        (".".join(["x" * 60] * 4 + ["dtk.io"]), ZONE, "cannot be asked"),
        (
            "web.svc.dtk.io",
            ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("svc.dtk.io"), DTK.name)),
            "zone svc.dtk.io",
        ),
        ("a.dtk.io", ExternalZone(DTK.name, (DTK,), service_zones=(DTK.name,)), "zone dtk.io"),
        ("a.dtk.io", ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("io"),)), ""),
        ("a.mydomain.io", ZONE, ""),
        ("c.d", ExternalZone(ONLY_BELOW.name, (ONLY_BELOW,)), ""),
        ("x.c.d", ExternalZone(ONLY_BELOW.name, (ONLY_BELOW,)), ""),
    ],
)
def test_which_names_are_ours(name: str, zone: ExternalZone, reason: str) -> None:
    published = publish(name, [end(name, "A", "10.0.0.1")], zone)
    if reason:
        assert reason in published.left_out[0]
    else:
        assert not published.left_out
    assert bool(published.records) == (name in ("a.dtk.io", "x.c.d") and not reason)


RING = [
    end("a.dtk.io", "CNAME", "b.dtk.io", ttl=7),
    end("b.dtk.io", "CNAME", "c.mydomain.io"),
    end("c.mydomain.io", "CNAME", "a.dtk.io"),
    end("into.dtk.io", "CNAME", "a.dtk.io"),
    end("self.dtk.io", "CNAME", "self.dtk.io"),
    end("self.dtk.io", "TXT", "t"),
    end("self.dtk.io", "TXT", "heritage=external-dns"),
    end("fine.dtk.io", "CNAME", "end.dtk.io"),
    end("end.dtk.io", "TXT", "heritage=external-dns"),
    end("end.dtk.io", "A", "10.0.0.1"),
    end("end.dtk.io", "CNAME", "fine.dtk.io"),
]


@pytest.mark.parametrize(
    ("name", "found", "at_cluster"),
    [
        ("a.dtk.io", [], ["7 A 192.0.2.1", "7 AAAA 2001:db8::1"]),
        ("b.dtk.io", [], ["30 A 192.0.2.1", "30 AAAA 2001:db8::1"]),
        ("into.dtk.io", ["30 CNAME a.dtk.io."], ["30 CNAME a.dtk.io."]),
        ("self.dtk.io", ['30 TXT "t"'], ["30 A 192.0.2.1", "30 AAAA 2001:db8::1", '30 TXT "t"']),
        ("fine.dtk.io", ["30 CNAME end.dtk.io."], ["30 CNAME end.dtk.io."]),
        ("end.dtk.io", ["30 A 10.0.0.1"], ["30 A 10.0.0.1"]),
    ],
)
def test_rings(name: str, found: list[str], at_cluster: list[str]) -> None:
    assert lines(publish(name, RING)) == found
    assert lines(publish(name, RING, AT_CLUSTER)) == at_cluster


@pytest.mark.parametrize("closed", [False, True])
def test_aliases_are_followed_so_far_and_no_farther(closed: bool) -> None:
    count = MAX_ALIASES + 5
    links = [end(f"a{number}.dtk.io", "CNAME", f"a{number + 1}.dtk.io") for number in range(count)]
    links.append(end(f"a{count}.dtk.io", *(("CNAME", "a0.dtk.io") if closed else ("A", "10.0.0.1"))))
    asked: list[str] = []

    class Counted(Store):
        def endpoints(self, name: str) -> list[Endpoint]:
            asked.append(name)
            return [one for one in links if one.name == name]

    far = AT_CLUSTER.publish(Unit(NAMES, "", "a0.dtk.io"), Counted())
    assert (far.records, far.left_out) == ([], [f"a0.dtk.io leads through more than {MAX_ALIASES} aliases"])
    assert len(asked) == MAX_ALIASES + 1
    near = publish("a5.dtk.io", links, AT_CLUSTER)
    assert bool(near.records) is not closed


@pytest.mark.parametrize(
    ("target", "known", "published"),
    [
        ("x.svc.cluster.local", [], False),
        ("b.mydomain.io", [], False),
        ("b.mydomain.io", [end("b.mydomain.io", "A", "10.0.0.1")], True),
        ("b.dtk.io", [], True),
        ("b.example", [], True),
    ],
)
def test_where_an_alias_may_lead(target: str, known: list[Endpoint], published: bool) -> None:
    zone = ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("cluster.local"),), all_domains=(DTK, MY))
    found = publish("a.dtk.io", [end("a.dtk.io", "CNAME", target), *known], zone)
    assert (bool(found.records), bool(found.left_out)) == (published, not published)


@pytest.mark.parametrize(
    ("domains", "zones"),
    [
        ([], {}),
        (["dtk.io"], {"dtk.io": ["dtk.io"]}),
        (["a.dtk.io", "dtk.io", ".b.dtk.io"], {"dtk.io": ["dtk.io", "a.dtk.io", ".b.dtk.io"]}),
        ([".dtk.io", "dtk.io"], {"dtk.io": ["dtk.io", ".dtk.io"]}),
        (["x.y", ".c.d"], {"c.d": [".c.d"], "x.y": ["x.y"]}),
    ],
)
def test_zones_are_the_outermost_domains(domains: list[str], zones: dict[str, list[str]]) -> None:
    found = zones_of(Domain.parse(text) for text in domains)
    assert {str(zone): [str(one) for one in mine] for zone, mine in found.items()} == zones
    assert all(plain_name(str(zone)) == str(zone) for zone in found)


def test_what_a_tenant_writes_large_is_not_remembered() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            text = f"{number}-".ljust(50_000, "x")
            assert parse_targets("TXT", (text,)).data
            assert plain_name(f"ü{text}") == f"ü{text}"
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
