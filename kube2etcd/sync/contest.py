"""Which unit has a name that only one can have, where several want it.

What two Services say of one name cannot stand side by side: an alias beside addresses is no DNS, and
SRV records of one would lead to addresses of the other.  So one has the name and all below it: the
older object, then the first by namespace and name.  No state decides, so a restart decides alike.

What it may know: units, names and ranks.  What it must never do: say what anybody has there.  Pure.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import TypeAlias

from kube2etcd.kube.store import Unit
from skydns_compat.names import Name

#: Age, namespace, name; the smallest has the name.
Seniority: TypeAlias = tuple[str, str, str]


class Contest:
    """Who wants each name, the holder first."""

    def __init__(self) -> None:
        self._wanting: dict[Name, list[tuple[Seniority, Unit]]] = {}
        self._wanted: dict[Unit, dict[Name, Seniority]] = {}
        self.turned: set[Unit] = set()
        """Those who have, or have not, what they had when it was looked at last."""

    def want(self, unit: Unit, names: Mapping[Name, Seniority]) -> None:
        """Let ``names`` stand for all that the unit wants."""
        before = self._wanted.pop(unit, {})
        if names:
            self._wanted[unit] = dict(names)
        for name in before.keys() | names.keys():
            holder = self.holder(name)
            if before.get(name) != names.get(name):
                self._change(name, unit, before.get(name), names.get(name))
            heir = self.holder(name)
            if heir != holder:
                self.turned |= {one for one in (holder, heir) if one is not None and one != unit}
            if name in names and heir != unit:
                self.turned.add(unit)

    def holder(self, name: Name) -> Unit | None:
        """Who has the name."""
        wanting = self._wanting.get(name)
        return wanting[0][1] if wanting else None

    def losers(self, name: Name) -> list[Unit]:
        """Who wants the name and does not have it, the next in line first."""
        return [unit for _, unit in self._wanting.get(name, [])[1:]]

    def settled(self) -> list[Unit]:
        """Who has turned since the last call, in order."""
        turned, self.turned = sorted(self.turned), set()
        return turned

    def _change(self, name: Name, unit: Unit, before: Seniority | None, after: Seniority | None) -> None:
        wanting = self._wanting.setdefault(name, [])
        if before is not None:
            wanting.remove((before, unit))
        if after is not None:
            insort(wanting, (after, unit))
        if not wanting:
            del self._wanting[name]
