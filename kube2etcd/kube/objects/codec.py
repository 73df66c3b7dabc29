"""The kinds of objects, and decoders of API bodies: one object, pages of a list, lines of a watch.

A malformed object comes back as ``Rejected`` and leaves the others alone; an incomplete body raises, so an
error never looks like an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct, field

from kube2etcd.errors import ApiTruncated, ApiUnavailable
from kube2etcd.kube.objects.dns_endpoints import DnsEndpoint, WireDnsEndpoint, read_dns_endpoint
from kube2etcd.kube.objects.model import (
    EndpointSlice,
    Identity,
    Namespace,
    Pod,
    Rejected,
    Service,
    VirtualMachineInstance,
    Wire,
    WireEndpointSlice,
    WireNamespace,
    WirePod,
    WireService,
    WireVmi,
    read_endpoint_slice,
    read_namespace,
    read_pod,
    read_service,
    read_vmi,
)

ApiObject: TypeAlias = Service | EndpointSlice | Namespace | Pod | VirtualMachineInstance | DnsEndpoint

DEEPEST: Final = 100
"""Levels kept; all fields we read lie within twelve."""

# An unterminated string matches to the end of the text: rescanning from each quote in it would be quadratic.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


class Kind(Struct, frozen=True, gc=False):
    """A kind of object that is listed and watched."""

    name: str
    """Key in :data:`KINDS`, in paths and in metrics: the plural."""
    group: str
    version: str
    kind: str
    """As manifests write it: ``Service``."""
    wire: type[Wire]
    """Shape of the object's JSON."""
    type: type[ApiObject]
    """Flat struct for callers."""
    read: Callable[[Any], ApiObject]
    """Wire struct to flat struct."""
    optional: bool = False
    """The kind may be missing on the server without that being an error."""
    namespaced: bool = True
    field_selector: str = ""

    def path(self, namespace: str | None = None) -> str:
        """URL path of the list, of all namespaces or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            return f"{root}/namespaces/{namespace}/{self.name}"
        return f"{root}/{self.name}"

    @property
    def resource(self) -> str:
        """As RBAC rules and ``kubectl`` name it: ``endpointslices.discovery.k8s.io``."""
        return f"{self.name}.{self.group}" if self.group else self.name


KINDS: Final[Mapping[str, Kind]] = {
    made.name: made
    for made in (
        Kind("services", "", "v1", "Service", WireService, Service, read_service),
        Kind(
            name="endpointslices",
            group="discovery.k8s.io",
            version="v1",
            kind="EndpointSlice",
            wire=WireEndpointSlice,
            type=EndpointSlice,
            read=read_endpoint_slice,
        ),
        Kind("namespaces", "", "v1", "Namespace", WireNamespace, Namespace, read_namespace, namespaced=False),
        Kind(
            name="pods",
            group="",
            version="v1",
            kind="Pod",
            wire=WirePod,
            type=Pod,
            read=read_pod,
            # A finished pod has released its address; filtering on the server saves its bytes as well.
            field_selector="status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown",
        ),
        Kind(
            name="virtualmachineinstances",
            group="kubevirt.io",
            version="v1",
            kind="VirtualMachineInstance",
            wire=WireVmi,
            type=VirtualMachineInstance,
            read=read_vmi,
            optional=True,
        ),
        Kind(
            name="dnsendpoints",
            group="externaldns.k8s.io",
            version="v1alpha1",
            kind="DNSEndpoint",
            wire=WireDnsEndpoint,
            type=DnsEndpoint,
            read=read_dns_endpoint,
            optional=True,
        ),
    )
}
"""Every kind there is, by its plural."""


class Page(Struct, frozen=True, gc=False):
    """One answer to a list request."""

    items: list[ApiObject]
    rejected: list[Rejected]
    resource_version: str
    continue_: str = ""
    """Token for the next page; empty on the last."""


class Event(Struct, frozen=True, gc=False):
    """One line of a watch.

    ``type`` is ADDED, MODIFIED, DELETED, BOOKMARK, ERROR, or a type unknown to us.
    An object that cannot be read leaves ``object`` empty and says so in ``rejected``;
    namespace and name are known all the same, and for DELETED they are all one needs.
    """

    type: str
    object: ApiObject | None = None
    namespace: str = ""
    name: str = ""
    resource_version: str = ""
    rejected: Rejected | None = None
    code: int = 0
    """Of an ERROR: the HTTP status it stands for."""
    message: str = ""


class _ListMetadata(Wire):
    resource_version: str | None = None
    continue_: str | None = field(default=None, name="continue")


class _RawList(Wire):
    kind: str = ""
    metadata: _ListMetadata | None = None
    # Absent and null differ: an empty list has null or [], an answer of another kind has no items.
    items: list[Raw] | msgspec.UnsetType | None = msgspec.UNSET


class _RawEvent(Wire):
    type: str
    object: Raw


class _Status(Wire):
    code: int | None = None
    reason: str | None = None
    message: str | None = None


class _Identified(Wire):
    """What is read of an object that cannot be decoded."""

    metadata: Identity | None = None


class _Bookmark(Wire):
    metadata: Identity


class _Codec:
    """Decoders of one kind, built once."""

    def __init__(self, kind: Kind) -> None:
        self.item: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind.wire)
        items = list[kind.wire] | msgspec.UnsetType | None  # type: ignore[name-defined]
        self.list = _decoder(
            ("kind", str, ""), ("metadata", _ListMetadata | None, None), ("items", items, msgspec.UNSET)
        )
        self.event = _decoder(("type", str), ("object", kind.wire))


def _decoder(*fields: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(msgspec.defstruct("_Body", fields, bases=(Wire,), gc=False))


_CODECS: Final[Mapping[str, _Codec]] = {kind.name: _Codec(kind) for kind in KINDS.values()}

_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})

_raw_list = msgspec.json.Decoder(_RawList)
_raw_event = msgspec.json.Decoder(_RawEvent)
_identified = msgspec.json.Decoder(_Identified)
_bookmark = msgspec.json.Decoder(_Bookmark)
_status = msgspec.json.Decoder(_Status)


def _identity(raw: Raw | bytes) -> Identity:
    """Namespace and name of a malformed object, as far as readable."""
    try:
        return _identified.decode(raw).metadata or Identity()
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        meta = dict(msgspec.json.decode(raw)["metadata"])
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
        return Identity()
    texts = {key: value for key, value in meta.items() if isinstance(value, str)}
    return Identity(texts.get("name"), texts.get("namespace"), texts.get("resourceVersion"))


def read_object(kind: Kind, raw: Raw | bytes) -> ApiObject | Rejected:
    """Read the JSON of one object, as it stands in a list, a watch event or a manifest."""
    try:
        return kind.read(_CODECS[kind.name].item.decode(raw))
    except (msgspec.MsgspecError, ValueError) as error:
        meta = _identity(raw)
        return Rejected(kind.name, meta.namespace or "", meta.name or "", str(error))


def decode_list(kind: Kind, body: bytes) -> Page:
    """Read one page of a list.

    :raises ApiTruncated: the body is no JSON, or ends before it should.
    :raises ApiUnavailable: it is JSON, but not a list of this kind.
    """
    try:
        return _decode_page(kind, body)
    except RecursionError:
        return _decode_page(kind, shallow(body))


def _decode_page(kind: Kind, body: bytes) -> Page:
    try:
        answer = _CODECS[kind.name].list.decode(body)
        meta = _check_list(kind, answer)
        return Page([kind.read(wire) for wire in answer.items or ()], [], *meta)
    except (msgspec.MsgspecError, ValueError):
        return _decode_item_by_item(kind, body)


def _decode_item_by_item(kind: Kind, body: bytes) -> Page:
    """Slow path for a page with a malformed object: all others still count."""
    try:
        answer = _raw_list.decode(body)
    except msgspec.ValidationError as error:
        raise ApiUnavailable(_unreadable(kind, body, error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiTruncated(_unreadable(kind, body, error)) from error
    page = Page([], [], *_check_list(kind, answer))
    for raw in answer.items or ():
        result = read_object(kind, raw)
        if isinstance(result, Rejected):
            page.rejected.append(result)
        else:
            page.items.append(result)
    return page


def _check_list(kind: Kind, answer: Any) -> tuple[str, str]:
    """The list's version, and the token for its next page.

    Anything but a list is refused: a stray document must not look like an empty cluster.
    """
    wrong = ""
    if answer.kind != f"{kind.kind}List":
        wrong = f"kind is {answer.kind!r}"
    elif answer.items is msgspec.UNSET:
        wrong = "it has no items"
    elif answer.metadata is None or not answer.metadata.resource_version:
        wrong = "it has no resourceVersion"
    if wrong:
        raise ApiUnavailable(
            f"the answer to listing {kind.resource} is not a {kind.kind}List: {wrong}; "
            "is this URL a Kubernetes API server?"
        )
    return answer.metadata.resource_version, answer.metadata.continue_ or ""


def _unreadable(kind: Kind, body: bytes, error: Exception) -> str:
    start = body[:40].decode("utf-8", "replace").strip()
    return (
        f"the answer to listing {kind.resource} ({len(body)} bytes, beginning {start!r}) "
        f"cannot be read as JSON: {error}"
    )


def decode_event(kind: Kind, line: bytes) -> Event:
    """Read one line of a watch.

    :raises ApiTruncated: the line is not an event at all.
    """
    try:
        return _decode_line(kind, line)
    except RecursionError:
        return _decode_line(kind, shallow(line))


def _decode_line(kind: Kind, line: bytes) -> Event:
    try:
        # Fast path: one decode for a well-formed event.
        known = _CODECS[kind.name].event.decode(line)
        if known.type in _CHANGES:
            one = kind.read(known.object)
            meta, version = one.metadata, known.object.metadata.resource_version or ""
            return Event(known.type, one, meta.namespace, meta.name, version)
    except (msgspec.MsgspecError, ValueError):
        pass
    return _decode_event_in_parts(kind, line)


def _decode_event_in_parts(kind: Kind, line: bytes) -> Event:
    """Slow path for bookmarks, errors and malformed objects."""
    try:
        event = _raw_event.decode(line)
        if event.type == "BOOKMARK":
            meta = _bookmark.decode(event.object).metadata
            return Event("BOOKMARK", resource_version=meta.resource_version or "")
        if event.type == "ERROR":
            status = _status.decode(event.object)
            # Some put a server in between that names the reason alone, which is what clients go by.
            code = status.code or (410 if status.reason in ("Expired", "Gone") else 0)
            return Event("ERROR", code=code, message=status.message or status.reason or "no reason given")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiTruncated(f"a line of the watch of {kind.resource} is no event: {error}") from error
    if event.type not in _CHANGES:
        return Event(event.type)
    one = read_object(kind, event.object)
    version = _identity(event.object).resource_version or ""
    if isinstance(one, Rejected):
        return Event(event.type, None, one.namespace, one.name, version, rejected=one)
    # The fast path fails at an object that a line repeats; as in all JSON, the last one counts.
    return Event(event.type, one, one.metadata.namespace, one.metadata.name, version)


def shallow(text: bytes) -> bytes:
    """``text`` with everything below :data:`DEEPEST` levels replaced by ``null``.

    The API server accepts ten thousand levels, also in fields that we skip; the decoder rejects the whole
    answer after some hundreds, so one object would block all others of its kind.
    """
    parts: list[bytes] = []
    depth = kept = 0
    for token in _TOKEN.finditer(text):
        bracket = text[token.start()]
        if bracket in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                parts.append(text[kept : token.start()])
        elif bracket in b"]}":
            if depth == DEEPEST + 1:
                parts.append(b"null")
                kept = token.end()
            depth -= 1
    parts.append(text[kept:])
    return b"".join(parts)
