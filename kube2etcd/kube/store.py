"""The present state of the cluster, indexed by unit.

A *unit* is what is looked at again as a whole: a Service with its EndpointSlices, a Namespace, a
Pod, a name of an external domain with all that was said of it.  `replace` and `apply` say which units
they touched; whether anything changed for DNS is for others to find out.  An object that cannot be
read keeps its last readable form out of the store: its names go, with a reason, and nobody else's.
No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kube2etcd.external import Endpoint
from kube2etcd.kube.names import NameIndex
from kube2etcd.kube.objects import ApiObject, DnsEndpoint, EndpointSlice, Event, Rejected

#: The kind of the units that are names; they are made from objects of any kind that holds endpoints.
NAMES = "names"
#: Kinds of objects that hold endpoints: those of the API server, and what the webhook was told.
_HOLDERS = frozenset({"dnsendpoints", "webhook"})
#: Kinds whose objects are no units: others stand for what is in them.
_NO_UNITS = _HOLDERS | {"endpointslices"}


class Unit(NamedTuple):
    """Identity of what is published together; ``kind`` is the plural, as in `objects.KINDS`, or `NAMES`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


class Store:
    """Objects by kind and identity, and the slices of each Service."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], ApiObject]] = {}
        self._rejected: dict[Unit, Rejected] = {}
        self._slices: dict[Unit, dict[str, EndpointSlice]] = {}
        self._names: NameIndex[Unit] = NameIndex()

    def replace(
        self, kind: str, objects: Iterable[ApiObject], rejected: Iterable[Rejected] = ()
    ) -> set[Unit]:
        """Let a complete listing of ``kind`` stand for all that was known of it."""
        before = self._objects.get(kind, {})
        after = {(one.metadata.namespace, one.metadata.name): one for one in objects}
        touched: set[Unit] = set()
        for identity in before.keys() - after.keys():
            touched |= self._set(kind, identity, None)
        for identity, one in after.items():
            if before.get(identity) != one:
                touched |= self._set(kind, identity, one)
        gone = {unit for unit in self._rejected if unit.kind == kind}
        refused = {Unit(kind, one.namespace, one.name): one for one in rejected}
        for unit in gone - refused.keys():
            del self._rejected[unit]
        self._rejected.update(refused)
        return touched | self._units_of(gone | refused.keys())

    def apply(self, kind: str, event: Event) -> set[Unit]:
        """Take in one ADDED, MODIFIED or DELETED event."""
        unit = Unit(kind, event.namespace, event.name)
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return set()
        was_rejected = self._rejected.pop(unit, None) is not None
        if event.rejected is not None and event.type != "DELETED":
            self._rejected[unit] = event.rejected
        present = None if event.type == "DELETED" or event.rejected is not None else event.object
        identity = (event.namespace, event.name)
        if (
            not was_rejected
            and event.rejected is None
            and self._objects.get(kind, {}).get(identity) == present
        ):
            return set()
        return self._set(kind, identity, present) | self._units_of({unit})

    def get(self, unit: Unit) -> ApiObject | None:
        """The object of a unit, as last seen."""
        return self._objects.get(unit.kind, {}).get((unit.namespace, unit.name))

    def slices(self, service: Unit) -> list[EndpointSlice]:
        """The EndpointSlices of a Service, by name."""
        return [piece for _, piece in sorted(self._slices.get(service, {}).items())]

    def endpoints(self, name: str) -> list[Endpoint]:
        """The endpoints of a name; those of the oldest object first, then by kind, namespace and name."""
        found = self._names.of(name)
        return [one for unit in sorted(found, key=self._seniority) for one in found[unit]]

    def _seniority(self, unit: Unit) -> tuple[str, Unit]:
        one = self.get(unit)
        # What has no age is newer than all that have one.
        return ((one.metadata.creation_timestamp if one is not None else "") or "~", unit)

    def refusals(self, name: str) -> Iterable[str]:
        """Why the webhook refused records of a name."""
        for kind in sorted(_HOLDERS):
            for one in self._objects.get(kind, {}).values():
                if isinstance(one, DnsEndpoint) and name in one.refused:
                    yield one.refused[name]

    def holders(self, name: str) -> list[Unit]:
        """The objects that say something of a name, in order."""
        return sorted(self._names.of(name))

    def rejected(self, unit: Unit) -> Rejected | None:
        """Why the object of a unit cannot be read; None when it can, or is not there."""
        return self._rejected.get(unit)

    def knows(self, unit: Unit) -> bool:
        """Whether there is an object of a unit, readable or not."""
        return self.get(unit) is not None or unit in self._rejected

    def rejects(self) -> list[Rejected]:
        """Everything that cannot be read."""
        return list(self._rejected.values())

    def units(self) -> list[Unit]:
        """Every unit there is, by kind, namespace and name."""
        objects = (
            Unit(kind, *identity)
            for kind, objects in self._objects.items()
            if kind not in _NO_UNITS
            for identity in objects
        )
        return sorted([*objects, *(Unit(NAMES, "", name) for name in self._names.names())])

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        return len(self._objects.get(kind, {}))

    def _units_of(self, units: Iterable[Unit]) -> set[Unit]:
        return {unit for unit in units if unit.kind != "endpointslices"}

    def _set(self, kind: str, identity: tuple[str, str], present: ApiObject | None) -> set[Unit]:
        objects = self._objects.setdefault(kind, {})
        before = objects.pop(identity, None)
        if present is not None:
            objects[identity] = present
        if kind not in _NO_UNITS:
            return {Unit(kind, *identity)}
        if kind in _HOLDERS:
            said = [one.endpoints if isinstance(one, DnsEndpoint) else () for one in (before, present)]
            return {Unit(NAMES, "", name) for name in self._names.put(Unit(kind, *identity), *said)}
        touched: set[Unit] = set()
        if isinstance(before, EndpointSlice):
            touched |= self._unlink(before)
        if isinstance(present, EndpointSlice) and present.service_name:
            unit = Unit("services", identity[0], present.service_name)
            self._slices.setdefault(unit, {})[identity[1]] = present
            touched.add(unit)
        return touched

    def _unlink(self, piece: EndpointSlice) -> set[Unit]:
        unit = Unit("services", piece.metadata.namespace, piece.service_name)
        pieces = self._slices.get(unit)
        if pieces is None or pieces.pop(piece.metadata.name, None) is None:
            return set()
        if not pieces:
            del self._slices[unit]
        return {unit}
