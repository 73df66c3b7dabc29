"""The cluster zone: Services, Pods and Namespaces to records.

Kubernetes DNS specification 1.1.0; where it leaves a choice, as CoreDNS's ``kubernetes`` plugin does.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kube2etcd.kube.objects import TENANT_CLUSTER_IP, EndpointPort, EndpointSlice, Namespace, Pod, Service
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
from skydns_compat.records import NO_PORT, Alias, Data, Exists, Host, Pointer, Port, Record, Text

#: Schema version (specification section 2.1) and its TTL in seconds, long since it hardly ever changes.
SCHEMA_VERSION = "1.1.0"
SCHEMA_TTL = 28800


@dataclass(frozen=True, slots=True)
class ClusterZone(Zone):
    """The cluster zone; ``ttl`` in seconds."""

    name: Name
    ttl: int = 30
    pods: str = "disabled"
    """``disabled``, ``insecure`` (the Corefile computes the answers) or ``verified`` (from Pods), as in the
    ``kubernetes`` plugin."""
    endpoint_names: str = "headless"
    """Whose endpoints get names: those of ``headless`` Services, or of ``all``."""
    tenant_cluster_ip: bool = True
    """Whether the annotation with a tenant's ClusterIP overrides the Service's."""
    dns_server_ips: tuple[Address, ...] = ()
    """Addresses of ``ns.dns``; without any, the name exists without data."""
    kinds = frozenset({"services", "namespaces", "pods"})
    depth = 3

    def own(self) -> Published:
        """The apex (without data), the name server and the schema version."""
        server = self.name.child("ns", "dns")
        servers: Sequence[Data] = [*map(Host, self.dns_server_ips)] or [Exists(guarded=True)]
        return Published(
            [
                Record(self.name, Exists(), self.ttl),
                Record(self.name.child("dns-version"), Text(SCHEMA_VERSION), SCHEMA_TTL),
                *(Record(server, data, self.ttl) for data in servers),
            ]
        )

    def publish(self, unit: Unit, store: Store) -> Published:
        """The records of a Service, a Namespace or, with ``pods`` verified, a Pod."""
        published = Published()
        try:
            match store.get(unit):
                case Service() as service:
                    self._service(service, store.slices(unit), published)
                case Namespace():
                    # NODATA instead of NXDOMAIN (RFC 8020): there may be names below.
                    for part in ("svc",) if self.pods == "disabled" else ("svc", "pod"):
                        published.records.append(Record(self.name.child(unit.name, part), Exists(), self.ttl))
                case Pod() as pod if self.pods == "verified":
                    self._pod(pod, published)
        except InvalidName as error:
            noun = "Service" if unit.kind == "services" else "namespace"
            published.left_out.append(f"the {noun} has no name in DNS: {error}")
        return published

    def _service(self, service: Service, slices: Sequence[EndpointSlice], published: Published) -> None:
        """A Service and its EndpointSlices (specification sections 2.3 to 2.5)."""
        name = self.name.child(service.metadata.name, service.metadata.namespace, "svc")
        if service.type == "ExternalName":
            add_external_name(service, name, self, published)
            if self.pods == "insecure":
                # The server follows an alias by reading keys, bypassing the templates: the target needs keys.
                for target in [one.data.target for one in published.records if isinstance(one.data, Alias)]:
                    if address := _computed_address(target, self.name):
                        published.records.append(Record(target, Host(address), self.ttl))
            return
        addresses = cluster_addresses(service, self.tenant_cluster_ip, published)
        if addresses:
            add_cluster_ips(service, addresses, name, self.ttl, published)
        names_endpoints = self.endpoint_names == "all" if addresses else is_headless(service)
        if names_endpoints:
            add_endpoints(slices, name, self.ttl, published, headless=not addresses)
        elif not addresses and not published.left_out:
            published.left_out.append(Expected("the Service has no cluster address yet"))

    def _pod(self, pod: Pod, published: Published) -> None:
        """``<address>.<namespace>.pod.<zone>`` for a live Pod's addresses (specification section 2.6).

        A terminating Pod keeps its name until it is gone, since it may serve for minutes.  SRV at that name
        has port 0, and there is no PTR.  All as with the ``kubernetes`` plugin.
        """
        if pod.phase in ("Succeeded", "Failed", "Unknown"):
            published.left_out.append(Expected("the pod has ended"))
            return
        for text in dict.fromkeys(filter(None, (pod.pod_ip, *pod.pod_ips))):
            try:
                address = parse_address(text)
                name = self.name.child(dashed(address), pod.metadata.namespace, "pod")
            except (InvalidAddress, InvalidName) as error:
                published.left_out.append(str(error))
            else:
                published.records += [Record(name, data, self.ttl) for data in (Host(address), Port(0, name))]
        if not published.records and not published.left_out:
            published.left_out.append(Expected("the pod has no address yet"))

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


def is_headless(service: Service) -> bool:
    """Whether ``clusterIP`` is ``None``: DNS answers with the endpoints.  False until one is assigned."""
    return service.cluster_ip == "None" or service.cluster_ips[:1] == ("None",)


def cluster_addresses(service: Service, tenant: bool, published: Published) -> list[Address]:
    """The Service's cluster addresses; with ``tenant``, a valid tenant annotation overrides them.

    Adds what is invalid to ``published.left_out``.
    """
    annotated = service.metadata.annotations.get(TENANT_CLUSTER_IP, "").strip() if tenant else ""
    if annotated and annotated != "None":
        try:
            return [parse_address(part.strip()) for part in annotated.split(",")]
        except InvalidAddress as error:
            published.left_out.append(f"annotation {TENANT_CLUSTER_IP} is ignored: {error}")
    texts = dict.fromkeys((service.cluster_ip, *service.cluster_ips))
    return valid_addresses((text for text in texts if text not in ("", "None")), "cluster address", published)


def valid_addresses(texts: Iterable[str], noun: str, published: Published) -> list[Address]:
    """The valid addresses among ``texts``; adds the others to ``published.left_out`` as ``noun``."""
    found = []
    for text in texts:
        try:
            found.append(parse_address(text))
        except InvalidAddress as error:
            published.left_out.append(f"{noun} left out: {error}")
    return found


def dashed(address: Address) -> str:
    """The label for an address: its text with hyphens, ``0`` added where it would begin or end with one."""
    label = address.replace(".", "-").replace(":", "-")
    if label.startswith("-"):
        label = f"0{label}"
    return f"{label}0" if label.endswith("-") else label


def _computed_address(name: Name, zone: Name) -> Address | None:
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


def add_external_name(service: Service, name: Name, zone: Zone, published: Published) -> None:
    """Add a CNAME to the externalName to ``published``."""
    add_alias(name, service.external_name, "externalName", zone, published)


def add_alias(name: Name, text: str, noun: str, zone: Zone, published: Published) -> None:
    """Add a CNAME from ``name`` to ``text``, called ``noun`` in reasons, to ``published``.

    An address, or a name in ``zone`` that cannot be served, is left out.
    """
    with suppress(InvalidAddress):
        parse_address(text.removesuffix("."))
        published.left_out.append(f"{noun} {text} is an address, which a CNAME cannot hold")
        return
    try:
        target = Name.parse(text)
        if target.below(zone.name):
            servable(target)
    except InvalidName as error:
        published.left_out.append(f"{noun} left out: {error}")
    else:
        published.records.append(Record(name, Alias(target), zone.ttl))


def add_cluster_ips(
    service: Service,
    addresses: Iterable[Address],
    name: Name,
    ttl: int,
    published: Published,
    *,
    ordered: bool = False,
) -> None:
    """Add A, AAAA, SRV and PTR of a Service with addresses of its own to ``published``; ``ttl`` in seconds.

    ``ordered``: answers list them in the order of ``addresses`` instead of by text.
    """
    for position, address in enumerate(addresses):
        published.records.append(Record(name, Host(address, position if ordered else None), ttl))
        published.pointers.append(Record(reverse_name(address), Pointer(name), ttl))
    for port in service.ports:
        record = Record(name, Port(port.port, name), ttl)
        published.records.append(record)
        if owner := _port_name(name, port.name, port.protocol, published):
            published.records.append(Record(owner, record.data, ttl))


def _port_name(name: Name, port: str, protocol: str, published: Published, endpoint: str = "") -> Name | None:
    """``_port._protocol.<name>``; if that cannot be a name, adds the reason and returns None.

    A port without a name is ``_._protocol``, as with the ``kubernetes`` plugin.  ``endpoint``: the label that
    the server will put below it, if any.
    """
    try:
        owner = name.child(f"_{check_label(port) if port else ''}", f"_{check_label(protocol or 'TCP')}")
        if endpoint:
            # The server derives the SRV target below this name, so the target must fit too.
            owner.child(endpoint)
    except InvalidName as error:
        published.left_out.append(f"port left out of SRV: {error}")
        return None
    return owner


def add_endpoints(
    slices: Iterable[EndpointSlice], name: Name, ttl: int, published: Published, *, headless: bool
) -> None:
    """Add A, AAAA, SRV and PTR of the ready endpoints to ``published``; ``ttl`` in seconds.

    ``headless``: also at the names of the Service and its ports.  ``slices`` must be sorted by name, so that
    the outcome does not depend on the order of arrival.
    """
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
        # One PTR per address: a hostname in any slice is preferred to the dashed address.
        if address not in reverse or reverse[address].labels[0] == dashed(address):
            reverse[address] = endpoint
        if not ports:
            # No SRV, but it counts in the weights of others: another slice may have this address with ports.
            portless = Port(NO_PORT, endpoint, address)
            published.records += [Record(owner, portless, ttl) for owner in owners]
        for port in ports:
            data = Port(NO_PORT if port.port is None else port.port, endpoint, address)
            published.records += [Record(owner, data, ttl) for owner in owners]
            if headless and (owner := _port_name(name, port.name, port.protocol, published, label)):
                published.records.append(Record(owner, data, ttl))
    published.pointers += [
        Record(reverse_name(address), Pointer(endpoint), ttl) for address, endpoint in reverse.items()
    ]
    if headless and not found:
        published.left_out.append(Expected("the Service is headless and has no ready endpoint"))


def _backends(
    slices: Iterable[EndpointSlice], published: Published
) -> Iterator[tuple[Address, str, tuple[EndpointPort, ...]]]:
    """Each ready address with its label and the ports of its slice; unreported readiness counts as ready."""
    for endpoint_slice in slices:
        if endpoint_slice.address_type == "FQDN":
            published.left_out.append(
                f"EndpointSlice {endpoint_slice.metadata.name} holds names, not addresses"
            )
            continue
        for endpoint in endpoint_slice.endpoints:
            if endpoint.ready is False:
                published.left_out.append(Expected(f"endpoint {', '.join(endpoint.addresses)} is not ready"))
                continue
            for address in valid_addresses(endpoint.addresses, "endpoint", published):
                yield address, _endpoint_label(endpoint.hostname, address, published), endpoint_slice.ports


def _endpoint_label(hostname: str, address: Address, published: Published) -> str:
    """The hostname where it can be served, else the address with hyphens."""
    try:
        label = check_label(hostname) if hostname else ""
        if label == WILDCARD:
            published.left_out.append(f"hostname {hostname!r} is a wildcard to the DNS server")
        elif label.startswith("_"):
            published.left_out.append(f"hostname {hostname!r} looks like a port's name")
        elif label:
            return label
    except InvalidName as error:
        published.left_out.append(f"hostname left out: {error}")
    return dashed(address)
