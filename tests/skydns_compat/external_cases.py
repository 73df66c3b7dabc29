"""Names in three external domains, and questions of every kind."""

from __future__ import annotations

from itertools import product

from skydns_compat.corefile import CorefileSettings
from skydns_compat.layout import Layout
from skydns_compat.layout_external import external_entries
from skydns_compat.names import Name, parse_address
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Pointer, Record, Srv, Text

ZONES = (Name.parse("dtk.io"), Name.parse("mydomain.io"), Name.parse("77.10.in-addr.arpa"))
LONG = ".".join(["x" * 60] * 3 + ["y" * 58])


def _host(text: str) -> Host:
    return Host(parse_address(text))


def _srv(priority: int, weight: int, port: int, target: str) -> Srv:
    return Srv(priority, weight, port, Name.parse(target))


#: Data of each name; one without data is an empty non-terminal.
DATA: dict[str, list[Data]] = {
    "dtk.io": [_host("10.0.0.1"), Text("apex text"), Mail(10, Name.parse("mail.dtk.io"))],
    "foo.dtk.io": [_host("10.0.0.5"), _host("10.0.0.6"), _host("fd00::5")],
    "a.foo.dtk.io": [_host("10.0.0.7")],
    "b.foo.dtk.io": [Text("only text")],
    "c.b.foo.dtk.io": [_host("10.0.0.8")],
    "empty.dtk.io": [],
    "x.empty.dtk.io": [_host("fd00::9")],
    "alias.dtk.io": [Alias(Name.parse("foo.dtk.io"))],
    "chain.dtk.io": [Alias(Name.parse("alias.dtk.io"))],
    "below.chain.dtk.io": [_host("10.0.0.10")],
    "out.dtk.io": [Alias(Name.parse("ext.example"))],
    "cross.dtk.io": [Alias(Name.parse("deep.er.mydomain.io"))],
    "dangling.dtk.io": [Alias(Name.parse("nothing.dtk.io"))],
    "loop1.dtk.io": [Alias(Name.parse("loop2.dtk.io"))],
    "loop2.dtk.io": [Alias(Name.parse("loop1.dtk.io"))],
    "any.dtk.io": [_host("10.0.0.11")],
    "x.any.dtk.io": [_host("10.0.0.12")],
    "toany.dtk.io": [Alias(Name.parse("x.any.dtk.io"))],
    "_http._tcp.foo.dtk.io": [_srv(0, 0, 80, "foo.dtk.io"), _srv(0, 0, 81, "any.dtk.io")],
    "_w._tcp.foo.dtk.io": [
        _srv(5, 1, 0, "a.example"),
        _srv(5, 3, 65535, "b.example"),
        _srv(65535, 9, 1, "c.d"),
    ],
    "_m._tcp.foo.dtk.io": [_srv(1, 0, 80, "a.example"), _srv(1, 7, 80, "b.example")],
    "mx.dtk.io": [
        Mail(0, Name.parse("a.example")),
        Mail(65535, Name.parse("foo.dtk.io")),
        _host("10.0.0.13"),
    ],
    "txt.dtk.io": [Text("v=spf1 -all"), Text('with "quotes"'), Text("long " * 120)],
    f"{LONG}.dtk.io"[-248:].lstrip("."): [_host("10.0.0.14")],
    "mydomain.io": [],
    "er.mydomain.io": [],
    "deep.er.mydomain.io": [_host("10.0.0.20"), _host("fd00::20")],
    "to.any.mydomain.io": [Alias(Name.parse("x.any.dtk.io"))],
    "77.10.in-addr.arpa": [],
    "0.77.10.in-addr.arpa": [],
    "5.0.77.10.in-addr.arpa": [Pointer(Name.parse("foo.dtk.io"))],
}


def records(ttl: int = 60) -> list[Record]:
    return [Record(Name.parse(name), one, ttl) for name, data in DATA.items() for one in (data or [Exists()])]


def keys() -> dict[bytes, bytes]:
    """Keys as the layout writes them, and foreign keys below the same names."""
    entries: dict[bytes, bytes] = {}
    for zone in ZONES:
        for name in DATA:
            if Name.parse(name).below(zone):
                own = [one for one in records() if str(one.name) == name]
                entries |= external_entries(Layout(), own, zone)
    return {
        **entries,
        b"/skydns/io/dtk/foreign/4ccf416f": b'{"host":"10.9.9.9","targetstrip":1}',
        b"/skydns/io/dtk/foo/4ccf4170": b'{"host":"10.9.9.9","targetstrip":1}',
        b"/skydns/io/dtk/foo/malformed": b"[",
    }


NAMES = [
    *DATA,
    *("FOO.Dtk.Io", "none.dtk.io", "none.foo.dtk.io", "none.a.foo.dtk.io", "none.empty.dtk.io"),
    *("below.alias.dtk.io", "foreign.dtk.io", "4ccf4170.foo.dtk.io", "nothing.dtk.io"),
    *("own_.foo.dtk.io", "own_.dtk.io", "tgt_._http._tcp.foo.dtk.io", "10-0-0-5-h.foo.dtk.io"),
    *("*.dtk.io", "*.foo.dtk.io", "a.*.dtk.io", "any.foo.dtk.io", "any.any.dtk.io", "x.any.any.dtk.io"),
    *("ns.dns.dtk.io", "apex.dns.dtk.io", "dns.dtk.io", "_tcp.foo.dtk.io", "any.mydomain.io"),
    *("evil-dtk.io", "ext.example", "4.0.77.10.in-addr.arpa", "1.77.10.in-addr.arpa"),
    f"z{LONG}.dtk.io"[-249:],
    f"z{LONG}.abcdef.dtk.io"[-253:].lstrip("."),
]
TYPES = ("A", "AAAA", "CNAME", "SRV", "TXT", "PTR", "MX", "NS", "SOA", "CAA", "HTTPS")
QUESTIONS = list(product([f"{name}." for name in NAMES], TYPES))

SETTINGS = CorefileSettings(
    Name.parse("cluster.local"), cache=0, upstream="none", health="", ready="", prometheus="", external=ZONES
)
