"""The model with the Corefile's rules; tests/stack/test_reader_model.py compares it with a real server."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from skydns_compat.corefile import Block, CorefileSettings, blocks
from skydns_compat.names import Name
from skydns_compat.reader import Answer, Entries, Rr
from skydns_compat.reader_served import served_answer
from tests.skydns_compat import external_cases
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS

ENTRIES = Entries({key.encode(): value.encode() for key, value in KEYS.items()})
SVC, POD = "svc.cluster.local.", "pod.cluster.local."


def query(name: str, qtype: str, pods: str = "verified") -> str:
    response = served_answer(ENTRIES, blocks(SETTINGS[pods]), name, qtype)
    return ", ".join(str(record) for record in response.answers) or response.rcode


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        (f"web.shop.{SVC}", "A", f"web.shop.{SVC} 5 IN A 10.0.0.1"),
        (f"_http._tcp.web.shop.{SVC}", "SRV", f"_http._tcp.web.shop.{SVC} 5 IN SRV 0 50 80 web.shop.{SVC}"),
        (f"alias.shop.{SVC}", "CNAME", f"alias.shop.{SVC} 5 IN CNAME web.shop.{SVC}"),
        (f"ext.shop.{SVC}", "A", f"ext.shop.{SVC} 5 IN CNAME ext.example."),
        # names above Services
        (f"shop.{SVC}", "A", "NOERROR"),
        (f"none.{SVC}", "A", "NXDOMAIN"),
        (SVC, "SRV", "NOERROR"),
        ("cluster.local.", "TXT", "NOERROR"),
        # the etcd plugin's wildcards and separators
        (f"any.shop.{SVC}", "A", "NXDOMAIN"),
        (f"web.any.{SVC}", "SRV", "NXDOMAIN"),
        (f"/.shop.{SVC}", "A", "NXDOMAIN"),
        ("svc/shop.cluster.local.", "A", "NXDOMAIN"),
        # the layout's own labels
        ("nt_.cluster.local.", "A", "NXDOMAIN"),
        ("shop.svc.nt_.cluster.local.", "A", "NXDOMAIN"),
        # empty non-terminals (RFC 8020)
        ("dns.cluster.local.", "A", "NOERROR"),
        (f"_tcp.web.shop.{SVC}", "A", "NOERROR"),
        # types without records
        (f"web.shop.{SVC}", "HTTPS", "NOERROR"),
        (f"web.shop.{SVC}", "SOA", "NOERROR"),
        (f"web.shop.{SVC}", "DS", "NOERROR"),
        (f"none.shop.{SVC}", "DS", "NXDOMAIN"),
        ("web.shop.cluster.local.", "DS", "NOERROR"),
        (f"web.shop.{SVC}", "ANY", f'web.shop.{SVC} 8482 IN HINFO "ANY obsoleted" "See RFC 8482"'),
        # names that the specification does not have
        (f"*.shop.{SVC}", "A", "NXDOMAIN"),
        (f"_quic.web.shop.{SVC}", "A", "NXDOMAIN"),
        ("x.cluster.local.", "A", "NXDOMAIN"),
        # addresses
        ("1.0.0.10.in-addr.arpa.", "PTR", f"1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.{SVC}"),
        ("1.0.0.10.in-addr.arpa.", "A", "NOERROR"),
        ("1.0.0.10.in-addr.arpa.", "CAA", "NOERROR"),
        ("2.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN"),
        ("www.example.", "A", "REFUSED"),
    ],
)
def test_answers(name: str, qtype: str, expected: str) -> None:
    assert query(name, qtype) == expected


@pytest.mark.parametrize(
    ("label", "qtype", "pods", "expected"),
    [
        ("1-2-3-4", "A", "disabled", "NXDOMAIN"),
        ("1-2-3-4", "A", "verified", "1.2.3.4"),
        ("x.1-2-3-4", "A", "verified", "1.2.3.4"),
        ("9-2-3-4", "A", "verified", "NXDOMAIN"),
        ("9-2-3-4", "A", "insecure", "9.2.3.4"),
        ("x.9-2-3-4", "A", "insecure", "9.2.3.4"),
        ("9-2-3-4", "AAAA", "insecure", "NOERROR"),
        ("fd00--1", "AAAA", "insecure", "fd00::1"),
    ],
)
def test_pods(label: str, qtype: str, pods: str, expected: str) -> None:
    assert query(f"{label}.shop.{POD}", qtype, pods).rpartition(" ")[2] == expected


@pytest.mark.parametrize(("name", "qtype"), [("2.0.0.10.in-addr.arpa", "PTR"), ("0.0.10.in-addr.arpa", "NS")])
def test_reverse_names_without_a_key_go_upstream(name: str, qtype: str) -> None:
    found = Answer("NOERROR", (Rr(f"{name}.", qtype, 60, "host.example."),))
    rules = blocks(replace(SETTINGS["disabled"], upstream="192.0.2.53"))
    assert served_answer(ENTRIES, rules, name, qtype, lambda _name, _qtype: found) == found


def test_alias_to_a_computed_pod_name_is_followed() -> None:
    """The etcd plugin follows it by the target's keys, which bypasses the template."""
    alias, target = f"to-pod.shop.{SVC}", f"9-8-7-6.shop.{POD}"
    cname = f"{alias} 5 IN CNAME {target}"
    assert query(alias, "A", "insecure") == f"{cname}, {target} 5 IN A 9.8.7.6"
    assert query(alias, "AAAA", "insecure") == "NOERROR"
    assert query(alias, "CNAME", "insecure") == cname


def test_cname_loop_across_two_zones() -> None:
    zones = Name.parse("one.example"), Name.parse("two.example")
    keys = {
        b"/skydns/example/one/a": b'{"host":"a.two.example"}',
        b"/skydns/example/two/a": b'{"host":"a.one.example"}',
    }
    rules = tuple(Block((zone,)) for zone in zones)
    assert served_answer(Entries(keys), rules, "a.one.example", "A").rcode == "SERVFAIL"


def test_cname_chain_across_two_zones_is_limited() -> None:
    length, sides = 400, ("one", "two")
    keys = {
        f"/skydns/example/{sides[at % 2]}/a{at}".encode(): (
            f'{{"host":"a{at + 1}.{sides[(at + 1) % 2]}.example"}}'.encode()
        )
        for at in range(length)
    }
    rules = tuple(Block((Name.parse(f"{side}.example"),)) for side in sides)
    assert served_answer(Entries(keys), rules, "a0.one.example", "A").rcode == "SERVFAIL"
    assert len(served_answer(Entries(keys), rules, f"a{length - 10}.one.example", "A").answers) == 10


@pytest.mark.parametrize(
    ("entries", "settings", "questions"),
    [
        pytest.param(ENTRIES, SETTINGS["verified"], QUESTIONS, id="zones of the cluster"),
        pytest.param(
            Entries(external_cases.keys()),
            external_cases.SETTINGS,
            external_cases.QUESTIONS,
            id="external domains",
        ),
    ],
)
def test_questions_to_the_real_server_cover_every_kind_of_answer(
    entries: Entries, settings: CorefileSettings, questions: list[tuple[str, str]]
) -> None:
    rules = blocks(settings)
    answers = [served_answer(entries, rules, name, qtype) for name, qtype in questions]
    kinds = Counter(one.rcode if not one.answers else "answer" for one in answers)
    assert min(kinds["answer"], kinds["NOERROR"], kinds["NXDOMAIN"]) >= 40
