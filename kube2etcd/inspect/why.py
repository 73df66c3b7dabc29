"""The reasons for an answer: objects behind it, records left out and why, rival objects.  Pure."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, islice
from typing import Final

from kube2etcd.inspect.records import Row, unit_rows
from kube2etcd.kube.objects import Service
from kube2etcd.kube.store import NAMES, Unit
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Expected, Published, Zone
from kube2etcd.zones.cluster import ClusterZone, is_headless
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import EMPTY_NAMES
from skydns_compat.names import REVERSE, Name, address_of
from skydns_compat.reader import Answer
from skydns_compat.records import Alias

#: Keys examined below a name that has none of its own.
MOST_KEYS: Final = 100
#: Objects whose records are derived again for one kind of reason: each may have thousands.
MOST_UNITS: Final = 10
#: Records of one object listed one by one, and reasons in all: a Service may have thousands of endpoints.
MOST_RECORDS: Final = 10
MOST_REASONS: Final = 50
#: Names compared with one that does not exist; takes about 0.2 s.
MOST_NAMES: Final = 20_000
#: The reason at svc.ZONE and pod.ZONE.
PARENT: Final = "the parent of all namespaces exists without data"
#: Least similarity of a suggested name, from 0 to 1 (`difflib`).
NEAR: Final = 0.75


def keys_about(publisher: Publisher, desired: Iterable[bytes], name: Name) -> list[bytes]:
    """The keys of ``desired`` with the data of ``name``; if there are none, up to `MOST_KEYS` below it."""
    layout, zone = publisher.layout, publisher.zone_of(name)
    starts = [layout.key(name)]
    if zone is not None:
        starts.append(layout.key(Name((*name.relative(zone.name), EMPTY_NAMES, *zone.name.labels))))
    below = [key for key in desired if key.startswith(tuple(starts))]
    # A layout adds at most a label and a leaf.
    deepest = starts[0].count(b"/") + 2
    exact = [key for key in below if key.count(b"/") <= deepest and layout.name(key) == name]
    return exact or below[:MOST_KEYS]


def nearest(name: str, zone: str, names: Iterable[str]) -> list[str]:
    """Up to three of ``names`` most similar to ``name``, all in ``zone`` (empty: in any)."""
    suffix = f".{zone}" if zone else ""
    wanted = name.removesuffix(suffix)
    labels, slack = wanted.split("."), max(3, len(wanted) // 3)
    alike = [
        short
        for one in dict.fromkeys(names)
        if one.endswith(suffix) and one != name
        for short in [one.removesuffix(suffix)]
        if abs(len(short) - len(wanted)) <= slack and short.startswith("_") == wanted.startswith("_")
    ]
    if len(alike) > MOST_NAMES:
        alike = heapq.nlargest(MOST_NAMES, alike, lambda one: sum(part in labels for part in one.split(".")))
    return [f"{one}{suffix}" for one in difflib.get_close_matches(wanted, alike, 3, NEAR)]


def is_reverse(name: Name) -> bool:
    """Whether the name is in a reverse zone."""
    return any(map(name.below, REVERSE))


def rows_at(publisher: Publisher, name: Name, keys: Iterable[bytes]) -> list[Row]:
    """The records at ``name``; ``keys`` come from `keys_about`."""
    units = list(dict.fromkeys(map(publisher.desired.holder, keys)))[:MOST_UNITS]
    found = (row for unit in units if unit is not None for row in unit_rows(publisher, unit))
    return [row for row in found if row.record.name == name]


def reasons(publisher: Publisher, name: Name, rtype: str, rows: Sequence[Row], answer: Answer) -> list[str]:
    """Why the answer is ``answer``, without duplicates; ``rows`` come from `rows_at`.

    For each kind of reason it derives the records of at most `MOST_UNITS` objects, however many share a name.
    """
    found = list(dict.fromkeys(_Why(publisher, name, rows, answer).reasons(rtype)))
    more = [f"{len(found) - MOST_REASONS} more reasons"] if len(found) > MOST_REASONS else []
    return found[:MOST_REASONS] + more


class _Why:
    """The reasons for the answer to a question about ``name``, which has the records ``rows``."""

    def __init__(self, publisher: Publisher, name: Name, rows: Sequence[Row], answer: Answer) -> None:
        self._publisher, self._store = publisher, publisher.store
        self._name, self._rows, self._answer = name, rows, answer
        self._zone = publisher.zone_of(name)
        self._labels = () if self._zone is None else name.relative(self._zone.name)

    def reasons(self, rtype: str) -> Iterator[str]:
        zone, name, answer = self._zone, self._name, self._answer
        if zone is None and not is_reverse(name):
            zones = " or ".join(str(one.name) for one in self._publisher.zones)
            yield f"{name} is not in {zones}, nor a reverse name"
            return
        if zone is not None and name == zone.name and rtype in ("NS", "SOA"):
            if not answer.answers:
                yield missing_ns(zone)
            elif rtype == "SOA":
                yield "the DNS server generates the SOA"
            else:
                yield f"it is made from the addresses of ns.dns.{zone.name}"
            return
        # The etcd plugin answers these types with an alias, too.
        types = {rtype, *(["CNAME"] if rtype in ("A", "AAAA", "TXT", "PTR") else [])}
        shown = [row for row in self._rows if row.record.rtype in types and answer.answers]
        of_port = self._is_port() and rtype in ("A", "AAAA") and bool(answer.answers)
        if of_port:
            for unit in dict.fromkeys(row.unit for row in self._rows):
                yield f"the name of a port also has the addresses of {self._described(unit)}"
        for unit in dict.fromkeys(row.unit for row in shown):
            made = [f"{row.record.rtype} {row.record.data}" for row in shown if row.unit == unit]
            if len(made) > MOST_RECORDS:
                yield f"{len(made)} records come from {self._described(unit)}"
            else:
                yield from (f"{one} comes from {self._described(unit)}" for one in made)
        below = self._labels[-1] if self._labels and isinstance(zone, ClusterZone) else ""
        if self._rows and not shown and not of_port and below not in ("svc", "pod"):
            yield self._other_types(rtype)
        if zone is not None and not self._rows:
            yield from self._left_to(zone)
        match zone:
            case None:
                yield from self._about_reverse()
            case ClusterZone() if below == "svc":
                yield from self._about_service(zone, rtype)
            case ClusterZone() if below == "pod":
                yield from self._about_pod(zone, rtype)
            case ClusterZone() if self._labels == ("dns",):
                yield f"{name} exists without data"
            case ClusterZone():
                if not self._rows:
                    yield f"only svc, pod, dns and dns-version exist below {zone.name}"
            case ExternalZone():
                yield from self._about_external(zone)
            case _:
                yield from self._about_other(zone)

    def _described(self, unit: Unit) -> str:
        one = self._store.get(unit)
        if not isinstance(one, Service):
            return str(unit)
        made = one.metadata.creation_timestamp
        kind = one.type if not is_headless(one) else "headless"
        return f"{unit} ({kind}{f', created {made}' if made else ''})"

    def _published(self, unit: Unit, zone: Zone) -> Published:
        found = (one for where, one in self._publisher.by_zone(unit) if where.name == zone.name)
        return next(found, Published())

    def _left_out(self, unit: Unit, zone: Zone) -> list[str]:
        """Why a unit lacks records in a zone, even if only because it is not selected."""
        unselected = self._unselected(unit, zone)
        return [unselected] if unselected else self._published(unit, zone).left_out

    def _unselected(self, unit: Unit, zone: Zone) -> str:
        one = self._store.get(unit)
        if isinstance(zone, ServicesZone) and isinstance(one, Service):
            return zone.unselected(one, self._store)
        return ""

    def _about_reverse(self) -> Iterator[str]:
        name, publisher = self._name, self._publisher
        address = address_of(name)
        if address is None:
            yield "the name is not the full reverse name of an address, so it cannot have a PTR"
            return
        claimants = publisher.desired.claimants(publisher.layout.key(name))
        for unit in claimants[1 : MOST_UNITS + 1]:
            [data, *_] = [one.data for one in publisher.published(unit).pointers if one.name == name]
            yield (
                f"{unit} also claims {address} ({data}) but loses to {claimants[0]}: Services come first and"
                " machines last; then the shorter name, the older object, and namespace and name decide"
            )
        if len(claimants) > MOST_UNITS + 1:
            yield f"{len(claimants) - MOST_UNITS - 1} more objects claim {address}"
        if not self._rows:
            yield f"no Service or endpoint with a name in DNS has the address {address}"

    def _about_external(self, zone: Zone) -> Iterator[str]:
        """Why a name in an external domain is not published, or not all of it."""
        store, name = self._store, str(self._name)
        left_out = self._published(Unit(NAMES, "", name), zone).left_out
        sources = ", ".join(map(str, store.holders(name)))
        yield from (f"{sources}: {reason}" for reason in left_out)
        refusals = [reason for refused, reason in store.refusals() if refused == name]
        yield from (f"refused when ExternalDNS last posted it: {reason}" for reason in refusals)
        if self._rows or left_out or refusals:
            return
        if sources:
            yield f"{sources}: a registry record of ExternalDNS, which is not published"
            return
        for cut in range(1, len(self._name.labels)):
            wildcard = ".".join(("*", *self._name.labels[cut:]))
            if store.holders(wildcard):
                yield f"there is {wildcard}, but wildcards are not supported"
        yield f"neither ExternalDNS nor a DNSEndpoint has this name in {zone.name}"

    def _left_to(self, zone: Zone) -> Iterator[str]:
        """Objects that would have the name in an enclosing zone if it were not in ``zone``."""
        for outer in self._publisher.zones:
            if outer.name != zone.name and self._name.below(outer.name):
                named = islice(self._named(self._name.relative(outer.name)), MOST_UNITS)
                for unit in (*named, Unit(NAMES, "", str(self._name))):
                    left_out, taken = self._published(unit, outer).left_out, f"{self._name} is in the "
                    yield from (f"{unit}: {one}" for one in left_out if one.startswith(taken))

    def _named(self, labels: Sequence[str]) -> Iterator[Unit]:
        """The Services and machines whose name and namespace are among these labels."""
        spans = {".".join(labels[at:end]) for at, end in combinations(range(len(labels) + 1), 2)}
        for kind in ("services", "virtualmachineinstances"):
            if len(labels) == 1:
                yield from self._store.named(kind, labels[0])
                continue
            for namespace in dict.fromkeys(labels):
                found = sorted(spans & self._store.names(kind, namespace))
                yield from (Unit(kind, namespace, name) for name in found)

    def _about_other(self, zone: Zone) -> Iterator[str]:
        """Why a zone of Services or machines lacks a name, and which objects compete for it."""
        if not self._rows:
            yield from self._missing(zone) or [f"no object has this name in {zone.name}"]
        own = Name(self._name.labels[-(len(zone.name.labels) + zone.depth) :])
        losers = self._publisher.losers(own)
        for unit in losers[:MOST_UNITS]:
            yield from (f"{unit}: {reason}" for reason in self._left_out(unit, zone))
        if len(losers) > MOST_UNITS:
            yield f"{len(losers) - MOST_UNITS} more objects want {own}"

    def _missing(self, zone: Zone) -> list[str]:
        """Why the objects named by the labels have no such name, or their namespaces are not selected."""
        named = sorted(self._named(self._labels), key=lambda unit: bool(self._unselected(unit, zone)))
        found = [f"{unit}: {one}" for unit in named[:MOST_UNITS] for one in self._left_out(unit, zone)]
        if not found and isinstance(zone, VmZone):
            name = f".{'.'.join(self._labels)}"
            return [
                f"{unit}: its status has no secondary interface with an address for this name"
                for unit in named[:MOST_UNITS]
                if unit.kind in zone.kinds and name.endswith(f".{unit.name}.{unit.namespace}")
            ]
        if found or not isinstance(zone, ServicesZone):
            return found
        store, namespaces = self._store, [Unit("namespaces", "", label) for label in self._labels]
        return [
            f"{unit}: {unselected}"
            for unit in namespaces
            if store.get(unit) is not None and (unselected := zone.unselected_namespace(unit.name, store))
        ]

    def _about_service(self, zone: ClusterZone, rtype: str) -> Iterator[str]:
        store, labels = self._store, self._labels
        if len(labels) == 1:
            yield PARENT
            return
        namespace = labels[-2]
        if not self._answer.answers:
            yield from self._no_namespace(zone)
        if len(labels) == 2:
            if self._rows:
                yield f"the Namespace {namespace} exists, but has no data of its own"
            return
        unit = Unit("services", namespace, labels[-3])
        refused, service = store.rejected(unit), store.get(unit)
        if refused is not None:
            yield f"the Service {namespace}/{unit.name} cannot be read: {refused.reason}"
        elif not isinstance(service, Service):
            yield f"there is no Service {namespace}/{unit.name}"
        else:
            published = self._published(unit, zone)
            if not self._answer.answers:
                yield self._no_such_record(zone, rtype, published, service)
            yield from (f"{unit}: {reason}" for reason in published.left_out)
            # An unreadable slice does not say whose it is, but its name starts with the Service's.
            for one in store.rejects():
                of_it = one.namespace == namespace and one.name.startswith(f"{unit.name}-")
                if one.kind == "endpointslices" and of_it:
                    who = f"{one.kind}/{namespace}/{one.name}"
                    yield f"{who}, by its name a slice of this Service, cannot be read: {one.reason}"

    def _no_namespace(self, zone: ClusterZone) -> Iterator[str]:
        """Why the Namespace in the name has none, if it has none."""
        unit = Unit("namespaces", "", self._labels[-2])
        if self._store.get(unit) is None:
            yield f"there is no Namespace {unit.name}"
        elif len(self._labels) == 2 or self._labels[-1] == "pod":
            yield from (f"{unit}: {reason}" for reason in self._published(unit, zone).left_out)

    def _no_such_record(self, zone: ClusterZone, rtype: str, published: Published, service: Service) -> str:
        labels, below = self._labels, self._labels[:-3]
        described = f"the Service {labels[-2]}/{labels[-3]}"
        if self._rows:
            return self._other_types(rtype)
        # A headless Service without ready endpoints is still worth a word about its endpoints and ports.
        waits = is_headless(service) and all(isinstance(one, Expected) for one in published.left_out)
        if not below or not (published.records or waits):
            return f"{described} exists, but has no record"
        if service.type == "ExternalName":
            return f"{described} is an ExternalName, and no name below it exists"
        if len(below) == 1 and below[0].startswith("_"):
            return f"ports of {described} have names of two labels, such as _http._tcp"
        if len(below) == 2 and below[0].startswith("_") and below[1].startswith("_"):
            asked = ".".join(below)
            ports = [f"_{port.name}._{port.protocol.lower()}" for port in service.ports if port.name]
            if asked in ports:
                return f"{described} has this port, but no ready endpoint with it"
            # A headless Service has the ports of its slices.
            own = dict.fromkeys((*ports, *sorted(self._below(published, zone, 2))))
            return f"{described} has no such port; its named ports are: {', '.join(own) or 'none'}"
        if len(below) > 1:
            return "below a Service are only endpoints, such as db-0, and ports, such as _http._tcp"
        if zone.endpoint_names != "all" and not is_headless(service):
            return f"{described} has a cluster IP: its endpoints have names only with --endpoint-names all"
        endpoints = sorted(self._below(published, zone, 1))
        return f"{described} has no endpoint named {below[0]}; it has: {', '.join(endpoints[:10]) or 'none'}"

    @staticmethod
    def _below(published: Published, zone: ClusterZone, depth: int) -> set[str]:
        """The first labels of the names that are so many labels below the Service's."""
        length = len(zone.name.labels) + 3 + depth
        names = [one.name.labels for one in published.records]
        return {".".join(labels[:depth]) for labels in names if len(labels) == length}

    def _about_pod(self, zone: ClusterZone, rtype: str) -> Iterator[str]:
        labels, answers = self._labels, self._answer.answers
        if zone.pods == "disabled":
            yield "pod names are disabled (--pods disabled, or insecure with SkyDNS)"
        elif len(labels) == 1:
            yield PARENT
        elif len(labels) > 3 and self._answer.rcode == "NOERROR":
            yield "labels in front of a pod's name are ignored"
        elif zone.pods == "insecure" and len(labels) == 3:
            if answers:
                yield "computed from the name; the pod need not exist (--pods insecure)"
            else:
                yield "the first label is not an address of this type (--pods insecure)"
        elif self._rows:
            if not answers:
                yield self._other_types(rtype)
        elif missing := [*self._no_namespace(zone)]:
            yield from missing
        elif zone.pods == "insecure" or len(labels) == 2:
            yield "pod names have the form ADDRESS.NAMESPACE.pod.ZONE"
        elif self._answer.rcode == "NXDOMAIN":
            where = f"in the Namespace {labels[-2]}"
            yield f"no running pod {where} has an address written {labels[-3]} (--pods verified)"

    def _is_port(self) -> bool:
        """Whether the name is that of a port of a Service."""
        ports = isinstance(self._zone, ClusterZone | ServicesZone)
        return ports and bool(self._rows) and self._name.labels[0].startswith("_")

    def _other_types(self, rtype: str) -> str:
        """The types of a name that exists without the queried one."""
        types = sorted({row.record.rtype for row in self._rows} - {"NODATA"})
        exists = f"the name exists ({', '.join(dict.fromkeys(str(row.unit) for row in self._rows))})"
        if not types:
            return f"{exists} without any data"
        if self._is_port():
            return f"{exists} and has only {', '.join(types)} and the addresses of its Service"
        aliases = [row.record.data for row in self._rows if isinstance(row.record.data, Alias)]
        # Questions of other types do not follow it.
        followed = aliases if rtype in ("A", "AAAA", "TXT") else []
        dangling = "".join(f", to {one}, which has nothing of that type" for one in followed)
        return f"{exists} and has {', '.join(types)} only{dangling}"


def missing_ns(zone: Zone) -> str:
    """Why the zone has no NS record, and the option that adds one."""
    option = {ClusterZone: "--dns-server-ip", VmZone: "--name-server-ip"}.get(type(zone))
    return f"no NS record without {option}" if option else "no NS record in zones of this kind"
