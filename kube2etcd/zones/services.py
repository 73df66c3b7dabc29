"""A zone of selected Services: which addresses, in which order, under which names.

SRV, headless endpoints and ExternalName are as in the cluster zone.  Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kube2etcd.kube.objects import EndpointSlice, Namespace, Service
from kube2etcd.kube.store import Store, Unit
from kube2etcd.settings import EVERYTHING, Selector
from kube2etcd.zones.base import Expected, Published, Zone, longest
from kube2etcd.zones.cluster import (
    add_cluster_ips,
    add_endpoints,
    add_external_name,
    cluster_addresses,
    is_headless,
)
from skydns_compat.layout import RESERVED
from skydns_compat.names import MAX_LABEL, Address, InvalidAddress, InvalidName, Name, parse_address
from skydns_compat.records import Alias, Exists, Host, Record

INTERNAL, EXTERNAL = "internal", "external"


@dataclass(frozen=True, slots=True)
class ServicesZone(Zone):
    """One zone of selected Services; empty ``namespaces`` and selectors select all.  ``ttl`` in seconds."""

    name: Name
    ttl: int = 30
    namespaces: frozenset[str] = frozenset()
    selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    addresses: tuple[str, ...] = (EXTERNAL, INTERNAL)
    template: str = "{service}.{namespace}"
    """Labels in front of the zone; letter case does not matter in DNS, so it is lowered (RFC 4343)."""
    wildcards: bool = False
    tenant_cluster_ip: bool = True
    other_zones: tuple[Name, ...] = ()
    """Zones of ours that a CNAME from here must not lead into: two zones that lead to each other
    keep the server busy for ever."""

    def __post_init__(self) -> None:
        """Lower the template."""
        object.__setattr__(self, "template", self.template.lower())

    kinds = frozenset({"services", "namespaces"})

    @property
    def empty_levels(self) -> int:  # type: ignore[override]  # it follows from the template
        """Every level of the template but the first."""
        return self.template.count(".")

    @property
    def depth(self) -> int:  # type: ignore[override]
        """As many as the template has labels."""
        return self.empty_levels + 1

    def own(self) -> Published:
        """The apex, and what the template puts right below it."""
        return selected_zone_records(self)

    def publish(self, unit: Unit, store: Store) -> Published:
        """Selected Services, and their Namespaces."""
        match store.get(unit):
            case Service() as service if not self.unselected(service, store):
                return selected_records(service, store.slices(unit), self)
            case Namespace() if self.selects(unit.name, store):
                return selected_namespace_records(unit.name, self)
        return Published()

    def can_follow(self, name: Name) -> bool:
        """Services, their endpoints and ports; nothing above them."""
        return len(name.relative(self.name)) >= self.depth

    def follows_namespaces(self) -> bool:
        """Where there is a selector for them."""
        return bool(self.namespace_selector.requirements)

    def unselected(self, service: Service, store: Store) -> str:
        """Why a Service is not in this zone, or nothing where it is."""
        meta = service.metadata
        if unselected := self.unselected_namespace(meta.namespace, store):
            return unselected
        return "" if self.selector.matches(meta.labels) else f"its labels are not selected for {self.name}"

    def unselected_namespace(self, namespace: str, store: Store) -> str:
        """Why a namespace is not in this zone, or nothing where it is."""
        selected = self.selects(namespace, store)
        return "" if selected else f"namespace {namespace} is not selected for {self.name}"

    def selects(self, namespace: str, store: Store) -> bool:
        """Whether Services of the namespace can be in this zone."""
        if self.namespaces and namespace not in self.namespaces:
            return False
        if not self.namespace_selector.requirements:
            return True
        one = store.get(Unit("namespaces", "", namespace))
        return one is not None and self.namespace_selector.matches(one.metadata.labels)

    def fixed(self) -> list[Name]:
        """The names above the Services that hold for all of them."""
        return [self.name.child(*rest.split(".")) for rest in self._above() if "{" not in rest]

    def parents(self, namespace: str) -> list[Name]:
        """The names above the Services of a namespace."""
        above = [rest for rest in self._above() if "{namespace}" in rest and "{service}" not in rest]
        return [self.name.child(*_filled(rest, "", namespace)) for rest in above]

    def non_terminals(self, service: str, namespace: str) -> list[Name]:
        """The names above a Service that are made from its own name."""
        above = [rest for rest in self._above() if "{service}" in rest]
        return [self.name.child(*_filled(rest, service, namespace)) for rest in above]

    def _above(self) -> Iterator[str]:
        """The template without its first label, without its first two, and so on."""
        rest = self.template
        while "." in rest:
            rest = rest.partition(".")[2]
            yield rest


def selected_zone_records(zone: ServicesZone) -> Published:
    """The apex exists, without data, and so does what the template puts right below it."""
    return Published(
        [
            Record(zone.name, Exists(), zone.ttl),
            Record(zone.name.child("ns", "dns"), Exists(guarded=True), zone.ttl),
            *(Record(name, Exists(), zone.ttl) for name in zone.fixed()),
        ]
    )


def selected_namespace_records(namespace: str, zone: ServicesZone) -> Published:
    """A namespace exists, without data; that it is selected has been decided."""
    try:
        names = zone.parents(namespace)
    except InvalidName as error:
        return Published(left_out=[f"the namespace has no name in {zone.name}: {error}"])
    return Published([Record(name, Exists(), zone.ttl) for name in names])


def selected_records(service: Service, slices: Sequence[EndpointSlice], zone: ServicesZone) -> Published:
    """The Service's records in ``zone``; that it is selected has been decided."""
    published = Published()
    meta = service.metadata
    try:
        name = zone.name.child(*_filled(zone.template, meta.name, meta.namespace))
    except InvalidName as error:
        published.left_out.append(f"the Service has no name in {zone.name}: {error}")
        return published
    if name.relative(zone.name)[-2:] in RESERVED:
        published.left_out.append(f"{name} is a name that the server keeps for itself")
        return published
    if service.type == "ExternalName":
        add_external_name(service, name, zone.name, zone.ttl, published)
    else:
        _services_own(service, slices, name, zone, published)
    _refuse_detours(zone, published)
    if published.records:
        published.exclusive_name = name
        above = zone.non_terminals(meta.name, meta.namespace)
        published.records += [Record(one, Exists(), zone.ttl) for one in above]
    elif not published.left_out:
        published.left_out.append(Expected(f"the Service has no {' or '.join(zone.addresses)} address"))
    published.pointers.clear()
    return published


def _services_own(
    service: Service, slices: Sequence[EndpointSlice], name: Name, zone: ServicesZone, published: Published
) -> None:
    """The chosen addresses, or the endpoints of a headless Service, or its load balancer's name."""
    addresses = list(dict.fromkeys(_addresses(service, zone, published)))
    if addresses:
        add_cluster_ips(service, addresses, name, zone.ttl, published)
        order = {address: place for place, address in enumerate(addresses)}
        published.records = [
            Record(one.name, Host(one.data.address, order[one.data.address]), one.ttl)
            if isinstance(one.data, Host)
            else one
            for one in published.records
        ]
    elif INTERNAL in zone.addresses and is_headless(service):
        add_endpoints(slices, name, zone.ttl, published, headless=True)
    elif EXTERNAL in zone.addresses:
        _balancer_name(service, name, zone, published)


def flatten(label: str) -> str:
    """``label`` as a valid lower-case DNS label; a short hash tells apart what would collide.

    >>> flatten("web")
    'web'
    >>> flatten("Web_1").startswith("web-1-")
    True
    """
    plain = re.sub("[^a-z0-9-]+", "-", label.lower()).strip("-")
    return plain if plain == label and len(plain) <= MAX_LABEL else _marked(label, label)


def _marked(label: str, whole: str) -> str:
    """``label`` made valid, with a hash of what it stands for."""
    plain = re.sub("[^a-z0-9-]+", "-", label.lower()).strip("-")
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{plain[: MAX_LABEL - 9].rstrip('-')}-{digest}".lstrip("-")


def _filled(template: str, service: str, namespace: str) -> Iterator[str]:
    """The template's labels with the names put in; a value never makes a label of its own."""
    values = {"service": service, "namespace": namespace}
    for label in template.split("."):
        filled = label.format_map(values)
        if _reads_otherwise(label, filled, values):
            yield _marked(filled, f"{service}.{namespace}")
        else:
            yield flatten(filled)


def _reads_otherwise(label: str, filled: str, values: Mapping[str, str]) -> bool:
    """Whether other names in the same label would make the same text, and have it.

    Of all readings of ``a-b-c`` the one with the shortest first name keeps the plain text.
    """
    fields = re.findall(r"\{(\w+)\}", label)
    if len(set(fields)) < 2:
        return False
    one = r"([a-z0-9](?:[a-z0-9-]*?[a-z0-9])??)"
    pattern = "".join(
        one if part in ("{service}", "{namespace}") else re.escape(part)
        for part in re.split(r"(\{\w+\})", label)
    )
    found = re.fullmatch(pattern, filled)
    return found is None or list(found.groups()) != [values[field] for field in fields]


def _addresses(service: Service, zone: ServicesZone, published: Published) -> Iterator[Address]:
    for kind in zone.addresses:
        if kind == INTERNAL:
            yield from cluster_addresses(service, zone.tenant_cluster_ip, published.left_out)
            continue
        for text in (*(one.ip for one in service.load_balancer if one.ip), *service.external_ips):
            try:
                yield parse_address(text)
            except InvalidAddress as error:
                published.left_out.append(f"external address left out: {error}")


def _balancer_name(service: Service, name: Name, zone: ServicesZone, published: Published) -> None:
    for one in service.load_balancer:
        try:
            published.records.append(Record(name, Alias(Name.parse(one.hostname)), zone.ttl))
        except InvalidName as error:
            published.left_out.append(f"load balancer's name left out: {error}")
        else:
            return


def _refuse_detours(zone: ServicesZone, published: Published) -> None:
    """No alias into another zone of ours: two that lead to each other would never end."""
    kept = []
    for record in published.records:
        ours = (zone.name, *zone.other_zones)
        if isinstance(record.data, Alias) and longest(ours, record.data.target) not in (None, zone.name):
            published.left_out.append(f"{record.data.target} leads into another zone of this server")
        else:
            kept.append(record)
    published.records = kept
