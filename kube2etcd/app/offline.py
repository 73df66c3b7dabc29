"""`--objects`: fills a `Publisher` from manifest files instead of the API server."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kube2etcd.app import build
from kube2etcd.errors import ObjectsError
from kube2etcd.kube.manifests import decode_manifests
from kube2etcd.kube.objects import KINDS, ApiObject, Rejected
from kube2etcd.kube.store import Store
from kube2etcd.settings import Settings
from kube2etcd.sync.listings import left_out_lines
from kube2etcd.sync.publisher import Publisher

log = logging.getLogger(__name__)

_SUFFIXES = (".yaml", ".yml", ".json")
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
    found: dict[type[ApiObject], dict[tuple[str, str], ApiObject]] = {}
    rejected: list[Rejected] = []
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
        rejected += manifests.rejected
        for one in manifests.objects:
            # As with `kubectl apply`, the last of several documents for one object wins.
            found.setdefault(type(one), {})[(one.metadata.namespace, one.metadata.name)] = one
    if brief and unread:
        log.warning("documents that cannot be read: %d; kube2etcd records --objects names them", unread)
    store = Store()
    for name, kind in KINDS.items():
        unreadable = [one for one in rejected if one.kind == name]
        store.replace(name, found.get(kind.type, {}).values(), unreadable)
    publisher = build.publisher(settings, store)
    publisher.refresh(publisher.units())
    for line in () if brief else left_out_lines(publisher.take_reasons()):
        log.warning("%s", line)
    followed = {kind.name for kind in build.kinds(settings)}
    for name, option in _SWITCHES.items():
        if name not in followed and (number := store.count(name)):
            log.warning("%d %s have no names without %s", number, name, option)
    if passed_over and not brief:
        ignored = ", ".join(f"{number} {kind}" for kind, number in sorted(passed_over.items()))
        log.warning("ignored, since these kinds have no DNS names: %s", ignored)
    return publisher


def _texts(files: Sequence[str]) -> Iterable[tuple[str, bytes]]:
    for name in files:
        if not name:
            raise ObjectsError("--objects is empty; write the name of a file")
        if name == "-":
            if sys.stdin is None:
                raise ObjectsError("the standard input is closed; name a file, or write one to it")
            yield "standard input", sys.stdin.buffer.read()
            continue
        path = Path(name)
        try:
            members = [path]
            if path.is_dir():
                every = sorted(path.iterdir())
                members = [one for one in every if one.suffix in _SUFFIXES and one.is_file()]
            if not members:
                raise ObjectsError(f"{name} holds no file that ends in .yaml, .yml or .json")
            for member in members:
                yield str(member), member.read_bytes()
        except OSError as error:
            raise ObjectsError(
                f"{error.filename or name} cannot be read: {error.strerror or error}"
            ) from None
