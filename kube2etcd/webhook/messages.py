"""Encoding and decoding of the webhook provider API's messages.  Pure.

A body of the wrong shape is a `BadMessage`.  Whether a name or target is usable is decided elsewhere:
one bad endpoint must not cost the others of its message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kube2etcd.external import Domain, Endpoint, InvalidEndpoint

#: The client compares the Content-Type of the answer to ``GET /`` with this very text.
MEDIA_TYPE: Final = "application/external.dns.webhook+json;version=1"
#: Octets of a body; the client's own limit.
MAX_BODY: Final = 32 * 1024 * 1024
#: Objects and lists in a body: a full one of endpoints has fewer; one of brackets alone would decode to
#: gigabytes.
MAX_VALUES: Final = 1_500_000


class BadMessage(ValueError):
    """Not a valid message; the text says why."""


@dataclass(frozen=True, slots=True)
class Changes:
    """One call's changes; what an update replaces follows from its key."""

    create: tuple[Endpoint, ...] = ()
    update: tuple[Endpoint, ...] = ()
    delete: tuple[Endpoint, ...] = ()


def decode_changes(body: bytes) -> Changes:
    """The changes of ``POST /records``; keys in any case (capital up to ExternalDNS v0.16)."""
    value = _decode(body)
    if type(value) is not dict:
        raise BadMessage("changes are an object of create, updateOld, updateNew and delete")
    lists = {key.lower(): found for key, found in value.items()}
    _endpoints("updateOld", lists.get("updateold"))
    return Changes(
        _endpoints("create", lists.get("create")),
        _endpoints("updateNew", lists.get("updatenew")),
        _endpoints("delete", lists.get("delete")),
    )


def decode_endpoints(body: bytes) -> tuple[Endpoint, ...]:
    """The endpoints of ``POST /adjustendpoints``; null, as older clients write it, is none."""
    return _endpoints("the message", _decode(body))


def encode_endpoints(endpoints: Iterable[Endpoint]) -> bytes:
    """A list of endpoints; ``[]`` when there are none."""
    # One by one: a hundred thousand objects alive at once cost repeated garbage collections.
    return b"[%b]" % b",".join(encode(endpoint.to_json()) for endpoint in endpoints)


def encode_filter(domains: Iterable[Domain]) -> bytes:
    """The answer to ``GET /``.

    An empty list would match every name: no domain at all is a pattern that matches none.
    """
    names = [str(domain) for domain in domains]
    return encode({"include": names} if names else {"regexInclude": "^$"})


def encode(value: Any) -> bytes:
    """Plain values as JSON."""
    return msgspec.json.encode(value)


def _decode(body: bytes) -> Any:
    if not body.strip():
        raise BadMessage("the body is empty")
    if len(body) > MAX_VALUES and body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise BadMessage(f"the body has more than {MAX_VALUES} objects and lists")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadMessage("the body is nested too deeply") from None


def _endpoints(what: str, value: object) -> tuple[Endpoint, ...]:
    if value is None:
        return ()
    if type(value) is not list:
        raise BadMessage(f"{what} is a list of endpoints")
    # As in Go, null in a list of pointers is no endpoint.
    try:
        return tuple(Endpoint.from_json(one) for one in value if one is not None)
    except InvalidEndpoint as error:
        raise BadMessage(f"{what}: {error}") from None
