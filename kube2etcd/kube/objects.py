"""API objects as small typed structs, and the kinds that can be listed and watched.

Fields cost memory per object: add only what records need.  `kube2etcd.kube.codec` reads them from JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

from kube2etcd import external
from kube2etcd.errors import ApiError

TENANT_CLUSTER_IP: Final = "transparency.tenancy.x-k8s.io/clusterIP"
"""Annotation of VirtualCluster: the cluster IP of a tenant's Service in the super cluster."""

PortNumber = Annotated[int, Meta(ge=0, le=65535)]
"""Range of an SRV port.  CoreDNS cannot decode a value beyond Go's int, and fails every name above it."""

EMPTY: Final[Mapping[str, str]] = {}
"""Shared by all objects without labels."""


class Metadata(Struct, frozen=True, gc=False):
    """Identity and age.  Labels are kept where selectors read them: Services and Namespaces.

    It has no resourceVersion, so that objects differing in nothing else are equal.
    """

    namespace: str
    name: str
    creation_timestamp: str = ""
    """RFC 3339 in UTC as the server writes it, so it sorts as text; empty when unknown."""
    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY
    """Only :data:`TENANT_CLUSTER_IP`; decoding drops all others."""


class ServicePort(Struct, frozen=True, gc=False):
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
    ports: tuple[ServicePort, ...] = ()
    load_balancer: tuple[Ingress, ...] = ()


class EndpointPort(Struct, frozen=True, gc=False):
    """A port of an EndpointSlice; ``None`` means every port."""

    name: str = ""
    protocol: str = "TCP"
    port: PortNumber | None = None


class SliceEndpoint(Struct, frozen=True, gc=False):
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
    endpoints: tuple[SliceEndpoint, ...] = ()


class Namespace(Struct, frozen=True, gc=False):
    """A namespace; ``metadata.namespace`` is empty."""

    metadata: Metadata


class Pod(Struct, frozen=True, gc=False):
    """A pod's addresses and phase."""

    metadata: Metadata
    pod_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    phase: str = ""


class Interface(Struct, frozen=True, gc=False):
    """A network interface in the VMI's status, with its addresses as the guest reports them."""

    name: str
    addresses: tuple[str, ...] = ()


class VirtualMachineInstance(Struct, frozen=True, gc=False):
    """A running KubeVirt machine.

    Its interfaces exclude that of the primary network (the spec's first with ``pod`` or ``multus.default``)
    and those that only the guest agent reports, which have no name.
    """

    metadata: Metadata
    interfaces: tuple[Interface, ...] = ()


class DnsEndpoint(Struct, frozen=True, gc=False):
    """Endpoints requested by a DNSEndpoint or the webhook."""

    metadata: Metadata
    endpoints: tuple[external.Endpoint, ...] = ()
    refused: Mapping[str, str] = EMPTY
    """Names that the webhook refused, with the reason."""


ApiObject: TypeAlias = Service | EndpointSlice | Namespace | Pod | VirtualMachineInstance | DnsEndpoint


class Rejected(Struct, frozen=True, gc=False):
    """An object that cannot be read, and why; ``kind`` is the key in :data:`KINDS`."""

    kind: str
    namespace: str
    name: str
    reason: str


class Event(Struct, frozen=True, gc=False):
    """One line of a watch.

    ``type`` is ADDED, MODIFIED, DELETED, BOOKMARK, or a type unknown to us.
    For an object that cannot be read, ``object`` is None and ``rejected`` has the reason; namespace and name
    are known all the same, and DELETED needs no more.
    """

    type: str
    object: ApiObject | None = None
    namespace: str = ""
    name: str = ""
    resource_version: str = ""
    rejected: Rejected | None = None


class Listed(Struct, frozen=True):
    """A complete list of a kind: these are all objects there are."""

    kind: str
    objects: Sequence[ApiObject]
    rejected: Sequence[Rejected] = ()


class Changed(Struct, frozen=True):
    """One object was added, modified or deleted."""

    kind: str
    event: Event


class Failing(Struct, frozen=True):
    """A kind cannot be listed or watched since ``since`` (clock seconds), that of the first failure.

    ``absent``: the kind is optional and not installed; a failure after that is a first one.
    """

    kind: str
    since: float
    absent: bool = False
    error: ApiError | None = None


class Healthy(Struct, frozen=True):
    """A watch is open, for the first time or after a failure."""

    kind: str


KindEvent: TypeAlias = Listed | Changed | Failing | Healthy


class Kind(Struct, frozen=True, gc=False):
    """A kind of object to list and watch."""

    name: str
    """The plural: key in :data:`KINDS`, in paths and in metrics."""
    group: str
    version: str
    kind: str
    """As manifests write it: ``Service``."""
    type: type[ApiObject]
    optional: bool = False
    """It is no error if the server does not know the kind."""
    namespaced: bool = True
    field_selector: str = ""

    def path(self, namespace: str | None = None) -> str:
        """URL path of the list, of all namespaces or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{within}/{self.name}"

    @property
    def resource(self) -> str:
        """As RBAC rules and ``kubectl`` name it: ``endpointslices.discovery.k8s.io``."""
        return f"{self.name}.{self.group}" if self.group else self.name


# A finished pod has released its address; filtering on the server also saves transfer.
_UNFINISHED: Final = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("services", "", "v1", "Service", Service),
        Kind("endpointslices", "discovery.k8s.io", "v1", "EndpointSlice", EndpointSlice),
        Kind("namespaces", "", "v1", "Namespace", Namespace, namespaced=False),
        Kind("pods", "", "v1", "Pod", Pod, field_selector=_UNFINISHED),
        Kind(
            "virtualmachineinstances",
            "kubevirt.io",
            "v1",
            "VirtualMachineInstance",
            VirtualMachineInstance,
            optional=True,
        ),
        Kind("dnsendpoints", "externaldns.k8s.io", "v1alpha1", "DNSEndpoint", DnsEndpoint, optional=True),
    )
}
"""Every kind, by its plural."""
