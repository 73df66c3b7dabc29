"""The annotation with a tenant's cluster IP."""

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from kube2etcd.kube.objects import TENANT_CLUSTER_IP
from tests.stack.harness import ApiServer, Binaries, Etcd, Object
from tests.stack.objects import endpoints, namespace, service
from tests.stack.zoned import Start, Zoned, relabel

SVC = "tenant.svc.cluster.local"


def annotated(name: str, annotation: str | None, **more: object) -> Object:
    annotations = None if annotation is None else {TENANT_CLUSTER_IP: annotation}
    return service(name, "tenant", annotations=annotations, **more)  # type: ignore[arg-type]


DUAL = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}

# name, annotation, spec, then what is answered to A and to AAAA
TABLE: list[tuple[str, str | None, dict[str, object], list[str], list[str]]] = [
    ("plain", None, {"clusterIP": "10.0.1.1"}, ["10.0.1.1"], ["NODATA"]),
    ("empty", "", {"clusterIP": "10.0.1.2"}, ["10.0.1.2"], ["NODATA"]),
    ("four", "172.30.0.3", {"clusterIP": "10.0.1.3"}, ["172.30.0.3"], ["NODATA"]),
    ("six", "fd00:30::4", {"clusterIP": "10.0.1.4"}, ["NODATA"], ["fd00:30::4"]),
    ("blanks", " 172.30.0.5 ", {"clusterIP": "10.0.1.5"}, ["172.30.0.5"], ["NODATA"]),
    ("list", "172.30.0.6, fd00:30::6", {"clusterIP": "10.0.1.6"}, ["172.30.0.6"], ["fd00:30::6"]),
    ("invalid", "evil.example.com", {"clusterIP": "10.0.1.7"}, ["10.0.1.7"], ["NODATA"]),
    ("zeros", "010.1.1.3", {"clusterIP": "10.0.1.8"}, ["10.0.1.8"], ["NODATA"]),
    ("none-plain", "None", {"clusterIP": "10.0.1.9"}, ["10.0.1.9"], ["NODATA"]),
    ("none-headless", "None", {"clusterIP": "None"}, ["172.16.0.10"], ["NODATA"]),
    ("address-headless", "172.30.0.11", {"clusterIP": "None"}, ["172.30.0.11"], ["NODATA"]),
    (
        "external",
        "172.30.0.12",
        {"type": "ExternalName", "externalName": "elsewhere.example."},
        ["elsewhere.example."],
        ["elsewhere.example."],
    ),
    (
        "dual",
        "172.30.0.13",
        {**DUAL, "clusterIPs": ["10.0.1.13"], "clusterIP": "10.0.1.13"},
        ["172.30.0.13"],
        ["NODATA"],
    ),
]


def test_every_case_of_the_annotation(start: Start, apiserver: ApiServer) -> None:
    services = [annotated(name, annotation, **spec) for name, annotation, spec, _, _ in TABLE]
    slices = [
        endpoints(name, "172.16.0.10", namespace="tenant") for name in ("none-headless", "address-headless")
    ]
    apiserver.apply_all([namespace("tenant"), *services, *slices])
    zoned = start()
    for name, _, _, four, six in TABLE:
        zoned.expect(f"{name}.{SVC}", "A", *four)
        zoned.expect(f"{name}.{SVC}", "AAAA", *six)
        if name not in ("external",):
            assert zoned.ask(f"{name}.{SVC}", "CNAME") == ["NODATA"]
    # SRV as ever, with the annotation's address in the additional section; PTR of that address alone
    message = zoned.dns.ask(f"_http._tcp.four.{SVC}", "SRV")
    assert [one.to_text() for one in message.answer[0]] == [f"0 100 80 four.{SVC}."]
    assert [one[0].to_text() for one in message.additional] == ["172.30.0.3"]
    assert zoned.ask("3.0.30.172.in-addr.arpa", "PTR") == [f"four.{SVC}."]
    assert zoned.ask("3.1.0.10.in-addr.arpa", "PTR") == ["NXDOMAIN"]
    # the two that are no address are counted
    assert zoned.bridge.metrics()['kube2etcd_left_out_records{reason="invalid"}'] == 2

    # changed and removed
    relabel(apiserver, annotated("four", "172.30.0.33"))
    zoned.expect(f"four.{SVC}", "A", "172.30.0.33")
    zoned.expect("3.0.30.172.in-addr.arpa", "PTR", "NXDOMAIN")
    gone = annotated("four", None)
    gone["metadata"]["annotations"] = {TENANT_CLUSTER_IP: None}
    relabel(apiserver, gone)
    zoned.expect(f"four.{SVC}", "A", "10.0.1.3")
    zoned.expect("3.1.0.10.in-addr.arpa", "PTR", f"four.{SVC}.")
    zoned.expect("33.0.30.172.in-addr.arpa", "PTR", "NXDOMAIN")


@pytest.fixture
def tenants_apiserver(binaries: Binaries, tmp_path: Path) -> Iterator[ApiServer]:
    """The tenant's own control plane: an API server beside the super cluster's, with an etcd of its own."""
    with (
        Etcd(tmp_path / "tenant-etcd", binaries, name="tenant-etcd") as etcd,
        ApiServer(tmp_path / "tenant-apiserver", binaries, etcd.url) as server,
    ):
        yield server


def test_a_tenants_bridge_beside_a_plain_one(
    start: Start, apiserver: ApiServer, tenants_apiserver: ApiServer, binaries: Binaries, tmp_path: Path
) -> None:
    """A tenant's Service and its twin in the super cluster, as VirtualCluster's syncer keeps them.

    The tenant's bridge has the tenant's kubeconfig, an etcd and a CoreDNS of its own, and answers the
    address that routes: the super cluster's.  A plain one answers what the tenant's API server says, and
    the super cluster's own bridge knows the twin alone.
    """
    super_cluster = start()
    apiserver.apply_all([namespace("abc-tenant"), service("web", "abc-tenant")])
    twin = apiserver.get("v1", "Service", "web", "abc-tenant")["spec"]["clusterIP"]
    own = "10.0.200.3"
    tenants_apiserver.apply_all([namespace("tenant"), service("web", "tenant", clusterIP=own)])
    assert twin != own
    with contextlib.ExitStack() as ending:

        def bridge(name: str, *options: str) -> Zoned:
            etcd = ending.enter_context(Etcd(tmp_path / f"{name}-etcd", binaries))
            return ending.enter_context(Zoned(tmp_path / name, binaries, tenants_apiserver, etcd, options))

        tenants, plain = bridge("tenants"), bridge("plain", "--no-tenant-cluster-ip")
        tenants.expect(f"web.{SVC}", "A", own)  # until the syncer has written the twin's address back
        relabel(tenants_apiserver, service("web", "tenant", annotations={TENANT_CLUSTER_IP: twin}))
        tenants.expect(f"web.{SVC}", "A", twin)
        tenants.expect(f"_http._tcp.web.{SVC}", "SRV", f"0 100 80 web.{SVC}.")
        tenants.expect(ip_address(twin).reverse_pointer, "PTR", f"web.{SVC}.")
        tenants.expect(ip_address(own).reverse_pointer, "PTR", "NXDOMAIN")
        plain.expect(f"web.{SVC}", "A", own)
        plain.expect(ip_address(own).reverse_pointer, "PTR", f"web.{SVC}.")
        super_cluster.expect("web.abc-tenant.svc.cluster.local", "A", twin)
        for one in (tenants, plain):
            assert one.ask("web.abc-tenant.svc.cluster.local") == ["NXDOMAIN"]
        assert super_cluster.ask(f"web.{SVC}") == ["NXDOMAIN"]
