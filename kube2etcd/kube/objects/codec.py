"""Decodes API bodies: one object, pages of a list, lines of a watch.

A malformed object comes back as ``Rejected`` and leaves the others alone; an incomplete body raises, so an
error never looks like an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from kube2etcd.errors import ApiTruncated, ApiUnavailable
from kube2etcd.kube.objects.kinds import KINDS, ApiObject, Kind
from kube2etcd.kube.objects.model import Annotations, BareMetadata, Rejected, Wire

DEEPEST: Final = 100
"""Levels kept; all fields we read lie within twelve."""

# An unterminated string matches to the end of the text: rescanning from each quote in it would be quadratic.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


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
    """Identity of an object that cannot be decoded."""

    metadata: BareMetadata | None = None


class _BookmarkMetadata(Wire):
    resource_version: str | None = None
    annotations: Annotations | None = None


class _Bookmark(Wire):
    metadata: _BookmarkMetadata


class _Codec:
    """Decoders of one kind, built once."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.item: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind.wire)
        self.flat = kind.read
        self.list: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct(
                f"_{kind.kind}List",
                [
                    ("kind", str, ""),
                    ("metadata", _ListMetadata | None, None),
                    ("items", list[kind.wire] | msgspec.UnsetType | None, msgspec.UNSET),  # type: ignore[name-defined]
                ],
                bases=(Wire,),
                gc=False,
            )
        )

        self.event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct(
                f"_{kind.kind}Event", [("type", str), ("object", kind.wire)], bases=(Wire,), gc=False
            )
        )

    def read(self, raw: Raw | bytes) -> ApiObject | Rejected:
        try:
            return self.flat(self.item.decode(raw))
        except (msgspec.MsgspecError, ValueError) as error:
            return self.reject(raw, error)

    def reject(self, raw: Raw | bytes, error: Exception) -> Rejected:
        meta = _identity(raw)
        return Rejected(self.kind.name, meta.namespace or "", meta.name or "", str(error))


_CODECS: Final[Mapping[str, _Codec]] = {kind.name: _Codec(kind) for kind in KINDS.values()}


_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})

_raw_list = msgspec.json.Decoder(_RawList)
_raw_event = msgspec.json.Decoder(_RawEvent)
_identified = msgspec.json.Decoder(_Identified)
_bookmark = msgspec.json.Decoder(_Bookmark)
_status = msgspec.json.Decoder(_Status)
_anything = msgspec.json.Decoder()


def _identity(raw: Raw | bytes) -> BareMetadata:
    """Namespace and name of a malformed object, as far as readable."""
    try:
        return _identified.decode(raw).metadata or BareMetadata()
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        meta = _anything.decode(raw)["metadata"]
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError):
        return BareMetadata()
    if not isinstance(meta, dict):
        return BareMetadata()
    values = {key: meta.get(name) for key, name in _IDENTITY.items()}
    return BareMetadata(**{key: value for key, value in values.items() if isinstance(value, str)})


_IDENTITY: Final = {"name": "name", "namespace": "namespace", "resource_version": "resourceVersion"}


def read_object(kind: Kind, raw: Raw | bytes) -> ApiObject | Rejected:
    """Read the JSON of one object, as it stands in a list, a watch event or a manifest."""
    return _CODECS[kind.name].read(raw)


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
    codec = _CODECS[kind.name]
    try:
        answer = codec.list.decode(body)
        _check_list(kind, answer)
        items = [codec.flat(wire) for wire in answer.items or ()]
    except (msgspec.MsgspecError, ValueError):
        return _decode_item_by_item(kind, body)
    return _page(answer.metadata, items, [])


def _decode_item_by_item(kind: Kind, body: bytes) -> Page:
    """Slow path for a page with a malformed object: all others still count."""
    codec = _CODECS[kind.name]
    try:
        answer = _raw_list.decode(body)
    except msgspec.ValidationError as error:
        raise ApiUnavailable(_unreadable(kind, body, error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiTruncated(_unreadable(kind, body, error)) from error
    _check_list(kind, answer)
    items: list[ApiObject] = []
    rejected: list[Rejected] = []
    for raw in answer.items or ():
        result = codec.read(raw)
        if isinstance(result, Rejected):
            rejected.append(result)
        else:
            items.append(result)
    return _page(answer.metadata, items, rejected)


def _page(meta: _ListMetadata | None, items: list[ApiObject], rejected: list[Rejected]) -> Page:
    meta = meta or _ListMetadata()
    return Page(
        items,
        rejected,
        meta.resource_version or "",
        meta.continue_ or "",
    )


def _check_list(kind: Kind, answer: Any) -> None:
    """Reject anything but a list: a stray document must not look like an empty cluster."""
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
            one = _CODECS[kind.name].flat(known.object)
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
            return _read_bookmark(event.object)
        if event.type == "ERROR":
            status = _status.decode(event.object)
            # Some put a server in between that names the reason alone, which is what clients go by.
            code = status.code or (410 if status.reason in ("Expired", "Gone") else 0)
            return Event("ERROR", code=code, message=status.message or status.reason or "no reason given")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiTruncated(f"a line of the watch of {kind.resource} is no event: {error}") from error
    if event.type not in _CHANGES:
        return Event(event.type)
    codec = _CODECS[kind.name]
    result = codec.read(event.object)
    version = _identity(event.object).resource_version or ""
    if isinstance(result, Rejected):
        return Event(event.type, None, result.namespace, result.name, version, rejected=result)
    meta = result.metadata
    return Event(event.type, result, meta.namespace, meta.name, version)


def _read_bookmark(raw: Raw) -> Event:
    meta = _bookmark.decode(raw).metadata
    return Event("BOOKMARK", resource_version=meta.resource_version or "")


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
