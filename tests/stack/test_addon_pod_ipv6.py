"""The pods of addons/dns and addons/vm on an IPv6-only cluster."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from tests.addons.manifests import VALUES, containers, filled, pods
from tests.stack import addon
from tests.stack.addon import DOMAIN, KUBERNETES, RC, SVC, Cluster, assert_answers, wait_for_answer
from tests.stack.harness import Binaries, http
from tests.stack.node import IPV6
from tests.stack.objects import nic, service, vmi, vmi_crd
from tests.stack.pod import Pod

ADDRESS = "fd00:10::a"
VALUES6 = {**VALUES, "DNS_SERVER_IP": ADDRESS}
DNS = f"kube-dns.kube-system.svc.{DOMAIN}"
QUESTIONS = [
    (KUBERNETES, "AAAA", [IPV6.api]),
    (KUBERNETES, "A", ["NODATA"]),
    (DNS, "AAAA", [ADDRESS]),
    (f"_dns._udp.{DNS}", "SRV", [f"0 100 53 {DNS}."]),
    (ipaddress.ip_address(IPV6.api).reverse_pointer, "PTR", [f"{KUBERNETES}."]),
    (ipaddress.ip_address(ADDRESS).reverse_pointer, "PTR", [f"{DNS}."]),
    (f"fd00-244--2.default.pod.{DOMAIN}", "AAAA", ["fd00:244::2"]),
    (f"nobody.default.svc.{DOMAIN}", "AAAA", ["NXDOMAIN"]),
    ("www.example.com", "AAAA", ["2001:db8::80"]),
]


@pytest.fixture(scope="module")
def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries, IPV6) as made:
        made.apply([*filled(RC, VALUES6), *filled(SVC, VALUES6)])
        yield made


@pytest.fixture(scope="module")
def dns_pods(cluster: Cluster) -> list[Pod]:
    made = [cluster.dns_pod(VALUES6) for _ in range(2)]
    for pod in made:
        pod.wait_ready()
        shown = pod.network.run("ip", "-4", "-brief", "address")
        assert [line.split()[0] for line in shown.splitlines()] == ["lo"], "no IPv4 but loopback"
    return made


def test_both_pods_answer_over_ipv6(cluster: Cluster, dns_pods: list[Pod]) -> None:
    assert_answers(QUESTIONS, *(pod.network.address for pod in dns_pods), ADDRESS)
    cluster.api.apply(service("later", clusterIP="fd00:10::77"))
    for pod in dns_pods:
        wait_for_answer(f"later.default.svc.{DOMAIN}", "fd00:10::77", at=pod.network.address, rtype="AAAA")


def test_probe_and_metrics_ports_listen_on_ipv6(dns_pods: list[Pod]) -> None:
    """etcd's ports listen on loopback only."""
    template = next(pods(filled(RC, VALUES6)))
    ports = [port for one in containers(template) for port in one["ports"] if port["protocol"] == "TCP"]
    for port in (port["containerPort"] for port in ports if not port["name"].startswith("dns")):
        assert http("GET", f"http://[{dns_pods[0].network.address}]:{port}/metrics").status_code < 500, port
    for port in (2379, 2380):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((dns_pods[0].network.address, port), 5)


def test_vm_pod_answers_over_ipv6(cluster: Cluster) -> None:
    values = {**VALUES6, "NAME_SERVER_IP": "fd00:10::b"}
    manifest, zone = filled("vm/vm-dns.yaml.in", values), f"vm.{values['DOMAIN']}"
    cluster.apply([vmi_crd(), *manifest, vmi("default", "vmi-sec", nic("nic1", "fd00:99::5"))])
    pod = cluster.pod(next(pods(manifest)), "vm-dns", values["NAME_SERVER_IP"])
    pod.wait_ready()
    table = [
        (f"nic1.vmi-sec.default.{zone}", "AAAA", ["fd00:99::5"]),
        (f"nic1.vmi-sec.default.{zone}", "A", ["NODATA"]),
        (f"ns.{zone}", "AAAA", [values["NAME_SERVER_IP"]]),
        (zone, "NS", [f"ns.{zone}."]),
        (KUBERNETES, "AAAA", ["REFUSED"]),
    ]
    assert_answers(table, values["NAME_SERVER_IP"], pod.network.address, port=5353)
