"""Answers of CoreDNS's etcd plugin to sets of keys, for tests of the model and of the real server.

``~`` is the zone ``cluster.local.``; keys are relative to it; records are in zone file syntax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

ZONE = "cluster.local."
ZONE_KEY = "/skydns/local/cluster"


@dataclass(frozen=True)
class Case:
    id: str
    keys: Mapping[str, str]
    qname: str
    qtype: str
    answers: Sequence[str] = ()
    additional: Sequence[str] = ()
    rcode: Literal["NOERROR", "NXDOMAIN", "SERVFAIL"] = "NOERROR"

    @property
    def question(self) -> str:
        return self.qname.replace("~", ZONE)

    def expected_answers(self) -> list[str]:
        return [line.replace("~", ZONE) for line in self.answers]

    def expected_additional(self) -> list[str]:
        return [line.replace("~", ZONE) for line in self.additional]

    def etcd(self) -> dict[str, str]:
        return {ZONE_KEY + ("" if key == "." else f"/{key}"): value for key, value in self.keys.items()}


def host(text: str, rest: str = "") -> str:
    return f'{{"host":"{text}"{"," if rest else ""}{rest}}}'


def chain(links: int, end: str) -> dict[str, str]:
    """A chain of ``links`` CNAME records from ``c0``; the last name has ``end``."""
    names = {f"c{at}": host(f"c{at + 1}.cluster.local") for at in range(links)}
    return {**names, f"c{links}": host(end)}


def links(count: int) -> list[str]:
    return [f"c{at}.~ 300 IN CNAME c{at + 1}.~" for at in range(count)]


A1, A2, V6 = host("10.0.0.1"), host("10.0.0.2"), host("fd00::1")
MALFORMED_VALUES = {
    "empty": "",
    "array": "[]",
    "string": '"x"',
    "truncated": "{bad",
    "host-number": '{"host":5}',
    "ttl-string": '{"host":"10.0.0.9","ttl":"5"}',
    "ttl-negative": '{"host":"10.0.0.9","ttl":-1}',
    "ttl-huge": '{"host":"10.0.0.9","ttl":4294967296}',
    "port-fraction": '{"host":"10.0.0.9","port":1.5}',
    "port-exponent": '{"host":"10.0.0.9","port":1e2}',
    "mail-string": '{"host":"10.0.0.9","mail":"true"}',
    "trailing": "{} x",
}
TWO_PORTS = {
    "s/_tcp/_http/A0": host("10.0.0.1", '"port":80,"priority":65536,"targetstrip":3'),
    "s/_tcp/_http/A1": host("fd00::1", '"port":80,"priority":65536,"targetstrip":3'),
    "s/_tcp/_web/A0": host("10.0.0.1", '"port":81,"priority":65536,"targetstrip":3'),
}

CASES: Sequence[Case] = (
    # reads
    Case("exact", {"a": A1}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1"]),
    Case("missing", {"a": A1}, "b.~", "A", rcode="NXDOMAIN"),
    Case("missing-cname", {"a": A1}, "b.~", "CNAME", rcode="NXDOMAIN"),
    Case("missing-srv", {"a": A1}, "b.~", "SRV", rcode="NXDOMAIN"),
    Case("folded-owner-keeps-case", {"a": A1}, "A.CLUSTER.local.", "A", ["A.CLUSTER.local. 300 IN A 10.0.0.1"]),
    Case("upper-case-key-never", {"UPPER": A1}, "UPPER.~", "A", rcode="NXDOMAIN"),
    Case("upper-case-leaf-by-prefix", {"a/A0": A1}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1"]),
    Case("subtree-hides-exact", {"mix": host("10.0.0.20"), "mix/c": host("10.0.0.21")}, "mix.~", "A", ["mix.~ 300 IN A 10.0.0.21"]),
    Case("siblings-do-not-mix", {"s1/x": A1, "s10/x": A2, "s1": A2}, "s1.~", "A", ["s1.~ 300 IN A 10.0.0.1"]),
    Case("cname-exact-only", {"s/x": A1}, "s.~", "CNAME", rcode="NXDOMAIN"),
    Case("ptr-exact-only", {"s/x": host("n.cluster.local")}, "s.~", "PTR", rcode="NXDOMAIN"),
    Case("marker-cures-cname", {"s": "{}", "s/x": A1}, "s.~", "CNAME"),
    Case("trailing-slash-is-child", {"tr/": A1}, "tr.~", "A", ["tr.~ 300 IN A 10.0.0.1"]),
    Case("trailing-slash-srv", {"tr/": A1}, "tr.~", "SRV", ["tr.~ 300 IN SRV 10 100 0 tr.~"], ["tr.~ 300 IN A 10.0.0.1"]),
    Case("trailing-slash-not-cname", {"tr/": host("x.example")}, "tr.~", "CNAME", rcode="NXDOMAIN"),
    Case("parent-answers-everything", {"ns/a/A": A1, "ns/b/A": A2}, "ns.~", "A", ["ns.~ 300 IN A 10.0.0.1", "ns.~ 300 IN A 10.0.0.2"]),
    Case("slash-splits", {"ns/y/x": A1}, "y/x.ns.~", "A", ["y/x.ns.~ 300 IN A 10.0.0.1"]),
    Case("slash-alone-vanishes", {"ns/a": A1}, "/.a.ns.~", "A", ["/.a.ns.~ 300 IN A 10.0.0.1"]),
    Case("escaped-dot", {"ns/a\\.b": A1}, "a\\.b.ns.~", "A", ["a\\.b.ns.~ 300 IN A 10.0.0.1"]),
    # wildcards
    Case("wildcard-any", {"ns/a": A1, "ns/b": A2}, "any.ns.~", "A", ["any.ns.~ 300 IN A 10.0.0.1", "any.ns.~ 300 IN A 10.0.0.2"]),
    Case("wildcard-star", {"ns/a": A1, "ns/b": A2}, "*.ns.~", "A", ["*.ns.~ 300 IN A 10.0.0.1", "*.ns.~ 300 IN A 10.0.0.2"]),
    Case("wildcard-inside", {"n1/a/A": A1, "n2/b/A": A2, "n3": V6}, "a.*.~", "A", ["a.*.~ 300 IN A 10.0.0.1"]),
    Case("wildcard-nothing-fits", {"n1/a": A1}, "b.*.~", "A"),
    Case("wildcard-spares-malformed", {"n1/a": A1, "n1/b": "{bad"}, "a.*.~", "A", ["a.*.~ 300 IN A 10.0.0.1"]),
    Case("wildcard-cname-truncated", {"ns": host("x.example")}, "any.ns.~", "CNAME"),
    Case("wildcard-missing", {"ns/a": A1}, "any.no.~", "A", rcode="NXDOMAIN"),
    # values
    Case("marker-a", {"e": "{}"}, "e.~", "A"),
    Case("marker-null", {"e": "null"}, "e.~", "A"),
    Case("marker-srv", {"e": "{}"}, "e.~", "SRV"),
    Case("marker-txt", {"e": "{}"}, "e.~", "TXT"),
    Case("marker-mx", {"e": "{}"}, "e.~", "MX"),
    Case("marker-cname", {"e": "{}"}, "e.~", "CNAME"),
    Case("marker-other-type", {"e": "{}"}, "e.~", "CAA"),
    Case("fields-any-case", {"a": '{"HOST":"10.0.0.1","Ttl":7}'}, "a.~", "A", ["a.~ 7 IN A 10.0.0.1"]),
    Case("fields-unknown", {"a": '{"host":"10.0.0.1","owner":["x"],"x":1e2}'}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1"]),
    Case("fields-null", {"a": '{"host":"10.0.0.1","ttl":null,"port":null}'}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1"]),
    *(Case(f"malformed-{id}", {"s/bad": value, "s/good": A1}, "bad.s.~", "A", rcode="SERVFAIL") for id, value in MALFORMED_VALUES.items()),
    *(Case(f"malformed-above-{id}", {"s/bad": value, "s/good": A1}, "s.~", "A", rcode="SERVFAIL") for id, value in MALFORMED_VALUES.items()),
    Case("malformed-sibling", {"s/bad": "[]", "s/good": A1}, "good.s.~", "A", ["good.s.~ 300 IN A 10.0.0.1"]),
    Case("malformed-cname", {"bad": "[]"}, "bad.~", "CNAME", rcode="SERVFAIL"),
    Case("malformed-target-of-cname", {"a": host("b.cluster.local"), "b": "[]"}, "a.~", "A"),
    Case("malformed-target-of-srv", {"a": host("b.cluster.local", '"port":1'), "b": "[]"}, "a.~", "SRV", ["a.~ 300 IN SRV 10 100 1 b.~"]),
    Case("host-leading-zero-is-name", {"a": host("010.1.1.3")}, "a.~", "CNAME", ["a.~ 300 IN CNAME 010.1.1.3."]),
    Case("host-zone-is-name", {"a": host("fe80::1%eth0")}, "a.~", "CNAME", ["a.~ 300 IN CNAME fe80::1%eth0."]),
    Case("host-cidr-is-name", {"a": host("10.0.0.0/24")}, "a.~", "A", ["a.~ 300 IN CNAME 10.0.0.0/24."]),
    Case("host-mapped-is-a", {"a": host("::ffff:10.1.1.1")}, "a.~", "A", ["a.~ 300 IN A 10.1.1.1"]),
    Case("host-mapped-not-aaaa", {"a": host("::ffff:10.1.1.1")}, "a.~", "AAAA"),
    Case("ttl-own", {"a": host("10.0.0.1", '"ttl":1')}, "a.~", "A", ["a.~ 1 IN A 10.0.0.1"]),
    Case("ttl-zero-is-default", {"a": host("10.0.0.1", '"ttl":0')}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1"]),
    Case("ttl-mixed", {"a/1": host("10.0.0.1", '"ttl":5'), "a/2": host("10.0.0.2", '"ttl":6')}, "a.~", "A", ["a.~ 5 IN A 10.0.0.1", "a.~ 6 IN A 10.0.0.2"]),
    # A and AAAA
    Case("dedupe-first-key-wins", {"a/1": host("10.0.0.1", '"ttl":5'), "a/2": host("10.0.0.1", '"ttl":6')}, "a.~", "A", ["a.~ 5 IN A 10.0.0.1"]),
    Case("dedupe-by-text", {"a/1": host("fd00::1"), "a/2": host("fd00:0:0::1")}, "a.~", "AAAA", ["a.~ 300 IN AAAA fd00::1", "a.~ 300 IN AAAA fd00::1"]),
    Case("key-order", {"a/2": A1, "a/10": A2}, "a.~", "A", ["a.~ 300 IN A 10.0.0.2", "a.~ 300 IN A 10.0.0.1"]),
    Case("family-nodata", {"a": A1}, "a.~", "AAAA"),
    Case("own-subtree-skipped", {"s/1": A1, "s/2": host("x.s.cluster.local")}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1"]),
    Case("own-subtree-any-case", {"s/1": A1, "s/2": host("X.S.Cluster.local")}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1"]),
    # CNAME
    Case("cname-in-zone", {"a": host("b.cluster.local"), "b": A1}, "a.~", "A", ["a.~ 300 IN CNAME b.~", "b.~ 300 IN A 10.0.0.1"]),
    Case("cname-in-zone-aaaa", {"a": host("b.cluster.local"), "b": V6}, "a.~", "AAAA", ["a.~ 300 IN CNAME b.~", "b.~ 300 IN AAAA fd00::1"]),
    Case("cname-in-zone-no-family", {"a": host("b.cluster.local"), "b": A1}, "a.~", "AAAA"),
    Case("cname-outside", {"a": host("ext.example")}, "a.~", "A", ["a.~ 300 IN CNAME ext.example."]),
    Case("cname-type", {"a": host("ext.example", '"ttl":5')}, "a.~", "CNAME", ["a.~ 5 IN CNAME ext.example."]),
    Case("cname-type-of-address", {"a": A1}, "a.~", "CNAME"),
    Case("cname-self", {"a": host("a.cluster.local")}, "a.~", "A"),
    Case("cname-self-type", {"a": host("a.cluster.local")}, "a.~", "CNAME", ["a.~ 300 IN CNAME a.~"]),
    Case("cname-loop", {"a": host("b.cluster.local"), "b": host("a.cluster.local")}, "a.~", "A"),
    Case("cname-dangling", {"a": host("none.cluster.local")}, "a.~", "A"),
    Case("cname-dangling-type", {"a": host("none.cluster.local")}, "a.~", "CNAME", ["a.~ 300 IN CNAME none.~"]),
    Case("cname-11-links", chain(11, "10.0.0.1"), "c0.~", "A", [*links(11), "c11.~ 300 IN A 10.0.0.1"]),
    Case("cname-12-links", chain(12, "10.0.0.1"), "c0.~", "A"),
    Case("cname-beside-address", {"a/1": A1, "a/2": host("ext.example")}, "a.~", "A", ["a.~ 300 IN A 10.0.0.1", "a.~ 300 IN CNAME ext.example."]),
    Case("cname-twice-to-one", {"a/1": host("b.cluster.local"), "a/2": host("b.cluster.local"), "b": A1}, "a.~", "A", ["a.~ 300 IN CNAME b.~", "b.~ 300 IN A 10.0.0.1"] * 2),
    Case("cname-escaped-target", {"a": host("x y.cluster.local"), "x\\ y": A1}, "a.~", "A", ["a.~ 300 IN CNAME x\\ y.~", "x\\ y.~ 300 IN A 10.0.0.1"]),
    # SRV
    Case("srv-targetstrip-and-dedupe", TWO_PORTS, "s.~", "SRV", ["s.~ 300 IN SRV 0 33 80 s.~", "s.~ 300 IN SRV 0 33 81 s.~"], ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN AAAA fd00::1"]),
    Case("srv-of-port", TWO_PORTS, "_http._tcp.s.~", "SRV", ["_http._tcp.s.~ 300 IN SRV 0 50 80 s.~"], ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN AAAA fd00::1"]),
    Case("srv-hidden-port-counts", {"s/1": host("10.0.0.1", '"port":1'), "s/2": host("10.0.0.2", '"port":-1')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 50 1 1.s.~"], ["1.s.~ 300 IN A 10.0.0.1"]),
    Case("srv-port-wraps", {"s": host("10.0.0.1", '"port":65617')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 81 s.~"], ["s.~ 300 IN A 10.0.0.1"]),
    Case("srv-weights", {"s/1": host("10.0.0.1", '"port":1,"weight":1'), "s/2": host("10.0.0.2", '"port":1,"weight":3'), "s/3": host("10.0.0.3", '"port":1,"priority":20')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 25 1 1.s.~", "s.~ 300 IN SRV 10 75 1 2.s.~", "s.~ 300 IN SRV 20 100 1 3.s.~"], ["1.s.~ 300 IN A 10.0.0.1", "2.s.~ 300 IN A 10.0.0.2", "3.s.~ 300 IN A 10.0.0.3"]),
    Case("srv-weight-at-least-1", {"s/1": host("10.0.0.1", '"port":1,"weight":1'), "s/2": host("10.0.0.2", '"port":-1,"weight":9999')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 1 1 1.s.~"], ["1.s.~ 300 IN A 10.0.0.1"]),
    Case("srv-strip-overshoot", {"s": host("10.0.0.1", '"targetstrip":3')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 0 s.~"], ["s.~ 300 IN A 10.0.0.1"]),
    Case("srv-strip-negative", {"s": host("10.0.0.1", '"targetstrip":-1')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 0 s.~"], ["s.~ 300 IN A 10.0.0.1"]),
    Case("srv-dot-in-leaf", {"s/a.b": host("10.0.0.1", '"targetstrip":1')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 0 b.s.~"], ["b.s.~ 300 IN A 10.0.0.1"]),
    Case("srv-name-host-a-only", {"s/1": host("e.cluster.local", '"port":1'), "e/1": A1, "e/2": V6}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 1 e.~"], ["e.~ 300 IN A 10.0.0.1"]),
    Case("srv-name-host-not-deduped", {"s/1": host("e.cluster.local", '"port":1'), "s/2": host("e.cluster.local", '"port":1'), "e": A1}, "s.~", "SRV", ["s.~ 300 IN SRV 10 50 1 e.~"] * 2, ["e.~ 300 IN A 10.0.0.1"]),
    Case("srv-name-host-stripped", {"s": host("x.e.cluster.local", '"port":1,"targetstrip":1'), "e": A1}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 1 e.~"], ["e.~ 300 IN A 10.0.0.1"]),
    Case("srv-name-host-outside", {"s": host("ext.example", '"port":1')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 1 ext.example."]),
    Case("srv-name-host-dangling", {"s": host("e.cluster.local", '"port":1')}, "s.~", "SRV", ["s.~ 300 IN SRV 10 100 1 e.~"]),
    Case("srv-text-and-name-left-out", {"s/1": host("e.cluster.local", '"text":"t"'), "s/2": A1}, "s.~", "SRV", ["s.~ 300 IN SRV 10 50 0 2.s.~"], ["2.s.~ 300 IN A 10.0.0.1"]),
    # PTR
    Case("ptr", {"p": host("n.cluster.local", '"ttl":9')}, "p.~", "PTR", ["p.~ 9 IN PTR n.~"]),
    Case("ptr-of-address", {"p": A1}, "p.~", "PTR"),
    # TXT
    Case("txt", {"t": '{"text":"1.1.0","ttl":28800}'}, "t.~", "TXT", ['t.~ 28800 IN TXT "1.1.0"']),
    Case("txt-deduped", {"t/1": '{"text":"x"}', "t/2": '{"text":"x"}', "t/3": '{"text":"y"}'}, "t.~", "TXT", ['t.~ 300 IN TXT "x"', 't.~ 300 IN TXT "y"']),
    Case("txt-254", {"t": f'{{"text":"{"a" * 254}"}}'}, "t.~", "TXT", [f't.~ 300 IN TXT "{"a" * 254}"']),
    Case("txt-255", {"t": f'{{"text":"{"a" * 255}"}}'}, "t.~", "TXT", [f't.~ 300 IN TXT "{"a" * 255}" ""']),
    Case("txt-300", {"t": f'{{"text":"{"a" * 300}"}}'}, "t.~", "TXT", [f't.~ 300 IN TXT "{"a" * 255}" "{"a" * 45}"']),
    Case("txt-510", {"t": f'{{"text":"{"a" * 510}"}}'}, "t.~", "TXT", [f't.~ 300 IN TXT "{"a" * 255}" "{"a" * 255}" ""']),
    Case("txt-quote", {"t": r'{"text":"a\"b"}'}, "t.~", "TXT", [r't.~ 300 IN TXT "a\"b"']),
    Case("txt-backslash-lost", {"t": r'{"text":"a\\b"}'}, "t.~", "TXT", ['t.~ 300 IN TXT "ab"']),
    Case("txt-backslash-twice", {"t": r'{"text":"a\\\\b"}'}, "t.~", "TXT", [r't.~ 300 IN TXT "a\\b"']),
    Case("txt-backslash-digits", {"t": r'{"text":"a\\066c"}'}, "t.~", "TXT", ['t.~ 300 IN TXT "aBc"']),
    Case("txt-backslash-last", {"t": r'{"text":"a\\"}'}, "t.~", "TXT", ['t.~ 300 IN TXT "a"']),
    Case("txt-octets", {"t": '{"text":"é"}'}, "t.~", "TXT", [r't.~ 300 IN TXT "\195\169"']),
    Case("txt-empty", {"t": '{"text":""}'}, "t.~", "TXT"),
    Case("txt-only-is-nodata-for-a", {"t": '{"text":"x"}'}, "t.~", "A"),
    Case("txt-with-address-not-served", {"t": host("10.0.0.1", '"text":"x"')}, "t.~", "TXT"),
    Case("txt-with-address-a", {"t": host("10.0.0.1", '"text":"x"')}, "t.~", "A", ["t.~ 300 IN A 10.0.0.1"]),
    Case("txt-with-name", {"t": host("b.cluster.local", '"text":"x"'), "b": A1}, "t.~", "TXT", ['t.~ 300 IN TXT "x"']),
    Case("txt-with-name-cname", {"t": host("b.cluster.local", '"text":"x"'), "b": A1}, "t.~", "CNAME", ["t.~ 300 IN CNAME b.~"]),
    Case("txt-with-name-a", {"t": host("b.cluster.local", '"text":"x"'), "b": A1}, "t.~", "A"),
    Case("txt-through-cname", {"a": host("t.cluster.local"), "t": '{"text":"x"}'}, "a.~", "TXT", ["a.~ 300 IN CNAME t.~", 't.~ 300 IN TXT "x"']),
    Case("txt-cname-outside", {"a": host("ext.example")}, "a.~", "TXT", ["a.~ 300 IN CNAME ext.example."]),
    # MX
    Case("mx", {"m/1": host("10.0.0.1", '"mail":true,"targetstrip":1'), "m/2": A2}, "m.~", "MX", ["m.~ 300 IN MX 10 m.~"], ["1.m.~ 300 IN A 10.0.0.1"]),
    Case("mx-deduped", {"m/1": host("10.0.0.1", '"mail":true,"targetstrip":1'), "m/2": host("fd00::1", '"mail":true,"targetstrip":1')}, "m.~", "MX", ["m.~ 300 IN MX 10 m.~"], ["1.m.~ 300 IN A 10.0.0.1", "2.m.~ 300 IN AAAA fd00::1"]),
    Case("mx-name", {"m": host("e.cluster.local", '"mail":true,"priority":5'), "e": A1}, "m.~", "MX", ["m.~ 300 IN MX 5 e.~"], ["e.~ 300 IN A 10.0.0.1"]),
    Case("mx-text-left-out", {"m": host("e.cluster.local", '"mail":true,"text":"t"')}, "m.~", "MX"),
    Case("mx-still-a", {"m": host("10.0.0.1", '"mail":true')}, "m.~", "A", ["m.~ 300 IN A 10.0.0.1"]),
    # the zone itself
    Case("ns", {"dns/ns/A": host("10.0.0.1", '"targetstrip":1'), "dns/ns/B": host("fd00::1", '"targetstrip":1')}, "~", "NS", ["~ 300 IN NS ns.dns.~"], ["ns.dns.~ 300 IN A 10.0.0.1", "ns.dns.~ 300 IN AAAA fd00::1"]),
    Case("ns-name-host", {"dns/ns/A": host("n.example")}, "~", "NS", rcode="SERVFAIL"),
    Case("ns-text", {"dns/ns/A": host("n.example", '"text":"t"'), "dns/ns/B": A1}, "~", "NS", ["~ 300 IN NS B.ns.dns.~"], ["B.ns.dns.~ 300 IN A 10.0.0.1"]),
    Case("ns-missing", {"a": A1}, "~", "NS", rcode="NXDOMAIN"),
    Case("ns-below", {"a": A1}, "a.~", "NS"),
    Case("ns-below-missing", {"a": A1}, "b.~", "NS", rcode="NXDOMAIN"),
    Case("soa", {}, "~", "SOA", ["~ 30 IN SOA ns.dns.~ hostmaster.~ 0 7200 1800 86400 30"]),
    Case("soa-below", {}, "x.~", "SOA", ["~ 30 IN SOA ns.dns.~ hostmaster.~ 0 7200 1800 86400 30"]),
    Case("apex-key", {"dns/apex": A1, "a": A2}, "~", "A", ["~ 300 IN A 10.0.0.1"]),
    Case("apex-key-aaaa", {"dns/apex/A": V6, "a": A2}, "~", "AAAA", ["~ 300 IN AAAA fd00::1"]),
    Case("apex-marker", {"dns/apex": "{}", "a": A2}, "~", "A"),
    Case("apex-whole-zone", {"a": A1, "b/c": A2}, "~", "A", ["~ 300 IN A 10.0.0.1", "~ 300 IN A 10.0.0.2"]),
    Case("apex-malformed", {"dns/apex": "[]", "a": A2}, "~", "A", rcode="SERVFAIL"),
    Case("apex-srv-reads-all", {"dns/apex": "{}", "a": host("10.0.0.1", '"port":1')}, "~", "SRV", ["~ 300 IN SRV 10 100 1 a.~"], ["a.~ 300 IN A 10.0.0.1"]),
    Case("apex-txt-reads-all", {"dns/apex": "{}", "a": '{"text":"x"}'}, "~", "TXT", ['~ 300 IN TXT "x"']),
    Case("apex-empty-zone", {}, "~", "A", rcode="NXDOMAIN"),
    Case("cname-to-apex", {"dns/apex": A1, "a": host("cluster.local")}, "a.~", "A", ["a.~ 300 IN CNAME ~", "~ 300 IN A 10.0.0.1"]),
    # groups
    Case("group-of-shortest", {"s/1": host("10.0.0.1", '"group":"g"'), "s/2/x": host("10.0.0.2", '"group":"h"'), "s/3/x": host("10.0.0.3")}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN A 10.0.0.3"]),
    Case("group-shorter-later", {"s/1/x": host("10.0.0.1", '"group":"g"'), "s/2": host("10.0.0.2", '"group":"h"')}, "s.~", "A", ["s.~ 300 IN A 10.0.0.2"]),
    Case("group-disagree", {"s/1": host("10.0.0.1", '"group":"g"'), "s/2": host("10.0.0.2", '"group":"h"')}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN A 10.0.0.2"]),
    Case("group-marker-takes-no-part", {"s": "{}", "s/1": host("10.0.0.1", '"group":"g"'), "s/0": "{}", "s/2/x": host("10.0.0.2", '"group":"h"')}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1"]),
    Case("group-first-has-none", {"s/1": A1, "s/2/x": host("10.0.0.2", '"group":"h"')}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN A 10.0.0.2"]),
    Case("group-scan-ends-at-none", {"s/1/x": host("10.0.0.1", '"group":"g"'), "s/2": A2, "s/3/x": host("10.0.0.3", '"group":"h"')}, "s.~", "A", ["s.~ 300 IN A 10.0.0.1", "s.~ 300 IN A 10.0.0.2"]),
    Case("guard", {"ns": "{}", "ns/M": host("m.ns.cluster.local", '"port":-1,"group":"L1"'), "ns/a/A0": host("10.0.0.1", '"group":"L3"')}, "ns.~", "A"),
    Case("guard-srv", {"ns": "{}", "ns/M": host("m.ns.cluster.local", '"port":-1,"group":"L1"'), "ns/a/A0": host("10.0.0.1", '"group":"L3"')}, "ns.~", "SRV"),
)  # fmt: skip
