"""Manifests in every form that users and kubectl write."""

from __future__ import annotations

import json

import pytest

from kube2etcd.errors import ObjectsError
from kube2etcd.kube.manifests import decode_manifests
from kube2etcd.kube.objects import DnsEndpoint, EndpointSlice, Metadata, Namespace, Service, ServicePort

MANIFESTS = """
# a comment
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  creationTimestamp: 2026-01-02T03:04:05Z
  labels: {release: "2026-01-01"}
spec:
  clusterIP: 10.0.0.7
  ports:
  - {port: 80, name: http}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: other-group}
---
apiVersion: v1
kind: List
items:
- apiVersion: discovery.k8s.io/v1beta1
  kind: EndpointSlice
  metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
  endpoints: null
- apiVersion: v1
  kind: Service
  metadata: {name: malformed}
  spec: {ports: [eighty]}
"""


def test_manifests() -> None:
    read = decode_manifests(MANIFESTS)
    assert read.objects == [
        Namespace(Metadata("", "shop")),
        Service(
            Metadata("shop", "web", "2026-01-02T03:04:05Z", {"release": "2026-01-01"}),
            cluster_ip="10.0.0.7",
            ports=(ServicePort("http", "TCP", 80),),
        ),
        EndpointSlice(Metadata("default", "web-1"), "web"),
    ]
    assert [(r.kind, r.namespace, r.name) for r in read.rejected] == [("services", "default", "malformed")]
    assert read.faults == [
        "document 6.items[1]: services default/malformed is left out: "
        "Expected `object`, got `str` - at `$.spec.ports[0]`"
    ]
    assert read.passed_over == {"Deployment": 1, "Service": 1}


ONE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ONE),
        json.dumps([ONE]),
        json.dumps({"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "a"}}]}),
        "{apiVersion: v1, kind: Service, metadata: {name: a}}",
        "\ufeffapiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
        f"{json.dumps(ONE)}\n---\nkind: Other\n",
    ],
    ids=["json", "json array", "typed list", "flow yaml", "byte order mark", "json among yaml"],
)
def test_manifests_in_every_form(text: str) -> None:
    for given_text in (text.removeprefix("\ufeff"), text.encode()):
        assert decode_manifests(given_text).objects == [Service(Metadata("default", "a"))]


SERVICE = "apiVersion: v1\nkind: Service"
NULL_LABEL, NULL_KEY = "labels: {null: b}", "Expected `str`, got `null` - at `key` in `$.metadata.labels`"


@pytest.mark.parametrize(("key", "read"), [("5", "5"), ("yes", "true"), ("1.5", "1.5")])
def test_keys_that_yaml_reads_as_other_scalars_are_strings(key: str, read: str) -> None:
    """As `kubectl` reads them, also in fields that we skip."""
    meta = f"{{name: a, labels: {{{key}: x}}, annotations: {{{key}: y}}}}"
    text = f"{SERVICE}\nmetadata: {meta}\n{key}: {{{key}: z}}"
    assert decode_manifests(text).objects == [Service(Metadata("default", "a", labels={read: "x"}))]
    endpoint = f"{{dnsName: a.example, recordType: A, targets: [192.0.2.1], {key}: 6}}"
    text = (
        "apiVersion: externaldns.k8s.io/v1alpha1\nkind: DNSEndpoint\n"
        f"metadata: {{name: a}}\nspec: {{endpoints: [{endpoint}]}}"
    )
    (found,) = decode_manifests(text).objects
    assert isinstance(found, DnsEndpoint)
    assert found.endpoints[0].more == {read: 6}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", []),
        ("---\n---\n", []),
        ("just words", [" is no object: it is text"]),
        ("--- 42\n", [" is no object: it is 42"]),
        ("kind: 5", [" is no object: it has no kind"]),
        ("kind: List\nitems: null", []),
        ("kind: List\nitems: 5", [".items is no object: it is 5"]),
        ("kind: List\nitems: {a: b}", [".items is no object: it has no kind"]),
        (
            "kind: List\nitems: [1, null, [2], {}]",
            [
                ".items[0] is no object: it is 1",
                ".items[1] is no object: it is empty",
                ".items[2][0] is no object: it is 2",
                ".items[3] is no object: it has no kind",
            ],
        ),
        (SERVICE, [": a Service is left out: Object missing required field `metadata`"]),
        (
            f"{SERVICE}\nmetadata: x",
            [": a Service is left out: Expected `object`, got `str` - at `$.metadata`"],
        ),
        (
            f"{SERVICE}\nmetadata: {{name: a, {NULL_LABEL}}}",
            [f": services default/a is left out: {NULL_KEY}"],
        ),
        (f"{SERVICE}\nmetadata: {{{NULL_LABEL}}}", [f": a Service is left out: {NULL_KEY}"]),
    ],
)
def test_invalid_objects_are_reported_with_position(text: str, faults: list[str]) -> None:
    read = decode_manifests(text)
    assert (read.objects, read.faults) == ([], [f"document 1{one}" for one in faults])
    assert len(read.rejected) == sum("left out" in one for one in faults)
    assert not read.passed_over


@pytest.mark.parametrize("number", [-1, 65536, 10**32])
def test_port_out_of_range_rejects_its_object(number: int) -> None:
    """CoreDNS cannot decode a number beyond Go's int and would answer SERVFAIL for every name above."""
    read = decode_manifests(f"{SERVICE}\nmetadata: {{name: a}}\nspec: {{ports: [{{port: {number}}}]}}")
    assert not read.objects
    assert "$.spec.ports[0].port" in read.rejected[0].reason
    slice_head = "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1\nmetadata: {name: a}\n"
    assert (
        "$.ports[0].port" in decode_manifests(f"{slice_head}ports: [{{port: {number}}}]").rejected[0].reason
    )


UNREADABLE = ["a: [", "\tkind: x", b"\xff\xfe", "a: !!python/object:os.system {}", "a: 1\na: 2", "[" * 1000]


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda text: repr(text)[:20])
def test_unreadable_manifests(text: str | bytes) -> None:
    with pytest.raises(ObjectsError, match=r"^demo\.yaml cannot be read"):
        decode_manifests(text, "demo.yaml")
