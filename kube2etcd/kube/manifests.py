"""Decodes manifests, written by hand or printed by ``kubectl``.

Nothing is skipped silently: objects of other kinds are counted, anything else is a fault with its position.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from kube2etcd.documents import NotJson, Unreadable, read_documents, read_json
from kube2etcd.errors import ObjectsError
from kube2etcd.kube.codec import convert_object
from kube2etcd.kube.objects import KINDS, ApiObject, Kind, Rejected


class Manifests(Struct, frozen=True, gc=False):
    """The contents of a manifest file."""

    objects: list[ApiObject]
    rejected: list[Rejected]
    faults: list[str] = field(default_factory=list)
    """A sentence with the position of each of ``rejected`` and of anything that is not an object."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Number of objects of kinds that have no DNS names, by kind."""


_BY_KIND: Final[Mapping[tuple[str, str], Kind]] = {(k.group, k.kind): k for k in KINDS.values()}


def decode_manifests(text: str | bytes, source: str = "the manifests") -> Manifests:
    """Read manifests: YAML or JSON, several documents, and lists of objects.

    Kinds without DNS names are only counted; any version of a known group is accepted.
    A namespaced object without a namespace is in ``default``, as for ``kubectl``.

    :raises ObjectsError: the text is neither YAML nor JSON; the message calls it ``source``.
    """
    read = Manifests([], [])
    for place, document in _documents(text, source):
        if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
            read.faults.append(f"{place} is no object: {_missing(document)}")
            continue
        group = str(document.get("apiVersion") or "").rpartition("/")[0]
        kind = _BY_KIND.get((group, document["kind"]))
        if kind is None:
            read.passed_over[document["kind"]] += 1
            continue
        result = convert_object(kind, _in_namespace(kind, document))
        if isinstance(result, Rejected):
            read.rejected.append(result)
            who = f"{result.kind} {result.namespace}/{result.name}" if result.name else f"a {kind.kind}"
            read.faults.append(f"{place}: {who} is left out: {result.reason}")
        else:
            read.objects.append(result)
    return read


def _in_namespace(kind: Kind, document: dict[Any, Any]) -> dict[Any, Any]:
    meta = document.get("metadata")
    if not isinstance(meta, dict):
        return document
    namespace = (meta.get("namespace") or "default") if kind.namespaced else ""
    return {**document, "metadata": {**meta, "namespace": namespace}}


def _missing(document: Any) -> str:
    if isinstance(document, dict):
        return "it has no kind"
    return {type(None): "it is empty", str: "it is text", list: "it is a list"}.get(
        type(document), f"it is {document}"
    )


def _documents(text: str | bytes, source: str) -> Iterator[tuple[str, Any]]:
    """Every object of the text with its position, lists unfolded."""
    try:
        for number, document in enumerate(_read(text), 1):
            if document is not None:
                yield from _unfold(document, f"document {number}")
    except (Unreadable, RecursionError) as error:
        why = error if isinstance(error, Unreadable) else "it is nested too deeply"
        raise ObjectsError(f"{source} cannot be read as YAML or JSON: {why}") from None


def _read(text: str | bytes) -> list[Any]:
    """The documents of a text; JSON that is malformed is read as YAML, whose errors have a position."""
    with contextlib.suppress(NotJson, UnicodeDecodeError):
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        if plain.lstrip().startswith(("{", "[")):
            return [read_json(plain)]
    return read_documents(text)


def _unfold(one: Any, place: str) -> Iterator[tuple[str, Any]]:
    kind = one.get("kind") if isinstance(one, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and "items" in one:
        items, place = [] if one["items"] is None else one["items"], f"{place}.items"
        # A ServiceList as the API writes it names kind and version once, not in every item.
        if kind != "List" and isinstance(items, list):
            above = {"apiVersion": one.get("apiVersion"), "kind": kind.removesuffix("List")}
            items = [above | item if isinstance(item, dict) else item for item in items]
        yield from _unfold(items, place)
    elif isinstance(one, list):
        for number, item in enumerate(one):
            yield from _unfold(item, f"{place}[{number}]")
    else:
        yield place, one
