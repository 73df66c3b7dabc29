"""Which unit holds a name, with everything below it, where several units want it.

Decided by rank alone, never by who came first, so a restart decides alike.  Pure.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from kube2etcd.kube.store import Unit
from skydns_compat.names import Name

#: Age, namespace, name; the smallest has the name.
Seniority: TypeAlias = tuple[str, str, str]


class ExclusiveNames:
    """The owner of each name that only one unit may have: the oldest, then by namespace and name.

    Two Services cannot share a name: a CNAME allows no other data, and SRV records of one would lead to
    addresses of the other.
    """

    def __init__(self) -> None:
        self._wanting: dict[Name, list[tuple[Seniority, Unit]]] = {}
        self._wanted: dict[Unit, dict[Name, Seniority]] = {}
        self.changed: set[Unit] = set()
        """Units whose ownership changed and that `take_changed` has not given."""

    def want(self, unit: Unit, names: Mapping[Name, Seniority]) -> None:
        """Replace all names that ``unit`` wants."""
        before = self._wanted.pop(unit, None)
        if before is None and not names:
            return
        before = before or {}
        if names:
            self._wanted[unit] = dict(names)
        for name in before.keys() | names.keys():
            holder = self.holder(name)
            if before.get(name) != names.get(name):
                self._change(name, unit, before.get(name), names.get(name))
            heir = self.holder(name)
            if heir != holder:
                self.changed |= {one for one in (holder, heir) if one is not None and one != unit}
            if name in names and heir != unit:
                self.changed.add(unit)

    def holder(self, name: Name) -> Unit | None:
        """The unit that has the name."""
        wanting = self._wanting.get(name)
        return wanting[0][1] if wanting else None

    def losers(self, name: Name) -> list[Unit]:
        """The units that want the name and do not have it, the next in line first."""
        return [unit for _, unit in self._wanting.get(name, [])[1:]]

    def take_changed(self) -> Iterator[Unit]:
        """The units whose ownership changed and that have not been taken yet, in order."""
        for unit in sorted(self.changed):
            self.changed.discard(unit)
            yield unit

    def _change(self, name: Name, unit: Unit, before: Seniority | None, after: Seniority | None) -> None:
        wanting = self._wanting.setdefault(name, [])
        if before is not None:
            wanting.remove((before, unit))
        if after is not None:
            insort(wanting, (after, unit))
        if not wanting:
            del self._wanting[name]
