"""The state: changes, refusals and encoding."""

import json
from typing import Any

import pytest

from kube2etcd.external import Domain, Endpoint, Property, parse_cluster_address
from kube2etcd.webhook.state import (
    MAX_REFUSED,
    Changes,
    Refusal,
    State,
    decode,
    encode,
)

DOMAINS = (Domain.parse("dtk.io"),)


def a(name: str, *targets: str, **fields: str) -> Endpoint:
    return Endpoint(name, targets or ("10.0.0.5",), "A", fields.get("sid", ""))


def after(state: State, **lists: tuple[Endpoint, ...]) -> State:
    return state.apply(Changes(**lists), DOMAINS)[0]


def test_invalid_endpoint_is_skipped_and_the_rest_applied() -> None:
    bad = Endpoint("x" * 300 + ".dtk.io", ("10.0.0.5",), "A")
    state, remarks = State().apply(Changes(create=(bad, a("foo.dtk.io"))), DOMAINS)
    assert list(state.endpoints.values()) == [a("foo.dtk.io")]
    assert [remark.reason for remark in remarks] == ["name"]
    assert "is skipped" in remarks[0].text


def test_invalid_target_among_valid_ones_is_reported_and_kept() -> None:
    mixed = a("foo.dtk.io", "10.0.0.5", "nonsense")
    state, remarks = State().apply(Changes(create=(mixed,)), DOMAINS)
    assert list(state.endpoints.values()) == [mixed]
    assert remarks == [
        Refusal("", "'foo.dtk.io' A is taken in part: 'nonsense': 'nonsense' is not an IP address")
    ]


def ownership(name: str, owned: str, sid: str = "", *, labelled: bool = True) -> Endpoint:
    labels = {"ownedRecord": owned} if labelled else {}
    text = '"heritage=external-dns,external-dns/owner=me"'
    return Endpoint(name, (text,), "TXT", sid, labels=labels)


INVALID = {"CNAME": "10.0.0.5", "MX": "0 .", "NAPTR": "x", "A": "nonsense", "AAAA": "10.0.0.5"}


@pytest.mark.parametrize("rtype", sorted(INVALID))
@pytest.mark.parametrize(
    ("labelled", "form"),
    [
        (True, "{type}-foo.dtk.io"),
        (True, "foo.dtk.io"),
        (True, "reg-{type}-foo.dtk.io"),
        (True, "{type}.foo.dtk.io"),
        # Without the label, only the default names identify the record.
        (False, "{type}-foo.dtk.io"),
        (False, "foo.dtk.io"),
    ],
)
@pytest.mark.parametrize("first", ["record", "text"])
def test_ownership_is_skipped_with_its_record(rtype: str, labelled: bool, form: str, first: str) -> None:
    name = form.format(type=rtype.lower())
    record = Endpoint("Foo.dtk.io.", (INVALID[rtype],), rtype)
    text = ownership(name, "foo.dtk.io", labelled=labelled)
    pair = (record, text) if first == "record" else (text, record)
    state, refusals = State().apply(Changes(create=pair), DOMAINS)
    assert state.endpoints == {}
    assert [one.reason for one in refusals][-1] == "record"


def test_ownership_record_is_kept_with_its_record() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "AAAA")
    texts = (ownership("a-foo.dtk.io", "foo.dtk.io"), ownership("aaaa-foo.dtk.io", "foo.dtk.io"))
    state = after(State(), create=(a("foo.dtk.io"), bad, *texts))
    assert {one.name for one in state.endpoints.values()} == {"foo.dtk.io", "a-foo.dtk.io"}
    # A refused update keeps the existing record and its ownership record.
    worse = Endpoint("foo.dtk.io", ("nonsense",), "A")
    again = after(state, update=(worse, texts[0]))
    assert again.endpoints == state.endpoints
    # One name for all types, as old clients write it; a set identifier; a name that begins like a type.
    for name, owned, sid in (("txt-foo.dtk.io", "foo.dtk.io", ""), ("a-a-b.dtk.io", "a-b.dtk.io", "s")):
        valid, text = a(owned, sid=sid), ownership(name, owned, sid)
        bad = Endpoint(owned, ("0 .",), "MX", sid)
        kept = after(State(), create=(text, valid, bad))
        assert set(kept.endpoints) == {valid.key, text.key}


def test_refused_record_does_not_affect_other_ownership_records() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "A")
    nameless = Endpoint("x.dtk.io", ("text",), "TXT", labels={"ownedRecord": ""})
    texts = (ownership("a-bar.dtk.io", "bar.dtk.io"), ownership("a-foo.dtk.io", "foo.dtk.io", "s"), nameless)
    assert set(after(State(), create=(bad, *texts)).endpoints) == {one.key for one in texts}


def test_remembered_refusals_are_limited() -> None:
    bad = Endpoint("foo.dtk.io", ("nonsense",), "A")
    state = after(State(), create=(bad,))
    assert list(state.refused) == ["foo.dtk.io"]
    assert after(State(), create=(a("foo.example"),)) == State()
    assert "nonsense" in state.refused["foo.dtk.io"]
    assert decode(encode(state)) == state
    assert after(state, create=(bad,)) == state
    assert after(state, create=(a("foo.dtk.io"),)).refused == {}
    assert after(state, delete=(bad,)).refused == {}
    many = tuple(Endpoint(f"n{number}.dtk.io", ("x",), "A") for number in range(MAX_REFUSED + 5))
    state = after(state, create=many)
    assert len(state.refused) == MAX_REFUSED
    assert after(state, create=many) == state


FULL = State(
    {
        one.key: one
        for one in (
            a("foo.dtk.io"),
            Endpoint("B.dtk.io", ('"heritage=x"',), "TXT", "s", 5, {"a": "b"}, (Property("p", "v"),)),
        )
    },
    (Domain.parse(".dtk.io"),),
    parse_cluster_address("192.0.2.1,fd00::1"),
)


def test_encoding_round_trip() -> None:
    assert decode(encode(FULL)) == FULL
    assert decode(encode(State())) == State()


def test_equal_states_have_equal_bytes() -> None:
    reordered = State(dict(reversed(list(FULL.endpoints.items()))), FULL.domains, FULL.cluster)
    assert encode(reordered) == encode(FULL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": None}, "no state of kube2etcd webhook"),
        ({"version": "1"}, "no state of kube2etcd webhook"),
        ({"version": 2}, "upgrade it"),
        ({"version": 2, "domains": 5}, "upgrade it"),
        ({"endpoints": None}, "no state of kube2etcd webhook"),
        ({"endpoints": [5]}, "an endpoint is an object"),
        ({"domains": ["a..b"]}, "is no domain"),
        ({"domains": [5]}, "no state of kube2etcd webhook"),
        ({"domains": 5}, "no state of kube2etcd webhook"),
        ({"clusterIP": "x"}, "is not an IP address"),
    ],
)
def test_invalid_states(fields: dict[str, Any], message: str) -> None:
    given = {"version": 1, "domains": [], "clusterIP": "", "endpoints": []}
    assert decode(json.dumps(given).encode()) == State()
    with pytest.raises(ValueError, match=message):
        decode(json.dumps(given | fields).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 9999])
def test_data_that_is_no_state(data: bytes) -> None:
    with pytest.raises(ValueError, match="no state of kube2etcd webhook"):
        decode(data)
