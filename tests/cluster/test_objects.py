"""What becomes of the API's JSON: every oddity beside good objects, null everywhere, true bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.cluster.objects import (
    INITIAL_EVENTS_END,
    KINDS,
    SERVICE_NAME_LABEL,
    TENANT_CLUSTER_IP,
    ApiObject,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Event,
    Ingress,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Port,
    Rejected,
    Service,
    TargetRef,
    VirtualMachineInstance,
    decode_event,
    decode_list,
    decode_manifests,
)
from kube2etcd.errors import ApiTruncated, ApiUnavailable, ObjectsError

SERVICES = KINDS["services"]


def body(items: Any, kind: Any = "Service", **meta: Any) -> bytes:
    return json.dumps(
        {
            "kind": f"{kind}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": "7", **meta},
            "items": items,
        }
    ).encode()


def read_one(name: str, item: dict[str, Any]) -> ApiObject:
    page = decode_list(KINDS[name], body([item], KINDS[name].kind))
    assert page.rejected == []
    (found,) = page.items
    return found


META = {"namespace": "demo", "name": "x"}

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
            Metadata(
                "demo",
                "x",
                "u1",
                "42",
                "2026-01-02T03:04:05Z",
                {"app": "web"},
                {TENANT_CLUSTER_IP: "10.9.9.9"},
            ),
            "LoadBalancer",
            "10.0.0.1",
            ("10.0.0.1", "fd00:10::1"),
            "",
            ("192.0.2.1",),
            True,
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
            Metadata("demo", "x"),
            "web",
            "IPv4",
            (EndpointPort("http", "UDP", 8080), EndpointPort("", "TCP", None)),
            (
                Endpoint(("10.1.0.1",), True, True, False, "web-0", TargetRef("Pod", "web-0")),
                Endpoint(("10.1.0.2",)),
            ),
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
        Pod(Metadata("demo", "x"), "10.2.0.1", ("10.2.0.1", "fd::1"), "Running", True, True),
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
            Metadata("demo", "x"),
            (
                Interface("main", "10.244.0.5", ("10.244.0.5",), ""),
                Interface("sec1", "192.0.2.5", ("192.0.2.5", "2001:db8::5"), "domain, guest-agent"),
                Interface("", "172.17.0.1", (), ""),
            ),
            "main",
        ),
    ),
]


@pytest.mark.parametrize(("kind", "item", "expected"), FULL, ids=[kind for kind, _, _ in FULL])
def test_every_field_that_matters_is_read(kind: str, item: dict[str, Any], expected: ApiObject) -> None:
    assert read_one(kind, item) == expected


def nulled(value: Any) -> Any:
    """The same object with every field but the identity null."""
    if isinstance(value, dict):
        return {k: nulled(v) if k in ("metadata", "spec", "status") else None for k, v in value.items()} | {
            k: value[k] for k in ("name", "namespace") if k in value
        }
    return None


@pytest.mark.parametrize(("kind", "item", "full"), FULL, ids=[kind for kind, _, _ in FULL])
@pytest.mark.parametrize("how", ["absent", "null", "inner null", "empty"])
def test_null_means_empty(kind: str, item: dict[str, Any], full: ApiObject, how: str) -> None:
    meta = {k: item["metadata"][k] for k in ("name", "namespace") if k in item["metadata"]}
    variants: dict[str, dict[str, Any]] = {
        "absent": {"metadata": meta},
        "null": dict.fromkeys(item) | {"metadata": meta},
        "inner null": nulled(item),
        "empty": {k: type(v)() for k, v in item.items()} | {"metadata": meta},
    }
    assert read_one(kind, variants[how]) == type(full)(Metadata(meta.get("namespace", ""), meta["name"]))


@pytest.mark.parametrize(
    ("kind", "item", "expected"),
    [
        (
            "services",
            {"metadata": {**META, "labels": {"a": None, "b": "c"}, "annotations": {TENANT_CLUSTER_IP: None}}},
            Service(Metadata("demo", "x", labels={"a": "", "b": "c"})),
        ),
        (
            "services",
            {"metadata": META, "spec": {"ports": [{"port": 53, "name": None, "protocol": None}]}},
            Service(Metadata("demo", "x"), ports=(Port("", "TCP", 53),)),
        ),
        (
            "services",
            {"metadata": META, "status": {"loadBalancer": {"ingress": None}}},
            Service(Metadata("demo", "x")),
        ),
        (
            "endpointslices",
            {"metadata": META, "endpoints": [{"addresses": None, "conditions": None, "targetRef": None}]},
            EndpointSlice(Metadata("demo", "x"), endpoints=(Endpoint(()),)),
        ),
        (
            "endpointslices",
            {"metadata": META, "endpoints": [{"targetRef": {"kind": None, "name": None}}]},
            EndpointSlice(Metadata("demo", "x"), endpoints=(Endpoint((), target_ref=TargetRef()),)),
        ),
        (
            "pods",
            {"metadata": META, "status": {"podIPs": [{"ip": None}, {"ip": "10.0.0.1"}, {}]}},
            Pod(Metadata("demo", "x"), pod_ips=("10.0.0.1",)),
        ),
        (
            "virtualmachineinstances",
            {
                "metadata": META,
                "spec": {"networks": [{"name": "a", "pod": None, "multus": {"default": None}}]},
            },
            VirtualMachineInstance(Metadata("demo", "x")),
        ),
        (
            "virtualmachineinstances",
            {"metadata": META, "spec": {"networks": [{"name": "a", "multus": {"default": True}}]}},
            VirtualMachineInstance(Metadata("demo", "x"), primary_network="a"),
        ),
        (
            "virtualmachineinstances",
            {"metadata": META, "spec": {"networks": [{"pod": {"vmNetworkCIDR": "10.0.0.0/24"}}]}},
            VirtualMachineInstance(Metadata("demo", "x")),
        ),
    ],
    ids=[
        "label and annotation",
        "port",
        "ingress",
        "endpoint",
        "target",
        "pod address",
        "network",
        "multus default is primary",
        "a primary network without a name",
    ],
)
def test_null_inside(kind: str, item: dict[str, Any], expected: ApiObject) -> None:
    assert read_one(kind, item) == expected


ODD: list[tuple[str, Any, str]] = [
    ("ports are a word", {"metadata": META, "spec": {"ports": "eighty"}}, "$.spec.ports"),
    ("a port is a word", {"metadata": META, "spec": {"ports": [{"port": "eighty"}]}}, "port"),
    ("a port is missing", {"metadata": META, "spec": {"ports": [{"name": "http"}]}}, "port"),
    ("a port is null", {"metadata": META, "spec": {"ports": [{"port": None}]}}, "port"),
    ("a port is a fraction", {"metadata": META, "spec": {"ports": [{"port": 80.5}]}}, "port"),
    ("labels are a list", {"metadata": {**META, "labels": ["a"]}}, "labels"),
    ("a label is a number", {"metadata": {**META, "labels": {"a": 1}}}, "labels"),
    ("an address is null", {"metadata": META, "spec": {"clusterIPs": [None]}}, "clusterIPs"),
    ("spec is a list", {"metadata": META, "spec": []}, "$.spec"),
    ("the version is a number", {"metadata": {**META, "resourceVersion": 5}}, "resourceVersion"),
]


@pytest.mark.parametrize(("item", "reason"), [o[1:] for o in ODD], ids=[o[0] for o in ODD])
def test_an_odd_object_among_good_ones(item: Any, reason: str) -> None:
    good = [{"metadata": {"namespace": "demo", "name": f"good-{i}"}} for i in range(100)]
    page = decode_list(SERVICES, body([*good[:50], item, *good[50:]]))
    assert [o.metadata.name for o in page.items] == [f"good-{i}" for i in range(100)]
    (rejected,) = page.rejected
    assert (rejected.kind, rejected.namespace, rejected.name) == ("services", "demo", "x")
    assert reason in rejected.reason
    assert page.resource_version == "7"


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"metadata": {}},
        {"metadata": {"name": ""}},
        {"metadata": {"name": None}},
        {"metadata": {"name": 5}},
        {"metadata": []},
        None,
        [],
        7,
        "text",
    ],
    ids=str,
)
def test_an_object_without_identity(item: Any) -> None:
    page = decode_list(SERVICES, body([{"metadata": META}, item]))
    assert [o.metadata.name for o in page.items] == ["x"]
    (rejected,) = page.rejected
    assert rejected.name == ""
    assert rejected.reason


def test_text_that_is_not_utf8_costs_only_its_object() -> None:
    raw = body([{"metadata": META}, {"metadata": {"name": "bad", "labels": {"a": "MARK"}}}])
    page = decode_list(SERVICES, raw.replace(b"MARK", b"\xff\xfe"))
    assert [o.metadata.name for o in page.items] == ["x"]
    assert len(page.rejected) == 1


def test_pages() -> None:
    page = decode_list(SERVICES, body([], **{"continue": "token", "remainingItemCount": 12}))
    assert (page.continue_, page.remaining, page.resource_version) == ("token", 12, "7")
    last = decode_list(SERVICES, body(None, **{"continue": None, "remainingItemCount": None}))
    assert (last.items, last.continue_, last.remaining) == ([], "", 0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ApiTruncated),
        (body([{"metadata": META}])[:-3], ApiTruncated),
        (b"<html>", ApiTruncated),
        (b"\xff", ApiTruncated),
        (b"[]", ApiUnavailable),
        (b"{}", ApiUnavailable),
        (b"null", ApiUnavailable),
        (body([], kind="Pod"), ApiUnavailable),
        (b'{"kind":"Status","code":200}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{"resourceVersion":null},"items":[]}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":null,"items":[]}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":{}}', ApiUnavailable),
        (b'{"kind":["ServiceList"],"metadata":{"resourceVersion":"1"},"items":[]}', ApiUnavailable),
        (body([{}], kind="Pod"), ApiUnavailable),
        (body([{}, {"metadata": META}])[:-9], ApiTruncated),
        (body([{"spec": "odd"}, {"metadata": META}])[:-9], ApiTruncated),
    ],
)
def test_what_is_no_list_raises(answer: bytes, error: type[Exception]) -> None:
    with pytest.raises(ApiUnavailable) as caught:
        decode_list(SERVICES, answer)
    assert type(caught.value) is error
    assert "services" in str(caught.value)


@given(cut=st.integers(min_value=0))
def test_a_list_cut_anywhere_is_never_a_list(cut: int) -> None:
    whole = body([{"metadata": {"name": f"s{i}", "namespace": "é"}} for i in range(5)])
    with pytest.raises(ApiUnavailable):
        decode_list(SERVICES, whole[: cut % len(whole)])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["metadata", "spec", "status", "endpoints", "ports", "addressType"]


@given(
    kind=st.sampled_from(sorted(KINDS)),
    odd=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_whatever_an_item_is_the_others_are_read(kind: str, odd: Any) -> None:
    good = {"metadata": META}
    page = decode_list(KINDS[kind], body([good, odd, good], KINDS[kind].kind))
    assert [o.metadata.name for o in page.items if o.metadata.name == "x"][:2] == ["x", "x"]
    assert len(page.items) + len(page.rejected) == 3
    event = decode_event(KINDS[kind], json.dumps({"type": "ADDED", "object": odd}).encode())
    assert (event.object is None) != (event.rejected is None)


# --- events ---


def line(type_: Any, obj: Any) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode()


@pytest.mark.parametrize("type_", ["ADDED", "MODIFIED", "DELETED"])
def test_event(type_: str) -> None:
    event = decode_event(SERVICES, line(type_, {"metadata": {**META, "resourceVersion": "9"}}))
    assert event == Event(type_, Service(Metadata("demo", "x", "", "9")), "demo", "x", "9")


@pytest.mark.parametrize(
    ("meta", "version", "ended"),
    [
        ({"resourceVersion": "9", "creationTimestamp": None}, "9", False),
        ({"resourceVersion": "9", "annotations": {INITIAL_EVENTS_END: "true"}}, "9", True),
        ({"resourceVersion": "9", "annotations": {INITIAL_EVENTS_END: "false"}}, "9", False),
        ({"resourceVersion": None, "annotations": None}, "", False),
    ],
    ids=["plain", "end of the first part", "not the end", "empty"],
)
def test_bookmark(meta: dict[str, Any], version: str, ended: bool) -> None:
    event = decode_event(SERVICES, line("BOOKMARK", {"metadata": meta, "spec": {}}))
    assert event == Event("BOOKMARK", resource_version=version, initial_events_end=ended)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ({"code": 410, "reason": "Expired", "message": "too old"}, 410, "too old"),
        ({"code": 500, "reason": "InternalError", "message": None}, 500, "InternalError"),
        ({"code": None}, 0, "no reason given"),
    ],
    ids=["gone", "reason only", "nothing"],
)
def test_error_event(status: dict[str, Any], code: int, message: str) -> None:
    event = decode_event(SERVICES, line("ERROR", status))
    assert (event.type, event.code, event.message, event.object) == ("ERROR", code, message, None)


def test_unknown_event_type_is_passed_on() -> None:
    assert decode_event(SERVICES, line("RENAMED", {"metadata": META})) == Event("RENAMED")


def test_an_odd_event_keeps_identity_and_version() -> None:
    odd = {"metadata": {**META, "resourceVersion": "9"}, "spec": []}
    event = decode_event(SERVICES, line("DELETED", odd))
    assert (event.namespace, event.name, event.resource_version) == ("demo", "x", "9")
    assert event.object is None
    assert isinstance(event.rejected, Rejected)


def test_an_odd_event_with_odd_metadata_keeps_what_can_be_kept() -> None:
    odd = {"metadata": {**META, "resourceVersion": 9, "uid": []}, "spec": []}
    event = decode_event(SERVICES, line("MODIFIED", odd))
    assert (event.namespace, event.name, event.resource_version) == ("demo", "x", "")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":5,"object":{}}',
        b"\xff\xff",
        b'{"type":"BOOKMARK","object":{}}',
        b'{"type":"ERROR","object":[]}',
        b'{"type":"ADDED","object":{"metadata":{"na',
    ],
)
def test_what_is_no_event_raises(text: bytes) -> None:
    with pytest.raises(ApiTruncated, match="services"):
        decode_event(SERVICES, text)


# --- kinds ---


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


def test_kinds_are_named_as_rbac_names_them() -> None:
    assert KINDS["services"].resource == "services"
    assert KINDS["endpointslices"].resource == "endpointslices.discovery.k8s.io"
    assert [k.name for k in KINDS.values() if k.optional] == ["virtualmachineinstances"]


# --- manifests ---

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
