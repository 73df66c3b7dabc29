"""The current state of the cluster, indexed by unit.

A *unit* is derived as a whole: a Service with its EndpointSlices, a Namespace, a Pod, or a name of an
external domain with all its endpoints.  `replace` and `apply` return the units they touched.  No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView
from typing import NamedTuple

from kube2etcd.external import Endpoint, NameIndex
from kube2etcd.kube.objects import ApiObject, DnsEndpoint, EndpointSlice, Event, Rejected

#: Kind of the units that are external names; they derive from objects of any kind with endpoints.
NAMES = "names"
#: Kinds of objects with endpoints: the API server's, and the webhook's own.
_HOLDERS = frozenset({"dnsendpoints", "webhook"})
#: Kinds whose objects are not units themselves but belong to others.
_NO_UNITS = _HOLDERS | {"endpointslices"}
#: Sorts after every creationTimestamp: an object without one counts as the youngest.
NO_AGE = "~"


class Unit(NamedTuple):
    """Identity of a unit; ``kind`` is the plural, as in `objects.KINDS`, or `NAMES`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


class Store:
    """Objects by kind, namespace and name, and the slices of each Service."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, ApiObject]]] = {}
        self._rejected: dict[Unit, Rejected] = {}
        self._slices: dict[Unit, dict[str, EndpointSlice]] = {}
        self._names: NameIndex[Unit] = NameIndex()

    def replace(
        self, kind: str, objects: Iterable[ApiObject], rejected: Iterable[Rejected] = ()
    ) -> set[Unit]:
        """Replace all objects of ``kind`` by a complete list."""
        listed: dict[str, dict[str, ApiObject]] = {}
        for one in objects:
            listed.setdefault(one.metadata.namespace, {})[one.metadata.name] = one
        touched: set[Unit] = set()
        before = self._objects.get(kind, {})
        for namespace in list(before):
            for name in before[namespace].keys() - listed.get(namespace, {}).keys():
                self._set(kind, namespace, name, None, touched)
        for namespace, named in listed.items():
            known = before.get(namespace, {})
            for name, one in named.items():
                if known.get(name) != one:
                    self._set(kind, namespace, name, one, touched)
        gone = {unit for unit in self._rejected if unit.kind == kind}
        refused = {Unit(kind, one.namespace, one.name): one for one in rejected}
        for unit in gone - refused.keys():
            del self._rejected[unit]
        self._rejected.update(refused)
        if kind != "endpointslices":
            touched |= gone | refused.keys()
        return touched

    def apply(self, kind: str, event: Event) -> set[Unit]:
        """Apply an ADDED, MODIFIED or DELETED event; an equal object touches no unit."""
        touched: set[Unit] = set()
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return touched
        unit = Unit(kind, event.namespace, event.name)
        was_rejected = self._rejected.pop(unit, None) is not None
        if event.rejected is not None and event.type != "DELETED":
            self._rejected[unit] = event.rejected
        present = None if event.type == "DELETED" or event.rejected is not None else event.object
        if was_rejected or event.rejected is not None or self.get(unit) != present:
            self._set(kind, event.namespace, event.name, present, touched)
            if kind != "endpointslices":
                touched.add(unit)
        return touched

    def get(self, unit: Unit) -> ApiObject | None:
        """The object of a unit, as last seen."""
        kind, namespace, name = unit
        try:
            return self._objects[kind][namespace][name]
        except KeyError:
            return None

    def known(self, kind: str, objects: list[ApiObject]) -> list[ApiObject]:
        """The objects, each replaced by an equal one in the store; may be called from any thread."""
        held = self._objects.get(kind, {})
        same = []
        for one in objects:
            mine = held.get(one.metadata.namespace, {}).get(one.metadata.name)
            same.append(mine if mine is not None and mine == one else one)
        return same

    def names(self, kind: str, namespace: str) -> KeysView[str]:
        """The names of the objects of a kind in a namespace."""
        return self._objects.get(kind, {}).get(namespace, {}).keys()

    def within(self, kind: str, namespace: str) -> Iterator[Unit]:
        """The units of a kind in a namespace."""
        return (Unit(kind, namespace, name) for name in self.names(kind, namespace))

    def named(self, kind: str, name: str) -> Iterator[Unit]:
        """The units of a kind with this name, in any namespace."""
        for namespace, named in self._objects.get(kind, {}).items():
            if name in named:
                yield Unit(kind, namespace, name)

    def slices(self, service: Unit) -> list[EndpointSlice]:
        """The EndpointSlices of a Service, by name."""
        return [piece for _, piece in sorted(self._slices.get(service, {}).items())]

    def endpoints(self, name: str) -> list[Endpoint]:
        """The endpoints of a name, those of the oldest object first."""
        found = self._names.of(name)
        return [one for holder in self.holders(name) for one in found[holder]]

    def refusals(self) -> Iterator[tuple[str, str]]:
        """The names with a record refused by the webhook, and the reasons."""
        for kind in sorted(_HOLDERS):
            for named in self._objects.get(kind, {}).values():
                for one in (one for one in named.values() if isinstance(one, DnsEndpoint)):
                    yield from one.refused.items()

    def holders(self, name: str) -> list[Unit]:
        """The objects with endpoints of a name, the oldest first."""
        return sorted(self._names.of(name), key=lambda unit: (self.age(unit), unit))

    def age(self, unit: Unit) -> str:
        """The creationTimestamp of a unit's object; empty if there is none."""
        one = self.get(unit)
        return (one.metadata.creation_timestamp or NO_AGE) if one is not None else ""

    def rejected(self, unit: Unit) -> Rejected | None:
        """Why the object of a unit cannot be read; None if it can, or does not exist."""
        return self._rejected.get(unit)

    def knows(self, unit: Unit) -> bool:
        """Whether the unit has an object, readable or not."""
        return self.get(unit) is not None or unit in self._rejected

    def rejects(self) -> list[Rejected]:
        """All objects that cannot be read."""
        return list(self._rejected.values())

    def units(self) -> list[Unit]:
        """Every unit, sorted by kind, namespace and name."""
        objects = (
            Unit(kind, namespace, name)
            for kind, namespaces in self._objects.items()
            if kind not in _NO_UNITS
            for namespace, named in namespaces.items()
            for name in named
        )
        return sorted([*objects, *(Unit(NAMES, "", name) for name in self._names.names())])

    def count(self, kind: str) -> int:
        """The number of objects of a kind."""
        return sum(map(len, self._objects.get(kind, {}).values()))

    def _set(
        self, kind: str, namespace: str, name: str, present: ApiObject | None, touched: set[Unit]
    ) -> None:
        named = self._objects.setdefault(kind, {}).setdefault(namespace, {})
        before = named.pop(name, None)
        if present is not None:
            named[name] = present
        elif not named:
            del self._objects[kind][namespace]
        if kind not in _NO_UNITS:
            touched.add(Unit(kind, namespace, name))
        elif kind in _HOLDERS:
            old, new = [one.endpoints if isinstance(one, DnsEndpoint) else () for one in (before, present)]
            recreated = before is None or present is None or before.metadata != present.metadata
            names = self._names.put(Unit(kind, namespace, name), old, new, again=recreated)
            touched.update(Unit(NAMES, "", one) for one in names)
        else:
            if isinstance(before, EndpointSlice):
                self._unlink(before, touched)
            if isinstance(present, EndpointSlice) and present.service_name:
                unit = Unit("services", namespace, present.service_name)
                self._slices.setdefault(unit, {})[name] = present
                touched.add(unit)

    def _unlink(self, piece: EndpointSlice, touched: set[Unit]) -> None:
        unit = Unit("services", piece.metadata.namespace, piece.service_name)
        pieces = self._slices.get(unit)
        if pieces is not None and pieces.pop(piece.metadata.name, None) is not None:
            if not pieces:
                del self._slices[unit]
            touched.add(unit)
