"""The annotation with a tenant's cluster IP."""

from pathlib import Path

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


def test_every_case_of_the_annotation(
    start: Start, apiserver: ApiServer, binaries: Binaries, tmp_path: Path
) -> None:
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

    # with --no-tenant-cluster-ip the address is the one that the API server knows
    place, option = tmp_path / "plain", ("--no-tenant-cluster-ip",)
    with Etcd(place, binaries) as etcd, Zoned(place, binaries, apiserver, etcd, option) as plain:
        plain.expect(f"four.{SVC}", "A", "10.0.1.3")
        plain.expect("3.1.0.10.in-addr.arpa", "PTR", f"four.{SVC}.")

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
