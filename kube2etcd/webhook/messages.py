"""What goes over the wire of the webhook provider API, and back.  Pure: bytes and values.

What cannot be read at all is a `BadMessage`; whether a name or target can be used is not decided
here, since one bad endpoint must never cost the others of its message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kube2etcd.external import Domain, Endpoint, InvalidEndpoint

#: The one media type, to the letter: the client compares the text of the answer to ``GET /``.
MEDIA_TYPE: Final = "application/external.dns.webhook+json;version=1"
#: Octets of a body; the client's own limit.
MAX_BODY: Final = 32 * 1024 * 1024
#: Objects and lists of a body, at most: a full one of endpoints has fewer, one of nothing but brackets many
#: times as many, which would take gigabytes.
MAX_VALUES: Final = 1_500_000


class BadMessage(ValueError):
    """No valid message at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Changes:
    """One call's changes.  What an update replaces need not be told: an endpoint's key says it."""

    create: tuple[Endpoint, ...] = ()
    update: tuple[Endpoint, ...] = ()
    delete: tuple[Endpoint, ...] = ()


def decode_changes(body: bytes) -> Changes:
    """The changes of ``POST /records``, keys in any letter case (capital up to ExternalDNS v0.16)."""
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
    # One after the other: a hundred thousand objects at once set off one garbage collection after another.
    return b"[%b]" % b",".join(encode(endpoint.to_json()) for endpoint in endpoints)


def encode_filter(domains: Iterable[Domain]) -> bytes:
    """The answer to ``GET /``.

    An empty list of domains would match every name there is, so none of them is said by a pattern that
    no name matches.
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
