"""API objects as small typed structs, and their decoders for lists, watch events and manifest files.

Callers import from here.  No I/O.
"""

from kube2etcd.kube.objects.codec import Event, Page, decode_event, decode_list
from kube2etcd.kube.objects.dns_endpoints import DnsEndpoint
from kube2etcd.kube.objects.kinds import KINDS, ApiObject, Kind
from kube2etcd.kube.objects.manifests import Manifests, decode_manifests
from kube2etcd.kube.objects.model import (
    SERVICE_NAME_LABEL,
    TENANT_CLUSTER_IP,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Port,
    Rejected,
    Service,
    VirtualMachineInstance,
)

__all__ = [
    "KINDS",
    "SERVICE_NAME_LABEL",
    "TENANT_CLUSTER_IP",
    "ApiObject",
    "DnsEndpoint",
    "Endpoint",
    "EndpointPort",
    "EndpointSlice",
    "Event",
    "Ingress",
    "Interface",
    "Kind",
    "Manifests",
    "Metadata",
    "Namespace",
    "Page",
    "Pod",
    "Port",
    "Rejected",
    "Service",
    "VirtualMachineInstance",
    "decode_event",
    "decode_list",
    "decode_manifests",
]
