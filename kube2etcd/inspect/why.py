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
from kube2etcd.zones.base import Published, Zone
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


class Why:
    """Finds reasons in the objects of ``publisher``.

    For each kind of reason it derives the records of at most `MOST_UNITS` objects, however many share a name.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def rows_at(self, name: Name, keys: Iterable[bytes]) -> list[Row]:
        """The records at ``name``; ``keys`` come from `keys_about`."""
        units = list(dict.fromkeys(map(self._publisher.desired.holder, keys)))[:MOST_UNITS]
        found = (row for unit in units if unit is not None for row in unit_rows(self._publisher, unit))
        return [row for row in found if row.record.name == name]

    def reasons(self, name: Name, rtype: str, rows: list[Row], answer: Answer) -> list[str]:
        """Why the answer is ``answer``, without duplicates; ``rows`` come from `rows_at`."""
        found = list(dict.fromkeys(self._reasons(name, rtype, rows, answer)))
        more = [f"{len(found) - MOST_REASONS} more reasons"] if len(found) > MOST_REASONS else []
        return found[:MOST_REASONS] + more

    def _reasons(self, name: Name, rtype: str, rows: list[Row], answer: Answer) -> Iterator[str]:
        zone = self._publisher.zone_of(name)
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
        types = {rtype} | ({"CNAME"} if rtype in ("A", "AAAA") else set())
        shown = [row for row in rows if row.record.rtype in types and answer.answers]
        for unit in dict.fromkeys(row.unit for row in shown):
            made = [f"{row.record.rtype} {row.record.data}" for row in shown if row.unit == unit]
            if len(made) > MOST_RECORDS:
                yield f"{len(made)} records come from {self._described(unit)}"
            else:
                yield from (f"{one} comes from {self._described(unit)}" for one in made)
        labels = () if zone is None else name.relative(zone.name)
        below = labels[-1] if labels and isinstance(zone, ClusterZone) else ""
        if rows and not shown and below not in ("svc", "pod"):
            yield _other_types(rows)
        if zone is not None and not rows:
            yield from self._left_to(name, zone)
        match zone:
            case None:
                yield from self._about_reverse(name, bool(rows))
            case ClusterZone() if below == "svc":
                yield from self._about_service(zone, labels, rows, answer)
            case ClusterZone() if below == "pod":
                yield from self._about_pod(zone.pods, labels, shown, answer)
            case ClusterZone():
                if not rows:
                    yield f"only svc, pod, dns and dns-version exist below {zone.name}"
            case ExternalZone():
                yield from self._about_external(name, zone, bool(rows))
            case _:
                yield from self._about_other(name, zone, bool(rows))

    def _described(self, unit: Unit) -> str:
        one = self._publisher.store.get(unit)
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
        one = self._publisher.store.get(unit)
        if isinstance(zone, ServicesZone) and isinstance(one, Service):
            return zone.unselected(one, self._publisher.store)
        return ""

    def _about_reverse(self, name: Name, exists: bool) -> Iterator[str]:
        address = address_of(name)
        if address is None:
            yield "the name is not the full reverse name of an address, so it cannot have a PTR"
            return
        claimants = self._publisher.desired.claimants(self._publisher.layout.key(name))
        for unit in claimants[1 : MOST_UNITS + 1]:
            [data, *_] = [one.data for one in self._publisher.published(unit).pointers if one.name == name]
            yield (
                f"{unit} also claims {address} ({data}) but loses to {claimants[0]}: Services come first and"
                " machines last; then the shorter name, the older object, and namespace and name decide"
            )
        if len(claimants) > MOST_UNITS + 1:
            yield f"{len(claimants) - MOST_UNITS - 1} more objects claim {address}"
        if not exists:
            yield f"no Service and no named endpoint has the address {address}"

    def _about_external(self, name: Name, zone: Zone, exists: bool) -> Iterator[str]:
        """Why a name in an external domain is not published, or not all of it."""
        store = self._publisher.store
        reasons = self._published(Unit(NAMES, "", str(name)), zone).left_out
        sources = ", ".join(map(str, store.holders(str(name))))
        yield from (f"{sources}: {reason}" for reason in reasons)
        refusals = [reason for refused, reason in store.refusals() if refused == str(name)]
        yield from (f"refused when ExternalDNS last posted it: {reason}" for reason in refusals)
        if exists or reasons or refusals:
            return
        if sources:
            yield f"{sources}: a registry record of ExternalDNS, which is not published"
            return
        for cut in range(1, len(name.labels)):
            wildcard = ".".join(("*", *name.labels[cut:]))
            if store.holders(wildcard):
                yield f"there is {wildcard}, but wildcards are not supported"
        yield f"neither ExternalDNS nor a DNSEndpoint has this name in {zone.name}"

    def _left_to(self, name: Name, zone: Zone) -> Iterator[str]:
        """Objects that would have the name in an enclosing zone if it were not in ``zone``."""
        for outer in self._publisher.zones:
            if outer.name != zone.name and name.below(outer.name):
                named = islice(self._named(name.relative(outer.name)), MOST_UNITS)
                for unit in (*named, Unit(NAMES, "", str(name))):
                    reasons = self._published(unit, outer).left_out
                    yield from (f"{unit}: {one}" for one in reasons if one.startswith(f"{name} is in the "))

    def _named(self, labels: Sequence[str]) -> Iterator[Unit]:
        """The Services and machines whose name and namespace are among these labels."""
        store = self._publisher.store
        spans = {".".join(labels[at:end]) for at, end in combinations(range(len(labels) + 1), 2)}
        for kind in ("services", "virtualmachineinstances"):
            if len(labels) == 1:
                yield from store.named(kind, labels[0])
                continue
            for namespace in dict.fromkeys(labels):
                found = sorted(spans & store.names(kind, namespace))
                yield from (Unit(kind, namespace, name) for name in found)

    def _about_other(self, name: Name, zone: Zone, exists: bool) -> Iterator[str]:
        """Why a zone of Services or machines lacks a name, and which objects compete for it."""
        if not exists:
            yield from self._missing(zone, name.relative(zone.name)) or [
                f"no object has this name in {zone.name}"
            ]
        own = Name(name.labels[-(len(zone.name.labels) + zone.depth) :])
        losers = self._publisher.losers(own)
        for unit in losers[:MOST_UNITS]:
            yield from (f"{unit}: {reason}" for reason in self._left_out(unit, zone))
        if len(losers) > MOST_UNITS:
            yield f"{len(losers) - MOST_UNITS} more objects want {own}"

    def _missing(self, zone: Zone, labels: Sequence[str]) -> list[str]:
        """Why the objects named by ``labels`` have no such name, or their namespaces are not selected."""
        store = self._publisher.store
        selected_first = sorted(self._named(labels), key=lambda unit: bool(self._unselected(unit, zone)))
        named = selected_first[:MOST_UNITS]
        reasons = [f"{unit}: {reason}" for unit in named for reason in self._left_out(unit, zone)]
        if reasons or not isinstance(zone, ServicesZone):
            return reasons
        namespaces = [Unit("namespaces", "", label) for label in labels]
        return [
            f"{unit}: {unselected}"
            for unit in namespaces
            if store.get(unit) is not None and (unselected := zone.unselected_namespace(unit.name, store))
        ]

    def _about_service(
        self, zone: ClusterZone, labels: Sequence[str], rows: list[Row], answer: Answer
    ) -> Iterator[str]:
        store = self._publisher.store
        if len(labels) == 1:
            yield "the parent of all namespaces exists without data"
            return
        namespace = labels[-2]
        if not answer.answers and store.get(Unit("namespaces", "", namespace)) is None:
            yield f"there is no Namespace {namespace}"
        if len(labels) == 2:
            if rows:
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
            if not answer.answers:
                yield _no_such_record(zone, labels, rows, published, service)
            yield from (f"{unit}: {reason}" for reason in published.left_out)
            # An unreadable slice does not say whose it is, but its name starts with the Service's.
            for one in store.rejects():
                of_it = one.namespace == namespace and one.name.startswith(f"{unit.name}-")
                if one.kind == "endpointslices" and of_it:
                    who = f"{one.kind}/{namespace}/{one.name}"
                    yield f"{who}, by its name a slice of this Service, cannot be read: {one.reason}"

    def _about_pod(self, mode: str, labels: Sequence[str], shown: list[Row], answer: Answer) -> Iterator[str]:
        if mode == "disabled":
            yield "pod names are disabled (--pods disabled, or insecure with SkyDNS)"
        elif mode == "insecure" and len(labels) == 3:
            if answer.answers:
                yield "computed from the name; the pod need not exist (--pods insecure)"
            else:
                yield "the first label is not an address of this type (--pods insecure)"
        elif len(labels) == 2 and self._publisher.store.get(Unit("namespaces", "", labels[0])) is None:
            yield f"there is no Namespace {labels[0]}"
        elif not shown and len(labels) == 3:
            yield f"no running pod in the Namespace {labels[1]} has this address (--pods verified)"
        elif not shown:
            yield "pod names have the form ADDRESS.NAMESPACE.pod.ZONE"


def missing_ns(zone: Zone) -> str:
    """Why the zone has no NS record, and the option that adds one."""
    option = {ClusterZone: "--dns-server-ip", VmZone: "--name-server-ip"}.get(type(zone))
    return f"no NS record without {option}" if option else "no NS record in zones of this kind"


def _other_types(rows: list[Row]) -> str:
    """The types of a name that exists without the queried one."""
    types = sorted({row.record.rtype for row in rows} - {"NODATA"})
    units = ", ".join(dict.fromkeys(str(row.unit) for row in rows))
    alias = "".join(
        f", to {row.record.data}, which leads to nothing of that type"
        for row in rows
        if isinstance(row.record.data, Alias)
    )
    return f"the name exists ({units})" + (
        f" and has {', '.join(types)} only{alias}" if types else " without any data"
    )


def _no_such_record(
    zone: ClusterZone, labels: Sequence[str], rows: list[Row], published: Published, service: Service
) -> str:
    described = f"the Service {labels[-2]}/{labels[-3]}"
    if rows:
        return _other_types(rows)
    if len(labels) == 3:
        return f"{described} exists, but has no record"
    if labels[0].startswith("_") and len(labels) == 4:
        return f"ports of {described} have names of two labels, such as _http._tcp"
    if labels[0].startswith("_"):
        if any(labels[:2] == (f"_{one.name}", f"_{one.protocol.lower()}") for one in service.ports):
            return f"{described} has this port, but no ready endpoint with it"
        ports = [port.name for port in service.ports if port.name]
        return f"{described} has no such port; its named ports are: {', '.join(ports) or 'none'}"
    if zone.endpoint_names != "all" and not is_headless(service):
        return f"{described} has a cluster IP: its endpoints have names only with --endpoint-names all"
    depth = len(zone.name.labels) + 4
    owners = {one.name.labels[0] for one in published.records if len(one.name.labels) == depth}
    endpoints = sorted(one for one in owners if not one.startswith("_"))
    return f"{described} has no endpoint named {labels[0]}; it has: {', '.join(endpoints[:10]) or 'none'}"
