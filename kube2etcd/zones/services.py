"""A zone of selected Services: it chooses addresses, their order and the names.

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
    add_alias,
    add_cluster_ips,
    add_endpoints,
    add_external_name,
    cluster_addresses,
    is_headless,
    valid_addresses,
)
from skydns_compat.layout import RESERVED
from skydns_compat.names import MAX_LABEL, Address, InvalidName, Name
from skydns_compat.records import Alias, Exists, Record

INTERNAL, EXTERNAL = "internal", "external"
_SERVICE, _NAMESPACE = "{service}", "{namespace}"


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
    """Labels in front of the zone, in lower case: DNS ignores case (RFC 4343)."""
    wildcards: bool = False
    tenant_cluster_ip: bool = True
    other_zones: tuple[Name, ...] = ()
    """Our other zones, into which no CNAME may point: CNAMEs back and forth between zones would keep the
    server busy forever."""

    def __post_init__(self) -> None:
        """Convert the template to lower case."""
        object.__setattr__(self, "template", self.template.lower())

    kinds = frozenset({"services", "namespaces"})

    @property
    def empty_levels(self) -> int:  # type: ignore[override]  # it follows from the template
        """All labels of the template except the first."""
        return self.template.count(".")

    @property
    def depth(self) -> int:  # type: ignore[override]
        """Number of labels in the template."""
        return self.empty_levels + 1

    def own(self) -> Published:
        """The apex, and the template's names right below it, without data."""
        server = Record(self.name.child("ns", "dns"), Exists(guarded=True), self.ttl)
        return Published([Record(self.name, Exists(), self.ttl), server, *self._above("")])

    def publish(self, unit: Unit, store: Store) -> Published:
        """The records of a selected Service, or of its Namespace, which exists without data."""
        published = Published()
        try:
            match store.get(unit):
                case Service() as service if not self.unselected(service, store):
                    self._service(service, store.slices(unit), published)
                case Namespace() if self.selects(unit.name, store):
                    published.records += self._above(_NAMESPACE, namespace=unit.name)
        except InvalidName as error:
            noun = "Service" if unit.kind == "services" else "namespace"
            published.left_out.append(f"the {noun} has no name in {self.name}: {error}")
        return published

    def can_follow(self, name: Name) -> bool:
        """Services, their endpoints and ports; nothing above them."""
        return len(name.relative(self.name)) >= self.depth

    def follows_namespaces(self) -> bool:
        """Whether a namespace's labels decide which Services are selected."""
        return bool(self.namespace_selector.requirements)

    def unselected(self, service: Service, store: Store) -> str:
        """Why a Service is not selected for this zone; empty if it is."""
        meta = service.metadata
        if unselected := self.unselected_namespace(meta.namespace, store):
            return unselected
        return "" if self.selector.matches(meta.labels) else f"its labels are not selected for {self.name}"

    def unselected_namespace(self, namespace: str, store: Store) -> str:
        """Why a namespace is not selected for this zone; empty if it is."""
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

    def _above(self, level: str, service: str = "", namespace: str = "") -> list[Record]:
        """Empty non-terminals above Services whose names contain the given Service's or Namespace's name."""
        labels = self.template.split(".")
        rests = (".".join(labels[cut:]) for cut in range(1, len(labels)))
        return [
            Record(self.name.child(*_filled(rest, service, namespace)), Exists(), self.ttl)
            for rest in rests
            if level == next((field for field in (_SERVICE, _NAMESPACE) if field in rest), "")
        ]

    def _service(self, service: Service, slices: Sequence[EndpointSlice], published: Published) -> None:
        """The records of a selected Service."""
        meta = service.metadata
        name = self.name.child(*_filled(self.template, meta.name, meta.namespace))
        if name.relative(self.name)[-2:] in RESERVED:
            published.left_out.append(f"{name} is a name that the server keeps for itself")
            return
        if service.type == "ExternalName":
            add_external_name(service, name, self, published)
        elif addresses := dict.fromkeys(self._addresses(service, published)):
            add_cluster_ips(service, addresses, name, self.ttl, published, ordered=True)
        elif INTERNAL in self.addresses and is_headless(service):
            add_endpoints(slices, name, self.ttl, published, headless=True)
        elif EXTERNAL in self.addresses:
            self._balancer_name(service, name, published)
        self._leave_out_cross_zone(published)
        if published.records:
            published.exclusive_name = name
            published.records += self._above(_SERVICE, meta.name, meta.namespace)
        elif not published.left_out:
            published.left_out.append(Expected(f"the Service has no {' or '.join(self.addresses)} address"))
        published.pointers.clear()

    def _addresses(self, service: Service, published: Published) -> Iterator[Address]:
        """The chosen addresses, in order."""
        for kind in self.addresses:
            if kind == INTERNAL:
                yield from cluster_addresses(service, self.tenant_cluster_ip, published)
            else:
                texts = (*(one.ip for one in service.load_balancer if one.ip), *service.external_ips)
                yield from valid_addresses(texts, "external address", published)

    def _balancer_name(self, service: Service, name: Name, published: Published) -> None:
        """Add a CNAME to the first valid hostname of the load balancer."""
        for one in service.load_balancer:
            add_alias(name, one.hostname, "load balancer's name", self, published)
            if published.records:
                return

    def _leave_out_cross_zone(self, published: Published) -> None:
        """Leave out a CNAME into another zone of ours, which could be half of a loop."""
        ours = (self.name, *self.other_zones)
        for record in [*published.records]:
            if isinstance(record.data, Alias) and longest(ours, record.data.target) not in (None, self.name):
                published.left_out.append(f"{record.data.target} is in another zone of this server")
                published.records.remove(record)


def flatten(label: str, whole: str = "") -> str:
    """``label`` as a valid lower-case DNS label; a short hash is added where labels would collide.

    ``whole``: what the label stands for, if the label alone is ambiguous.

    >>> flatten("web")
    'web'
    >>> flatten("Web_1").startswith("web-1-")
    True
    """
    plain = re.sub("[^a-z0-9-]+", "-", label.lower()).strip("-")
    if not whole and plain == label and len(plain) <= MAX_LABEL:
        return plain
    digest = hashlib.sha256((whole or label).encode()).hexdigest()[:8]
    return f"{plain[: MAX_LABEL - 9].rstrip('-')}-{digest}".lstrip("-")


def _filled(template: str, service: str, namespace: str) -> Iterator[str]:
    """The template's labels with the names filled in; a dot in a name does not split a label."""
    values = {"service": service, "namespace": namespace}
    for label in template.split("."):
        filled = label.format_map(values)
        yield flatten(filled, f"{service}.{namespace}" if _is_ambiguous(label, filled, values) else "")


def _is_ambiguous(label: str, filled: str, values: Mapping[str, str]) -> bool:
    """Whether other names would fill the label to the same text and take precedence.

    Of all readings of ``a-b-c``, the one with the shortest first name keeps the plain text.
    """
    fields = re.findall(r"\{(\w+)\}", label)
    if len(set(fields)) < 2:
        return False
    one = r"([a-z0-9](?:[a-z0-9-]*?[a-z0-9])??)"
    found = re.fullmatch(re.sub(r"\\{\w+\\}", lambda _: one, re.escape(label)), filled)
    return found is None or list(found.groups()) != [values[field] for field in fields]
