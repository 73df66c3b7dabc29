"""Typed copies of API objects, and how their JSON becomes one.

Each kind has a flat struct for callers, a wire struct in the shape of the JSON that takes ``null``
everywhere, and a reader from wire to flat.  Fields cost memory per object: add only what records need.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Annotated, Final

from msgspec import Meta, Struct, field

TENANT_CLUSTER_IP: Final = "transparency.tenancy.x-k8s.io/clusterIP"
"""Annotation of VirtualCluster: the cluster IP of a tenant's Service in the super cluster."""


PortNumber = Annotated[int, Meta(ge=0, le=65535)]
"""Range of an SRV port.  CoreDNS cannot decode a value beyond Go's int, and fails every name above it."""


EMPTY: Final[Mapping[str, str]] = {}
"""Shared by all objects without labels."""


class Metadata(Struct, frozen=True, gc=False):
    """Identity and age.  Labels are kept where selectors read them: Services and Namespaces.

    No resourceVersion: two versions of an object that differ in nothing else are equal.
    """

    namespace: str
    name: str
    creation_timestamp: str = ""
    """RFC 3339 in UTC as the server writes it, so it sorts as text; empty when unknown."""
    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY
    """Only :data:`TENANT_CLUSTER_IP`; all others are dropped while decoding."""


class Rejected(Struct, frozen=True, gc=False):
    """An object that cannot be read, and why; ``kind`` is the name in the table of kinds."""

    kind: str
    namespace: str
    name: str
    reason: str


# --- Wire structs: null everywhere, unknown fields skipped ----------------------------------------


class Wire(Struct, gc=False, rename="camel"):
    """Base of all wire structs."""


class Annotations(Wire):
    """A struct rather than a dict, so other annotations are skipped without being built."""

    tenant_cluster_ip: str | None = field(default=None, name=TENANT_CLUSTER_IP)


class Identity(Wire):
    """Metadata fields of every object."""

    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None


class WireMetadata(Identity):
    """Metadata of kinds whose labels and annotations are read."""

    labels: dict[str, str | None] | None = None
    annotations: Annotations | None = None


class BareMetadata(Identity):
    """Metadata of kinds whose labels and annotations are skipped."""


# --- Wire to flat ---------------------------------------------------------------------------------


class Nameless(ValueError):
    """metadata.name is missing, so the object has no identity."""


def name_of(meta: Identity) -> str:
    """The object's name.

    :raises Nameless: there is none.
    """
    if not meta.name:
        raise Nameless("metadata.name is missing")
    return meta.name


def read_metadata(meta: WireMetadata) -> Metadata:
    """Metadata with labels and the annotations that matter.

    :raises Nameless: it has no name.
    """
    labels: Mapping[str, str] = EMPTY
    if meta.labels:
        labels = (
            {key: value or "" for key, value in meta.labels.items()}
            if None in meta.labels.values()
            else meta.labels  # type: ignore[assignment]  # no None in it, and no copy is made
        )
    annotations: Mapping[str, str] = EMPTY
    if meta.annotations is not None and meta.annotations.tenant_cluster_ip:
        annotations = {TENANT_CLUSTER_IP: meta.annotations.tenant_cluster_ip}
    return Metadata(
        intern(meta.namespace or ""),
        name_of(meta),
        meta.creation_timestamp or "",
        labels,
        annotations,
    )


def read_bare_metadata(meta: Identity) -> Metadata:
    """Metadata without labels and annotations.

    :raises Nameless: it has no name.
    """
    return Metadata(
        intern(meta.namespace or ""),
        name_of(meta),
        meta.creation_timestamp or "",
    )


# --- Services -------------------------------------------------------------------------------------


class Port(Struct, frozen=True, gc=False):
    """A port of a Service."""

    name: str
    protocol: str
    port: int


class Ingress(Struct, frozen=True, gc=False):
    """A load balancer's ingress; usually only one field is set."""

    ip: str = ""
    hostname: str = ""


class Service(Struct, frozen=True, gc=False):
    """A Service; ``cluster_ip`` is ``"None"`` when headless and empty for ExternalName."""

    metadata: Metadata
    type: str = "ClusterIP"
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    load_balancer: tuple[Ingress, ...] = ()


class _Port(Wire):
    port: PortNumber
    name: str | None = None
    protocol: str | None = None


class _Ingress(Wire):
    ip: str | None = None
    hostname: str | None = None


class _ServiceSpec(Wire):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = field(default=None, name="clusterIPs")
    external_name: str | None = None
    external_ips: tuple[str, ...] | None = field(default=None, name="externalIPs")
    ports: tuple[_Port, ...] | None = None


class _LoadBalancer(Wire):
    ingress: tuple[_Ingress, ...] | None = None


class _ServiceStatus(Wire):
    load_balancer: _LoadBalancer | None = None


class WireService(Wire):
    """A Service's JSON."""

    metadata: WireMetadata
    spec: _ServiceSpec | None = None
    status: _ServiceStatus | None = None


def read_service(wire: WireService) -> Service:
    """Decode the flat object.

    :raises Nameless: it has no name.
    """
    spec = wire.spec or _ServiceSpec()
    ingress = wire.status and wire.status.load_balancer and wire.status.load_balancer.ingress
    return Service(
        read_metadata(wire.metadata),
        spec.type or "ClusterIP",
        spec.cluster_ip or "",
        spec.cluster_ips or (),
        spec.external_name or "",
        spec.external_ips or (),
        tuple([Port(p.name or "", p.protocol or "TCP", p.port) for p in spec.ports]) if spec.ports else (),
        tuple([Ingress(i.ip or "", i.hostname or "") for i in ingress]) if ingress else (),
    )


# --- EndpointSlices -------------------------------------------------------------------------------


SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label by which an EndpointSlice names its Service."""


class EndpointPort(Struct, frozen=True, gc=False):
    """A port of an EndpointSlice; ``None`` means every port."""

    name: str
    protocol: str
    port: int | None


class Endpoint(Struct, frozen=True, gc=False):
    """One backend; ``ready`` is ``None`` when not reported."""

    addresses: tuple[str, ...]
    ready: bool | None = None
    hostname: str = ""


class EndpointSlice(Struct, frozen=True, gc=False):
    """Some endpoints of a Service, of one address type."""

    metadata: Metadata
    service_name: str = ""
    address_type: str = ""
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class _SliceLabels(Wire):
    service_name: str | None = field(default=None, name=SERVICE_NAME_LABEL)


class _SliceMetadata(Identity):
    labels: _SliceLabels | None = None


class _Conditions(Wire):
    ready: bool | None = None


class _Endpoint(Wire):
    addresses: tuple[str, ...] | None = None
    conditions: _Conditions | None = None
    hostname: str | None = None


class _EndpointPort(Wire):
    name: str | None = None
    protocol: str | None = None
    port: PortNumber | None = None


class WireEndpointSlice(Wire):
    """An EndpointSlice's JSON."""

    metadata: _SliceMetadata
    address_type: str | None = None
    ports: tuple[_EndpointPort, ...] | None = None
    endpoints: tuple[_Endpoint, ...] | None = None


def _endpoint(wire: _Endpoint) -> Endpoint:
    ready = wire.conditions.ready if wire.conditions is not None else None
    return Endpoint(wire.addresses or (), ready, wire.hostname or "")


def read_endpoint_slice(wire: WireEndpointSlice) -> EndpointSlice:
    """Decode the flat object.

    :raises Nameless: it has no name.
    """
    labels = wire.metadata.labels
    return EndpointSlice(
        read_bare_metadata(wire.metadata),
        (labels.service_name or "") if labels is not None else "",
        wire.address_type or "",
        tuple([EndpointPort(p.name or "", p.protocol or "TCP", p.port) for p in wire.ports])
        if wire.ports
        else (),
        tuple([_endpoint(e) for e in wire.endpoints]) if wire.endpoints else (),
    )


# --- Namespaces and pods --------------------------------------------------------------------------


class Namespace(Struct, frozen=True, gc=False):
    """A namespace; ``metadata.namespace`` is empty."""

    metadata: Metadata


class Pod(Struct, frozen=True, gc=False):
    """A pod's addresses and phase."""

    metadata: Metadata
    pod_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    phase: str = ""


class WireNamespace(Wire):
    """A Namespace's JSON."""

    metadata: WireMetadata


class _PodIP(Wire):
    ip: str | None = None


class _PodStatus(Wire):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: tuple[_PodIP, ...] | None = field(default=None, name="podIPs")


class WirePod(Wire):
    """A Pod's JSON."""

    metadata: BareMetadata
    status: _PodStatus | None = None


def read_namespace(wire: WireNamespace) -> Namespace:
    """Decode the flat object.

    :raises Nameless: it has no name.
    """
    return Namespace(read_metadata(wire.metadata))


def read_pod(wire: WirePod) -> Pod:
    """Decode the flat object.

    :raises Nameless: it has no name.
    """
    status = wire.status or _PodStatus()
    return Pod(
        read_bare_metadata(wire.metadata),
        status.pod_ip or "",
        tuple([ip.ip for ip in status.pod_ips if ip.ip]) if status.pod_ips else (),
        status.phase or "",
    )


# --- KubeVirt machines ----------------------------------------------------------------------------


class Interface(Struct, frozen=True, gc=False):
    """A network interface in the VMI's status, with its addresses as the guest reports them."""

    name: str
    addresses: tuple[str, ...] = ()


class VirtualMachineInstance(Struct, frozen=True, gc=False):
    """A running KubeVirt machine.

    Without the interface of the primary network (the spec's first with ``pod`` or ``multus.default``), and
    without those that only the guest agent reports, which have no name.
    """

    metadata: Metadata
    interfaces: tuple[Interface, ...] = ()


class _Present(Wire):
    """Any JSON object; only its presence matters."""


class _Multus(Wire):
    default: bool | None = None


class _Network(Wire):
    name: str | None = None
    pod: _Present | None = None
    multus: _Multus | None = None


class _VmiSpec(Wire):
    networks: tuple[_Network, ...] | None = None


class _Interface(Wire):
    name: str | None = None
    ip_address: str | None = None
    ip_addresses: tuple[str, ...] | None = None


class _VmiStatus(Wire):
    interfaces: tuple[_Interface, ...] | None = None


class WireVmi(Wire):
    """A VirtualMachineInstance's JSON."""

    metadata: BareMetadata
    spec: _VmiSpec | None = None
    status: _VmiStatus | None = None


def _is_primary(network: _Network) -> bool:
    return network.pod is not None or bool(network.multus and network.multus.default)


def read_vmi(wire: WireVmi) -> VirtualMachineInstance:
    """Decode the flat object.

    :raises Nameless: it has no name.
    """
    networks = (wire.spec and wire.spec.networks) or ()
    interfaces = (wire.status and wire.status.interfaces) or ()
    primary = next((n.name for n in networks if _is_primary(n)), None)
    return VirtualMachineInstance(
        read_bare_metadata(wire.metadata),
        tuple([Interface(intern(i.name), _addresses(i)) for i in interfaces if i.name and i.name != primary]),
    )


def _addresses(interface: _Interface) -> tuple[str, ...]:
    first, addresses = interface.ip_address, interface.ip_addresses or ()
    return (first, *addresses) if first and addresses[:1] != (first,) else addresses
