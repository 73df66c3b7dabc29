"""Manifest files in the place of the API server: for `records`, `explain` and a dry run.

Reads files and nothing else; what comes out is the same `Publisher` that a cluster fills.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from kube2etcd import parts
from kube2etcd.cluster.objects import KINDS, ApiObject, Rejected, decode_manifests
from kube2etcd.cluster.store import Store
from kube2etcd.errors import ObjectsError
from kube2etcd.publish import Publisher
from kube2etcd.settings import Settings

log = logging.getLogger(__name__)


def from_files(settings: Settings, files: Sequence[str]) -> Publisher:
    """What the objects in ``files`` want published; ``-`` is the standard input, a folder its files.

    :raises ObjectsError: a file cannot be read at all.
    """
    parts.check_available(settings)
    found: dict[str, dict[tuple[str, str], ApiObject]] = {}
    rejected: dict[str, list[Rejected]] = {}
    for source, text in _texts(files):
        manifests = decode_manifests(text, source)
        if not manifests.objects and not manifests.rejected:
            log.warning("%s holds no object that decides a name", source)
        for one in manifests.objects:
            kind = _kind(one)
            # As `kubectl apply` has it: of two documents for one object the later one stays.
            found.setdefault(kind, {})[(one.metadata.namespace, one.metadata.name)] = one
        for odd in manifests.rejected:
            rejected.setdefault(odd.kind, []).append(odd)
    store = Store()
    for name in KINDS:
        store.replace(name, found.get(name, {}).values(), rejected.get(name, []))
    parts.say_rejected(store)
    publisher = parts.publisher(settings, store)
    publisher.refresh(publisher.units())
    return publisher


def _texts(files: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    for name in files:
        if name == "-":
            yield "standard input", sys.stdin.buffer.read()
            continue
        path = Path(name)
        try:
            members = sorted(_manifests_in(path)) if path.is_dir() else [path]
            if not members:
                raise ObjectsError(f"{name} holds no file that ends in .yaml, .yml or .json")
            for member in members:
                yield str(member), member.read_bytes()
        except OSError as error:
            raise ObjectsError(
                f"{error.filename or name} cannot be read: {error.strerror or error}"
            ) from None


def _manifests_in(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.suffix in (".yaml", ".yml", ".json") and one.is_file()]


def _kind(one: ApiObject) -> str:
    return next(kind.name for kind in KINDS.values() if kind.type is type(one))
