"""API objects as plain JSON, as clients write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.stack.kubeclient import Object

#: The label by which a slice names its Service.
SERVICE_NAME = "kubernetes.io/service-name"
HTTP: Object = {"name": "http", "port": 80, "protocol": "TCP"}
_CRDS = Path(__file__).parent / "crds"


def identity(one: Object) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def vmi_crd() -> Object:
    return _crd("virtualmachineinstances")


def dns_endpoint_crd() -> Object:
    return _crd("dnsendpoints")


def _crd(name: str) -> Object:
    crd: Object = yaml.safe_load((_CRDS / f"{name}.yaml").read_text())
    return crd


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def service(
    name: str,
    namespace: str = "default",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    status: Sequence[str] = (),
    **spec: Any,
) -> Object:
    """A Service, with the port http unless told otherwise; ``status``: a load balancer's addresses."""
    metadata: Object = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
    metadata["annotations"] = dict(annotations or {})
    spec = {"ports": [HTTP], **spec}
    if not spec["ports"]:
        del spec["ports"]
    one: Object = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    if status:
        one["status"] = {"loadBalancer": {"ingress": [{"ip": address} for address in status]}}
    return one


def external(name: str, target: str, namespace: str = "default") -> Object:
    return service(name, namespace, ports=None, type="ExternalName", externalName=target)


def services(count: int) -> list[Object]:
    return [service(f"s{number:03d}") for number in range(count)]


def endpoint_slice(
    name: str,
    of: str,
    endpoints: Sequence[Object],
    *,
    namespace: str = "default",
    family: str = "IPv4",
    ports: Sequence[Object] = (HTTP,),
) -> Object:
    """An EndpointSlice of the Service ``of``; of none where that is empty."""
    labels = {SERVICE_NAME: of} if of else {}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def endpoints(name: str, *addresses: str, namespace: str = "default", number: int = 0) -> Object:
    """A slice of ready endpoints of the Service ``name``, of one family."""
    ready = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
    family = "IPv6" if ":" in addresses[0] else "IPv4"
    return endpoint_slice(f"{name}-{number}", name, ready, namespace=namespace, family=family)


def bulk(slices: int) -> list[Object]:
    """Headless Services with a thousand endpoints each: many keys from few objects."""
    objects = []
    for number in range(slices):
        name = f"bulk{number}"
        addresses = [f"10.{64 + number}.{one // 250}.{one % 250 + 1}" for one in range(1000)]
        objects += [service(name, clusterIP="None"), endpoints(name, *addresses)]
    return objects


def pod(
    name: str, *addresses: str, namespace: str = "default", phase: str = "Running", **metadata: Any
) -> Object:
    status: Object = {"phase": phase}
    if addresses:
        status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "image": "example.com/none"}],
        },
        "status": status,
    }


def vmi(namespace: str, name: str, *interfaces: Object, **more: Any) -> Object:
    """A machine with a pod network and these interfaces."""
    own = [{"name": one["name"], "multus": {"networkName": "x"}} for one in interfaces if one.get("name")]
    first = nic("default", "10.244.1.20", "fd10:244::20")
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"domain": {}, "networks": [{"name": "default", "pod": {}}, *own]},
        "status": {"phase": "Running", "interfaces": [first, *interfaces], **more},
    }


def nic(name: str, *addresses: str) -> Object:
    """One interface of a machine's status; without a name, as the guest agent reports its own."""
    one: Object = {"name": name} if name else {"interfaceName": "docker0"}
    return {**one, "ipAddress": addresses[0], "ipAddresses": list(addresses)} if addresses else one


def endpoint(name: str, rtype: str, *targets: str, **more: Any) -> Object:
    """One endpoint of ExternalDNS in its JSON."""
    return {"dnsName": name, "recordType": rtype, "targets": list(targets), **more}


def dns_endpoint(name: str, *endpoints: Object) -> Object:
    return {
        "apiVersion": "externaldns.k8s.io/v1alpha1",
        "kind": "DNSEndpoint",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"endpoints": list(endpoints)},
    }
