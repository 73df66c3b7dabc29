"""Records in zone file syntax."""

from __future__ import annotations

import pytest

from skydns_compat.names import Name, parse_address
from skydns_compat.records import Alias, Data, Exists, Host, Pointer, Port, Record, Text

WEB = Name.parse("web.shop.svc.cluster.local")


@pytest.mark.parametrize(
    ("data", "rtype", "text"),
    [
        (Host(parse_address("10.0.0.1")), "A", "10.0.0.1"),
        (Host(parse_address("fd00::1")), "AAAA", "fd00::1"),
        (Alias(WEB), "CNAME", f"{WEB}."),
        (Port(80, WEB), "SRV", f"0 80 {WEB}."),
        (Port(80, WEB, parse_address("10.0.0.1")), "SRV", f"0 80 {WEB}."),
        (Pointer(WEB), "PTR", f"{WEB}."),
        (Text("1.1.0"), "TXT", '"1.1.0"'),
        (Text('say "hi" \\o/; x'), "TXT", r'"say \"hi\" \\o/; x"'),
        (Text("a" * 300), "TXT", f'"{"a" * 255}" "{"a" * 45}"'),
        (Text("é\n"), "TXT", r'"\195\169\010"'),
        (Text("a" + "é" * 127 + "é"), "TXT", '"a' + r"\195\169" * 127 + r'" "\195\169"'),
        (Text("é" * 128), "TXT", '"' + r"\195\169" * 127 + r'\195" "\169"'),
        (Text(""), "TXT", '""'),
        (Exists(), "NODATA", "-"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_zone_file_syntax(data: Data, rtype: str, text: str) -> None:
    record = Record(Name.parse("a.example"), data, 30)
    assert record.rtype == rtype
    assert str(record) == f"a.example. 30 IN {rtype} {text}"
