"""One encoding per message; decoding as by the servers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skydns_compat.message import MalformedMessage, Message, decode, encode, owner_of
from tests.strategies import LAW

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_NUMBERS = st.integers(-(2**63), 2**63 - 1)
MESSAGES = st.builds(
    Message,
    host=_TEXTS,
    port=_NUMBERS,
    priority=_NUMBERS,
    weight=_NUMBERS,
    text=_TEXTS,
    mail=st.booleans(),
    ttl=st.integers(0, 2**32 - 1),
    targetstrip=_NUMBERS,
    group=_TEXTS,
    owner=_TEXTS,
)


@LAW
@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    value = encode(message)
    assert decode(value) == message
    assert encode(decode(value)) == value
    assert owner_of(value) == message.owner


def test_encoding_is_compact_and_stable() -> None:
    message = Message(host="10.0.0.1", port=80, priority=65536, ttl=30, targetstrip=1, group="a", owner="me")
    assert encode(message) == (
        b'{"host":"10.0.0.1","port":80,"priority":65536,"ttl":30,"targetstrip":1,"group":"a","owner":"me"}'
    )
    assert encode(Message()) == b"{}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(b"{}", Message(), id="empty"),
        pytest.param(b"null", Message(), id="null"),
        pytest.param(b' {"host" : "a"}\n', Message(host="a"), id="white space"),
        pytest.param(
            b'{"HOST":"a","TargetStrip":2}', Message(host="a", targetstrip=2), id="upper case field names"
        ),
        pytest.param(b'{"host":null,"port":null}', Message(), id="null means absent"),
        pytest.param(b'{"host":"a","more":[1.5,{"x":null}]}', Message(host="a"), id="unknown fields"),
        pytest.param(b'{"port":-1,"ttl":4294967295}', Message(port=-1, ttl=2**32 - 1), id="bounds"),
        pytest.param(b'{"mail":true}', Message(mail=True), id="mail"),
        pytest.param(b'{"host":"a","host":"b"}', Message(host="b"), id="duplicate field: the last counts"),
        pytest.param(b'{"owner":5}', Message(), id="malformed owner, which servers ignore"),
        pytest.param(b'{"text":"\xff"}', Message(text="\ufffd"), id="invalid UTF-8"),
        pytest.param(b'{"text":"\\ud800"}', Message(text="\ud800"), id="lone surrogate"),
    ],
)
def test_decode(value: bytes, message: Message) -> None:
    assert decode(value) == message


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="truncated"),
        pytest.param(b"{} {}", "not JSON", id="two values"),
        pytest.param(b"{'host':'a'}", "not JSON", id="single quotes"),
        pytest.param(b'{"x":NaN}', "NaN is not JSON", id="NaN"),
        pytest.param(b'{"x":-Infinity}', "-Infinity is not JSON", id="infinity"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested too deeply"),
        pytest.param(b"[]", "got `array`", id="array"),
        pytest.param(b'"a"', "got `str`", id="string"),
        pytest.param(b"5", "got `int`", id="number"),
        pytest.param(b'{"host":5}', r"`int` - at `\$.host`", id="host"),
        pytest.param(b'{"Text":[]}', r"`array` - at `\$.text`", id="text field"),
        pytest.param(b'{"group":{}}', r"`object` - at `\$.group`", id="group"),
        pytest.param(b'{"mail":1}', r"`int` - at `\$.mail`", id="mail"),
        pytest.param(b'{"port":"80"}', r"`str` - at `\$.port`", id="port as string"),
        pytest.param(b'{"port":true}', r"`bool` - at `\$.port`", id="port as boolean"),
        pytest.param(b'{"port":80.0}', r"`float` - at `\$.port`", id="port with a fraction"),
        pytest.param(b'{"priority":1e2}', r"`float` - at `\$.priority`", id="priority with an exponent"),
        pytest.param(b'{"ttl":-1}', r">= 0 - at `\$.ttl`", id="negative ttl"),
        pytest.param(b'{"ttl":4294967296}', r"<= 4294967295 - at `\$.ttl`", id="ttl too large"),
        pytest.param(b'{"weight":9223372036854775808}', r"<= 9.* - at `\$.weight`", id="weight too large"),
    ],
)
def test_malformed_values(value: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        decode(value)
    assert owner_of(value) is None


@LAW
@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["host", "port", "ttl", "mail", "Owner", "x"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_message_or_malformed(value: bytes) -> None:
    try:
        message = decode(value)
    except MalformedMessage:
        return
    assert decode(encode(message)) == message
