"""Endpoints to records: types that exclude each other, unpublishable values, and CNAME loops."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from kube2etcd.external import Domain, Endpoint, plain_name
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.zones.base import Published
from kube2etcd.zones.external import MAX_ANSWER_TEXT, ExternalZone, zones_of
from kube2etcd.zones.targets import MAX_ALIASES, parse_targets
from skydns_compat.names import Name, parse_address
from tests.objects import store_of

DTK, MY, ONLY_BELOW = Domain.parse("dtk.io"), Domain.parse("mydomain.io"), Domain.parse(".c.d")
IPS = (parse_address("192.0.2.1"), parse_address("2001:db8::1"))
ZONE = ExternalZone(DTK.name, (DTK,), 30, all_domains=(DTK, MY))
WITH_CLUSTER_IPS = ExternalZone(DTK.name, (DTK,), 30, IPS, all_domains=(DTK, MY))


def endpoint(name: str, rtype: str, *targets: str, ttl: int = 0, **more: object) -> Endpoint:
    return Endpoint(name, targets, rtype, ttl=ttl, **more)  # type: ignore[arg-type]


def publish(name: str, endpoints: Sequence[Endpoint], zone: ExternalZone = ZONE) -> Published:
    return zone.publish(Unit(NAMES, "", name), store_of(DnsEndpoint(Metadata("shop", "x"), tuple(endpoints))))


def records(published: Published) -> str:
    return ", ".join(f"{one.ttl} {one.rtype} {one.data}" for one in published.records)


#: Types with targets, the resulting records, and the number of reasons for what is left out.
CASES: list[tuple[str, list[tuple[str, ...]], str, int]] = [
    ("addresses", [("A", "10.0.0.5", "10.0.0.6")], "A 10.0.0.5, A 10.0.0.6", 0),
    ("two families", [("A", "10.0.0.6"), ("AAAA", "2001:db8:0:0::5")], "A 10.0.0.6, AAAA 2001:db8::5", 0),
    ("set identifiers", [("A", "10.0.0.5"), ("A", "10.0.0.4", "10.0.0.5")], "A 10.0.0.4, A 10.0.0.5", 0),
    ("invalid addresses", [("A", "fd00::1", "x", "10.0.0.5")], "A 10.0.0.5", 2),
    ("IPv4-mapped IPv6 address", [("AAAA", "::ffff:10.0.0.5")], "", 1),
    ("no targets", [("A",)], "", 1),
    ("CNAME", [("CNAME", "Foo.Dtk.io.")], "CNAME foo.dtk.io.", 0),
    ("two CNAME targets: the first", [("CNAME", "b.x", "a.x")], "CNAME b.x.", 1),
    ("two CNAME endpoints: the older", [("CNAME", "b.x"), ("CNAME", "a.x")], "CNAME b.x.", 1),
    ("CNAME to an address", [("CNAME", "10.0.0.5")], "", 1),
    ("MX and SRV to an address", [("MX", "10 10.0.0.5"), ("SRV", "0 0 1 10.0.0.5")], "", 2),
    ("null MX and SRV", [("MX", "0 ."), ("SRV", "0 0 0 .")], "", 2),
    (
        "any white space between numbers",
        [("MX", "10  a.x", "20\tb.x"), ("SRV", " 0  5\t443  a.x ")],
        "SRV 0 5 443 a.x., MX 10 a.x., MX 20 b.x.",
        0,
    ),
    ("CNAME in Unicode", [("CNAME", "Bücher.example.")], "CNAME xn--bcher-kva.example.", 0),
    ("address and hostname as A", [("A", "10.0.0.5", "web.x")], "A 10.0.0.5", 1),
    (
        "TXT beside ExternalDNS's registry",
        [("TXT", "v=spf1 -all", "heritage=external-dns")],
        'TXT "v=spf1 -all"',
        0,
    ),
    (
        "TXT strings and escapes",
        [("TXT", '"v=DKIM1; "  "p=AB"', '"c""d"', "k=1\\; p=2", '"\\"q\\""', "\\195\\188")],
        r'''TXT "\"q\"", TXT "\195\188", TXT "cd", TXT "k=1; p=2", TXT "v=DKIM1; p=AB"''',
        0,
    ),
    (
        "malformed TXT strings and escapes",
        [("TXT", '"a" b', '"a', "\\256", "\\255", "a\\\\b", "a\\")],
        "",
        6,
    ),
    ("addresses beat a CNAME", [("CNAME", "x"), ("A", "10.0.0.5")], "A 10.0.0.5", 1),
    ("CNAME excludes other types", [("CNAME", "a.x"), ("TXT", "t"), ("PTR", "p.x")], "CNAME a.x.", 2),
    ("CNAME to a wildcard", [("CNAME", "*.x")], "", 1),
    ("CNAME to a name that cannot be queried", [("CNAME", "any.any.dtk.io"), ("TXT", "t")], 'TXT "t"', 1),
    ("CNAME to any.any outside our domains", [("CNAME", "any.any.io")], "CNAME any.any.io.", 0),
    ("TXT", [("TXT", '"v=spf1 -all"', "b")], 'TXT "b", TXT "v=spf1 -all"', 0),
    ("TXT of several strings", [("TXT", '"a" "b"')], 'TXT "ab"', 0),
    ("unpublishable TXT", [("TXT", '""', "a\\b", "\x07", "x" * (MAX_ANSWER_TEXT + 1), "x" * 65536)], "", 5),
    ("SRV", [("SRV", "10 5 443 a.x.")], "SRV 10 5 443 a.x.", 0),
    ("invalid SRV", [("SRV", "5 443 a.x", "1 2 65536 a.x", "a b c d", "", "1 2 3 .")], "", 5),
    ("MX", [("MX", "10 mail.x")], "MX 10 mail.x.", 0),
    ("MX with leading zeros", [("MX", "0000080 a.x", "00000000 b.x")], "MX 0 b.x., MX 80 a.x.", 0),
    ("invalid MX", [("MX", "10", f"10 {'a.' * 120}x")], "", 2),
    ("two PTR targets: the first by name", [("PTR", "b.x", "a.x")], "PTR a.x.", 1),
    ("NS", [("NS", "ns.x")], "", 1),
    ("unknown type", [("CAA", "0 issue x")], "", 1),
    ("unknown type of any length", [("Q" * 1000, "x")], "", 1),
    ("ExternalDNS's registry only", [("TXT", "heritage=external-dns,external-dns/owner=me")], "", 0),
]


@pytest.mark.parametrize(
    ("given", "expected", "left_out"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_records_of_a_name(given: list[tuple[str, ...]], expected: str, left_out: int) -> None:
    published = publish("a.dtk.io", [endpoint("a.dtk.io", rtype, *targets) for rtype, *targets in given])
    assert records(published).replace("30 ", "") == expected
    assert len(published.left_out) == left_out, published.left_out
    assert published.non_terminals == []


@pytest.mark.parametrize(
    ("ttls", "expected"),
    [
        ((0,), "30 A 10.0.0.1"),
        ((120, 60), "60 A 10.0.0.1"),
        ((0, 60), "30 A 10.0.0.1"),
        ((-1,), ""),
        ((2**31,), ""),
    ],
)
def test_smallest_ttl_of_a_type(ttls: tuple[int, ...], expected: str) -> None:
    assert (
        records(publish("a.dtk.io", [endpoint("a.dtk.io", "A", "10.0.0.1", ttl=ttl) for ttl in ttls]))
        == expected
    )


def test_names_in_between_are_non_terminals() -> None:
    published = publish("a.b.c.dtk.io", [endpoint("A.B.c.dtk.io.", "A", "10.0.0.1")])
    assert [str(record.name) for record in published.non_terminals] == ["b.c.dtk.io", "c.dtk.io"]
    assert publish("a.b.dtk.io", [endpoint("a.b.dtk.io", "NS", "ns.x")]).non_terminals == []


@pytest.mark.parametrize(
    ("name", "zone", "reason"),
    [
        ("*.dtk.io", ZONE, "wildcard"),
        ("a-*.dtk.io", ZONE, "label"),
        ("any.any.dtk.io", ZONE, "cannot be queried"),
        (".".join(["x" * 60] * 4 + ["dtk.io"]), ZONE, "cannot be queried"),
        (
            "web.svc.dtk.io",
            ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("svc.dtk.io"), DTK.name)),
            "zone svc.dtk.io",
        ),
        ("a.dtk.io", ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("io"),)), ""),
        ("a.mydomain.io", ZONE, ""),
        ("c.d", ExternalZone(ONLY_BELOW.name, (ONLY_BELOW,)), ""),
        ("x.c.d", ExternalZone(ONLY_BELOW.name, (ONLY_BELOW,)), ""),
    ],
)
def test_names_that_a_zone_publishes(name: str, zone: ExternalZone, reason: str) -> None:
    published = publish(name, [endpoint(name, "A", "10.0.0.1")], zone)
    if reason:
        assert reason in published.left_out[0]
    else:
        assert not published.left_out
    assert bool(published.records) == (name in ("a.dtk.io", "x.c.d") and not reason)


LOOPS = [
    endpoint("a.dtk.io", "CNAME", "b.dtk.io", ttl=7),
    endpoint("b.dtk.io", "CNAME", "c.mydomain.io"),
    endpoint("c.mydomain.io", "CNAME", "a.dtk.io"),
    endpoint("into.dtk.io", "CNAME", "a.dtk.io"),
    endpoint("self.dtk.io", "CNAME", "self.dtk.io"),
    endpoint("self.dtk.io", "TXT", "t"),
    endpoint("self.dtk.io", "TXT", "heritage=external-dns"),
    endpoint("fine.dtk.io", "CNAME", "end.dtk.io"),
    endpoint("end.dtk.io", "TXT", "heritage=external-dns"),
    endpoint("end.dtk.io", "A", "10.0.0.1"),
    endpoint("end.dtk.io", "CNAME", "fine.dtk.io"),
]


@pytest.mark.parametrize(
    ("name", "expected", "with_cluster_ips"),
    [
        ("a.dtk.io", "", "7 A 192.0.2.1, 7 AAAA 2001:db8::1"),
        ("b.dtk.io", "", "30 A 192.0.2.1, 30 AAAA 2001:db8::1"),
        ("into.dtk.io", "30 CNAME a.dtk.io.", "30 CNAME a.dtk.io."),
        ("self.dtk.io", '30 TXT "t"', '30 A 192.0.2.1, 30 AAAA 2001:db8::1, 30 TXT "t"'),
        ("fine.dtk.io", "30 CNAME end.dtk.io.", "30 CNAME end.dtk.io."),
        ("end.dtk.io", "30 A 10.0.0.1", "30 A 10.0.0.1"),
    ],
)
def test_cname_loops(name: str, expected: str, with_cluster_ips: str) -> None:
    alone, published = publish(name, LOOPS), publish(name, LOOPS, WITH_CLUSTER_IPS)
    assert (records(alone), records(published)) == (expected, with_cluster_ips)
    assert ("in a CNAME loop" in str(alone.left_out)) is (expected != with_cluster_ips)
    assert "in a CNAME loop" not in str(published.left_out)


@pytest.mark.parametrize("closed", [False, True])
def test_aliases_are_followed_up_to_a_limit(closed: bool) -> None:
    count = MAX_ALIASES + 5
    links = [endpoint(f"a{number}.dtk.io", "CNAME", f"a{number + 1}.dtk.io") for number in range(count)]
    links.append(endpoint(f"a{count}.dtk.io", *(("CNAME", "a0.dtk.io") if closed else ("A", "10.0.0.1"))))
    lookups: list[str] = []

    class CountingStore(Store):
        def endpoints(self, name: str) -> list[Endpoint]:
            lookups.append(name)
            return [one for one in links if one.name == name]

    far = WITH_CLUSTER_IPS.publish(Unit(NAMES, "", "a0.dtk.io"), CountingStore())
    assert far.records == []
    assert far.left_out == [f"a0.dtk.io has a CNAME chain of more than {MAX_ALIASES} aliases"]
    assert len(lookups) == MAX_ALIASES + 1
    near = publish("a5.dtk.io", links, WITH_CLUSTER_IPS)
    assert bool(near.records) is not closed


@pytest.mark.parametrize(
    ("target", "known", "published"),
    [
        ("x.svc.cluster.local", [], False),
        ("b.mydomain.io", [], False),
        ("b.mydomain.io", [endpoint("b.mydomain.io", "A", "10.0.0.1")], True),
        ("b.dtk.io", [], True),
        ("b.example", [], True),
    ],
)
def test_targets_of_an_alias(target: str, known: list[Endpoint], published: bool) -> None:
    zone = ExternalZone(DTK.name, (DTK,), service_zones=(Name.parse("cluster.local"),), all_domains=(DTK, MY))
    found = publish("a.dtk.io", [endpoint("a.dtk.io", "CNAME", target), *known], zone)
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


@pytest.mark.parametrize(
    ("domains", "zones"),
    [
        (["example", "x.k8s.example"], ["example", "x.k8s.example"]),
        (["example", "x.k8s.example", "y.x.k8s.example"], ["example", "x.k8s.example"]),
        (["example", "x.example", "y.k8s.other"], ["example", "y.k8s.other"]),
    ],
    ids=["inside", "deeper inside", "beside"],
)
def test_a_domain_inside_a_zone_of_services_is_a_zone(domains: list[str], zones: list[str]) -> None:
    found = zones_of(map(Domain.parse, domains), [Name.parse("k8s.example")])
    assert [*map(str, found)] == zones


@pytest.mark.parametrize(
    ("name", "within", "reasons"),
    [("a.x.k8s.example", 1, 0), ("a.k8s.example", 0, 1), ("x.k8s.example", 0, 1)],
)
def test_a_name_in_the_inner_of_two_domains_is_published_there_alone(
    name: str, within: int, reasons: int
) -> None:
    domains = (Domain.parse("example"), Domain.parse(".x.k8s.example"))
    services = (Name.parse("k8s.example"),)
    found = [
        publish(name, [endpoint(name, "A", "10.0.0.1")], ExternalZone(zone, mine, 30, (), services, domains))
        for zone, mine in zones_of(domains, services).items()
    ]
    assert [len(one.records) for one in found] == [0, within]
    assert [len(one.left_out) for one in found] == [reasons, 0]


def test_large_texts_are_not_cached() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            text = f"{number}-".ljust(50_000, "x")
            assert parse_targets("TXT", (text,)).data
            assert plain_name(f"ü{text}") == f"ü{text}"
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
