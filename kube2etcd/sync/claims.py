"""Which unit's value stands at each key, where several units claim it.

The claim of the smallest rank stands; of one rank the units are told apart by what they are.  What it
may know: units, keys and ranks.  What it must never do: decide by who came first.  Pure.
"""

from __future__ import annotations

from typing import TypeAlias

from kube2etcd.kube.store import Unit

#: Order among those who claim one key; the smallest has it.
Rank: TypeAlias = tuple[int, int, str, str, str]
#: What one unit claims: by key its rank there, and the value.
UnitClaims: TypeAlias = dict[bytes, tuple[Rank, bytes]]


class Claims:
    """The claims of all units."""

    def __init__(self) -> None:
        self._by_unit: dict[Unit, UnitClaims] = {}
        self._claimants: dict[bytes, Unit | set[Unit]] = {}

    def put(self, unit: Unit, after: UnitClaims) -> set[bytes]:
        """Let ``after`` stand for all that the unit claims; the keys whose value may differ now."""
        before = self._by_unit.pop(unit, {})
        if after:
            self._by_unit[unit] = after
        gone = before.keys() - after.keys()
        for key in gone:
            self._withdraw(key, unit)
        for key in after.keys() - before.keys():
            self._enter(key, unit)
        return gone | {key for key, claim in after.items() if before.get(key) != claim}

    def holder(self, key: bytes) -> Unit | None:
        """The unit whose value stands at ``key``."""
        claimants = self._claimants.get(key)
        if isinstance(claimants, set):
            # A set has no order: units of one rank are told apart by what they are.
            return min(claimants, key=lambda unit: (self._by_unit[unit][key][0], unit))
        return claimants

    def value(self, key: bytes) -> bytes | None:
        """What stands at ``key``."""
        holder = self.holder(key)
        return None if holder is None else self._by_unit[holder][key][1]

    def _enter(self, key: bytes, unit: Unit) -> None:
        present = self._claimants.get(key)
        if present is None:
            self._claimants[key] = unit
        elif isinstance(present, set):
            present.add(unit)
        else:
            self._claimants[key] = {present, unit}

    def _withdraw(self, key: bytes, unit: Unit) -> None:
        present = self._claimants[key]
        if isinstance(present, set):
            present.discard(unit)
            if len(present) == 1:
                self._claimants[key] = present.pop()
        else:
            del self._claimants[key]
