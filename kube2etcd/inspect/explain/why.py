"""Reasons for an answer: the objects behind it, and what the sources left out.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kube2etcd.inspect.explain.in_cluster import WhyInCluster, other_types, published_in
from kube2etcd.inspect.listing import Row, unit_rows
from kube2etcd.kube.objects import Service
from kube2etcd.kube.store import NAMES, Unit
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone, is_headless
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.names import InvalidName, Name, address_of
from skydns_compat.reader import Answer

_ADDRESSES = ("A", "AAAA")


class Why:
    """Reasons over what ``publisher`` wants."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def rows_at(self, name: Name) -> list[Row]:
        """The records at the name, from the units that may have any there."""
        return [
            row
            for unit in self._units_about(name)
            for row in unit_rows(self._publisher, unit)
            if row.record.name == name
        ]

    def _units_about(self, name: Name) -> list[Unit]:
        zone = self._zone_of(name)
        if zone is None:
            return list(self._publisher.units()) if self.is_reverse(name) else []
        if isinstance(zone, ExternalZone):
            # Whoever has names below it makes a name exist too.
            below = f".{name}"
            return [
                unit
                for unit in self._publisher.units()
                if unit.kind == "zones" or (unit.kind == NAMES and f".{unit.name}".endswith(below))
            ]
        if not isinstance(zone, ClusterZone):
            return [unit for unit in self._publisher.units() if unit.kind != "pods"]
        labels = name.relative(zone.name)
        units = [unit for unit in self._publisher.units() if unit.kind == "zones"]
        if len(labels) >= 2 and labels[-1] in ("svc", "pod"):
            units.append(Unit("namespaces", "", labels[-2]))
        if len(labels) >= 3 and labels[-1] == "svc":
            units.append(Unit("services", labels[-2], labels[-3]))
        if len(labels) >= 3 and labels[-1] == "pod":
            units += [
                unit
                for unit in self._publisher.units()
                if unit.kind == "pods" and unit.namespace == labels[-2]
            ]
        return units

    def _zone_of(self, name: Name) -> Zone | None:
        """The zone that answers for the name."""
        return self._publisher.zone_of(name)

    def reasons(self, name: Name, rtype: str, rows: list[Row], answer: Answer) -> Iterator[str]:
        """Why ``answer`` is what it is; ``rows`` are those of `rows_at`."""
        zone = self._zone_of(name)
        if zone is None and not self.is_reverse(name):
            yield from self._outside(name)
            return
        shown = [row for row in rows if self._answers(row, rtype)]
        for row in shown:
            yield f"{row.record.rtype} {row.record.data} comes from {self._described(row.unit)}"
        if zone is None:
            yield from self._about_reverse(name, bool(shown))
            return
        labels = name.relative(zone.name)
        if isinstance(zone, ExternalZone):
            if rows and not shown:
                yield other_types(rows)
            yield from self._about_external(name, zone, bool(rows))
            return
        if not isinstance(zone, ClusterZone):
            if rows and not shown:
                yield other_types(rows)
            elif not shown:
                yield from self._about_other(zone, labels)
            yield from self._about_losers(name, zone)
            return
        yield from WhyInCluster(self._publisher, zone).reasons(labels, rows, shown, answer)

    def _answers(self, row: Row, rtype: str) -> bool:
        kind = row.record.rtype
        return kind == rtype or (kind == "CNAME" and rtype in _ADDRESSES)

    def _about_other(self, zone: Zone, labels: tuple[str, ...]) -> Iterator[str]:
        """Why a zone beside the cluster's has no such name: what objects named so say of it."""
        text = f".{'.'.join(labels)}."
        found = False
        for unit in self._publisher.units():
            near = f".{unit.name.lower()}." in text and unit.kind in ("services", "virtualmachineinstances")
            if near and (f".{unit.namespace}." in text or len(labels) == 1):
                for reason in self._left_out(unit, zone):
                    found = True
                    yield f"{unit}: {reason}"
        if found:
            return
        for unit in self._publisher.units():
            if unit.kind == "namespaces" and unit.name in labels and isinstance(zone, ServicesZone):
                unselected = zone.unselected_namespace(unit.name, self._publisher.store)
                if unselected:
                    found = True
                    yield f"{unit}: {unselected}"
        if not found:
            yield f"no object has this name in {zone.name}"

    def _about_losers(self, name: Name, zone: Zone) -> Iterator[str]:
        """Who would like to say something of the name, and may not."""
        own = Name(name.labels[-(len(zone.name.labels) + zone.depth) :])
        for unit in self._publisher.losers(own):
            yield from (f"{unit}: {reason}" for reason in self._left_out(unit, zone))

    def _about_external(self, name: Name, zone: Zone, exists: bool) -> Iterator[str]:
        """What was said of a name in an external domain, and could not be published."""
        store = self._publisher.store
        reasons = published_in(self._publisher, Unit(NAMES, "", str(name)), zone.name).left_out
        said_by = ", ".join(map(str, store.holders(str(name))))
        yield from (f"{said_by}: {reason}" for reason in reasons)
        refusals = list(store.refusals(str(name)))
        yield from (f"refused when ExternalDNS last posted it: {reason}" for reason in refusals)
        if exists or reasons or refusals:
            return
        if said_by:
            yield f"{said_by}: bookkeeping of ExternalDNS, which names nothing"
            return
        for cut in range(1, len(name.labels)):
            wildcard = ".".join(("*", *name.labels[cut:]))
            if store.holders(wildcard):
                yield f"there is {wildcard}, and the server has no wildcards"
        yield f"neither ExternalDNS nor a DNSEndpoint names it in {zone.name}"

    def _left_out(self, unit: Unit, zone: Zone) -> list[str]:
        """Why a unit lacks names in a zone, also when it is not meant to have any."""
        one = self._publisher.store.get(unit)
        if isinstance(zone, ServicesZone) and isinstance(one, Service):
            unselected = zone.unselected(one, self._publisher.store)
            if unselected:
                return [unselected]
        return published_in(self._publisher, unit, zone.name).left_out

    def _outside(self, name: Name) -> Iterator[str]:
        zones = " or ".join(str(one.name) for one in self._publisher.zones)
        yield f"{name} is not in {zones}, nor a reverse name"
        cluster = self._publisher.cluster
        if cluster is None:
            return
        try:
            longer = [Name.parse(f"{name}.{suffix}") for suffix in self._suffixes(cluster.name)]
        except InvalidName:
            return
        for candidate in longer:
            if self.rows_at(candidate):
                yield f"a pod's search list would make {candidate} of it, which exists"

    def _suffixes(self, zone: Name) -> list[Name]:
        return [zone.child("svc"), zone]

    def _described(self, unit: Unit) -> str:
        match self._publisher.store.get(unit):
            case Service() as service:
                made = service.metadata.creation_timestamp
                kind = service.type if not is_headless(service) else "headless"
                return f"{unit} ({kind}{f', created {made}' if made else ''})"
            case _:
                return str(unit)

    def _about_reverse(self, name: Name, shown: bool) -> Iterator[str]:
        address = address_of(name)
        if address is None:
            yield "the name is no complete reverse name of an address, so no PTR can be there"
            return
        key = self._publisher.layout.key(name)
        holder = self._publisher.holder(key)
        for unit in self._publisher.units():
            pointers = [record for record in self._publisher.published(unit).pointers if record.name == name]
            if pointers and unit != holder:
                yield (
                    f"{unit} claims {address} as well ({pointers[0].data}) and loses to {holder}: a Service"
                    " has it before others and a machine after them, then the shorter name, then the older"
                    " object, then the first by namespace and name"
                )
        if not shown:
            yield f"no Service and no named endpoint has the address {address}"

    def is_reverse(self, name: Name) -> bool:
        """Whether the name is that of an address backwards."""
        return any(name.below(Name(zone)) for zone in (("in-addr", "arpa"), ("ip6", "arpa")))
