"""Names of external domains answer with their own records only, not with those below.

tests/stack/test_external_endpoints.py queries a real server in the same way.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns_compat.corefile import blocks
from skydns_compat.layout import Layout
from skydns_compat.layout_external import MAX_QUESTION, external_entries, fits, own_name, target_fits
from skydns_compat.names import Name, parse_address
from skydns_compat.reader import Entries
from skydns_compat.reader_served import served_answer
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Pointer, Port, Record, Srv, Text
from tests.skydns_compat.external_cases import DATA, SETTINGS, keys, records
from tests.strategies import LAW

RULES = blocks(SETTINGS)
ZONE = Name.parse("dtk.io")
TYPES = ("A", "AAAA", "TXT", "SRV", "MX", "CNAME")
OWN_KEY = b"/skydns/io/dtk/foo/own_"
MARKER = b'{"owner":"kube2etcd"}'
FOO = Name.parse("foo.dtk.io")


def query(entries: Entries, name: str, qtype: str) -> str:
    response = served_answer(entries, RULES, name, qtype)
    return ", ".join(record.data for record in response.answers) or response.rcode


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        # the apex and a parent have only their own records
        ("dtk.io", "A", "10.0.0.1"),
        ("dtk.io", "TXT", '"apex text"'),
        ("foo.dtk.io", "A", "10.0.0.5, 10.0.0.6"),
        ("FOO.dtk.io", "AAAA", "fd00::5"),
        # empty non-terminal, missing name
        ("empty.dtk.io", "A", "NOERROR"),
        ("below.alias.dtk.io", "A", "NXDOMAIN"),
        # CNAME within the zone, to another zone, outside, in a loop
        ("chain.dtk.io", "A", "alias.dtk.io., foo.dtk.io., 10.0.0.5, 10.0.0.6"),
        ("cross.dtk.io", "AAAA", "deep.er.mydomain.io., fd00::20"),
        ("out.dtk.io", "A", "ext.example."),
        ("loop1.dtk.io", "A", "NOERROR"),
        ("toany.dtk.io", "A", "x.any.dtk.io., 10.0.0.12"),
        # SRV weights; PTR is not an address
        ("_http._tcp.foo.dtk.io", "SRV", "0 50 80 foo.dtk.io., 0 50 81 any.dtk.io."),
        ("_m._tcp.foo.dtk.io", "SRV", "1 99 80 b.example., 1 1 80 a.example."),
        ("5.0.77.10.in-addr.arpa", "PTR", "foo.dtk.io."),
        ("5.0.77.10.in-addr.arpa", "A", "NOERROR"),
        # foreign keys below our names
        ("foreign.dtk.io", "A", "NXDOMAIN"),
        # SOA at the apex only; the layout's label and wildcards do not exist
        ("dtk.io", "SOA", "ns.dns.dtk.io. hostmaster.dtk.io. 0 7200 1800 86400 30"),
        ("foo.dtk.io", "SOA", "NOERROR"),
        ("own_.foo.dtk.io", "A", "NXDOMAIN"),
        ("*.dtk.io", "A", "NXDOMAIN"),
        ("any.foo.dtk.io", "A", "NXDOMAIN"),
    ],
)
def test_answers(name: str, qtype: str, expected: str) -> None:
    assert query(Entries(keys()), name, qtype) == expected


@pytest.mark.parametrize(
    ("data", "entries"),
    [
        ([Exists()], {b"": MARKER}),
        (
            [Host(parse_address("10.0.0.1"))],
            {b"": MARKER, b"/10-0-0-1-H": b'{"host":"10.0.0.1","port":-1,"ttl":5,"owner":"kube2etcd"}'},
        ),
        (
            [Alias(Name.parse("any.example"))],
            dict.fromkeys((b"", b"/C"), b'{"host":"any.example","port":-1,"ttl":5,"owner":"kube2etcd"}'),
        ),
        (
            [Pointer(Name.parse("a.b"))],
            {
                b"": b'{"host":"a.b","port":-1,"ttl":5,"owner":"kube2etcd"}',
                b"/M": b'{"host":"m.own_.foo.dtk.io","port":-1,"owner":"kube2etcd"}',
            },
        ),
    ],
)
def test_keys(data: list[Data], entries: dict[bytes, bytes]) -> None:
    found = external_entries(Layout(), [Record(FOO, one, 5) for one in data], ZONE)
    assert found == {OWN_KEY + leaf: value for leaf, value in entries.items()}


def test_ports_of_services_are_refused() -> None:
    with pytest.raises(ValueError, match="only names of Services"):
        external_entries(Layout(), [Record(FOO, Port(80, FOO), 5)], ZONE)


def test_leaves_depend_on_content_only() -> None:
    texts: list[Data] = [Text("a"), Text("b"), Mail(0, FOO), Srv(0, 0, 1, FOO)]
    first = external_entries(Layout(), [Record(FOO, one, 5) for one in texts], ZONE)
    again = external_entries(Layout(), [Record(FOO, one, 5) for one in reversed(texts)], ZONE)
    assert first == again
    assert len(first) == 5
    assert all(key == OWN_KEY or key.rpartition(b"/")[2] != key.rpartition(b"/")[2].lower() for key in first)


def test_keys_map_back_to_names() -> None:
    for key in external_entries(Layout(), records(), ZONE):
        found = Layout().name(key)
        assert str(found) in DATA


def test_fits() -> None:
    longest = Name(("a" * 63, "b" * 63, "c" * 63, "d" * (MAX_QUESTION - 192)))
    assert fits(longest)
    assert len(str(own_name(longest))) == 253
    assert not fits(Name((*longest.labels[:3], longest.labels[3] + "d")))
    assert not fits(Name.parse("any.dtk.io"))
    assert not fits(Name.parse("any.any.dtk.io"))
    assert target_fits(FOO, FOO)
    assert not target_fits(longest, FOO)


_names = st.lists(st.sampled_from(["a", "b", "any", "_tcp"]), min_size=0, max_size=4).map(
    lambda labels: Name((*labels, *ZONE.labels))
)
_targets = st.one_of(_names.filter(fits), st.just(Name.parse("x.example")))
_addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]).map(lambda text: Host(parse_address(text)))
_numbers = st.sampled_from([0, 1, 10, 65535])
_data = st.one_of(
    st.builds(Alias, _targets).map(lambda one: [one]),
    st.lists(
        st.one_of(
            _addresses,
            st.builds(Text, st.sampled_from(["one", "two"])),
            st.builds(Srv, _numbers, _numbers, _numbers, _targets),
            st.builds(Mail, _numbers, _targets),
        ),
        max_size=4,
        unique=True,
    ),
)


@LAW
@given(st.dictionaries(_names.filter(fits), _data, max_size=6))
def test_answers_equal_the_records(data_by_name: dict[Name, list[Data]]) -> None:
    keys_: dict[bytes, bytes] = {}
    for name, data in data_by_name.items():
        own = external_entries(Layout(), [Record(name, one, 5) for one in data or [Exists()]], ZONE)
        assert not keys_.keys() & own.keys()
        keys_ |= own
    entries = Entries(keys_)
    for name, data in data_by_name.items():
        alias = any(isinstance(one, Alias) for one in data)
        for qtype in ("CNAME", "SRV", "MX") if alias else TYPES:
            response = served_answer(entries, RULES, name, qtype)
            assert response.rcode == "NOERROR"
            found = Counter(_without_weight(one.data, qtype) for one in response.answers)
            expected = Counter(_without_weight(str(one), qtype) for one in data if one.rtype == qtype)
            assert found == expected, (str(name), qtype)
            assert {one.name for one in response.answers} <= {f"{name}."}
        missing = Name(("gone", *name.labels))
        assert served_answer(entries, RULES, missing, "A").rcode == "NXDOMAIN"


def _without_weight(data: str, qtype: str) -> str:
    """The server replaces weights by shares."""
    if qtype != "SRV":
        return data
    priority, _, port, target = data.split()
    return f"{priority} {port} {target}"
