"""Small typed copies of API objects, and how bytes become them.

What it is: one frozen struct per kind with exactly the fields that decide records, and the decoders
for lists, watch events and manifest files.  Decoding goes through *wire* structs that have the shape
of the JSON and take ``null`` everywhere; what callers see is flat and never ``None`` unless ``None``
means something of its own (an endpoint's readiness).  One module per kind; :mod:`.kinds` has the
table, :mod:`.codec` and :mod:`.manifests` the decoders.  Callers import from here.

What it may know: the API's JSON.  What it must never do: touch a file or a socket.

Every field costs memory a hundred thousand times; add one only when a record depends on it.
"""

from kube2etcd.kube.objects.codec import Event, Page, decode_event, decode_list
from kube2etcd.kube.objects.common import TENANT_CLUSTER_IP, Metadata, Rejected
from kube2etcd.kube.objects.dns_endpoints import DnsEndpoint
from kube2etcd.kube.objects.endpointslices import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointPort,
    EndpointSlice,
)
from kube2etcd.kube.objects.kinds import KINDS, ApiObject, Kind
from kube2etcd.kube.objects.machines import Interface, VirtualMachineInstance
from kube2etcd.kube.objects.manifests import Manifests, decode_manifests
from kube2etcd.kube.objects.pods import Namespace, Pod
from kube2etcd.kube.objects.services import Ingress, Port, Service

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
