"""Fields read from each kind, null everywhere; URL paths and names of kinds."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest

from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.codec import decode_list
from kube2etcd.kube.objects import (
    KINDS,
    TENANT_CLUSTER_IP,
    ApiObject,
    DnsEndpoint,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Port,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.kube.wire import SERVICE_NAME_LABEL
from tests.kube.bodies import META, body, read_one

X = Metadata("demo", "x")

FULL: list[tuple[str, dict[str, Any], ApiObject]] = [
    (
        "services",
        {
            "metadata": {
                **META,
                "uid": "u1",
                "resourceVersion": "42",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"app": "web"},
                "annotations": {TENANT_CLUSTER_IP: "10.9.9.9", "big": "x" * 1000},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
                "ownerReferences": [{"name": "owner"}],
            },
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1", "fd00:10::1"],
                "externalName": "",
                "externalIPs": ["192.0.2.1"],
                "publishNotReadyAddresses": True,
                "selector": {"app": "web"},
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 3}
                ],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "lb.example"}]}},
        },
        Service(
            Metadata("demo", "x", "2026-01-02T03:04:05Z", {"app": "web"}, {TENANT_CLUSTER_IP: "10.9.9.9"}),
            "LoadBalancer",
            "10.0.0.1",
            ("10.0.0.1", "fd00:10::1"),
            "",
            ("192.0.2.1",),
            (Port("http", "TCP", 80),),
            (Ingress("192.0.2.9", ""), Ingress("", "lb.example")),
        ),
    ),
    (
        "endpointslices",
        {
            "metadata": {**META, "labels": {SERVICE_NAME_LABEL: "web", "other": "dropped"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "UDP", "port": 8080}, {"name": "", "port": None}],
            "endpoints": [
                {
                    "addresses": ["10.1.0.1"],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "hostname": "web-0",
                    "nodeName": "n1",
                    "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "demo"},
                },
                {"addresses": ["10.1.0.2"], "conditions": {}},
            ],
        },
        EndpointSlice(
            X,
            "web",
            "IPv4",
            (EndpointPort("http", "UDP", 8080), EndpointPort("", "TCP", None)),
            (Endpoint(("10.1.0.1",), True, "web-0"), Endpoint(("10.1.0.2",))),
        ),
    ),
    (
        "namespaces",
        {"metadata": {"name": "x", "labels": {"team": "a"}}, "status": {"phase": "Active"}},
        Namespace(Metadata("", "x", labels={"team": "a"})),
    ),
    (
        "pods",
        {
            "metadata": {**META, "labels": {"app": "dropped"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"hostNetwork": True, "containers": [{}]},
            "status": {
                "phase": "Running",
                "podIP": "10.2.0.1",
                "podIPs": [{"ip": "10.2.0.1"}, {"ip": "fd::1"}],
            },
        },
        Pod(X, "10.2.0.1", ("10.2.0.1", "fd::1"), "Running"),
    ),
    (
        "virtualmachineinstances",
        {
            "metadata": META,
            "spec": {
                "networks": [
                    {"name": "sec1", "multus": {"networkName": "n"}},
                    {"name": "main", "pod": {}},
                    {"name": "other", "multus": {"default": True}},
                ]
            },
            "status": {
                "phase": "Running",
                "interfaces": [
                    {"name": "main", "ipAddress": "10.244.0.5", "ipAddresses": ["10.244.0.5"]},
                    {
                        "name": "sec1",
                        "ipAddress": "192.0.2.5",
                        "ipAddresses": ["192.0.2.5", "2001:db8::5"],
                        "infoSource": "domain, guest-agent",
                        "mac": "02:00:00:00:00:01",
                        "queueCount": 1,
                    },
                    {"interfaceName": "docker0", "ipAddress": "172.17.0.1"},
                ],
            },
        },
        VirtualMachineInstance(
            X,
            (Interface("sec1", ("192.0.2.5", "2001:db8::5")),),
        ),
    ),
    (
        "dnsendpoints",
        {
            "metadata": {**META, "generation": 3},
            "spec": {
                "endpoints": [
                    {
                        "dnsName": "a.dtk.io",
                        "recordType": "A",
                        "targets": ["10.0.0.1"],
                        "recordTTL": 60,
                        "setIdentifier": "one",
                        "labels": {"owner": "me"},
                    }
                ]
            },
            "status": {"observedGeneration": 3},
        },
        DnsEndpoint(
            X,
            (
                ExternalEndpoint(
                    "a.dtk.io", ("10.0.0.1",), "A", set_identifier="one", ttl=60, labels={"owner": "me"}
                ),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("kind", "item", "expected"), FULL, ids=[kind for kind, _, _ in FULL])
def test_every_field_that_matters_is_read(kind: str, item: dict[str, Any], expected: ApiObject) -> None:
    assert read_one(kind, item) == expected


def fields(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field in a JSON value."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*place, key)
            yield from fields(one, (*place, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from fields(one, (*place, number))


@pytest.mark.parametrize(("kind", "item"), [one[:2] for one in FULL], ids=[kind for kind, _, _ in FULL])
def test_a_field_that_is_null_is_absent(kind: str, item: dict[str, Any]) -> None:
    for *above, key in fields(item):
        null, absent = copy.deepcopy(item), copy.deepcopy(item)
        functools.reduce(lambda value, step: value[step], above, null)[key] = None
        del functools.reduce(lambda value, step: value[step], above, absent)[key]
        if "labels" not in above:  # there null is an empty text
            read = [decode_list(KINDS[kind], body([one], KINDS[kind].kind)) for one in (null, absent)]
            assert read[0] == read[1], (above, key)


@pytest.mark.parametrize(("kind", "full"), [one[::2] for one in FULL], ids=[kind for kind, _, _ in FULL])
def test_an_object_may_have_nothing_but_its_name(kind: str, full: ApiObject) -> None:
    assert read_one(kind, {"metadata": {"name": "x"}}) == type(full)(Metadata("", "x"))


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        (
            "services",
            {"metadata": {**META, "labels": {"a": None}}},
            Service(Metadata("demo", "x", "", {"a": ""})),
        ),
        (
            "endpointslices",
            {"metadata": META, "endpoints": None, "ports": None},
            EndpointSlice(X),
        ),
        (
            "virtualmachineinstances",
            {
                "metadata": META,
                "spec": {"networks": [{"name": "a", "multus": {"default": True}}]},
                "status": {"interfaces": [{"name": "a", "ipAddress": "10.0.0.1"}, {"name": "b"}]},
            },
            VirtualMachineInstance(X, (Interface("b"),)),
        ),
        (
            "virtualmachineinstances",
            {
                "metadata": META,
                "spec": {"networks": [{"pod": {"vmNetworkCIDR": "10.0.0.0/24"}}]},
                "status": {
                    "interfaces": [{"name": "a", "ipAddress": "10.0.0.1", "ipAddresses": ["fd00::1"]}]
                },
            },
            VirtualMachineInstance(X, (Interface("a", ("10.0.0.1", "fd00::1")),)),
        ),
        (
            "services",
            {"metadata": META, "spec": {"type": "", "ports": [{"port": 53, "protocol": ""}]}},
            Service(X, ports=(Port("", "TCP", 53),)),
        ),
    ],
    ids=[
        "a null label",
        "null lists",
        "multus default is primary",
        "a primary network without a name",
        "an empty text has the default",
    ],
)
def test_odd_fields(kind: str, item: dict[str, Any], expected: ApiObject) -> None:
    assert read_one(kind, item) == expected


@pytest.mark.parametrize(
    ("name", "namespace", "path"),
    [
        ("services", None, "/api/v1/services"),
        ("services", "demo", "/api/v1/namespaces/demo/services"),
        ("endpointslices", None, "/apis/discovery.k8s.io/v1/endpointslices"),
        ("namespaces", "demo", "/api/v1/namespaces"),
        ("virtualmachineinstances", "a", "/apis/kubevirt.io/v1/namespaces/a/virtualmachineinstances"),
    ],
)
def test_path(name: str, namespace: str | None, path: str) -> None:
    assert KINDS[name].path(namespace) == path


def test_an_endpoint_of_a_wrong_shape_takes_its_own_object_only() -> None:
    odd = {"metadata": {**META, "name": "odd"}, "spec": {"endpoints": [{"dnsName": 7}]}}
    nothing = {"metadata": META, "spec": {"endpoints": [None]}}
    page = decode_list(KINDS["dnsendpoints"], body([odd, nothing], "DNSEndpoint"))
    assert page.items == [DnsEndpoint(X)]
    assert [(one.kind, one.name) for one in page.rejected] == [("dnsendpoints", "odd")]


def test_kinds_are_named_as_rbac_names_them() -> None:
    assert KINDS["services"].resource == "services"
    assert KINDS["endpointslices"].resource == "endpointslices.discovery.k8s.io"
    assert [k.name for k in KINDS.values() if k.optional] == ["virtualmachineinstances", "dnsendpoints"]
