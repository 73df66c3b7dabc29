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

MALFORMED: dict[str, Any] = {
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


@pytest.mark.parametrize(("reason", "item"), MALFORMED.items(), ids=MALFORMED)
def test_malformed_object_is_rejected_alone(item: Any, reason: str) -> None:
    valid = [{"metadata": {"namespace": "demo", "name": f"valid-{i}"}} for i in range(100)]
    page = decode_list(SERVICES, body([*valid[:50], item, *valid[50:]]))
    assert [o.metadata.name for o in page.items] == [f"valid-{i}" for i in range(100)]
    (rejected,) = page.rejected
    assert (rejected.kind, rejected.namespace, rejected.name) == ("services", "demo", "x")
    assert reason in rejected.reason
    assert page.resource_version == "7"


NAMES = [{}, [], *({"name": name} for name in ("", None, 5))]


@pytest.mark.parametrize("item", [{}, None, [], 7, "text", *({"metadata": one} for one in NAMES)], ids=str)
def test_object_without_identity_is_rejected(item: Any) -> None:
    page = decode_list(SERVICES, body([{"metadata": META}, item]))
    assert [o.metadata.name for o in page.items] == ["x"]
    (rejected,) = page.rejected
    assert rejected.name == ""
    assert rejected.reason


def test_list_page() -> None:
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
        body([{"spec": "malformed"}, {"metadata": META}])[:-9],
    ],
)
def test_invalid_lists_raise(answer: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="services"):
        decode_list(SERVICES, answer)


@given(cut=st.integers(min_value=0))
def test_truncated_list_raises(cut: int) -> None:
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
def test_any_item_leaves_the_others_readable(kind: str, item: Any) -> None:
    valid = {"metadata": META}
    page = decode_list(KINDS[kind], body([valid, item, valid], KINDS[kind].kind))
    assert [o.metadata.name for o in page.items if o.metadata.name == "x"][:2] == ["x", "x"]
    assert len(page.items) + len(page.rejected) == 3
    event = decode_event(KINDS[kind], line("ADDED", item))
    assert (event.object is None) != (event.rejected is None)


VERSION_9 = {"metadata": {**META, "resourceVersion": "9"}}
MALFORMED_VERSION = {"metadata": {**META, "resourceVersion": 9, "uid": []}}
TWO_OBJECTS = b'{"type":"ADDED","object":{"spec":[]},"object":' + json.dumps(VERSION_9).encode() + b"}"
READ = Service(Metadata("demo", "x"))


def rejected(type_: str, version: str, reason: str) -> Event:
    """The event of a malformed object."""
    return Event(type_, None, "demo", "x", version, Rejected("services", "demo", "x", reason))


EVENTS = {
    **{type_: (line(type_, VERSION_9), Event(type_, READ, "demo", "x", "9")) for type_ in sorted(CHANGES)},
    "unknown type": (line("RENAMED", VERSION_9), Event("RENAMED")),
    "bookmark": (line("BOOKMARK", VERSION_9 | {"spec": {}}), Event("BOOKMARK", resource_version="9")),
    "bookmark without a version": (
        line("BOOKMARK", {"metadata": {"resourceVersion": None}}),
        Event("BOOKMARK"),
    ),
    "null field": (line("ADDED", VERSION_9 | {"spec": None}), Event("ADDED", READ, "demo", "x", "9")),
    "two objects: the last counts": (TWO_OBJECTS, Event("ADDED", READ, "demo", "x", "9")),
    "malformed object keeps identity and version": (
        line("DELETED", VERSION_9 | {"spec": []}),
        rejected("DELETED", "9", "Expected `object`, got `array` - at `$.spec`"),
    ),
    "malformed version": (
        line("MODIFIED", MALFORMED_VERSION),
        rejected("MODIFIED", "", "Expected `str`, got `int` - at `$.metadata.resourceVersion`"),
    ),
}


@pytest.mark.parametrize(("text", "event"), EVENTS.values(), ids=EVENTS)
def test_decode_event(text: bytes, event: Event) -> None:
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


TRUNCATED = b'{"type":"ADDED","object":{"metadata":{"na'
INVALID_EVENTS = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b"\xff\xff",
    b'{"type":"ADDED"}',
    b'{"type":5,"object":{}}',
    TRUNCATED,
]


@pytest.mark.parametrize("text", [*INVALID_EVENTS, b'{"type":"ERROR","object":[]}'])
def test_invalid_events_raise(text: bytes) -> None:
    with pytest.raises(ApiUnavailable, match="services"):
        decode_event(SERVICES, text)


VMIS = KINDS["virtualmachineinstances"]


def nested(levels: int, inside: bytes = b"1") -> bytes:
    """Objects in lists in objects, with keys that look like brackets."""
    return b'{"]\\"}":[' * levels + inside + b"]}" * levels


def vmi(more: bytes = b"1", name: str = "vm") -> bytes:
    """A VMI whose fields that we read lie between fields that we skip."""
    status = b'"status":{"interfaces":[{"name":"default","ipAddress":"10.0.0.1"}]}'
    meta = b'"metadata":{"namespace":"shop","name":"%s","managedFields":[%s]}' % (name.encode(), more)
    return b'{"spec":{"x":%s},%s,%s}' % (more, meta, status)


def listing(*items: bytes) -> bytes:
    head = b'{"kind":"VirtualMachineInstanceList","metadata":{"resourceVersion":"7"},"items":['
    return head + b",".join(items) + b"]}"


@pytest.mark.parametrize("levels", [400, 5_000])
def test_deeply_nested_fields_are_skipped(levels: int) -> None:
    deep, malformed = nested(levels), b'{"metadata":{"name":"malformed"},"status":3}'
    page = decode_list(VMIS, listing(vmi(name="a"), vmi(deep, "b"), vmi(name="c")))
    assert page == decode_list(VMIS, listing(*(vmi(name=name) for name in "abc")))
    assert not page.rejected
    page = decode_list(VMIS, listing(vmi(deep, "a"), malformed))
    assert ([one.metadata.name for one in page.items], [one.name for one in page.rejected]) == (
        ["a"],
        ["malformed"],
    )
    event = b'{"type":"MODIFIED","object":%s}'
    assert decode_event(VMIS, event % vmi(deep)) == decode_event(VMIS, event % vmi())
    for cut in (10, 300, -10):
        with pytest.raises(ApiUnavailable):
            decode_list(VMIS, listing(vmi(deep))[:cut])


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_unterminated_string_is_scanned_once(end: bytes) -> None:
    """Rescanning from each of a million quotes would take hours."""
    text = b'["' + b'\\"' * 1_000_000 + end
    assert shallow(text) == text


documents = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(['"', "\\", '\\"', "]", "{"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_shallow_document_is_unchanged(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False).encode()
    assert shallow(text) == text


@given(documents)
def test_value_nested_too_deeply_is_null(document: Any) -> None:
    inner = json.loads(shallow(b"[" * DEEPEST + json.dumps(document).encode() + b"]" * DEEPEST))
    for _ in range(DEEPEST):
        (inner,) = inner
    assert inner == (None if isinstance(document, (dict, list)) else document)
