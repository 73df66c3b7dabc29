"""`--objects`: fills a `Publisher` from manifest files instead of the API server."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kube2etcd.app import build
from kube2etcd.errors import ObjectsError
from kube2etcd.kube.manifests import decode_manifests
from kube2etcd.kube.objects import KINDS, ApiObject, Rejected
from kube2etcd.kube.store import Store
from kube2etcd.settings import Settings
from kube2etcd.sync.listings import lines
from kube2etcd.sync.publisher import Publisher

log = logging.getLogger(__name__)

#: The option without which a kind has no names.
_SWITCHES = {
    "pods": "--pods verified",
    "virtualmachineinstances": "--vm-domain",
    "dnsendpoints": "--dns-endpoints",
}


def from_files(settings: Settings, files: Sequence[str], *, brief: bool = False) -> Publisher:
    """The publisher of the objects in ``files``; ``-`` is standard input, a folder stands for its files.

    ``brief``: only counts documents that cannot be read, and does not mention those without names.

    :raises ObjectsError: a file cannot be read at all.
    """
    found: dict[str, dict[tuple[str, str], ApiObject]] = {}
    rejected: dict[str, list[Rejected]] = {}
    passed_over: Counter[str] = Counter()
    unread = 0
    for source, text in _texts(files):
        manifests = decode_manifests(text, source)
        if not manifests.objects and not manifests.faults and not manifests.passed_over:
            log.warning("%s holds no object", source)
        for fault in manifests.faults:
            unread += 1
            log.log(logging.DEBUG if brief else logging.WARNING, "%s: %s", source, fault)
        passed_over += manifests.passed_over
        for one in manifests.objects:
            kind = _kind(one)
            # As with `kubectl apply`, the last of several documents for one object wins.
            found.setdefault(kind, {})[(one.metadata.namespace, one.metadata.name)] = one
        for odd in manifests.rejected:
            rejected.setdefault(odd.kind, []).append(odd)
    if brief and unread:
        log.warning("documents that cannot be read: %d; kube2etcd records --objects names them", unread)
    store = Store()
    for name in KINDS:
        store.replace(name, found.get(name, {}).values(), rejected.get(name, []))
    publisher = build.publisher(settings, store)
    publisher.refresh(publisher.units())
    for line in () if brief else lines(publisher.take_reasons()):
        log.warning("%s", line)
    _say_unused(settings, found, Counter() if brief else passed_over)
    return publisher


def _say_unused(
    settings: Settings, found: Mapping[str, Mapping[tuple[str, str], ApiObject]], passed_over: Counter[str]
) -> None:
    """Log which objects have no names."""
    followed = {kind.name for kind in build.kinds(settings)}
    for name, option in _SWITCHES.items():
        if name not in followed and found.get(name):
            log.warning("%d %s have no names without %s", len(found[name]), name, option)
    if passed_over:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(passed_over.items()))
        log.warning("ignored, since these kinds have no DNS names: %s", kinds)


def _texts(files: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    for name in files:
        if not name:
            raise ObjectsError("--objects is empty; write the name of a file")
        if name == "-":
            yield "standard input", _standard_input()
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


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ObjectsError("the standard input is closed; name a file, or write one to it")
    return sys.stdin.buffer.read()


def _manifests_in(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.suffix in (".yaml", ".yml", ".json") and one.is_file()]


def _kind(one: ApiObject) -> str:
    return next(kind.name for kind in KINDS.values() if kind.type is type(one))
