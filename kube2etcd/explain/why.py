"""Reasons for an answer: the objects behind it, and what the sources left out.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from kube2etcd.cluster.objects import Namespace, Service
from kube2etcd.cluster.store import NAMES, Unit
from kube2etcd.listing import Row, unit_rows
from kube2etcd.publish import Publisher
from kube2etcd.sources.cluster import is_headless
from kube2etcd.sources.published import Published
from kube2etcd.zones import InCluster, OfExternal, OfSelected, Zone
from skydns_compat.names import InvalidName, Name
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
        if isinstance(zone, OfExternal):
            # Whoever has names below it makes a name exist too.
            below = f".{name}"
            return [
                unit
                for unit in self._publisher.units()
                if unit.kind == "zones" or (unit.kind == NAMES and f".{unit.name}".endswith(below))
            ]
        if not isinstance(zone, InCluster):
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

    def _published(self, unit: Unit, zone: Name) -> Published:
        """What a unit has in one zone."""
        found = (one for where, one in self._publisher.by_zone(unit) if where.name == zone)
        return next(found, Published())

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
        if isinstance(zone, OfExternal):
            if rows and not shown:
                yield self._other_types(rows)
            yield from self._about_external(name, zone, bool(rows))
            return
        if not isinstance(zone, InCluster):
            if rows and not shown:
                yield self._other_types(rows)
            elif not shown:
                yield from self._about_other(zone, labels)
            return
        if labels[-1:] == ("svc",):
            yield from self._about_service(zone, name, labels, rtype, rows, answer)
        elif labels[-1:] == ("pod",):
            yield from self._about_pod(zone.settings.pods, labels, shown, answer)
        elif not rows:
            yield f"{zone.name} has svc, pod, dns and dns-version below it, and nothing else"
        elif not shown:
            yield self._other_types(rows)

    def _answers(self, row: Row, rtype: str) -> bool:
        kind = row.record.rtype
        return kind == rtype or (kind == "CNAME" and rtype in _ADDRESSES)

    def _other_types(self, rows: list[Row]) -> str:
        types = sorted({row.record.rtype for row in rows} - {"NODATA"})
        units = ", ".join(dict.fromkeys(str(row.unit) for row in rows))
        return f"the name exists ({units})" + (
            f" and has {', '.join(types)} only" if types else " without any data"
        )

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
            if unit.kind == "namespaces" and unit.name in labels and isinstance(zone, OfSelected):
                unselected = zone.unselected_namespace(unit.name, self._publisher.store)
                if unselected:
                    found = True
                    yield f"{unit}: {unselected}"
        if not found:
            yield f"no object has this name in {zone.name}"

    def _about_external(self, name: Name, zone: Zone, exists: bool) -> Iterator[str]:
        """What was said of a name in an external domain, and could not be published."""
        store = self._publisher.store
        reasons = self._published(Unit(NAMES, "", str(name)), zone.name).left_out
        said_by = ", ".join(map(str, store.holders(str(name))))
        yield from (f"{said_by}: {reason}" for reason in reasons)
        if exists or reasons:
            return
        if said_by:
            yield f"{said_by}: bookkeeping of ExternalDNS, which names nothing"
            return
        for cut in range(1, len(name.labels)):
            wildcard = ".".join(("*", *name.labels[cut:]))
            if store.holders(wildcard):
                yield f"there is {wildcard}, and the server has no wildcards"
        yield f"nobody has said anything of this name in {zone.name}"

    def _left_out(self, unit: Unit, zone: Zone) -> list[str]:
        """Why a unit lacks names in a zone, also when it is not meant to have any."""
        one = self._publisher.store.get(unit)
        if isinstance(zone, OfSelected) and isinstance(one, Service):
            unselected = zone.unselected(one, self._publisher.store)
            if unselected:
                return [unselected]
        return self._published(unit, zone.name).left_out

    def _outside(self, name: Name) -> Iterator[str]:
        zones = " or ".join(str(one.name) for one in self._publisher.zones)
        yield f"{name} is not in {zones}, nor a reverse name"
        cluster = self._publisher.cluster
        if cluster is None:
            return
        try:
            longer = [Name.parse(f"{name}.{suffix}") for suffix in self._suffixes(cluster.zone)]
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
        address = _address_of(name)
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

    def _about_service(
        self,
        zone: Zone,
        name: Name,
        labels: tuple[str, ...],
        rtype: str,
        rows: list[Row],
        answer: Answer,
    ) -> Iterator[str]:
        store = self._publisher.store
        if len(labels) == 1:
            yield "the name above all namespaces exists without data"
            return
        namespace = labels[-2]
        if store.get(Unit("namespaces", "", namespace)) is None:
            yield f"there is no Namespace {namespace}" + self._close_namespace(namespace)
        if len(labels) == 2:
            if rows:
                yield f"the Namespace {namespace} exists, and has no data of its own"
            return
        unit = Unit("services", namespace, labels[-3])
        refused = store.rejected(unit)
        service = store.get(unit)
        if refused is not None:
            yield f"the Service {namespace}/{labels[-3]} cannot be read: {refused.reason}"
        elif service is None:
            yield f"there is no Service {namespace}/{labels[-3]}" + self._close_service(namespace, labels[-3])
        else:
            published = self._published(unit, zone.name)
            if not answer.answers:
                yield from self._about_nothing(zone.name, labels, rows, published, service)
            yield from (f"{unit}: {reason}" for reason in published.left_out)

    def _about_nothing(
        self,
        zone: Name,
        labels: tuple[str, ...],
        rows: list[Row],
        published: Published,
        service: object,
    ) -> Iterator[str]:
        described = f"the Service {labels[-2]}/{labels[-3]}"
        if rows:
            yield self._other_types(rows)
        elif len(labels) == 3:
            yield f"{described} is there, but has no record"
        elif labels[0].startswith("_"):
            ports = [port.name for port in service.ports if port.name] if isinstance(service, Service) else []
            yield f"{described} has no such port; its named ports are: {', '.join(ports) or 'none'}"
        else:
            below = sorted(
                {
                    record.name.labels[0]
                    for record in published.records
                    if len(record.name.labels) == len(zone.labels) + 4
                    and not record.name.labels[0].startswith("_")
                }
            )
            shown = ", ".join(below[:10]) or "none"
            yield f"{described} has no endpoint of the name {labels[0]}; it has: {shown}"

    def _about_pod(
        self, mode: str, labels: tuple[str, ...], shown: list[Row], answer: Answer
    ) -> Iterator[str]:
        if mode == "disabled":
            yield "names of pods are switched off (--pods disabled)"
        elif mode == "insecure" and len(labels) == 3:
            if answer.answers:
                yield "computed from the name, whether there is such a pod or not (--pods insecure)"
            else:
                yield "the first label is no address of this type (--pods insecure)"
        elif len(labels) == 2 and self._publisher.store.get(Unit("namespaces", "", labels[0])) is None:
            yield f"there is no Namespace {labels[0]}" + self._close_namespace(labels[0])
        elif not shown and len(labels) == 3:
            yield f"no running pod in the Namespace {labels[1]} has this address (--pods verified)"
        elif not shown:
            yield "a pod's name has an address, a namespace and pod in front of the zone"

    def _close_namespace(self, namespace: str) -> str:
        near = [
            unit.name
            for unit in self._publisher.units()
            if isinstance(self._publisher.store.get(unit), Namespace) and _alike(unit.name, namespace)
        ]
        return f"; there is {', '.join(near[:3])}" if near else ""

    def _close_service(self, namespace: str, name: str) -> str:
        near = [
            f"{unit.namespace}/{unit.name}"
            for unit in self._publisher.units()
            if unit.kind == "services"
            and (unit.name == name or (unit.namespace == namespace and _alike(unit.name, name)))
        ]
        return f"; there is {', '.join(near[:3])}" if near else ""

    def is_reverse(self, name: Name) -> bool:
        """Whether the name is that of an address backwards."""
        return any(name.below(Name(zone)) for zone in (("in-addr", "arpa"), ("ip6", "arpa")))


def _alike(one: str, other: str) -> bool:
    return one != other and (one.startswith(other) or other.startswith(one) or sorted(one) == sorted(other))


def _address_of(name: Name) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address whose reverse name this is."""
    labels = name.labels[:-2][::-1]
    try:
        if name.labels[-2:] == ("in-addr", "arpa") and len(labels) == 4:
            return ipaddress.IPv4Address(".".join(labels))
        if name.labels[-2:] == ("ip6", "arpa") and len(labels) == 32:
            digits = "".join(labels)
            return ipaddress.IPv6Address(":".join(digits[at : at + 4] for at in range(0, 32, 4)))
    except ValueError:
        return None
    return None
