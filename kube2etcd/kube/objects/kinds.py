"""The table of kinds: API path, wire struct and reader of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from kube2etcd.kube.objects.dns_endpoints import DnsEndpoint, WireDnsEndpoint, read_dns_endpoint
from kube2etcd.kube.objects.model import (
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    VirtualMachineInstance,
    Wire,
    WireEndpointSlice,
    WireNamespace,
    WirePod,
    WireService,
    WireVmi,
    read_endpoint_slice,
    read_namespace,
    read_pod,
    read_service,
    read_vmi,
)

ApiObject: TypeAlias = Service | EndpointSlice | Namespace | Pod | VirtualMachineInstance | DnsEndpoint


class Kind(Struct, frozen=True, gc=False):
    """A kind of object that is listed and watched."""

    name: str
    """Key in :data:`KINDS` and label in metrics: the plural."""
    group: str
    version: str
    plural: str
    kind: str
    """As manifests write it: ``Service``."""
    wire: type[Wire]
    """Shape of the object's JSON."""
    type: type[ApiObject]
    """Flat struct for callers."""
    read: Callable[[Any], ApiObject]
    """Wire struct to flat struct."""
    optional: bool = False
    """The kind may be missing on the server without that being an error."""
    namespaced: bool = True
    label_selector: str = ""
    field_selector: str = ""

    def path(self, namespace: str | None = None) -> str:
        """URL path of the list, of all namespaces or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace and self.namespaced:
            return f"{root}/namespaces/{namespace}/{self.plural}"
        return f"{root}/{self.plural}"

    @property
    def resource(self) -> str:
        """As RBAC rules and ``kubectl`` name it: ``endpointslices.discovery.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("services", "", "v1", "services", "Service", WireService, Service, read_service),
        Kind(
            "endpointslices",
            "discovery.k8s.io",
            "v1",
            "endpointslices",
            "EndpointSlice",
            WireEndpointSlice,
            EndpointSlice,
            read_endpoint_slice,
        ),
        Kind(
            "namespaces",
            "",
            "v1",
            "namespaces",
            "Namespace",
            WireNamespace,
            Namespace,
            read_namespace,
            namespaced=False,
        ),
        Kind(
            "pods",
            "",
            "v1",
            "pods",
            "Pod",
            WirePod,
            Pod,
            read_pod,
            # A finished pod has released its address; filtering on the server saves its bytes as well.
            field_selector="status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown",
        ),
        Kind(
            "virtualmachineinstances",
            "kubevirt.io",
            "v1",
            "virtualmachineinstances",
            "VirtualMachineInstance",
            WireVmi,
            VirtualMachineInstance,
            read_vmi,
            optional=True,
        ),
        Kind(
            "dnsendpoints",
            "externaldns.k8s.io",
            "v1alpha1",
            "dnsendpoints",
            "DNSEndpoint",
            WireDnsEndpoint,
            DnsEndpoint,
            read_dns_endpoint,
            optional=True,
        ),
    )
}
"""Every kind there is, by its plural."""
