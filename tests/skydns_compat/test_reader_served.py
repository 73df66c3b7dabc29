"""The Corefile's rules in front of the entries; tests/stack/test_reader_model.py compares a real server."""

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


def ask(name: str, qtype: str, pods: str = "verified") -> str:
    given = served_answer(ENTRIES, blocks(SETTINGS[pods]), name, qtype)
    return ", ".join(str(record) for record in given.answers) or given.rcode


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        (f"web.shop.{SVC}", "A", f"web.shop.{SVC} 5 IN A 10.0.0.1"),
        (f"_http._tcp.web.shop.{SVC}", "SRV", f"_http._tcp.web.shop.{SVC} 5 IN SRV 0 50 80 web.shop.{SVC}"),
        (f"alias.shop.{SVC}", "CNAME", f"alias.shop.{SVC} 5 IN CNAME web.shop.{SVC}"),
        (f"ext.shop.{SVC}", "A", f"ext.shop.{SVC} 5 IN CNAME ext.example."),
        # names above the services read nothing
        (f"shop.{SVC}", "A", "NOERROR"),
        (f"none.{SVC}", "A", "NXDOMAIN"),
        (SVC, "SRV", "NOERROR"),
        ("cluster.local.", "TXT", "NOERROR"),
        # wildcards and separators of the etcd plugin
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
def test_rules(name: str, qtype: str, expected: str) -> None:
    assert ask(name, qtype) == expected


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
    assert ask(f"{label}.shop.{POD}", qtype, pods).rpartition(" ")[2] == expected


@pytest.mark.parametrize(("name", "qtype"), [("2.0.0.10.in-addr.arpa", "PTR"), ("0.0.10.in-addr.arpa", "NS")])
def test_reverse_names_without_a_key_go_to_the_upstream(name: str, qtype: str) -> None:
    found = Answer("NOERROR", (Rr(f"{name}.", qtype, 60, "host.example."),))
    rules = blocks(replace(SETTINGS["disabled"], upstream="192.0.2.53"))
    assert served_answer(ENTRIES, rules, name, qtype, lambda _name, _qtype: found) == found


def test_an_alias_to_a_computed_pod_name_is_followed() -> None:
    """The etcd plugin follows it past the template, by the keys of the target."""
    alias, target = f"to-pod.shop.{SVC}", f"9-8-7-6.shop.{POD}"
    cname = f"{alias} 5 IN CNAME {target}"
    assert ask(alias, "A", "insecure") == f"{cname}, {target} 5 IN A 9.8.7.6"
    assert ask(alias, "AAAA", "insecure") == "NOERROR"
    assert ask(alias, "CNAME", "insecure") == cname


def test_two_zones_in_a_cycle() -> None:
    zones = Name.parse("one.example"), Name.parse("two.example")
    keys = {
        b"/skydns/example/one/a": b'{"host":"a.two.example"}',
        b"/skydns/example/two/a": b'{"host":"a.one.example"}',
    }
    rules = tuple(Block((zone,)) for zone in zones)
    assert served_answer(Entries(keys), rules, "a.one.example", "A").rcode == "SERVFAIL"


def test_a_chain_between_two_zones_too_long_for_the_stack() -> None:
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
def test_the_questions_to_the_real_server_have_answers_of_every_kind(
    entries: Entries, settings: CorefileSettings, questions: list[tuple[str, str]]
) -> None:
    rules = blocks(settings)
    answers = [served_answer(entries, rules, name, qtype) for name, qtype in questions]
    kinds = Counter(given.rcode if not given.answers else "answer" for given in answers)
    assert min(kinds["answer"], kinds["NOERROR"], kinds["NXDOMAIN"]) >= 40
