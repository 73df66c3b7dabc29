"""The model's answers to the cases; tests/stack/test_reader_model.py sends them to a real server."""

from __future__ import annotations

import pytest

from skydns_compat.names import Name
from skydns_compat.reader import Entries, Rr, answer
from tests.skydns_compat.reader_cases import CASES, ZONE, Case

CLUSTER = Name.parse(ZONE)


def entries(keys: dict[str, str]) -> Entries:
    return Entries({key.encode(): value.encode() for key, value in keys.items()})


def lines(records: tuple[Rr, ...]) -> list[str]:
    return [str(record) for record in records]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case) -> None:
    response = answer(entries(case.etcd()), CLUSTER, case.question, case.qtype)
    assert response.rcode == case.rcode
    assert lines(response.answers) == case.expected_answers()
    assert lines(response.additional) == case.expected_additional()


def test_name_outside_the_zone_raises() -> None:
    with pytest.raises(ValueError, match="not below"):
        answer(entries({}), CLUSTER, "a.example", "A")


def test_other_prefix_and_zone() -> None:
    store = Entries({b"/names/arpa/in-addr/10/0/0/3": b'{"host":"web.shop","ttl":5}'}, "names/")
    name = Name.parse("3.0.0.10.in-addr.arpa")
    response = answer(store, Name(("in-addr", "arpa")), name, "ptr")
    assert lines(response.answers) == ["3.0.0.10.in-addr.arpa. 5 IN PTR web.shop."]


def test_names_outside_the_zone_are_queried_on_the_same_server() -> None:
    def upstream(name: str, qtype: str) -> list[Rr]:
        known = {"A": "192.0.2.1", "AAAA": "2001:db8::1"}
        alias = Rr(name, "CNAME", 60, "cdn.example.")
        return [alias, Rr("cdn.example.", qtype, 60, known[qtype])]

    store = entries({"/skydns/local/cluster/s": '{"host":"ext.example","port":5}'})
    addresses = [
        "ext.example. 60 IN CNAME cdn.example.",
        "cdn.example. 60 IN A 192.0.2.1",
        "cdn.example. 60 IN AAAA 2001:db8::1",
    ]
    response = answer(store, CLUSTER, "s.cluster.local", "A", upstream)
    assert lines(response.answers) == ["s.cluster.local. 300 IN CNAME ext.example.", *addresses[:2]]
    assert lines(answer(store, CLUSTER, "s.cluster.local", "SRV", upstream).additional) == addresses


def test_weights_that_cancel_out() -> None:
    store = entries(
        {
            "/skydns/local/cluster/s/1": '{"host":"10.0.0.1","weight":5}',
            "/skydns/local/cluster/s/2": '{"host":"10.0.0.2","weight":-5}',
        }
    )
    assert [
        record.data.split()[1] for record in answer(store, CLUSTER, "s.cluster.local", "SRV").answers
    ] == ["1", "1"]
