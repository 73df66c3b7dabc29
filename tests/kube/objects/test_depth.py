"""Excessively nested objects affect neither other objects nor the fields that we read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.errors import ApiTruncated
from kube2etcd.kube.objects import KINDS, Kind, decode_event, decode_list
from kube2etcd.kube.objects.codec import DEEPEST, shallow

KIND = KINDS["virtualmachineinstances"]


def nested(levels: int, inside: bytes = b"1") -> bytes:
    """Objects and lists by turns, with strings that look like them."""
    return b'{"]\\"}":[' * levels + inside + b"]}" * levels


def machine(more: bytes = b"1", name: str = "vm") -> bytes:
    """Annotations that nobody reads stand before and behind."""
    status = b'"status":{"interfaces":[{"name":"default","ipAddress":"10.0.0.1"}]}'
    meta = b'"metadata":{"namespace":"shop","name":"%s","managedFields":[%s]}' % (name.encode(), more)
    return b'{"spec":{"x":%s},%s,%s}' % (more, meta, status)


def listing(*items: bytes, kind: Kind = KIND) -> bytes:
    head = b'{"kind":"%sList","metadata":{"resourceVersion":"7"},"items":[' % kind.kind.encode()
    return head + b",".join(items) + b"]}"


@pytest.mark.parametrize("levels", [400, 5_000])
def test_a_list_with_an_object_nested_without_measure(levels: int) -> None:
    deep = nested(levels)
    page = decode_list(KIND, listing(machine(name="a"), machine(deep, "b"), machine(name="c")))
    plain = decode_list(KIND, listing(*(machine(name=name) for name in "abc")))
    assert page == plain
    assert not page.rejected


def test_an_odd_object_beside_it_is_rejected_alone() -> None:
    odd = b'{"metadata":{"name":"odd"},"status":3}'
    page = decode_list(KIND, listing(machine(nested(5_000), "a"), odd))
    assert [one.metadata.name for one in page.items] == ["a"]
    assert [one.name for one in page.rejected] == ["odd"]


def test_an_event_of_such_an_object() -> None:
    def line(one: bytes) -> bytes:
        return b'{"type":"MODIFIED","object":%s}' % one

    assert decode_event(KIND, line(machine(nested(5_000)))) == decode_event(KIND, line(machine()))


@pytest.mark.parametrize("cut", [10, 4_000, -10])
def test_half_of_it_is_truncated(cut: int) -> None:
    with pytest.raises(ApiTruncated):
        decode_list(KIND, listing(machine(nested(5_000)))[:cut])


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_without_an_end_is_read_once(end: bytes) -> None:
    """Looked for anew behind each quote, a million of them would take hours."""
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
