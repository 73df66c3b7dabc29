"""What etcd should hold: the desired entries, kept up to date unit by unit.

A unit is looked at again as a whole; the keys whose desired value may have changed come back, and
nothing else is touched, so cost follows the change.  Several units may claim one key (a PTR of a
shared address, a pod name on the host's network): the shorter name wins, then the older object,
then namespace and name.  No state decides, so a restart decides alike.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from kube2etcd.cluster.objects import ApiObject, Namespace, Pod, Service
from kube2etcd.cluster.store import Store, Unit
from kube2etcd.sources.cluster import (
    ClusterZone,
    Published,
    namespace_records,
    pod_records,
    service_records,
    zone_records,
)
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from skydns_compat.records import Pointer, Record

#: Order among those who claim one key; the smallest has it.
Rank: TypeAlias = tuple[int, str, str, str]
_Claims: TypeAlias = dict[bytes, tuple[Rank, bytes]]

#: An object that does not say when it was made comes after all that do.
_NO_AGE = "~"


class Publisher:
    """Desired entries of a store, under one layout."""

    def __init__(self, store: Store, layout: Layout, zone: ClusterZone) -> None:
        self.store = store
        self.layout = layout
        self.zone = zone
        self.desired: dict[bytes, bytes] = {}
        self._claims: dict[Unit, _Claims] = {}
        self._claimants: dict[bytes, Unit | set[Unit]] = {}
        self._refused: dict[Unit, int] = {}
        self._zone_unit = Unit("zones", "", str(zone.zone))
        self.refresh({self._zone_unit})

    def refresh(self, units: Iterable[Unit]) -> set[bytes]:
        """Look at these units again; the keys whose desired value may differ now."""
        changed: set[bytes] = set()
        for unit in units:
            published = self.published(unit)
            before = self._claims.pop(unit, {})
            after = self._claim(unit, published)
            if after:
                self._claims[unit] = after
            self._count(unit, len(published.left_out))
            for key in before.keys() - after.keys():
                self._withdraw(key, unit)
            for key in after.keys() - before.keys():
                self._enter(key, unit)
            changed.update(before.keys() - after.keys())
            changed.update(key for key, claim in after.items() if before.get(key) != claim)
        for key in changed:
            self._settle(key)
        return changed

    def published(self, unit: Unit) -> Published:
        """The records of one unit, and what it leaves out."""
        if unit == self._zone_unit:
            return zone_records(self.zone)
        rejected = self.store.rejected(unit)
        if rejected is not None:
            return Published(left_out=[rejected.reason])
        match self.store.get(unit):
            case Service() as service:
                return service_records(service, self.store.slices(unit), self.zone)
            case Namespace() as namespace:
                return namespace_records(namespace, self.zone)
            case Pod() as pod if self.zone.pods == "verified":
                return pod_records(pod, self.zone)
            case _:
                return Published()

    def units(self) -> Iterator[Unit]:
        """The zone itself and every unit of the store."""
        yield self._zone_unit
        yield from self.store.units()

    def holder(self, key: bytes) -> Unit | None:
        """The unit whose value stands at ``key``."""
        claimants = self._claimants.get(key)
        if isinstance(claimants, set):
            return min(claimants, key=lambda unit: self._claims[unit][key][0])
        return claimants

    def left_out(self) -> int:
        """How many records were asked for and could not be made."""
        return sum(self._refused.values())

    def group(self, key: bytes) -> bytes:
        """What changes in one transaction with ``key``: its Service's subtree, or the key alone."""
        depth = self.layout.prefix.count("/") + len(self.zone.zone.labels) + 4
        return b"/".join(key.split(b"/", depth)[:depth]) if key.startswith(self._below) else key

    @property
    def _below(self) -> bytes:
        return self.layout.zone_range(self.zone.zone)

    def _claim(self, unit: Unit, published: Published) -> _Claims:
        age = _age(self.store.get(unit))
        zone = self.zone.zone
        claims = {
            key: ((0, age, unit.namespace, unit.name), value)
            for key, value in self.layout.entries(published.records, zone).items()
        }
        for record in published.pointers:
            rank = (_length(record), age, unit.namespace, unit.name)
            for key, value in self.layout.entries([record], zone).items():
                claims[key] = (rank, value)
        return claims

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

    def _settle(self, key: bytes) -> None:
        holder = self.holder(key)
        if holder is None:
            self.desired.pop(key, None)
        else:
            self.desired[key] = self._claims[holder][key][1]

    def _count(self, unit: Unit, left_out: int) -> None:
        if left_out:
            self._refused[unit] = left_out
        else:
            self._refused.pop(unit, None)


def _length(record: Record) -> int:
    target: Name = record.data.target if isinstance(record.data, Pointer) else record.name
    return len(target.labels)


def _age(one: ApiObject | None) -> str:
    return (one.metadata.creation_timestamp or _NO_AGE) if one is not None else ""
