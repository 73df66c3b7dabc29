"""The model's answers equal those of the last SkyDNS version from the same keys."""

from __future__ import annotations

import json

import pytest

from skydns_compat.names import Name
from skydns_compat.reader import Answer
from skydns_compat.skydns import skydns_answer

ZONE = Name.parse("cluster.local")
COMMON: dict[str, object] = {"priority": 65536, "ttl": 30}

KEYS: dict[str, object] = {
    "svc/ns/web/H1": {**COMMON, "host": "10.0.0.1"},
    "svc/ns/web/_tcp/_http/H1": {**COMMON, "host": "web.ns.svc.cluster.local", "port": 80},
    "svc/ns/web2/H1": {**COMMON, "host": "10.0.0.2"},
    "svc/ns/two/H1": {**COMMON, "host": "10.0.0.3", "ttl": 20},
    "svc/ns/two/H2": {**COMMON, "host": "fd00::3"},
    "svc/ns/two/H3": {**COMMON, "host": "10.0.0.4"},
    "svc/ns/two/_tcp/_x/H1": {**COMMON, "host": "two.ns.svc.cluster.local", "port": 80},
    "svc/ns/two/_tcp/_x/H2": {**COMMON, "host": "two.ns.svc.cluster.local", "port": 80},
    "svc/ns/heavy/H1": {**COMMON, "host": "10.0.0.11", "targetstrip": 1, "weight": 1},
    "svc/ns/heavy/H2": {**COMMON, "host": "10.0.0.11", "targetstrip": 1, "weight": 3},
    "svc/ns/heavy/H3": {**COMMON, "host": "10.0.0.11", "targetstrip": 1, "weight": 3, "group": "x"},
    "svc/ns/wrap/H1": {**COMMON, "host": "10.0.0.5", "port": -1, "targetstrip": 1},
    "svc/ns/bare/H1": {"host": "10.0.0.6"},
    "svc/ns/mapped/H1": {**COMMON, "host": "::ffff:10.96.0.42"},
    "svc/ns/ext/H1": {**COMMON, "host": "ext.example"},
    "svc/ns/short/H1": {**COMMON, "host": "intranet"},
    "svc/ns/under/H1": {**COMMON, "host": "x.file.ns.svc.cluster.local"},
    "svc/ns/near/H1": {**COMMON, "host": "WEB.ns.svc.cluster.local"},
    "svc/ns/self/H1": {**COMMON, "host": "self.ns.svc.cluster.local"},
    "svc/ns/lost/H1": {**COMMON, "host": "gone.ns.svc.cluster.local"},
    "svc/ns/tome/H1": {**COMMON, "host": "toyou.ns.svc.cluster.local"},
    "svc/ns/toyou/H1": {**COMMON, "host": "tome.ns.svc.cluster.local"},
    "svc/ns/tobad/H1": {**COMMON, "host": "b.bad.svc.cluster.local"},
    "svc/ns/file": {**COMMON, "host": "web.ns.svc.cluster.local"},
    "svc/ns/filed": {**COMMON, "host": "10.0.0.7"},
    "svc/ns/text/H1": {**COMMON, "host": "text.ns.svc.cluster.local", "text": "hello"},
    "svc/ns/long/H1": {**COMMON, "host": "long.ns.svc.cluster.local", "text": "x" * 300},
    "svc/ns/grouped/H1": {**COMMON, "host": "10.1.0.1", "group": "a"},
    "svc/ns/grouped/deep/H2": {**COMMON, "host": "10.1.0.2", "group": "b"},
    "svc/bad/b/H1": "{",
    "svc/bad/good/H1": {**COMMON, "host": "10.0.0.8"},
    "svc/Upper/up/H1": {**COMMON, "host": "10.0.0.9"},
    "dns/ns/ns1": {**COMMON, "host": "10.0.0.10"},
}
OTHER_KEYS: dict[str, object] = {
    "/skydns/arpa/in-addr/10/0/0/1": {"host": "web.ns.svc.cluster.local", "ttl": 30},
    "/skydns/arpa/in-addr/10/0/0/10": {"host": "ns.dns.cluster.local"},
    "/skydns/arpa/in-addr/10/0/1/1/H1": {"host": "deeper.ns.svc.cluster.local"},
    "/skydns/arpa/in-addr/10/0/1/2": "nonsense",
    "/skydns/arpa/ip6/1": {"host": "six.ns.svc.cluster.local", "ttl": 30},
    "/skydns/config": {"ttl": 300, "min_ttl": 5, "hostmaster": "root@cluster.local", "domain": "x."},
}


def entries(keys: dict[str, object]) -> dict[bytes, bytes]:
    return {
        (key if key.startswith("/") else f"/skydns/local/cluster/{key}").encode(): (
            value if isinstance(value, str) else json.dumps(value)
        ).encode()
        for key, value in keys.items()
    }


ALL = entries({**KEYS, **OTHER_KEYS})
NXDOMAIN, FORWARDED, SERVFAIL = "NXDOMAIN", "REFUSED", "SERVFAIL"
NODATA: list[str] = []


def ask(name: str, qtype: str) -> Answer:
    full = name if name.endswith(".") else f"{name}.cluster.local." if name else "cluster.local."
    return skydns_answer(ALL, ZONE, full, qtype)


CASES: list[tuple[str, str, object]] = [
    ("web.ns.svc", "A", ["10.0.0.1"]),
    ("WEB.ns.svc", "A", ["10.0.0.1"]),
    ("we.ns.svc", "A", NXDOMAIN),
    ("web.ns.svc", "AAAA", NODATA),
    ("web.ns.svc", "MX", NODATA),
    ("gone.ns.svc", "MX", NXDOMAIN),
    ("web.ns.svc", "SRV", ["0 100 0 H1.web.ns.svc.cluster.local."]),
    ("_http._tcp.web.ns.svc", "SRV", ["0 100 80 web.ns.svc.cluster.local."]),
    ("_tcp.web.ns.svc", "SRV", NODATA),
    ("_x._tcp.two.ns.svc", "SRV", ["0 100 80 two.ns.svc.cluster.local."]),
    ("two.ns.svc", "A", ["10.0.0.3", "10.0.0.4"]),
    ("wrap.ns.svc", "SRV", ["0 100 65535 wrap.ns.svc.cluster.local."]),
    ("heavy.ns.svc", "SRV", ["0 25 0 heavy.ns.svc.cluster.local.", "0 75 0 heavy.ns.svc.cluster.local."]),
    ("bare.ns.svc", "SRV", ["10 100 0 H1.bare.ns.svc.cluster.local."]),
    ("mapped.ns.svc", "A", ["10.96.0.42"]),
    ("ext.ns.svc", "A", ["ext.example."]),
    ("ext.ns.svc", "AAAA", ["ext.example."]),
    ("ext.ns.svc", "CNAME", NODATA),
    ("short.ns.svc", "A", NODATA),
    ("short.ns.svc", "SRV", ["0 100 0 intranet."]),
    ("under.ns.svc", "A", NODATA),
    ("near.ns.svc", "A", ["WEB.ns.svc.cluster.local.", "10.0.0.1"]),
    ("near.ns.svc", "AAAA", NODATA),
    ("self.ns.svc", "A", NODATA),
    ("lost.ns.svc", "A", NODATA),
    ("tome.ns.svc", "A", NODATA),
    ("tobad.ns.svc", "A", NODATA),
    ("file.ns.svc", "CNAME", ["web.ns.svc.cluster.local."]),
    ("filed.ns.svc", "CNAME", NODATA),
    ("file.ns.svc", "A", ["web.ns.svc.cluster.local.", "10.0.0.1"]),
    ("x.file.ns.svc", "A", NODATA),
    ("x.y.file.ns.svc", "MX", NODATA),
    ("x.file.ns.svc", "SRV", SERVFAIL),
    ("any.file.ns.svc", "CNAME", ["web.ns.svc.cluster.local."]),
    ("text.ns.svc", "TXT", ['"hello"']),
    ("text.ns.svc", "A", NODATA),
    ("web.ns.svc", "TXT", NODATA),
    ("long.ns.svc", "TXT", [f'"{"x" * 255}" "{"x" * 45}"']),
    ("grouped.ns.svc", "A", ["10.1.0.1"]),
    ("b.bad.svc", "A", NODATA),
    ("bad.svc", "A", NODATA),
    ("b.bad.svc", "SRV", SERVFAIL),
    ("good.bad.svc", "A", ["10.0.0.8"]),
    ("up.upper.svc", "A", NXDOMAIN),
    ("*.ns.svc", "TXT", [f'"{"x" * 255}" "{"x" * 45}"', '"hello"']),
    ("any.bad.svc", "SRV", SERVFAIL),
    ("deep.*.ns.svc", "A", ["10.1.0.2"]),
    ("a.b.c.d.*.ns.svc", "A", NODATA),
    ("*.gone.svc", "A", NXDOMAIN),
    ("", "NS", ["ns1.ns.dns.cluster.local."]),
    ("web.ns.svc", "NS", NODATA),
    ("", "SOA", ["ns.dns.cluster.local. root.cluster.local. 0 28800 7200 604800 5"]),
    ("web.ns.svc", "SOA", NODATA),
    ("web.ns.svc", "ANY", FORWARDED),
    ("web.example.", "A", FORWARDED),
    ("example.", "A", SERVFAIL),
    ("1.0.0.10.in-addr.arpa.", "PTR", ["web.ns.svc.cluster.local."]),
    ("2.0.0.10.in-addr.arpa.", "PTR", FORWARDED),
    ("1.1.0.10.in-addr.arpa.", "PTR", FORWARDED),
    ("2.1.0.10.in-addr.arpa.", "PTR", FORWARDED),
    ("x.1.0.0.10.in-addr.arpa.", "PTR", FORWARDED),
    ("any.1.0.0.10.in-addr.arpa.", "PTR", FORWARDED),
    ("1.0.0.10.in-addr.arpa.", "A", FORWARDED),
    ("1.ip6.arpa.", "PTR", ["six.ns.svc.cluster.local."]),
    ("1.ip6.arpa.", "A", ["six.ns.svc.cluster.local."]),
    ("2.ip6.arpa.", "A", FORWARDED),
]


@pytest.mark.parametrize(
    ("name", "qtype", "expected"), CASES, ids=[f"{name} {qtype}" for name, qtype, _ in CASES]
)
def test_answers(name: str, qtype: str, expected: object) -> None:
    found = ask(name, qtype)
    if isinstance(expected, str):
        assert found == Answer(expected)  # type: ignore[arg-type]
    else:
        assert (found.rcode, [one.data for one in found.answers]) == ("NOERROR", expected)


def test_answer_has_the_lowest_ttl_of_its_records() -> None:
    assert {one.ttl for one in ask("two.ns.svc", "A").answers} == {20}
    assert {one.ttl for one in ask("two.ns.svc", "AAAA").answers} == {30}
    assert {one.ttl for one in ask("bare.ns.svc", "A").answers} == {300}


def test_additional_records_have_both_families() -> None:
    found = ask("_x._tcp.two.ns.svc", "SRV").additional
    assert {str(one) for one in found} == {
        "two.ns.svc.cluster.local. 20 IN A 10.0.0.3",
        "two.ns.svc.cluster.local. 30 IN AAAA fd00::3",
        "two.ns.svc.cluster.local. 30 IN A 10.0.0.4",
    }
    assert ask("ext.ns.svc", "SRV").additional == ()
    assert ask("lost.ns.svc", "SRV").additional == ()
    assert [str(one) for one in ask("", "NS").additional] == ["ns1.ns.dns.cluster.local. 30 IN A 10.0.0.10"]


@pytest.mark.parametrize(
    "config",
    [{}, {"/skydns/config": "{"}, {"/skydns/config": {"ttl": "30"}}],
    ids=["missing", "truncated", "ttl as string"],
)
def test_defaults_replace_missing_or_malformed_settings(config: dict[str, object]) -> None:
    keys = entries({"web/H1": {"host": "10.0.0.1"}, **config})
    (soa,) = skydns_answer(keys, ZONE, ZONE, "SOA").answers
    assert (soa.ttl, soa.data.split()[1], soa.data.split()[-1]) == (3600, "hostmaster.skydns.local.", "60")
    (one,) = skydns_answer(keys, ZONE, "web.cluster.local", "A").answers
    assert one.ttl == 3600


def test_name_server_without_an_address() -> None:
    keys = entries({"dns/ns/x": {"host": "elsewhere.example"}})
    assert skydns_answer(keys, ZONE, ZONE, "NS") == Answer("NOERROR")
    assert skydns_answer({}, ZONE, ZONE, "NS") == Answer("NXDOMAIN")


@pytest.mark.parametrize(("links", "found"), [(8, True), (9, False)])
def test_cname_chains_are_limited(links: int, found: bool) -> None:
    chain: dict[str, object] = {f"l{n}/H1": {"host": f"l{n + 1}.cluster.local"} for n in range(links)}
    keys = entries({**chain, f"l{links}/H1": {"host": "10.0.0.1"}})
    answers = skydns_answer(keys, ZONE, "l0.cluster.local", "A").answers
    assert bool(answers) is found
    assert not found or len(answers) == links + 1
