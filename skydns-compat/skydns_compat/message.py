"""SkyDNS messages: the JSON values that CoreDNS and SkyDNS read.

`encode` is the only writer, and byte-stable: one value of a `Message` is one text, so that two
runs write the same bytes and a comparison of bytes is a comparison of meaning.  `decode` reads as
the servers do (Go's ``encoding/json``): field names without regard to case, unknown fields
ignored, every known field strictly typed, ``null`` means absent.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec


class MalformedMessage(ValueError):
    """A value that the servers cannot decode: SERVFAIL for its name and every name above it."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One SkyDNS message; field names, order and defaults are the wire's.

    ``port`` -1 hides the key from SRV answers.  ``priority`` 65536 is priority 0 on the wire,
    since 0 means "not given" to the readers.  ``ttl`` in seconds, 0 means 300.  ``targetstrip``
    is the number of labels that are cut from the left of an SRV target made from the key.
    ``owner`` is ours alone: no reader looks at it.
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
_TEXTS = frozenset({"host", "text", "group", "owner"})
_BOUNDS = {
    "port": (-(2**63), 2**63 - 1),
    "priority": (-(2**63), 2**63 - 1),
    "weight": (-(2**63), 2**63 - 1),
    "targetstrip": (-(2**63), 2**63 - 1),
    "ttl": (0, 2**32 - 1),
}


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
    """The owner mark in ``value``; empty when there is none, ``None`` when it is malformed."""
    try:
        return decode(value).owner
    except MalformedMessage:
        return None


class _Fraction:
    """A number with a fraction or an exponent, which no field of the servers can take."""

    def __init__(self, text: str) -> None:
        self.text = text


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# Made once: `json.loads` makes one for each call that says how to read numbers.
_decoder = json.JSONDecoder(parse_float=_Fraction, parse_constant=_refuse)


def _checked(field: str, content: object) -> object:
    if field in _TEXTS:
        if not isinstance(content, str):
            # The owner is unknown to the servers: whatever it holds cannot spoil an answer.
            if field == "owner":
                return ""
            raise MalformedMessage(f"{field} is not a string")
        return content
    if field == "mail":
        if not isinstance(content, bool):
            raise MalformedMessage("mail is not true or false")
        return content
    if not isinstance(content, int) or isinstance(content, bool):
        raise MalformedMessage(f"{field} is not a whole number")
    low, high = _BOUNDS[field]
    if not low <= content <= high:
        raise MalformedMessage(f"{field} is out of range")
    return content
