"""API objects as small typed structs, and their decoders for lists and watch events.

Callers import from here, but for manifests, whose YAML a bridge need not read.  No I/O.
"""

from kube2etcd.kube.objects.codec import KINDS as KINDS
from kube2etcd.kube.objects.codec import ApiObject as ApiObject
from kube2etcd.kube.objects.codec import Event as Event
from kube2etcd.kube.objects.codec import Kind as Kind
from kube2etcd.kube.objects.codec import decode_event as decode_event
from kube2etcd.kube.objects.codec import decode_list as decode_list
from kube2etcd.kube.objects.dns_endpoints import DnsEndpoint as DnsEndpoint
from kube2etcd.kube.objects.model import SERVICE_NAME_LABEL as SERVICE_NAME_LABEL
from kube2etcd.kube.objects.model import TENANT_CLUSTER_IP as TENANT_CLUSTER_IP
from kube2etcd.kube.objects.model import Endpoint as Endpoint
from kube2etcd.kube.objects.model import EndpointPort as EndpointPort
from kube2etcd.kube.objects.model import EndpointSlice as EndpointSlice
from kube2etcd.kube.objects.model import Ingress as Ingress
from kube2etcd.kube.objects.model import Interface as Interface
from kube2etcd.kube.objects.model import Metadata as Metadata
from kube2etcd.kube.objects.model import Namespace as Namespace
from kube2etcd.kube.objects.model import Pod as Pod
from kube2etcd.kube.objects.model import Port as Port
from kube2etcd.kube.objects.model import Rejected as Rejected
from kube2etcd.kube.objects.model import Service as Service
from kube2etcd.kube.objects.model import VirtualMachineInstance as VirtualMachineInstance
