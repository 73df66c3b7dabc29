"""The model answers as the table of facts says (`tests/stack/test_reader_model.py` asks the real server)."""

from __future__ import annotations

import pytest

from skydns_compat.names import Name
from skydns_compat.reader import Answer, Entries, Rr, answer
from tests.skydns_compat.reader_cases import CASES, ZONE, Case

CLUSTER = Name.parse(ZONE)


def entries(keys: dict[str, str]) -> Entries:
    return Entries({key.encode(): value.encode() for key, value in keys.items()})


def lines(records: tuple[Rr, ...]) -> list[str]:
    return [str(record) for record in records]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fact(case: Case) -> None:
    given = answer(entries(case.etcd()), CLUSTER, case.question, case.qtype)
    assert given.rcode == case.rcode
    assert lines(given.answers) == case.expected_answers()
    assert lines(given.additional) == case.expected_additional()


def test_ids_are_distinct() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


def test_name_as_question() -> None:
    store = entries({"/skydns/local/cluster/a": '{"host":"10.0.0.1"}'})
    assert answer(store, CLUSTER, Name.parse("a.cluster.local"), "a").answers == (
        Rr("a.cluster.local.", "A", 300, "10.0.0.1"),
    )


def test_name_outside_the_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="not below"):
        answer(entries({}), CLUSTER, "a.example", "A")


def test_another_prefix() -> None:
    store = Entries({b"/names/local/cluster/a": b'{"host":"10.0.0.1"}'}, "names/")
    assert answer(store, CLUSTER, "a.cluster.local", "A").answers[0].data == "10.0.0.1"


def test_reverse_zone() -> None:
    store = entries({"/skydns/arpa/in-addr/10/0/0/3": '{"host":"s.ns.svc.cluster.local","ttl":5}'})
    asked = answer(store, Name(("in-addr", "arpa")), "3.0.0.10.in-addr.arpa", "PTR")
    assert lines(asked.answers) == ["3.0.0.10.in-addr.arpa. 5 IN PTR s.ns.svc.cluster.local."]


class TestElsewhere:
    """Names outside the zone are asked on the same server again."""

    @staticmethod
    def ask(name: str, qtype: str) -> list[Rr]:
        known = {"A": "192.0.2.1", "AAAA": "2001:db8::1"}
        alias = Rr(name, "CNAME", 60, "cdn.example.")
        return [alias, Rr("cdn.example.", qtype, 60, known[qtype])]

    def test_cname(self) -> None:
        store = entries({"/skydns/local/cluster/a": '{"host":"ext.example"}'})
        assert lines(answer(store, CLUSTER, "a.cluster.local", "A", self.ask).answers) == [
            "a.cluster.local. 300 IN CNAME ext.example.",
            "ext.example. 60 IN CNAME cdn.example.",
            "cdn.example. 60 IN A 192.0.2.1",
        ]

    def test_srv_has_both_families_and_the_alias_once(self) -> None:
        store = entries({"/skydns/local/cluster/s": '{"host":"ext.example","port":5}'})
        given = answer(store, CLUSTER, "s.cluster.local", "SRV", self.ask)
        assert lines(given.additional) == [
            "ext.example. 60 IN CNAME cdn.example.",
            "cdn.example. 60 IN A 192.0.2.1",
            "cdn.example. 60 IN AAAA 2001:db8::1",
        ]


def test_weights_of_any_sign_end_in_sixteen_bits() -> None:
    store = entries(
        {
            "/skydns/local/cluster/s/1": '{"host":"10.0.0.1","weight":5}',
            "/skydns/local/cluster/s/2": '{"host":"10.0.0.2","weight":-5}',
        }
    )
    assert [
        record.data.split()[1] for record in answer(store, CLUSTER, "s.cluster.local", "SRV").answers
    ] == ["1", "1"]


def test_answer_of_nothing_is_nodata() -> None:
    assert answer(entries({"/skydns/local/cluster/a": "{}"}), CLUSTER, "a.cluster.local", "ANY") == Answer(
        "NOERROR"
    )
