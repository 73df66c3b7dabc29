"""The cluster zone: Services, Pods and Namespaces to records.

Kubernetes DNS specification 1.1.0, read as CoreDNS's ``kubernetes`` plugin reads it where the text
leaves a choice.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kube2etcd.kube.objects import TENANT_CLUSTER_IP, EndpointSlice, Namespace, Pod, Service
from kube2etcd.kube.store import Store, Unit
from kube2etcd.zones.base import Expected, Published, Zone
from skydns_compat.names import (
    WILDCARD,
    Address,
    InvalidAddress,
    InvalidName,
    Name,
    check_label,
    parse_address,
    reverse_name,
    servable,
)
from skydns_compat.records import NO_PORT, Alias, Exists, Host, Pointer, Port, Record, Text

#: Specification section 2.1: the version of the schema, in a record that hardly ever changes.
SCHEMA_VERSION = "1.1.0"
SCHEMA_TTL = 28800


@dataclass(frozen=True, slots=True)
class ClusterZone(Zone):
    """The cluster zone; ``ttl`` in seconds."""

    name: Name
    ttl: int = 30
    pods: str = "disabled"
    endpoint_names: str = "headless"
    tenant_cluster_ip: bool = True
    dns_server_ips: tuple[Address, ...] = ()
    kinds = frozenset({"services", "namespaces", "pods"})
    depth = 3

    def own(self) -> Published:
        """The apex, the name server, the version of the schema."""
        return zone_records(self)

    def publish(self, unit: Unit, store: Store) -> Published:
        """Services, Namespaces, and Pods where they are verified."""
        match store.get(unit):
            case Service() as service:
                return service_records(service, store.slices(unit), self)
            case Namespace() as namespace:
                return namespace_records(namespace, self)
            case Pod() as pod if self.pods == "verified":
                return pod_records(pod, self)
        return Published()

    def can_follow(self, name: Name) -> bool:
        """Services, their endpoints and ports, pods, the name server; nothing above them."""
        match name.relative(self.name):
            case ("ns", "dns") | (_, _, *_, "pod") | (_, _, "svc"):
                return True
            case (endpoint, _, _, "svc"):
                return not endpoint.startswith("_")
            case (port, protocol, _, _, "svc"):
                return port.startswith("_") and protocol.startswith("_")
        return False


_Backend: TypeAlias = tuple[Address, str, list[tuple[str, str, int]]]


def zone_records(zone: ClusterZone) -> Published:
    """What the zone itself has: an apex without data, its name server, the schema's version."""
    records = [
        Record(zone.name, Exists(), zone.ttl),
        Record(zone.name.child("dns-version"), Text(SCHEMA_VERSION), SCHEMA_TTL),
    ]
    server = zone.name.child("ns", "dns")
    records += [Record(server, Host(address), zone.ttl) for address in zone.dns_server_ips]
    if not zone.dns_server_ips:
        records.append(Record(server, Exists(guarded=True), zone.ttl))
    return Published(records)


def namespace_records(namespace: Namespace, zone: ClusterZone) -> Published:
    """A namespace exists, without data, below ``svc`` and, unless switched off, below ``pod``."""
    published = Published()
    parts = ("svc",) if zone.pods == "disabled" else ("svc", "pod")
    try:
        names = [zone.name.child(namespace.metadata.name, part) for part in parts]
    except InvalidName as error:
        published.left_out.append(f"the namespace has no name in DNS: {error}")
        return published
    published.records += [Record(name, Exists(), zone.ttl) for name in names]
    return published


def pod_records(pod: Pod, zone: ClusterZone) -> Published:
    """``<address>.<namespace>.pod.<zone>`` for a live Pod's addresses (specification section 2.6).

    A terminating Pod keeps its name until it is gone, as with the ``kubernetes`` plugin: it may be
    serving for minutes.  SRV at that name has port 0, as that plugin answers.  No PTR.
    """
    published = Published()
    if pod.phase in ("Succeeded", "Failed", "Unknown"):
        published.left_out.append(Expected("the pod has ended"))
        return published
    for text in dict.fromkeys(filter(None, (pod.pod_ip, *pod.pod_ips))):
        try:
            address = parse_address(text)
            name = zone.name.child(dashed(address), pod.metadata.namespace, "pod")
        except (InvalidAddress, InvalidName) as error:
            published.left_out.append(str(error))
            continue
        published.records += [Record(name, Host(address), zone.ttl), Record(name, Port(0, name), zone.ttl)]
    if not published.records and not published.left_out:
        published.left_out.append(Expected("the pod has no address yet"))
    return published


def service_records(service: Service, slices: Sequence[EndpointSlice], zone: ClusterZone) -> Published:
    """Everything that a Service and its EndpointSlices name (specification sections 2.3 to 2.5).

    Slices in the order of their names, so that the outcome does not depend on arrival.
    """
    published = Published()
    try:
        name = zone.name.child(service.metadata.name, service.metadata.namespace, "svc")
    except InvalidName as error:
        published.left_out.append(f"the Service has no name in DNS: {error}")
        return published
    if service.type == "ExternalName":
        add_external_name(service, name, zone.name, zone.ttl, published)
        if zone.pods == "insecure":
            # The server follows an alias by reading keys, so this target needs the keys that templates spare.
            targets = [record.data.target for record in published.records if isinstance(record.data, Alias)]
            published.records += [
                Record(target, Host(address), zone.ttl)
                for target in targets
                if (address := computed_address(target, zone.name)) is not None
            ]
        return published
    addresses = cluster_addresses(service, zone.tenant_cluster_ip, published.left_out)
    if addresses:
        add_cluster_ips(service, addresses, name, zone.ttl, published)
    if addresses and zone.endpoint_names != "all":
        return published
    if not addresses and not is_headless(service):
        if not published.left_out:
            published.left_out.append(Expected("the Service has no cluster address yet"))
        return published
    add_endpoints(slices, name, zone.ttl, published, headless=not addresses)
    return published


def is_headless(service: Service) -> bool:
    """Whether the names of the Service are those of its endpoints."""
    return service.cluster_ip == "None" or service.cluster_ips[:1] == ("None",)


def cluster_addresses(service: Service, tenant: bool, left_out: list[str]) -> list[Address]:
    """The Service's cluster addresses; the tenant annotation stands in for them where it is sound."""
    annotated = service.metadata.annotations.get(TENANT_CLUSTER_IP, "").strip() if tenant else ""
    if annotated and annotated != "None":
        try:
            return [parse_address(part.strip()) for part in annotated.split(",")]
        except InvalidAddress as error:
            left_out.append(f"annotation {TENANT_CLUSTER_IP} is passed over: {error}")
    found: list[Address] = []
    for text in dict.fromkeys((service.cluster_ip, *service.cluster_ips)):
        if text in ("", "None"):
            continue
        try:
            found.append(parse_address(text))
        except InvalidAddress as error:
            left_out.append(f"cluster address left out: {error}")
    return found


def dashed(address: Address) -> str:
    """The label for an address: its text with hyphens, and a final ``0`` where it would end in one."""
    label = address.replace(".", "-").replace(":", "-")
    if label.startswith("-"):
        label = f"0{label}"
    return f"{label}0" if label.endswith("-") else label


def computed_address(name: Name, zone: Name) -> Address | None:
    """The address in a Pod name, as the Corefile computes it with ``pods insecure``; None for other names."""
    labels = name.relative(zone) if name.below(zone) else ()
    if len(labels) < 3 or labels[-1] != "pod":
        return None
    label = labels[-3]
    separator = "." if label.count("-") == 3 and "--" not in label else ":"
    try:
        return parse_address(label.replace("-", separator))
    except InvalidAddress:
        return None


def add_external_name(service: Service, name: Name, zone: Name, ttl: int, published: Published) -> None:
    """CNAME to the externalName; addresses and names of ``zone`` that cannot be served are left out."""
    text = service.external_name
    try:
        parse_address(text.removesuffix("."))
    except InvalidAddress:
        pass
    else:
        published.left_out.append(f"externalName {text} is an address, which a CNAME cannot hold")
        return
    try:
        target = Name.parse(text)
        if target.below(zone):
            servable(target)
    except InvalidName as error:
        published.left_out.append(f"externalName left out: {error}")
        return
    published.records.append(Record(name, Alias(target), ttl))


def add_cluster_ips(
    service: Service, addresses: Iterable[Address], name: Name, ttl: int, published: Published
) -> None:
    """Addresses of the Service itself, SRV for its ports, and the addresses back to its name."""
    for address in addresses:
        published.records.append(Record(name, Host(address), ttl))
        published.pointers.append(Record(reverse_name(address), Pointer(name), ttl))
    for port in service.ports:
        published.records.append(Record(name, Port(port.port, name), ttl))
        if owner := _port_name(name, port.name, port.protocol, published):
            published.records.append(Record(owner, Port(port.port, name), ttl))


def _port_name(name: Name, port: str, protocol: str, published: Published, endpoint: str = "") -> Name | None:
    """``_port._protocol.<name>``, or None for an impossible name.

    A port without a name is ``_._protocol``, as the ``kubernetes`` plugin has it.
    """
    try:
        owner = name.child(f"_{check_label(port) if port else ''}", f"_{check_label(protocol or 'TCP')}")
        if endpoint:
            # The server makes the SRV target below this very name, so that must have room too.
            owner.child(endpoint)
    except InvalidName as error:
        published.left_out.append(f"port left out of SRV: {error}")
        return None
    return owner


def add_endpoints(
    slices: Sequence[EndpointSlice], name: Name, ttl: int, published: Published, *, headless: bool
) -> None:
    """Names of the ready endpoints; ``headless``: the Service's own name and ports are theirs."""
    reverse: dict[Address, Name] = {}
    found = False
    for address, label, ports in _backends(slices, published):
        found = True
        try:
            endpoint = name.child(label)
        except InvalidName as error:
            published.left_out.append(f"endpoint {address} left out: {error}")
            continue
        owners = (endpoint, name) if headless else (endpoint,)
        published.records += [Record(owner, Host(address), ttl) for owner in owners]
        if address not in reverse or reverse[address].labels[0] == dashed(address):
            reverse[address] = endpoint
        if not ports:
            # It counts in the weights of SRV, since the address may be in another slice too, with ports.
            none = Port(NO_PORT, endpoint, address)
            published.records += [Record(owner, none, ttl) for owner in owners]
        for port_name, protocol, number in ports:
            port = Port(number, endpoint, address)
            published.records += [Record(owner, port, ttl) for owner in owners]
            if headless and (owner := _port_name(name, port_name, protocol, published, label)):
                published.records.append(Record(owner, port, ttl))
    published.pointers += [
        Record(reverse_name(address), Pointer(endpoint), ttl) for address, endpoint in reverse.items()
    ]
    if headless and not found:
        published.left_out.append(Expected("the Service is headless and has no ready endpoint"))


def _backends(slices: Sequence[EndpointSlice], published: Published) -> Iterator[_Backend]:
    """Each ready address with its label and the ports of its slice; readiness nobody reported is ready."""
    for piece in sorted(slices, key=lambda one: one.metadata.name):
        if piece.address_type == "FQDN":
            published.left_out.append(f"EndpointSlice {piece.metadata.name} holds names, not addresses")
            continue
        ports = [
            (port.name, port.protocol, NO_PORT if port.port is None else port.port) for port in piece.ports
        ]
        for endpoint in piece.endpoints:
            if endpoint.ready is False:
                published.left_out.append(Expected(f"endpoint {', '.join(endpoint.addresses)} is not ready"))
                continue
            for text in endpoint.addresses:
                try:
                    address = parse_address(text)
                except InvalidAddress as error:
                    published.left_out.append(f"endpoint left out: {error}")
                    continue
                yield address, _endpoint_label(endpoint.hostname, address, published), ports


def _endpoint_label(hostname: str, address: Address, published: Published) -> str:
    if hostname:
        try:
            label = check_label(hostname)
            if label == WILDCARD:
                published.left_out.append(f"hostname {hostname!r} is a wildcard to the DNS server")
            elif label.startswith("_"):
                published.left_out.append(f"hostname {hostname!r} looks like a port's name")
            else:
                return label
        except InvalidName as error:
            published.left_out.append(f"hostname left out: {error}")
    return dashed(address)
