"""The annotation with a tenant cluster's cluster IP."""

from ipaddress import ip_address
from pathlib import Path

from kube2etcd.kube.objects import TENANT_CLUSTER_IP
from tests.stack.dns_stack import BridgeStack, StartStack, relabel
from tests.stack.harness import ApiServer, Binaries, Etcd
from tests.stack.objects import namespace, service

SVC = "tenant.svc.cluster.local"
WEB, OWN = f"web.{SVC}", "10.0.200.3"


def test_tenant_cluster_ip_annotation_is_added_changed_and_removed(
    start_stack: StartStack, apiserver: ApiServer, binaries: Binaries, tmp_path: Path
) -> None:
    """As VirtualCluster's syncer sets it; tests/zones/test_cluster.py has all values."""
    odd = service(
        "odd", "tenant", clusterIP="10.0.200.4", annotations={TENANT_CLUSTER_IP: "evil.example.com"}
    )
    apiserver.apply_all([namespace("tenant"), service("web", "tenant", clusterIP=OWN), odd])
    stack = start_stack()

    def becomes(before: str, annotation: str | None, now: str) -> None:
        one = service("web", "tenant")
        one["metadata"]["annotations"] = {TENANT_CLUSTER_IP: annotation}
        relabel(apiserver, one)
        stack.expect(WEB, "A", now)
        stack.expect(ip_address(now).reverse_pointer, "PTR", f"{WEB}.")
        stack.expect(ip_address(before).reverse_pointer, "PTR", "NXDOMAIN")
        for rtype in ("AAAA", "CNAME"):
            assert stack.ask(WEB, rtype) == ["NODATA"]
        message = stack.dns.ask(f"_http._tcp.{WEB}", "SRV")
        assert [one.to_text() for one in message.answer[0]] == [f"0 100 80 {WEB}."]
        assert [one[0].to_text() for one in message.additional] == [now]

    stack.expect(WEB, "A", OWN)
    becomes(OWN, "172.30.0.3", "172.30.0.3")
    # --no-tenant-cluster-ip ignores it
    place, option = tmp_path / "plain", ("--no-tenant-cluster-ip",)
    with Etcd(place, binaries) as etcd, BridgeStack(place, binaries, apiserver, etcd, option) as plain:
        plain.expect(WEB, "A", OWN)
        plain.expect(ip_address(OWN).reverse_pointer, "PTR", f"{WEB}.")
    becomes("172.30.0.3", "172.30.0.33", "172.30.0.33")
    becomes("172.30.0.33", None, OWN)
    # an invalid value is counted
    stack.expect(f"odd.{SVC}", "A", "10.0.200.4")
    assert stack.writer.metric("kube2etcd_left_out_records", reason="invalid") == 1
