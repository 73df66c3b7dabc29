"""Which unit holds a key, or a name with everything below it, where several units want it.

Decided by rank alone, never by who came first, so a restart decides alike.  Pure.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kube2etcd.kube.store import Unit
from skydns_compat.names import Name

#: Order among the units that claim one key; the smallest has it.
Rank: TypeAlias = tuple[int, int, str, str, str]
#: Age, namespace, name; the smallest has the name.
Seniority: TypeAlias = tuple[str, str, str]


class Claims:
    """The holder and the value of each key.

    Nearly all keys have one claimant, which costs two dictionary entries and no rank.
    """

    def __init__(self, rank: Callable[[Unit, bytes, bytes], Rank]) -> None:
        """``rank(unit, key, value)`` orders the claimants of a key."""
        self.values: dict[bytes, bytes] = {}
        """The winning value of each key."""
        self._rank = rank
        self._holders: dict[bytes, Unit] = {}
        self._keys: dict[Unit, tuple[bytes, ...]] = {}
        self._rivals: dict[bytes, dict[Unit, bytes]] = {}

    def put(self, unit: Unit, after: Mapping[bytes, bytes]) -> list[bytes]:
        """Replace all claims of ``unit`` with ``after``; returns the keys whose value changed."""
        values, holders = self.values, self._holders
        before = self._keys.pop(unit, ())
        if after:
            self._keys[unit] = tuple(after)
        changed = [key for key in before if key not in after and self._withdraw(key, unit)]
        for key, value in after.items():
            holder = holders.get(key)
            if holder is None:
                holders[key], values[key] = unit, value
                changed.append(key)
            elif holder == unit and key not in self._rivals:
                if values[key] != value:
                    values[key] = value
                    changed.append(key)
            else:
                rivals = self._rivals.setdefault(key, {holder: values[key]})
                rivals[unit] = value
                if self._settle(key, rivals):
                    changed.append(key)
        return changed

    def holder(self, key: bytes) -> Unit | None:
        """The unit whose value stands at ``key``."""
        return self._holders.get(key)

    def claimants(self, key: bytes) -> list[Unit]:
        """The units that claim ``key``, its holder first."""
        holder = self._holders.get(key)
        others = sorted(self._rivals.get(key, {}).keys() - {holder})
        return others if holder is None else [holder, *others]

    def _withdraw(self, key: bytes, unit: Unit) -> bool:
        rivals = self._rivals.get(key)
        if rivals is None:
            del self._holders[key], self.values[key]
            return True
        del rivals[unit]
        if len(rivals) == 1:
            del self._rivals[key]
        return self._settle(key, rivals)

    def _settle(self, key: bytes, rivals: Mapping[Unit, bytes]) -> bool:
        """Give the key to its first claimant; returns whether that changes its value."""
        holder = self._holders[key] = min(
            rivals, key=lambda unit: (self._rank(unit, key, rivals[unit]), unit)
        )
        changed = self.values[key] != rivals[holder]
        self.values[key] = rivals[holder]
        return changed


class ExclusiveNames:
    """The owner of each name that only one unit may have: the oldest, then by namespace and name.

    Two Services cannot share a name: a CNAME allows no other data, and SRV records of one would lead to
    addresses of the other.
    """

    def __init__(self) -> None:
        self._wanting: dict[Name, list[tuple[Seniority, Unit]]] = {}
        self._wanted: dict[Unit, dict[Name, Seniority]] = {}
        self.changed: set[Unit] = set()
        """Units whose ownership changed since the last `take_changed()`."""

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

    def take_changed(self) -> list[Unit]:
        """The units whose ownership changed since the last call, in order."""
        changed, self.changed = sorted(self.changed), set()
        return changed

    def _change(self, name: Name, unit: Unit, before: Seniority | None, after: Seniority | None) -> None:
        wanting = self._wanting.setdefault(name, [])
        if before is not None:
            wanting.remove((before, unit))
        if after is not None:
            insort(wanting, (after, unit))
        if not wanting:
            del self._wanting[name]
