"""The Corefile's rules in front of the entries (`tests/stack/test_served_model.py` asks the real server)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from skydns_compat.corefile import Block, Template, blocks
from skydns_compat.names import Name
from skydns_compat.reader import Answer, Entries, Rr
from skydns_compat.reader_served import EndlessQuestionError, served_answer
from tests.skydns_compat.served_cases import KEYS, QUESTIONS, SETTINGS

ENTRIES = Entries({key.encode(): value.encode() for key, value in KEYS.items()})
SVC, POD = "svc.cluster.local.", "pod.cluster.local."


def ask(name: str, qtype: str, pods: str = "verified") -> str:
    """The answer in short: the data in order, or the rcode."""
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
        ("cluster.local.", "TXT", "NXDOMAIN"),
        # the label any is a label like others, here and in the data of answers
        (f"any.shop.{SVC}", "A", f"any.shop.{SVC} 5 IN A 10.0.0.2"),
        (f"_http._tcp.any.shop.{SVC}", "SRV", f"_http._tcp.any.shop.{SVC} 5 IN SRV 0 100 81 any.shop.{SVC}"),
        (f"web.any.{SVC}", "SRV", f"web.any.{SVC} 5 IN SRV 0 100 82 web.any.{SVC}"),
        (f"any.{SVC}", "A", "NOERROR"),
        # no form of the specification
        (f"*.shop.{SVC}", "A", "NXDOMAIN"),
        (f"_tcp.web.shop.{SVC}", "A", "NXDOMAIN"),
        ("x.cluster.local.", "A", "NXDOMAIN"),
        # addresses
        ("1.0.0.10.in-addr.arpa.", "PTR", f"1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.{SVC}"),
        ("1.0.0.10.in-addr.arpa.", "A", "NXDOMAIN"),
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
        ("9-2-3-4", "A", "verified", "NXDOMAIN"),
        ("9-2-3-4", "A", "insecure", "9.2.3.4"),
        ("9-2-3-4", "AAAA", "insecure", "NOERROR"),
        ("9-2-3-400", "A", "insecure", "NXDOMAIN"),
        ("fd00--1", "AAAA", "insecure", "fd00::1"),
        ("1-2-3-4-5-6-7-8", "AAAA", "insecure", "1:2:3:4:5:6:7:8"),
    ],
)
def test_pods(label: str, qtype: str, pods: str, expected: str) -> None:
    assert ask(f"{label}.shop.{POD}", qtype, pods).rpartition(" ")[2] == expected


def test_unknown_addresses_go_on_to_the_upstream() -> None:
    found = Answer("NOERROR", (Rr("2.0.0.10.in-addr.arpa.", "PTR", 60, "host.example."),))
    rules = blocks(replace(SETTINGS["disabled"], upstream="192.0.2.53"))
    assert served_answer(ENTRIES, rules, "2.0.0.10.in-addr.arpa", "PTR", lambda _name, _qtype: found) == found


def test_template_whose_record_cannot_be_is_a_failure() -> None:
    zone = Name.parse("cluster.local")
    template = Template((r"^(?P<a>x)\.",), "NOERROR", ("A",), "{{ .Name }} 5 IN A {{ .Group.a }}")
    rules = (Block((zone,), (zone,), templates=(template,)),)
    assert served_answer(ENTRIES, rules, "x.cluster.local", "A") == Answer("SERVFAIL")


def test_two_zones_that_lead_to_each_other_never_answer() -> None:
    zones = Name.parse("one.example"), Name.parse("two.example")
    keys = {
        b"/skydns/example/one/a": b'{"host":"a.two.example"}',
        b"/skydns/example/two/a": b'{"host":"a.one.example"}',
    }
    rules = tuple(Block((zone,), (zone,)) for zone in zones)
    with pytest.raises(EndlessQuestionError, match=r"a\.one\.example\. -> a\.two\.example\. -> a\.one"):
        served_answer(Entries(keys), rules, "a.one.example", "A")


def test_the_questions_to_the_real_server_are_telling() -> None:
    rules = blocks(SETTINGS["verified"])
    answers = [served_answer(ENTRIES, rules, name, qtype) for name, qtype in QUESTIONS]
    kinds = Counter(given.rcode if not given.answers else "answer" for given in answers)
    assert min(kinds["answer"], kinds["NOERROR"], kinds["NXDOMAIN"]) >= 40
