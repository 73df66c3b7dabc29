"""The model of CoreDNS's answers against a real CoreDNS: case table, random keys, whole Corefiles."""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skydns_compat.corefile import CorefileSettings, blocks, corefile
from skydns_compat.names import Name
from skydns_compat.reader import Answer, Entries, Rr, answer
from skydns_compat.reader_served import refused, served_answer
from tests.skydns_compat import external_cases
from tests.skydns_compat.reader_cases import CASES, ZONE, ZONE_KEY, Case
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS
from tests.stack.coredns import upstream_corefile
from tests.stack.harness import LOOPBACK, Binaries, CoreDns, Etcd


def ask(coredns: CoreDns, name: str, qtype: str) -> Answer:
    """The real answer as the model's type, one record per RRset."""
    question = dns.message.make_query(name, qtype, use_edns=False)
    reply = dns.query.tcp(question, LOOPBACK, timeout=5, port=coredns.port, one_rr_per_rrset=True)
    rcode = dns.rcode.to_text(reply.rcode())
    assert rcode in ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED")
    return Answer(rcode, tuple(map(_record, reply.answer)), tuple(map(_record, reply.additional)))  # type: ignore[arg-type]


def entries(keys: Mapping[str, str]) -> Entries:
    return Entries({key.encode(): value.encode() for key, value in keys.items()})


def model_answer(keys: Mapping[str, str], zone: Name, name: str, qtype: str) -> Answer:
    """The model's answer of the etcd plugin alone, in dnspython's notation."""
    modelled = answer(entries(keys), zone, name, qtype)
    return Answer(
        modelled.rcode,
        tuple(map(as_dnspython, modelled.answers)),
        tuple(map(as_dnspython, modelled.additional)),
    )


def as_dnspython(record: Rr) -> Rr:
    """The record in dnspython's notation."""
    data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(record.rtype), record.data)
    return Rr(dns.name.from_text(record.name).to_text(), record.rtype, record.ttl, _data(data))


def _record(rrset: dns.rrset.RRset) -> Rr:
    return Rr(rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, _data(rrset[0]))


def _data(data: dns.rdata.Rdata) -> str:
    text = data.to_text()
    if data.rdtype == dns.rdatatype.AAAA:
        return str(ipaddress.ip_address(text))
    if data.rdtype == dns.rdatatype.SOA:  # without the serial, a timestamp
        words = text.split()
        return " ".join([*words[:2], "0", *words[3:]])
    return text


CLUSTER = Name.parse(ZONE)

COREFILE = """
cluster.local:{{port}} {{
    bind 127.0.0.1
    errors
    etcd cluster.local {{
        path /skydns
        endpoint {url}
    }}
}}
"""


@dataclass
class Pair:
    """An etcd and a CoreDNS that reads it."""

    etcd: Etcd
    coredns: CoreDns
    held: Mapping[str, str] = field(default_factory=dict)

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Make these the only keys in etcd."""
        self.etcd.put_all(keys, without=self.held.keys() - keys.keys())
        self.held = keys


@pytest.fixture(scope="module")
def pair(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("reader")
    with (
        Etcd(directory, binaries) as etcd,
        CoreDns(directory, binaries, COREFILE.format(url=etcd.url)) as coredns,
    ):
        yield Pair(etcd, coredns)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_coredns_answers_as_the_case_table(pair: Pair, case: Case) -> None:
    pair.set_keys(case.etcd())
    real = ask(pair.coredns, case.question, case.qtype)
    assert real == model_answer(case.etcd(), CLUSTER, case.question, case.qtype)
    assert real.rcode == case.rcode


# Few labels, so that names collide: parents, children, targets, wildcards, the apex and its special keys.
_LABELS = st.sampled_from(["a", "b", "_p", "dns", "apex", "ns", "X", "c.d"])
_KEYS = st.lists(_LABELS, max_size=4).map(lambda labels: "/".join([ZONE_KEY, *labels]))
_HOSTS = st.one_of(
    st.sampled_from(
        ["", "10.0.0.1", "10.0.0.2", "fd00::1", "fd00:0::1", "ext.example", "010.0.0.1", "cluster.local"]
    ),
    st.lists(st.sampled_from(["a", "b", "B", "_p"]), min_size=1, max_size=3).map(
        lambda labels: ".".join([*labels, "cluster.local"])
    ),
)
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 80, 65535, 65536, 65537])
_MESSAGES = st.fixed_dictionaries(
    {"host": _HOSTS},
    optional={
        "port": _NUMBERS,
        "priority": _NUMBERS,
        "weight": st.sampled_from([0, 1, 3, 100, 5000]),
        "text": st.sampled_from(["", "t", 'q"\\u']) | st.integers(250, 260).map(lambda length: "x" * length),
        "mail": st.booleans(),
        "ttl": st.sampled_from([0, 1, 5, 2147483647]),
        "targetstrip": st.integers(-1, 7),
        "group": st.sampled_from(["", "g", "h"]),
    },
).map(json.dumps)
_VALUES = st.one_of(*[_MESSAGES] * 4, st.sampled_from(["{}", "null", "[]", '{"ttl":-1}']))
_NAMES = st.lists(st.sampled_from(["a", "b", "_p", "dns", "apex", "ns", "*", "any", "A"]), max_size=4).map(
    lambda labels: ".".join([*labels, ZONE])
)
_TYPES = st.sampled_from(["A", "AAAA", "CNAME", "SRV", "PTR", "TXT", "MX", "NS", "SOA", "CAA"])


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(_KEYS, _VALUES, max_size=8), st.lists(st.tuples(_NAMES, _TYPES), min_size=6, max_size=12)
)
def test_model_holds_for_any_keys(pair: Pair, keys: dict[str, str], questions: list[tuple[str, str]]) -> None:
    pair.set_keys(keys)
    for name, qtype in questions:
        real = ask(pair.coredns, name, qtype)
        assert real == model_answer(keys, CLUSTER, name, qtype), (keys, name, qtype)


@dataclass(frozen=True)
class Served:
    keys: Mapping[str, str]
    settings: CorefileSettings
    questions: Iterable[tuple[str, str]]


#: External domains above, below and beside the cluster's zone and the reverse zones.
NESTED_DOMAINS = Served(
    {
        **KEYS,
        "/skydns/local/own_": "{}",
        "/skydns/local/up/own_": "{}",
        "/skydns/local/up/own_/A": '{"host":"192.0.2.1","port":-1}',
        "/skydns/local/cluster/ext/own_": "{}",
        "/skydns/local/cluster/ext/own_/A": '{"host":"192.0.2.2","port":-1}',
        "/skydns/arpa/in-addr/10/9/9/9/own_": '{"host":"nine.example"}',
        "/skydns/io/dtk/own_": "{}",
    },
    replace(
        SETTINGS["insecure"],
        external=tuple(map(Name.parse, ("ext.cluster.local", "local", "10.in-addr.arpa", "dtk.io"))),
    ),
    list(
        product(
            [
                *("up.local.", "local.", "gone.local.", "ext.cluster.local.", "x.ext.cluster.local."),
                *("cluster.local.", "web.shop.svc.cluster.local.", "none.shop.svc.cluster.local."),
                *("dtk.io.", "9.9.9.in-addr.arpa.", "9.9.9.10.in-addr.arpa.", "1.0.0.192.in-addr.arpa."),
            ],
            ("A", "TXT", "PTR", "DS", "SOA", "HTTPS", "ANY"),
        )
    ),
)
EXTERNAL = {key.decode(): value.decode() for key, value in external_cases.keys().items()}
SERVED = {
    **{f"pods {pods}": Served(KEYS, settings, QUESTIONS) for pods, settings in SETTINGS.items()},
    "domains around the zones": NESTED_DOMAINS,
    "external domains": Served(EXTERNAL, external_cases.SETTINGS, external_cases.QUESTIONS),
}


def upstream(name: str, qtype: str) -> Answer:
    known = {"A": "192.0.2.80", "AAAA": "2001:db8::80"}
    if qtype == "ANY":  # the first template of the name
        qtype = "A"
    if name != "ext.example.":
        return Answer("NXDOMAIN")
    return Answer("NOERROR", (Rr(name, qtype, 60, known[qtype]),)) if qtype in known else Answer("NOERROR")


def unordered(given: Answer) -> tuple[str, list[str], list[str]]:
    """The answer without order, since CoreDNS rotates records (loadbalance)."""
    return (
        given.rcode,
        sorted(str(as_dnspython(record)) for record in given.answers),
        sorted(str(as_dnspython(record)) for record in given.additional),
    )


@pytest.mark.parametrize("with_upstream", [False, True], ids=["alone", "with upstream"])
@pytest.mark.parametrize("case", SERVED.values(), ids=SERVED)
def test_model_holds_for_whole_corefiles(
    pair: Pair, binaries: Binaries, tmp_path: Path, case: Served, with_upstream: bool
) -> None:
    pair.set_keys(case.keys)
    other = CoreDns(tmp_path, binaries, upstream_corefile("ext.example"), name="upstream")
    behind = f"{LOOPBACK}:{other.port}" if with_upstream else "none"
    settings = replace(
        case.settings, etcd_servers=(pair.etcd.url,), listen=f"{LOOPBACK}:{{port}}", upstream=behind
    )
    keys, rules = entries(case.keys), blocks(settings)
    above = upstream if with_upstream else refused
    with other, CoreDns(tmp_path, binaries, corefile(settings)) as coredns:
        for name, qtype in case.questions:
            modelled, real = served_answer(keys, rules, name, qtype, above), ask(coredns, name, qtype)
            assert unordered(real) == unordered(modelled), (name, qtype)


def test_alias_cycle_between_two_zones_times_out(binaries: Binaries, tmp_path: Path, pair: Pair) -> None:
    there = {"one": "two", "two": "one"}
    pair.set_keys({f"/skydns/example/{one}/a": f'{{"host":"a.{two}.example"}}' for one, two in there.items()})
    backend = f"{{\n    path /skydns\n    endpoint {pair.etcd.url}\n}}"
    zones = f"example:{{port}} {{\n    bind {LOOPBACK}\n    etcd one.example two.example {backend}\n}}\n"
    with CoreDns(tmp_path, binaries, zones) as coredns:
        with pytest.raises(dns.exception.Timeout):
            coredns.ask("a.one.example", timeout=1)
        assert coredns.ask("b.one.example").rcode() == dns.rcode.NXDOMAIN
