"""SkyDNS messages: the JSON values that CoreDNS and SkyDNS read.

`encode` is byte-stable: equal messages are equal bytes, so values are compared as bytes.  `decode` reads as
the servers do (Go's ``encoding/json``): field names in any letter case, unknown fields ignored, known fields
strictly typed, ``null`` means absent.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec


class MalformedMessage(ValueError):
    """A value that the servers cannot decode: SERVFAIL for its name and every name above it."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One SkyDNS message; field names, order and defaults are the wire's.

    ``port`` -1 hides the key from SRV answers.  ``priority`` 65536 is 0 on the wire, since 0 means "not
    given".  ``ttl`` in seconds, 0 means 300.  ``targetstrip`` is the number of labels cut from the left of an
    SRV target that is made from the key.  ``owner`` is ours: the servers ignore it.
    """

    host: str = ""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: str = ""
    mail: bool = False
    ttl: int = 0
    targetstrip: int = 0
    group: str = ""
    owner: str = ""


_encoder = msgspec.json.Encoder()
_DEFAULTS = Message()
_KINDS = {str: "a string", bool: "true or false", int: "a whole number"}
_INT64 = (-(2**63), 2**63 - 1)
_UINT32 = (0, 2**32 - 1)


def encode(message: Message) -> bytes:
    """The canonical bytes of ``message``."""
    return _encoder.encode(message)


def decode(value: bytes) -> Message:
    """The message in ``value`` as the servers read it, or `MalformedMessage`."""
    try:
        loaded = _decoder.decode(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if loaded is None:
        return Message()
    if not isinstance(loaded, dict):
        raise MalformedMessage("not a JSON object")
    fields: dict[str, Any] = {}
    for key, content in loaded.items():
        field = key.lower()
        if content is not None and field in Message.__struct_fields__:
            fields[field] = _checked(field, content)
    return Message(**fields)


def owner_of(value: bytes) -> str | None:
    """The owner in ``value``; empty without one, None where the value is malformed."""
    try:
        return decode(value).owner
    except MalformedMessage:
        return None


class _Fraction:
    """A number with a fraction or an exponent, which no field takes."""

    def __init__(self, text: str) -> None:
        self.text = text


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# Made once: `json.loads` with such arguments makes one for each call.
_decoder = json.JSONDecoder(parse_float=_Fraction, parse_constant=_refuse)


def _checked(field: str, content: object) -> object:
    kind = type(getattr(_DEFAULTS, field))
    if type(content) is not kind:
        if field == "owner":
            return ""  # unknown to the servers: it cannot spoil an answer
        raise MalformedMessage(f"{field} is not {_KINDS[kind]}")
    if isinstance(content, int):
        low, high = _UINT32 if field == "ttl" else _INT64
        if not low <= content <= high:
            raise MalformedMessage(f"{field} is out of range")
    return content
