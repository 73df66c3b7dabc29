"""Manifests, as people write them and ``kubectl`` prints them, to objects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import yaml
from msgspec import Struct

from kube2etcd.cluster.objects.codec import read_object
from kube2etcd.cluster.objects.common import Rejected
from kube2etcd.cluster.objects.kinds import KINDS, ApiObject, Kind
from kube2etcd.errors import ObjectsError


class Manifests(Struct, frozen=True, gc=False):
    """What a manifest file holds."""

    objects: list[ApiObject]
    rejected: list[Rejected]
    ignored: int = 0
    """Documents of kinds that have nothing to do with names."""


class _ManifestLoader(yaml.SafeLoader):
    """Reads a timestamp as the text that it is, like the API does."""


_ManifestLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_BY_KIND: Final[Mapping[tuple[str, str], Kind]] = {(k.group, k.kind): k for k in KINDS.values()}


_LOOKS_LIKE_JSON: Final = re.compile(r"\s*[\[{]")


def decode_manifests(text: str | bytes, source: str = "the manifests") -> Manifests:
    """Read manifests: YAML or JSON, several documents, and lists of objects.

    Kinds that decide no name are counted and left out; any version of a known group will do.
    A namespaced object without a namespace is in ``default``, as for ``kubectl``.

    :raises ObjectsError: the text is neither YAML nor JSON; ``source`` names it in the message.
    """
    objects: list[ApiObject] = []
    rejected: list[Rejected] = []
    ignored = 0
    for document in _documents(text, source):
        kind, encoded = _recognise(document)
        if kind is None:
            ignored += 1
        elif isinstance(encoded, Rejected):
            rejected.append(encoded)
        else:
            result = read_object(kind, encoded)
            (rejected if isinstance(result, Rejected) else objects).append(result)  # type: ignore[arg-type]
    return Manifests(objects, rejected, ignored)


def _documents(text: str | bytes, source: str) -> Iterator[Any]:
    """Every object of the text, lists unfolded."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        documents = _json_document(text) or list(yaml.load_all(text, Loader=_ManifestLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ObjectsError(f"{source} cannot be read as YAML or JSON: {reason}") from error
    for document in documents:
        yield from _unfold(document)


def _json_document(text: str) -> list[Any]:
    """The one document of a JSON text; JSON is YAML as well, but a hundred times slower to read so."""
    if not _LOOKS_LIKE_JSON.match(text):
        return []
    try:
        return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        return []


def _unfold(document: Any) -> Iterator[Any]:
    if document is None:
        return
    if isinstance(document, list):
        for item in document:
            yield from _unfold(item)
        return
    kind = document.get("kind") if isinstance(document, dict) else None
    if isinstance(kind, str) and kind.endswith("List") and "items" in document:
        # A ServiceList as the API writes it names kind and version once, not in every item.
        inherited = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
        for item in document["items"] or ():
            yield from _unfold({**inherited, **item} if isinstance(item, dict) else item)
        return
    yield document


def _recognise(document: Any) -> tuple[Kind | None, bytes | Rejected]:
    """The kind of a document and its JSON; no kind when it is none of ours."""
    if not isinstance(document, dict):
        return None, b""
    version = str(document.get("apiVersion") or "")
    group = version.rpartition("/")[0]
    kind = _BY_KIND.get((group, str(document.get("kind"))))
    if kind is None:
        return None, b""
    meta = document.get("metadata")
    if isinstance(meta, dict):
        scope = {"namespace": (meta.get("namespace") or "default") if kind.namespaced else None}
        document = {**document, "metadata": {**meta, **scope}}
    try:
        return kind, msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError) as error:
        found = document["metadata"] if isinstance(meta, dict) else {}
        namespace, name = str(found.get("namespace") or ""), str(found.get("name") or "")
        return kind, Rejected(kind.name, namespace, name, str(error))
