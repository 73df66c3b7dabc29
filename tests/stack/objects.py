"""API objects as JSON, as clients write them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.stack.kubeclient import Object

#: The label with which an EndpointSlice names its Service.
SERVICE_NAME = "kubernetes.io/service-name"
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


def api_object(api_version: str, kind: str, name: str, namespace: str = "", **more: Any) -> Object:
    """An object with these fields; ``labels``, ``annotations`` and ``finalizers`` go into the metadata."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    for part in ("labels", "annotations", "finalizers"):
        if part in more:
            metadata[part] = more.pop(part)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def port(name: str, number: int, protocol: str = "TCP") -> Object:
    return {"name": name, "port": number, "protocol": protocol}


HTTP = port("http", 80)


def namespace(name: str, **labels: str) -> Object:
    return api_object("v1", "Namespace", name, labels=labels)


def service(
    name: str,
    namespace: str = "default",
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    status: Sequence[str] = (),
    **spec: Any,
) -> Object:
    """A Service, by default with port http; ``status``: addresses or host names of its load balancer."""
    spec = {"ports": [HTTP], **spec}
    if not spec["ports"]:
        del spec["ports"]
    marks = {"labels": dict(labels or {}), "annotations": dict(annotations or {})}
    one = api_object("v1", "Service", name, namespace, **marks, spec=spec)
    if status:
        ingress = [{"hostname" if re.search("[g-z]", part) else "ip": part} for part in status]
        one["status"] = {"loadBalancer": {"ingress": ingress}}
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
    """An EndpointSlice of the Service ``of``, or of none."""
    made = api_object("discovery.k8s.io/v1", "EndpointSlice", name, namespace)
    made["metadata"]["labels"] = {SERVICE_NAME: of} if of else {}
    return {**made, "addressType": family, "endpoints": list(endpoints), "ports": list(ports)}


def endpoints(name: str, *addresses: str, namespace: str = "default", number: int = 0) -> Object:
    """A slice of ready endpoints of the Service ``name``, all of one family."""
    ready = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
    family = "IPv6" if ":" in addresses[0] else "IPv4"
    return endpoint_slice(f"{name}-{number}", name, ready, namespace=namespace, family=family)


def large_headless_services(slices: int) -> list[Object]:
    """Headless Services with 1,000 endpoints each: many keys of few objects."""
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
    spec = {"automountServiceAccountToken": False, "containers": [{"name": "c", "image": "example.com/none"}]}
    return api_object("v1", "Pod", name, namespace, **metadata, spec=spec, status=status)


def vmi(namespace: str, name: str, *interfaces: Object, **more: Any) -> Object:
    """A VMI on the pod network, with these further interfaces."""
    own = [{"name": one["name"], "multus": {"networkName": "x"}} for one in interfaces if one.get("name")]
    first = nic("default", "10.244.1.20", "fd10:244::20")
    spec = {"domain": {}, "networks": [{"name": "default", "pod": {}}, *own]}
    status = {"phase": "Running", "interfaces": [first, *interfaces], **more}
    return api_object("kubevirt.io/v1", "VirtualMachineInstance", name, namespace, spec=spec, status=status)


def nic(name: str, *addresses: str) -> Object:
    """An interface in a VMI's status; one without a name is reported by the guest agent alone."""
    one: Object = {"name": name} if name else {"interfaceName": "docker0"}
    return {**one, "ipAddress": addresses[0], "ipAddresses": list(addresses)} if addresses else one


def endpoint(name: str, rtype: str, *targets: str, **more: Any) -> Object:
    """An ExternalDNS endpoint as JSON."""
    return {"dnsName": name, "recordType": rtype, "targets": list(targets), **more}


def dns_endpoint(name: str, *endpoints: Object) -> Object:
    spec = {"endpoints": list(endpoints)}
    return api_object("externaldns.k8s.io/v1alpha1", "DNSEndpoint", name, "default", spec=spec)
