"""SkyDNS messages: the JSON values that CoreDNS and SkyDNS read.

`encode` is byte-stable: equal messages are equal bytes, so values are compared as bytes.  `decode` reads as
the servers do (Go's ``encoding/json``): field names in any letter case, unknown fields ignored, known fields
strictly typed, ``null`` means absent.
"""

from __future__ import annotations

import json
from typing import Annotated, NoReturn

import msgspec

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class MalformedMessage(ValueError):
    """A value that the servers cannot decode: SERVFAIL for its name and every name above it."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One SkyDNS message; field names, order and defaults are the wire's.

    ``port`` -1 hides the key from SRV answers.  ``priority`` 65536 is 0 on the wire, since 0 means "not
    given".  ``ttl`` in seconds, 0 means 300.  ``targetstrip`` is the number of leftmost labels cut from an
    SRV target that is made from the key.  ``owner`` is ours: the servers ignore it.
    """

    host: str = ""
    port: _Int64 = 0
    priority: _Int64 = 0
    weight: _Int64 = 0
    text: str = ""
    mail: bool = False
    ttl: _Uint32 = 0
    targetstrip: _Int64 = 0
    group: str = ""
    owner: str = ""


_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """The canonical bytes of ``message``."""
    return _encoder.encode(message)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# Not msgspec's, which refuses lone surrogates.  `json.loads` would make a decoder for each call.
_decoder = json.JSONDecoder(parse_constant=_refuse)


def decode(value: bytes) -> Message:
    """The message in ``value`` as the servers read it, or `MalformedMessage`."""
    try:
        loaded = _decoder.decode(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if loaded is None:
        return Message()
    if isinstance(loaded, dict):
        loaded = {key.lower(): content for key, content in loaded.items() if content is not None}
        if not isinstance(loaded.get("owner", ""), str):
            del loaded["owner"]  # the servers do not know it, so it breaks no answer
    try:
        return msgspec.convert(loaded, Message)
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error)) from None


def owner_of(value: bytes) -> str | None:
    """The owner in ``value``; empty without one, None if the value is malformed."""
    try:
        return decode(value).owner
    except MalformedMessage:
        return None
