"""Decoding lists and watch events: malformed objects, malformed bodies, truncation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.errors import ApiError, ApiForbidden, ApiTooMany, ApiUnavailable
from kube2etcd.kube.codec import CHANGES, DEEPEST, decode_event, decode_list, shallow
from kube2etcd.kube.objects import KINDS, Event, Metadata, Rejected, Service
from tests.kube.bodies import META, SERVICES, body, line

ODD: dict[str, Any] = {
    "$.spec.ports": {"metadata": META, "spec": {"ports": "eighty"}},
    "str": {"metadata": META, "spec": {"ports": [{"port": "eighty"}]}},
    "missing required field `port`": {"metadata": META, "spec": {"ports": [{"name": "http"}]}},
    "`port`": {"metadata": META, "spec": {"ports": [{"port": None}]}},
    "port": {"metadata": META, "spec": {"ports": [{"port": 80.5}]}},
    "labels": {"metadata": {**META, "labels": ["a"]}},
    "$.metadata.labels": {"metadata": {**META, "labels": {"a": 1}}},
    "clusterIPs": {"metadata": META, "spec": {"clusterIPs": [None]}},
    "$.spec": {"metadata": META, "spec": []},
    "resourceVersion": {"metadata": {**META, "resourceVersion": 5}},
}


@pytest.mark.parametrize(("reason", "item"), ODD.items(), ids=ODD)
def test_a_malformed_object_among_good_ones(item: Any, reason: str) -> None:
    good = [{"metadata": {"namespace": "demo", "name": f"good-{i}"}} for i in range(100)]
    page = decode_list(SERVICES, body([*good[:50], item, *good[50:]]))
    assert [o.metadata.name for o in page.items] == [f"good-{i}" for i in range(100)]
    (rejected,) = page.rejected
    assert (rejected.kind, rejected.namespace, rejected.name) == ("services", "demo", "x")
    assert reason in rejected.reason
    assert page.resource_version == "7"


NAMES = [{}, [], *({"name": name} for name in ("", None, 5))]


@pytest.mark.parametrize("item", [{}, None, [], 7, "text", *({"metadata": one} for one in NAMES)], ids=str)
def test_an_object_without_identity(item: Any) -> None:
    page = decode_list(SERVICES, body([{"metadata": META}, item]))
    assert [o.metadata.name for o in page.items] == ["x"]
    (rejected,) = page.rejected
    assert rejected.name == ""
    assert rejected.reason


def test_pages() -> None:
    page = decode_list(SERVICES, body([], **{"continue": "token", "remainingItemCount": 12}))
    assert (page.continue_, page.resource_version) == ("token", "7")
    last = decode_list(SERVICES, body(None, **{"continue": None, "remainingItemCount": None}))
    assert (last.items, last.continue_) == ([], "")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        body([], kind="Pod"),
        b'{"kind":"Status","code":200}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":null},"items":[]}',
        b'{"kind":"ServiceList","metadata":null,"items":[]}',
        b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":{}}',
        b'{"kind":["ServiceList"],"metadata":{"resourceVersion":"1"},"items":[]}',
        body([{}], kind="Pod"),
        body([{"spec": "odd"}, {"metadata": META}])[:-9],
    ],
)
def test_invalid_lists_raise(answer: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="services"):
        decode_list(SERVICES, answer)


@given(cut=st.integers(min_value=0))
def test_a_list_cut_anywhere_is_never_a_list(cut: int) -> None:
    whole = body([{"metadata": {"name": f"s{i}", "namespace": "é"}} for i in range(5)])
    with pytest.raises(ApiUnavailable):
        decode_list(SERVICES, whole[: cut % len(whole)])


SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["metadata", "spec", "status", "endpoints", "ports", "addressType"]


@given(kind=st.sampled_from(sorted(KINDS)), item=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_an_item_is_the_others_are_read(kind: str, item: Any) -> None:
    good = {"metadata": META}
    page = decode_list(KINDS[kind], body([good, item, good], KINDS[kind].kind))
    assert [o.metadata.name for o in page.items if o.metadata.name == "x"][:2] == ["x", "x"]
    assert len(page.items) + len(page.rejected) == 3
    event = decode_event(KINDS[kind], line("ADDED", item))
    assert (event.object is None) != (event.rejected is None)


NINTH = {"metadata": {**META, "resourceVersion": "9"}}
NO_VERSION = {"metadata": {**META, "resourceVersion": 9, "uid": []}}
TWICE = b'{"type":"ADDED","object":{"spec":[]},"object":' + json.dumps(NINTH).encode() + b"}"
READ = Service(Metadata("demo", "x"))


def odd(type_: str, version: str, reason: str) -> Event:
    """The event of an object that cannot be read."""
    return Event(type_, None, "demo", "x", version, Rejected("services", "demo", "x", reason))


EVENTS = {
    **{type_: (line(type_, NINTH), Event(type_, READ, "demo", "x", "9")) for type_ in sorted(CHANGES)},
    "an unknown type": (line("RENAMED", NINTH), Event("RENAMED")),
    "a bookmark": (line("BOOKMARK", NINTH | {"spec": {}}), Event("BOOKMARK", resource_version="9")),
    "one without a version": (line("BOOKMARK", {"metadata": {"resourceVersion": None}}), Event("BOOKMARK")),
    "a null": (line("ADDED", NINTH | {"spec": None}), Event("ADDED", READ, "demo", "x", "9")),
    "the last of two objects counts": (TWICE, Event("ADDED", READ, "demo", "x", "9")),
    "a malformed object keeps identity and version": (
        line("DELETED", NINTH | {"spec": []}),
        odd("DELETED", "9", "Expected `object`, got `array` - at `$.spec`"),
    ),
    "a malformed version": (
        line("MODIFIED", NO_VERSION),
        odd("MODIFIED", "", "Expected `str`, got `int` - at `$.metadata.resourceVersion`"),
    ),
}


@pytest.mark.parametrize(("text", "event"), EVENTS.values(), ids=EVENTS)
def test_events(text: bytes, event: Event) -> None:
    assert decode_event(SERVICES, text) == event


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        ({"code": 429}, ApiTooMany, "(429)"),
        ({"code": 403, "message": "no"}, ApiForbidden, "no (403)"),
        ({"code": 500, "reason": "InternalError", "message": None}, ApiUnavailable, "InternalError (500)"),
        ({"code": None}, ApiUnavailable, "no reason given (0)"),
    ],
)
def test_error_event(status: dict[str, Any], error: type[ApiError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message) + "$") as caught:
        decode_event(SERVICES, line("ERROR", status))
    assert type(caught.value) is error


HALF = b'{"type":"ADDED","object":{"metadata":{"na'
NO_EVENTS = [b"", b"{", b"[]", b"{}", b"\xff\xff", b'{"type":"ADDED"}', b'{"type":5,"object":{}}', HALF]


@pytest.mark.parametrize("text", [*NO_EVENTS, b'{"type":"ERROR","object":[]}'])
def test_invalid_events_raise(text: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="services"):
        decode_event(SERVICES, text)


KIND = KINDS["virtualmachineinstances"]


def nested(levels: int, inside: bytes = b"1") -> bytes:
    """Objects in lists in objects, with keys that look like brackets."""
    return b'{"]\\"}":[' * levels + inside + b"]}" * levels


def machine(more: bytes = b"1", name: str = "vm") -> bytes:
    """Fields that we skip surround those that we read."""
    status = b'"status":{"interfaces":[{"name":"default","ipAddress":"10.0.0.1"}]}'
    meta = b'"metadata":{"namespace":"shop","name":"%s","managedFields":[%s]}' % (name.encode(), more)
    return b'{"spec":{"x":%s},%s,%s}' % (more, meta, status)


def listing(*items: bytes) -> bytes:
    head = b'{"kind":"VirtualMachineInstanceList","metadata":{"resourceVersion":"7"},"items":['
    return head + b",".join(items) + b"]}"


@pytest.mark.parametrize("levels", [400, 5_000])
def test_an_object_nested_too_deeply(levels: int) -> None:
    deep, malformed = nested(levels), b'{"metadata":{"name":"odd"},"status":3}'
    page = decode_list(KIND, listing(machine(name="a"), machine(deep, "b"), machine(name="c")))
    assert page == decode_list(KIND, listing(*(machine(name=name) for name in "abc")))
    assert not page.rejected
    page = decode_list(KIND, listing(machine(deep, "a"), malformed))
    assert ([one.metadata.name for one in page.items], [one.name for one in page.rejected]) == (
        ["a"],
        ["odd"],
    )
    event = b'{"type":"MODIFIED","object":%s}'
    assert decode_event(KIND, event % machine(deep)) == decode_event(KIND, event % machine())
    for cut in (10, 300, -10):
        with pytest.raises(ApiUnavailable):
            decode_list(KIND, listing(machine(deep))[:cut])


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_without_an_end_is_read_once(end: bytes) -> None:
    """Rescanning from each quote would take hours for a million of them."""
    text = b'["' + b'\\"' * 1_000_000 + end
    assert shallow(text) == text


documents = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(['"', "\\", '\\"', "]", "{"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_what_is_not_too_deep_stays_as_it_is(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False).encode()
    assert shallow(text) == text


@given(documents)
def test_what_is_too_deep_is_null(document: Any) -> None:
    inner = json.loads(shallow(b"[" * DEEPEST + json.dumps(document).encode() + b"]" * DEEPEST))
    for _ in range(DEEPEST):
        (inner,) = inner
    assert inner == (None if isinstance(document, (dict, list)) else document)
