"""Fields read from each kind, null in any place; URL paths and names of kinds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kube2etcd import external
from kube2etcd.kube.codec import decode_list
from kube2etcd.kube.objects import (
    KINDS,
    TENANT_CLUSTER_IP,
    ApiObject,
    DnsEndpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    VirtualMachineInstance,
)
from kube2etcd.kube.wire import SERVICE_NAME_LABEL
from tests.kube.bodies import META, body, read_one

X, BARE = Metadata("demo", "x"), Metadata("", "x")

YAML = f"""
services:
  metadata:
    namespace: demo
    name: x
    uid: u1
    resourceVersion: "42"
    creationTimestamp: "2026-01-02T03:04:05Z"
    labels: {{app: web}}
    annotations: {{{TENANT_CLUSTER_IP}: 10.9.9.9, big: {"x" * 1000}}}
    managedFields: [{{manager: kubectl, fieldsV1: {{"f:spec": {{}}}}}}]
    ownerReferences: [{{name: owner}}]
  spec:
    type: LoadBalancer
    clusterIP: 10.0.0.1
    clusterIPs: [10.0.0.1, "fd00:10::1"]
    externalName: ""
    externalIPs: [192.0.2.1]
    publishNotReadyAddresses: true
    selector: {{app: web}}
    ports: [{{name: http, protocol: TCP, port: 80, targetPort: web, nodePort: 3}}]
  status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.9}}, {{hostname: lb.example}}]}}}}
endpointslices:
  metadata: {{namespace: demo, name: x, labels: {{{SERVICE_NAME_LABEL}: web, other: dropped}}}}
  addressType: IPv4
  ports: [{{name: http, protocol: UDP, port: 8080}}, {{name: "", port: null}}]
  endpoints:
  - addresses: [10.1.0.1]
    conditions: {{ready: true, serving: true, terminating: false}}
    hostname: web-0
    nodeName: n1
    targetRef: {{kind: Pod, name: web-0, namespace: demo}}
  - {{addresses: [10.1.0.2], conditions: {{}}}}
namespaces: {{metadata: {{name: x, labels: {{team: a}}}}, status: {{phase: Active}}}}
pods:
  metadata: {{namespace: demo, name: x, labels: {{app: dropped}}, deletionTimestamp: "2026-01-01T00:00:00Z"}}
  spec: {{hostNetwork: true, containers: [{{}}]}}
  status: {{phase: Running, podIP: 10.2.0.1, podIPs: [{{ip: 10.2.0.1}}, {{ip: "fd::1"}}]}}
virtualmachineinstances:
  metadata: {{namespace: demo, name: x}}
  spec:
    networks:
    - {{name: sec1, multus: {{networkName: n}}}}
    - {{name: main, pod: {{}}}}
    - {{name: other, multus: {{default: true}}}}
  status:
    phase: Running
    interfaces:
    - {{name: main, ipAddress: 10.244.0.5, ipAddresses: [10.244.0.5]}}
    - name: sec1
      ipAddress: 192.0.2.5
      ipAddresses: [192.0.2.5, "2001:db8::5"]
      infoSource: domain, guest-agent
      mac: "02:00:00:00:00:01"
      queueCount: 1
    - {{interfaceName: docker0, ipAddress: 172.17.0.1}}
dnsendpoints:
  metadata: {{namespace: demo, name: x, generation: 3}}
  spec:
    endpoints:
    - dnsName: a.dtk.io
      recordType: A
      targets: [10.0.0.1]
      recordTTL: 60
      setIdentifier: one
      labels: {{owner: me}}
  status: {{observedGeneration: 3}}
"""
ITEMS: dict[str, dict[str, Any]] = yaml.safe_load(YAML)
READ: dict[str, ApiObject] = {
    "services": Service(
        Metadata("demo", "x", "2026-01-02T03:04:05Z", {"app": "web"}, {TENANT_CLUSTER_IP: "10.9.9.9"}),
        "LoadBalancer",
        "10.0.0.1",
        ("10.0.0.1", "fd00:10::1"),
        "",
        ("192.0.2.1",),
        (ServicePort("http", "TCP", 80),),
        (Ingress("192.0.2.9", ""), Ingress("", "lb.example")),
    ),
    "endpointslices": EndpointSlice(
        X,
        "web",
        "IPv4",
        (EndpointPort("http", "UDP", 8080), EndpointPort("", "TCP", None)),
        (SliceEndpoint(("10.1.0.1",), True, "web-0"), SliceEndpoint(("10.1.0.2",))),
    ),
    "namespaces": Namespace(Metadata("", "x", labels={"team": "a"})),
    "pods": Pod(X, "10.2.0.1", ("10.2.0.1", "fd::1"), "Running"),
    "virtualmachineinstances": VirtualMachineInstance(X, (Interface("sec1", ("192.0.2.5", "2001:db8::5")),)),
    "dnsendpoints": DnsEndpoint(
        X, (external.Endpoint("a.dtk.io", ("10.0.0.1",), "A", "one", 60, {"owner": "me"}),)
    ),
}
every_kind = pytest.mark.parametrize("kind", ITEMS)


@every_kind
def test_fields_are_read(kind: str) -> None:
    assert read_one(kind, ITEMS[kind]) == READ[kind]


def fields(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field in a JSON value."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*place, key)
            yield from fields(one, (*place, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from fields(one, (*place, number))


@every_kind
def test_null_field_equals_an_absent_one(kind: str) -> None:
    item = ITEMS[kind]
    for *above, key in fields(item):
        null, absent = copy.deepcopy(item), copy.deepcopy(item)
        functools.reduce(lambda value, step: value[step], above, null)[key] = None
        del functools.reduce(lambda value, step: value[step], above, absent)[key]
        if "labels" not in above:  # a null label is an empty string
            read = [decode_list(KINDS[kind], body([one], KINDS[kind].kind)) for one in (null, absent)]
            assert read[0] == read[1], (above, key)


@every_kind
def test_object_with_only_a_name(kind: str) -> None:
    assert read_one(kind, {"metadata": {"name": "x"}}) == type(READ[kind])(Metadata("", "x"))


VMIS = "virtualmachineinstances"
MULTUS = "spec: {networks: [{name: a, multus: {default: true}}]}"
NAMELESS = "spec: {networks: [{pod: {vmNetworkCIDR: 10.0.0.0/24}}]}"
TWO = "status: {interfaces: [{name: a, ipAddress: 10.0.0.1, ipAddresses: ['fd00::1']}, {name: b}]}"
A, B = Interface("a", ("10.0.0.1", "fd00::1")), Interface("b")


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        ("services", "metadata: {name: x, labels: {a: null}}", Service(Metadata("", "x", "", {"a": ""}))),
        ("endpointslices", "{metadata: {name: x}, endpoints: null, ports: null}", EndpointSlice(BARE)),
        (VMIS, f"metadata: {{name: x}}\n{MULTUS}\n{TWO}", VirtualMachineInstance(BARE, (B,))),
        (VMIS, f"metadata: {{name: x}}\n{NAMELESS}\n{TWO}", VirtualMachineInstance(BARE, (A, B))),
        (
            "services",
            "{metadata: {name: x}, spec: {type: '', ports: [{port: 53, protocol: ''}]}}",
            Service(BARE, ports=(ServicePort("", "TCP", 53),)),
        ),
    ],
    ids=[
        "null label",
        "null lists",
        "multus default is primary",
        "primary network without a name",
        "empty string counts as the default",
    ],
)
def test_unusual_fields(kind: str, item: str, expected: ApiObject) -> None:
    assert read_one(kind, yaml.safe_load(item)) == expected


@pytest.mark.parametrize(
    ("name", "namespace", "path"),
    [
        ("services", None, "/api/v1/services"),
        ("services", "demo", "/api/v1/namespaces/demo/services"),
        ("endpointslices", None, "/apis/discovery.k8s.io/v1/endpointslices"),
        ("namespaces", "demo", "/api/v1/namespaces"),
        (VMIS, "a", f"/apis/kubevirt.io/v1/namespaces/a/{VMIS}"),
    ],
)
def test_path(name: str, namespace: str | None, path: str) -> None:
    assert KINDS[name].path(namespace) == path


def test_malformed_endpoint_rejects_only_its_object() -> None:
    malformed = {"metadata": {**META, "name": "malformed"}, "spec": {"endpoints": [{"dnsName": 7}]}}
    null = {"metadata": META, "spec": {"endpoints": [None]}}
    page = decode_list(KINDS["dnsendpoints"], body([malformed, null], "DNSEndpoint"))
    assert page.items == [DnsEndpoint(X)]
    assert [(one.kind, one.name) for one in page.rejected] == [("dnsendpoints", "malformed")]


def test_resource_is_named_as_in_rbac() -> None:
    assert KINDS["services"].resource == "services"
    assert KINDS["endpointslices"].resource == "endpointslices.discovery.k8s.io"
    assert [k.name for k in KINDS.values() if k.optional] == ["virtualmachineinstances", "dnsendpoints"]
