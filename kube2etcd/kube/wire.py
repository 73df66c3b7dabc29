"""API objects as in JSON, and their conversion to the flat ones of `kube2etcd.kube.objects`.

Unknown fields are skipped.  A field has a default unless an object without it is malformed, and accepts null
only where the API server writes it: `kube2etcd.kube.codec` drops all other nulls.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from sys import intern
from typing import Any, Final, TypeAlias, dataclass_transform

import msgspec
from msgspec import Struct, field

from kube2etcd import external
from kube2etcd.kube.objects import (
    EMPTY,
    TENANT_CLUSTER_IP,
    DnsEndpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    PortNumber,
    Service,
    ServicePort,
    SliceEndpoint,
    VirtualMachineInstance,
)

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label by which an EndpointSlice names its Service."""

ENDPOINTS: Final = "kube2etcd/endpoints"
"""Annotation of a DNSEndpoint with packed endpoints of the webhook's state.

ExternalDNS's crd source publishes and deletes the names in ``spec.endpoints``, so the state leaves it empty.
"""

HEAD: Final = "kube2etcd/webhook"
"""Annotation of a DNSEndpoint with the head of that state: domains, cluster address, refused names."""

GENERATION: Final = "kube2etcd/generation"
"""Annotation of a DNSEndpoint of that state that counts its changes."""

MAX_UNPACKED: Final = 16 << 20
"""Bytes of one object's endpoints; compressed, they must fit into the 256 KiB of all annotations."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))  # mypy does not inherit it
class Wire(Struct, frozen=True, gc=False, rename="camel"):
    """Base of all structs here."""


class _Annotations(Wire):
    """A struct rather than a dict, so other annotations are skipped without allocation."""

    tenant_cluster_ip: str = field(default="", name=TENANT_CLUSTER_IP)
    endpoints: str = field(default="", name=ENDPOINTS)
    head: str = field(default="", name=HEAD)
    generation: str = field(default="", name=GENERATION)


class WireMetadata(Wire):
    """Identity, age and annotations; labels are skipped where they are not used."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    annotations: _Annotations = _Annotations()

    def read(self, labels: Mapping[str, str] = EMPTY) -> Metadata:
        """The flat struct.

        :raises ValueError: it has no name.
        """
        if not self.name:
            raise ValueError("metadata.name is missing")
        tenant = self.annotations.tenant_cluster_ip
        annotations = {TENANT_CLUSTER_IP: tenant} if tenant else EMPTY
        return Metadata(
            intern(self.namespace), self.name, self.creation_timestamp, labels or EMPTY, annotations
        )


class _LabelledMetadata(WireMetadata):
    labels: dict[str, str] = {}


class _Port(Wire):
    port: PortNumber
    name: str = ""
    protocol: str = ""


class _LoadBalancer(Wire):
    ingress: tuple[Ingress, ...] = ()


class _ServiceSpec(Wire):
    type: str = ""
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    external_name: str = ""
    external_ips: tuple[str, ...] = field(default=(), name="externalIPs")
    ports: tuple[_Port, ...] = ()


class _ServiceStatus(Wire):
    load_balancer: _LoadBalancer = _LoadBalancer()


class _Service(Wire):
    metadata: _LabelledMetadata
    spec: _ServiceSpec = _ServiceSpec()
    status: _ServiceStatus = _ServiceStatus()

    def read(self) -> Service:
        spec = self.spec
        return Service(
            self.metadata.read(self.metadata.labels),
            spec.type or "ClusterIP",
            spec.cluster_ip,
            spec.cluster_ips,
            spec.external_name,
            spec.external_ips,
            tuple([ServicePort(one.name, one.protocol or "TCP", one.port) for one in spec.ports]),
            self.status.load_balancer.ingress,
        )


class _SliceLabels(Wire):
    service_name: str = field(default="", name=SERVICE_NAME_LABEL)


class _SliceMetadata(WireMetadata):
    labels: _SliceLabels = _SliceLabels()


class _Conditions(Wire):
    ready: bool | None = None


class _Endpoint(Wire):
    addresses: tuple[str, ...] = ()
    conditions: _Conditions = _Conditions()
    hostname: str = ""


class _EndpointSlice(Wire):
    metadata: _SliceMetadata
    address_type: str = ""
    # The API server writes null if there are none.
    ports: tuple[EndpointPort, ...] | None = None
    endpoints: tuple[_Endpoint, ...] | None = None

    def read(self) -> EndpointSlice:
        return EndpointSlice(
            self.metadata.read(),
            self.metadata.labels.service_name,
            self.address_type,
            self.ports or (),
            tuple([SliceEndpoint(e.addresses, e.conditions.ready, e.hostname) for e in self.endpoints or ()]),
        )


class _Namespace(Wire):
    metadata: _LabelledMetadata

    def read(self) -> Namespace:
        return Namespace(self.metadata.read(self.metadata.labels))


class _PodIP(Wire):
    ip: str = ""


class _PodStatus(Wire):
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[_PodIP, ...] = field(default=(), name="podIPs")


class _Pod(Wire):
    metadata: WireMetadata
    status: _PodStatus = _PodStatus()

    def read(self) -> Pod:
        status = self.status
        ips = tuple([one.ip for one in status.pod_ips if one.ip])
        return Pod(self.metadata.read(), status.pod_ip, ips, status.phase)


class _Multus(Wire):
    default: bool = False


class _Network(Wire):
    name: str | None = None
    pod: Wire | None = None  # only its presence matters
    multus: _Multus = _Multus()


class _VmiSpec(Wire):
    networks: tuple[_Network, ...] = ()


class _Interface(Wire):
    name: str = ""
    ip_address: str = ""
    ip_addresses: tuple[str, ...] = ()

    def read(self) -> Interface:
        first, addresses = self.ip_address, self.ip_addresses
        if first and addresses[:1] != (first,):
            addresses = (first, *addresses)
        return Interface(intern(self.name), addresses)


class _VmiStatus(Wire):
    interfaces: tuple[_Interface, ...] = ()


class _Vmi(Wire):
    metadata: WireMetadata
    spec: _VmiSpec = _VmiSpec()
    status: _VmiStatus = _VmiStatus()

    def read(self) -> VirtualMachineInstance:
        primary = next(
            (one.name for one in self.spec.networks if one.pod is not None or one.multus.default), None
        )
        others = [one.read() for one in self.status.interfaces if one.name and one.name != primary]
        return VirtualMachineInstance(self.metadata.read(), tuple(others))


class _DnsEndpointSpec(Wire):
    # Untyped: the reader of endpoints keeps fields unknown to this version.
    endpoints: list[Any] = []


class _Head(Struct):
    refused: dict[str, str] = {}


class WireDnsEndpoint(Wire):
    """A DNSEndpoint, also used to store the webhook's state."""

    metadata: WireMetadata
    spec: _DnsEndpointSpec = _DnsEndpointSpec()

    def read(self) -> DnsEndpoint:
        """The flat object, with the endpoints of spec and annotation."""
        annotations = self.metadata.annotations
        endpoints = [*self.spec.endpoints, *unpack(annotations.endpoints)]
        try:
            refused = msgspec.json.decode(annotations.head or "{}", type=_Head).refused
        except (ValueError, RecursionError):
            refused = {}  # the webhook reports a damaged head
        return DnsEndpoint(
            self.metadata.read(),
            tuple([external.Endpoint.from_json(one) for one in endpoints if one is not None]),
            refused,
        )


WireObject: TypeAlias = _Service | _EndpointSlice | _Namespace | _Pod | _Vmi | WireDnsEndpoint
"""``read`` returns the flat object; ValueError: wrong in a way that types do not show."""

WIRES: Final[Mapping[str, type[WireObject]]] = {
    "services": _Service,
    "endpointslices": _EndpointSlice,
    "namespaces": _Namespace,
    "pods": _Pod,
    "virtualmachineinstances": _Vmi,
    "dnsendpoints": WireDnsEndpoint,
}
"""By name of the kind."""


def pack(endpoints: bytes) -> str:
    """The JSON of a list of endpoints, encoded for `ENDPOINTS`; deterministic."""
    return base64.b64encode(zlib.compress(endpoints, 6)).decode("ascii") if endpoints != b"[]" else ""


def unpack(text: str) -> list[Any]:
    """The decoded JSON that was given to `pack`.

    :raises InvalidEndpoint: the text is not from `pack`, or unpacks to more than `MAX_UNPACKED`.
    """
    if not text:
        return []
    try:
        inflating = zlib.decompressobj()
        data = inflating.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED)
        found = msgspec.json.decode(data) if inflating.eof else None
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise external.InvalidEndpoint(f"the annotation {ENDPOINTS} is damaged")
    return found
