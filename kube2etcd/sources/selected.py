"""A zone of selected Services: which addresses, in which order, under which names.

SRV, headless endpoints and ExternalName are as in the cluster zone.  No I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kube2etcd.cluster.objects import EndpointSlice, Service
from kube2etcd.selectors import EVERYTHING, Selector
from kube2etcd.sources.cluster import (
    add_cluster_ips,
    add_endpoints,
    add_external_name,
    cluster_addresses,
    is_headless,
)
from kube2etcd.sources.published import Published
from skydns_compat.layout import RESERVED
from skydns_compat.names import MAX_LABEL, Address, InvalidAddress, InvalidName, Name, parse_address
from skydns_compat.records import Alias, Exists, Host, Record

INTERNAL, EXTERNAL = "internal", "external"


@dataclass(frozen=True, slots=True)
class SelectedZone:
    """One zone of the settings; empty ``namespaces`` and selectors choose all.  ``ttl`` in seconds."""

    zone: Name
    ttl: int = 30
    namespaces: frozenset[str] = frozenset()
    selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    addresses: tuple[str, ...] = (EXTERNAL, INTERNAL)
    name: str = "{service}.{namespace}"
    wildcards: bool = False
    tenant_cluster_ip: bool = True
    other_zones: tuple[Name, ...] = ()
    """Zones of ours that a CNAME from here must not lead into: two zones that lead to each other
    keep the server busy for ever."""

    def parent(self, namespace: str) -> Name | None:
        """The name above the Services of a namespace, where the template has one."""
        _, _, rest = self.name.partition(".")
        return self.zone.child(*_filled(rest, "", namespace)) if "{namespace}" in rest else None


def selected_zone_records(zone: SelectedZone) -> Published:
    """The apex exists, without data."""
    return Published(
        [
            Record(zone.zone, Exists(), zone.ttl),
            Record(zone.zone.child("ns", "dns"), Exists(among=True), zone.ttl),
        ]
    )


def selected_records(service: Service, slices: Sequence[EndpointSlice], zone: SelectedZone) -> Published:
    """The Service's records in ``zone``; that it is selected has been decided."""
    published = Published()
    meta = service.metadata
    try:
        name = zone.zone.child(*_filled(zone.name, meta.name, meta.namespace))
    except InvalidName as error:
        published.left_out.append(f"the Service has no name in {zone.zone}: {error}")
        return published
    if name.relative(zone.zone)[-2:] in RESERVED:
        published.left_out.append(f"{name} is a name that the server keeps for itself")
        return published
    if service.type == "ExternalName":
        _external_name(service, name, zone, published)
        return published
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
    if not published.records and not published.left_out:
        published.left_out.append(f"the Service has no {' or '.join(zone.addresses)} address")
    published.pointers.clear()
    return published


def flatten(label: str) -> str:
    """``label`` as a valid lower-case DNS label; a short hash tells apart what would collide.

    >>> flatten("web")
    'web'
    >>> flatten("Web_1").startswith("web-1-")
    True
    """
    plain = re.sub("[^a-z0-9-]+", "-", label.lower()).strip("-")
    if plain == label and len(plain) <= MAX_LABEL:
        return plain
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{plain[: MAX_LABEL - 9].rstrip('-')}-{digest}".lstrip("-")


def _filled(template: str, service: str, namespace: str) -> Iterator[str]:
    """The template's labels with the names put in; a value never makes a label of its own."""
    for label in template.split("."):
        yield flatten(label.replace("{service}", service).replace("{namespace}", namespace))


def _addresses(service: Service, zone: SelectedZone, published: Published) -> Iterator[Address]:
    for kind in zone.addresses:
        if kind == INTERNAL:
            yield from cluster_addresses(service, zone.tenant_cluster_ip, published.left_out)
            continue
        for text in (*(one.ip for one in service.load_balancer if one.ip), *service.external_ips):
            try:
                yield parse_address(text)
            except InvalidAddress as error:
                published.left_out.append(f"external address left out: {error}")


def _balancer_name(service: Service, name: Name, zone: SelectedZone, published: Published) -> None:
    for one in service.load_balancer:
        try:
            published.records.append(Record(name, Alias(Name.parse(one.hostname)), zone.ttl))
        except InvalidName as error:
            published.left_out.append(f"load balancer's name left out: {error}")
        else:
            return


def _external_name(service: Service, name: Name, zone: SelectedZone, published: Published) -> None:
    add_external_name(service, name, zone.ttl, published)
    for record in published.records:
        if isinstance(record.data, Alias) and any(record.data.target.below(one) for one in zone.other_zones):
            published.records.clear()
            published.left_out.append(
                f"externalName {service.external_name} leads into another zone of this server"
            )
