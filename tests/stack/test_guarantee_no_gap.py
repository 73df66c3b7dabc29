"""A name that exists before and after a change is answered throughout."""

from typing import Any

from tests.stack.asking import asked_all_the_time, questions_to
from tests.stack.dns_stack import StartStack
from tests.stack.faults import Proxy, Run
from tests.stack.harness import ApiServer, CoreDns, Etcd, wait_for
from tests.stack.objects import HTTP, endpoints, nic, port, service, vmi, vmi_crd

ASKED = [
    ("web.default.svc.cluster.local.", "A"),
    ("_http._tcp.web.default.svc.cluster.local.", "SRV"),
    ("many.default.svc.cluster.local.", "A"),
    ("_http._tcp.many.default.svc.cluster.local.", "SRV"),
    ("quiet.default.svc.cluster.local.", "A"),
]


def test_service_updates_leave_no_gap(apiserver: ApiServer, etcd: Etcd, dns: CoreDns, run: Run) -> None:
    more = port("more", 81)
    single: dict[str, Any] = {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}
    dual: dict[str, Any] = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
    many = [service("many", clusterIP="None"), endpoints("many", "10.9.0.1", "10.9.0.2")]

    def keys(part: str) -> str:
        return "".join(f"{key} {value} " for key, value in etcd.dump("/skydns").items() if part in key)

    def changed(what: str, **spec: Any) -> None:
        before = keys("/default/web")
        apiserver.apply(service("web", **spec))
        wait_for(lambda: keys("/default/web") != before, what, 10)

    def serve(*addresses: str, number: int = 0) -> None:
        apiserver.apply(endpoints("many", *addresses, number=number))
        wait_for(lambda: all(one in keys("/default/many") for one in addresses), f"{addresses} in keys", 10)

    run(objects=[service("web", **single), *many, service("quiet")])
    with asked_all_the_time(questions_to(dns, *ASKED), at_least=100):
        for turn in range(1, 5):
            changed("the port", **single, ports=[HTTP, more])
            changed("the family", **dual, ports=[HTTP, more])
            changed("the first form", **single, ports=[HTTP])
            # one endpoint is replaced, then all of them, then by a second slice
            serve(f"10.9.{turn}.1", "10.9.0.2")
            serve(f"10.9.{turn}.3", f"10.9.{turn}.4")
            serve("10.9.0.1", "10.9.0.2")
            serve(f"10.9.{turn}.9", number=1)
            gone = f"10.9.{turn}.9"
            apiserver.delete(endpoints("many", gone, number=1))
            wait_for(lambda gone=gone: gone not in keys("/default/many"), "the slice to go", 10)  # type: ignore[misc]


def test_change_between_headless_and_cluster_ip_leaves_no_gap(
    apiserver: ApiServer, dns: CoreDns, proxy: Proxy, run: Run
) -> None:
    run(kubeconfig=proxy.kubeconfig, objects=[service("web"), endpoints("web", "10.9.0.1", "10.9.0.2")])
    with asked_all_the_time(questions_to(dns, *ASKED[:2]), at_least=100):
        headless: dict[str, Any] = {"clusterIP": "None"}
        for kind in (headless, {}, headless, {}):
            proxy.fault("services", status=500)
            proxy.expire_watches()
            wait_for(lambda: "services" not in proxy.watches.values(), "the watch to end", 10)
            apiserver.delete(service("web"))
            apiserver.apply(service("web", **kind))
            expected = ["10.9.0.1", "10.9.0.2"]
            if not kind:
                expected = [apiserver.get("v1", "Service", "web")["spec"]["clusterIP"]]
            proxy.mend()
            wait_for(
                lambda expected=expected: sorted(dns.addresses(ASKED[0][0])) == expected,  # type: ignore[misc]
                f"the addresses {expected}",
                40,
            )


def test_change_between_external_name_and_cluster_ip_leaves_no_gap(
    apiserver: ApiServer, etcd: Etcd, dns: CoreDns, run: Run
) -> None:
    key, target = "/skydns/local/cluster/svc/default/web", "db.default.svc.cluster.local"
    alias: dict[str, Any] = {"type": "ExternalName", "externalName": target}
    address = {"type": "ClusterIP", "externalName": None, "clusterIP": "10.0.0.77"}
    run(objects=[service("db"), service("web", **alias)])
    with asked_all_the_time(questions_to(dns, ASKED[0]), at_least=100):
        for turn in range(60):
            spec = {**alias, "clusterIP": None} if turn % 2 else address
            before = etcd.dump(key).get(key)
            apiserver.patch(apiserver.path("v1", "Service", "default", "web"), {"spec": spec})
            wait_for(lambda before=before: etcd.dump(key).get(key) != before, "the other kind", 10)  # type: ignore[misc]


def test_vmi_address_changes_leave_no_gap(apiserver: ApiServer, start_stack: StartStack) -> None:
    names = ("desk.default.vm.", "blue.desk.default.vm.")
    stack = start_stack(
        "--vm-domain", "", objects=[vmi_crd(), vmi("default", "desk", nic("blue", "10.10.0.1"))]
    )
    with asked_all_the_time(questions_to(stack.dns, *((name, "A") for name in names)), at_least=50):
        for turn in range(2, 42):
            addresses = [f"10.10.0.{turn}", *(["fd00:5::1"] if turn % 2 else [])]
            more = [nic("red", f"10.20.0.{turn}")] if turn % 3 == 0 else []
            apiserver.apply(vmi("default", "desk", nic("blue", *addresses), *more))
            stack.expect(names[1], "A", f"10.10.0.{turn}")
