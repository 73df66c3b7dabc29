"""Which keys change in one transaction: an object's subtree, or a key alone.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kube2etcd.zones.base import Zone
from skydns_compat.layout import OWN, Layout

_OWN = f"/{OWN}".encode()
#: No key begins with it.
_NOTHING = b"\n"


class Groups:
    """The groups of the keys of ``zones``; a group is the key at its top."""

    def __init__(self, layout: Layout, zones: Iterable[Zone] = ()) -> None:
        above = layout.prefix.count("/") + 1
        nested_first = sorted(zones, key=lambda one: -len(one.name.labels))
        self._below = [
            (layout.zone_range(one.name), above + len(one.name.labels) + one.depth) for one in nested_first
        ]
        # A zone may lie below an object of another: those keys are not the object's.
        self._parted = {
            below[: cut + 1] for below, _ in self._below for cut, byte in enumerate(below) if byte == ord("/")
        }

    def of(self, key: bytes) -> bytes:
        """The group of ``key``."""
        head, own, _ = key.partition(_OWN)
        if own:
            return head + own
        for below, depth in self._below:
            if key.startswith(below):
                return b"/".join(key.split(b"/", depth)[:depth])
        return key

    def each(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Each key with its group in front; that is mostly the one of the key before, which is fast."""
        group, below = b"", _NOTHING
        for key in keys:
            if not key.startswith(below) or (_OWN in key and not below.endswith(_OWN + b"/")):
                group = self.of(key)
                below = group + b"/"
                if group == key or below in self._parted:
                    below = _NOTHING
            yield group, key
