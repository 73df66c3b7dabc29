"""Decoders of the API server's JSON: one object, pages of a list, lines of a watch.

A malformed object becomes a ``Rejected`` and does not affect the others; an incomplete body raises, so an
error never looks like an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct, field
from msgspec.json import Decoder

from kube2etcd.errors import ApiError, ApiUnavailable
from kube2etcd.kube.failures import ApiStatus, error_of
from kube2etcd.kube.objects import ApiObject, Event, Kind, Rejected
from kube2etcd.kube.wire import WIRES, Wire, WireObject

_T = TypeVar("_T")

DEEPEST: Final = 100
"""Levels kept; all fields we read lie within twelve."""

# An unterminated string matches to the end of the text, since rescanning from each quote would be quadratic.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


class Page(Struct, frozen=True, gc=False):
    """One answer to a list request."""

    items: list[ApiObject]
    rejected: list[Rejected]
    resource_version: str
    continue_: str = ""
    """Token for the next page; empty on the last."""


class _ListMetadata(Wire):
    resource_version: str | None = None
    continue_: str | None = field(default=None, name="continue")


class _List(Wire, Generic[_T]):
    kind: str = ""
    metadata: _ListMetadata | None = None
    # Absent and null differ: an empty list has null or [], another kind of response has no items.
    items: list[_T] | msgspec.UnsetType | None = msgspec.UNSET


class _Line(Wire, Generic[_T]):
    type: str
    object: _T


def _decoders(shape: Any) -> dict[str, Decoder[Any]]:
    return {name: Decoder(shape[wire]) for name, wire in WIRES.items()}


_LISTS: Final[Mapping[str, Decoder[_List[WireObject]]]] = _decoders(_List)
_LINES: Final[Mapping[str, Decoder[_Line[WireObject]]]] = _decoders(_Line)

CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})
"""Types of the events that carry an object."""

_plain_list = Decoder(_List[Any])
_plain_line = Decoder(_Line[Any])


def convert_object(kind: Kind, value: Any) -> ApiObject | Rejected:
    """Convert an object of decoded JSON, which may have nulls anywhere."""
    try:
        return msgspec.convert(without_nulls(value), WIRES[kind.name]).read()
    except ValueError as error:
        namespace, name, _ = _identity(value)
        return Rejected(kind.name, namespace, name, str(error))


def _identity(value: Any) -> tuple[str, str, str]:
    """Namespace, name and resourceVersion of a decoded object, as far as they can be read."""
    meta = value.get("metadata") if isinstance(value, dict) else None
    texts = {key: one for key, one in meta.items() if isinstance(one, str)} if isinstance(meta, dict) else {}
    return texts.get("namespace", ""), texts.get("name", ""), texts.get("resourceVersion", "")


def without_nulls(value: Any, depth: int = 0) -> Any:
    """As Go reads it: a field that is null is absent, a label that is null is empty, a YAML key 5 is text."""
    if depth > DEEPEST:
        return None
    if isinstance(value, list):
        return [without_nulls(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    found = {_text(key): without_nulls(one, depth + 1) for key, one in value.items() if one is not None}
    if isinstance(labels := value.get("labels"), dict):
        found["labels"] = {_text(key): "" if one is None else one for key, one in labels.items()}
    return found


def _text(key: Any) -> Any:
    return key if key is None or isinstance(key, str) else msgspec.json.encode(key).decode()


def decode_list(kind: Kind, body: bytes) -> Page:
    """Read one page of a list.

    :raises ApiUnavailable: the body is not JSON, is cut short, or is not a list of this kind.
    """
    try:
        return _decode_page(kind, body)
    except RecursionError:
        return _decode_page(kind, shallow(body))


def _decode_page(kind: Kind, body: bytes) -> Page:
    try:
        answer = _LISTS[kind.name].decode(body)
        meta = _check_list(kind, answer)
        return Page([wire.read() for wire in answer.items or ()], [], *meta)
    except ValueError:
        pass  # an object is malformed: slower, to keep the others
    try:
        plain = _plain_list.decode(body)
    except ValueError as error:
        start = body[:40].decode("utf-8", "replace").strip()
        raise ApiUnavailable(
            f"the answer to listing {kind.resource} ({len(body)} bytes, beginning {start!r}) "
            f"cannot be read as JSON: {error}"
        ) from error
    page = Page([], [], *_check_list(kind, plain))
    for item in plain.items or ():
        result = convert_object(kind, item)
        if isinstance(result, Rejected):
            page.rejected.append(result)
        else:
            page.items.append(result)
    return page


def _check_list(kind: Kind, answer: Any) -> tuple[str, str]:
    """The list's resourceVersion, and the token for its next page.

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


def decode_event(kind: Kind, line: bytes) -> Event:
    """Read one line of a watch.

    :raises ApiUnavailable: the line is not an event.
    :raises ApiError: an event of type ERROR; the class says what to do.
    """
    try:
        return _decode_line(kind, line)
    except RecursionError:
        return _decode_line(kind, shallow(line))


def _decode_line(kind: Kind, line: bytes) -> Event:
    try:
        known = _LINES[kind.name].decode(line)
        if known.type in CHANGES:
            one, version = known.object.read(), known.object.metadata.resource_version
            return Event(known.type, one, one.metadata.namespace, one.metadata.name, version)
    except ValueError:
        pass
    # Bookmarks, errors, and objects with nulls or malformed fields.
    try:
        event = _plain_line.decode(line)
        if event.type == "ERROR":
            raise _error_of(kind, msgspec.convert(event.object, ApiStatus))
    except ValueError as error:
        raise ApiUnavailable(f"a line of the watch of {kind.resource} is no event: {error}") from error
    namespace, name, version = _identity(event.object)
    if event.type not in CHANGES:
        return Event(event.type, resource_version=version if event.type == "BOOKMARK" else "")
    result = convert_object(kind, event.object)
    if isinstance(result, Rejected):
        return Event(event.type, None, namespace, name, version, result)
    return Event(event.type, result, namespace, name, version)


def _error_of(kind: Kind, status: ApiStatus) -> ApiError:
    """The error for an ERROR event, whose codes are HTTP status codes."""
    # A proxy may send the reason without a code; client-go also relies on the reason.
    code = status.code or (410 if status.reason in ("Expired", "Gone") else 0)
    said = status.message or status.reason or "no reason given"
    return error_of(code, f"the watch of {kind.resource} ended with an error: {said} ({code})")


def shallow(text: bytes) -> bytes:
    """``text`` with everything below :data:`DEEPEST` levels replaced by ``null``.

    The API server accepts ten thousand levels, also in fields that we skip; the decoder rejects the whole
    response beyond some hundreds, so one object would block all others of its kind.
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
