"""Manifests in every form that people and kubectl write."""

from __future__ import annotations

import json

import pytest

from kube2etcd.cluster.objects import (
    EndpointSlice,
    Metadata,
    Namespace,
    Port,
    Service,
    decode_manifests,
)
from kube2etcd.errors import ObjectsError

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
metadata: {name: not-ours}
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
  metadata: {name: odd}
  spec: {ports: [eighty]}
"""


def test_manifests() -> None:
    read = decode_manifests(MANIFESTS)
    assert read.objects == [
        Namespace(Metadata("", "shop")),
        Service(
            Metadata("shop", "web", "", "", "2026-01-02T03:04:05Z", {"release": "2026-01-01"}),
            cluster_ip="10.0.0.7",
            ports=(Port("http", "TCP", 80),),
        ),
        EndpointSlice(Metadata("default", "web-1"), "web"),
    ]
    assert [(r.kind, r.namespace, r.name) for r in read.rejected] == [("services", "default", "odd")]
    assert read.ignored == 2


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}),
        json.dumps([{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}]),
        json.dumps({"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "a"}}]}),
        "{apiVersion: v1, kind: Service, metadata: {name: a}}",
        "\ufeffapiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
        '{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}\n---\nkind: Other\n',
    ],
    ids=["json", "json array", "typed list", "flow yaml", "byte order mark", "json among yaml"],
)
def test_manifests_in_every_form(text: str) -> None:
    for given_text in (text.removeprefix("\ufeff"), text.encode()):
        assert decode_manifests(given_text).objects == [Service(Metadata("default", "a"))]


@pytest.mark.parametrize(
    ("text", "ignored", "rejected"),
    [
        ("", 0, 0),
        ("---\n---\n", 0, 0),
        ("just words", 1, 0),
        ("kind: 5", 1, 0),
        ("kind: List\nitems: null", 0, 0),
        ("kind: List\nitems: [1, null, [2]]", 2, 0),
        ("apiVersion: v1\nkind: Service", 0, 1),
        ("apiVersion: v1\nkind: Service\nmetadata: words", 0, 1),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {null: b}}", 0, 1),
        ("apiVersion: v1\nkind: Service\nmetadata: {labels: {null: b}}", 0, 1),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: &a {ports: *a}", 0, 1),
    ],
)
def test_manifests_that_hold_nothing_for_us(text: str, ignored: int, rejected: int) -> None:
    read = decode_manifests(text)
    assert (read.objects, read.ignored, len(read.rejected)) == ([], ignored, rejected)


@pytest.mark.parametrize(
    "text", ["a: [", "\tkind: x", b"\xff\xfe\xfa", "a: !!python/object:os.system {}"], ids=repr
)
def test_manifests_that_cannot_be_read(text: str | bytes) -> None:
    with pytest.raises(ObjectsError, match=r"^demo\.yaml cannot be read"):
        decode_manifests(text, "demo.yaml")
