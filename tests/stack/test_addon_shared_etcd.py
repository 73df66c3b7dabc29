"""addons/shared-etcd: three etcd members with TLS and two DNS pods, of which one writes; any may fail."""

import base64
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.addons.manifests import ADDONS, VALUES, filled, of_kind, pods
from tests.stack import addon
from tests.stack.addon import ADDRESS, DOMAIN, KUBERNETES, SVC, Cluster, ask, wait_for_answer
from tests.stack.harness import Binaries, http, wait_for
from tests.stack.node import API_ADDRESS
from tests.stack.objects import api_object, service
from tests.stack.pod import Pod

ADDON = "shared-etcd"
MEMBERS = [VALUES[f"ETCD_{number}"] for number in range(3)]


@dataclass
class Shared:
    cluster: Cluster
    etcds: list[Pod]
    servers: list[Pod]
    certificates: Path

    def leader(self) -> Pod:
        return wait_for(lambda: next(filter(leads, self.servers), None), "a bridge to lead", 30)

    def create(self, name: str, address: str) -> None:
        self.cluster.api.apply(service(name, clusterIP=address))
        for pod in self.servers:
            wait_for_answer(f"{name}.default.svc.{DOMAIN}", address, at=pod.network.address)


def leads(pod: Pod) -> bool:
    return "\nkube2etcd_leader 1.0\n" in http("GET", f"http://{pod.network.address}:8081/metrics").text


def secret(name: str, directory: Path) -> dict[str, object]:
    files = ("ca.crt", "tls.crt", "tls.key")
    data = {file: base64.b64encode((directory / file).read_bytes()).decode() for file in files}
    return api_object("v1", "Secret", name, "kube-system", type="kubernetes.io/tls", data=data)


@pytest.fixture(scope="module")
def shared(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = tmp_path_factory.mktemp("certificates")
    script = str(ADDONS / ADDON / "certificates.sh")
    subprocess.run([script, str(made), *MEMBERS], check=True, timeout=60)
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as cluster:
        secrets = {"kube-dns-etcd": made / "etcd", "kube-dns-etcd-client": made / "client"}
        cluster.apply(secret(name, directory) for name, directory in secrets.items())
        etcd = filled(f"{ADDON}/etcd.yaml.in")
        cluster.apply([*etcd, *filled(f"{ADDON}/skydns-rc.yaml.in"), *filled(SVC)])
        [template] = pods(etcd)
        [workload] = of_kind(etcd, "StatefulSet")
        for claim in workload["spec"]["volumeClaimTemplates"]:
            template["spec"]["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
        name = workload["metadata"]["name"]
        members = [
            cluster.pod(template, "kube-system", address, name=f"{name}-{number}", always=True)
            for number, address in enumerate(MEMBERS)
        ]
        for pod in members:
            pod.wait_ready()
        servers = [cluster.dns_pod(manifest=f"{ADDON}/skydns-rc.yaml.in") for _ in range(2)]
        for pod in servers:
            pod.wait_ready()
        yield Shared(cluster, members, servers, made)


def test_one_leader_writes_for_all_pods(shared: Shared) -> None:
    for pod in shared.servers:
        assert ask(KUBERNETES, at=pod.network.address) == [API_ADDRESS]
    assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
    shared.leader()
    assert sum(map(leads, shared.servers)) == 1
    shared.create("first", "10.0.9.1")


def test_etcd_requires_a_client_certificate(shared: Shared) -> None:
    client = shared.certificates / "client"
    pair = (str(client / "tls.crt"), str(client / "tls.key"))
    trusted = str(client / "ca.crt")
    for scheme in ("http", "https"):
        with pytest.raises(requests.ConnectionError):
            http("GET", f"{scheme}://{MEMBERS[0]}:2379/version", verify=trusted)
    answer = http("GET", f"https://{MEMBERS[0]}:2379/version", verify=trusted, cert=pair)
    assert answer.status_code == 200


def test_standby_takes_over_from_a_killed_leader(shared: Shared) -> None:
    before = shared.leader()
    bridge = before.containers["kube2etcd"]
    bridge.process.kill()
    wait_for(lambda: bridge.restarts > 0, "the bridge to restart", 20)
    shared.leader()
    for pod in shared.servers:
        pod.wait_ready()
    shared.create("second", "10.0.9.2")


@pytest.mark.parametrize("number", range(3))
def test_changes_are_served_without_one_etcd_member(shared: Shared, number: int) -> None:
    container = shared.etcds[number].containers["etcd"]
    restarts = container.restarts
    container.process.kill()
    shared.create(f"without-{number}", f"10.0.9.1{number}")
    wait_for(lambda: container.restarts > restarts and container.ready, "etcd to be ready again", 60)
    assert ask(KUBERNETES, at=ADDRESS) == [API_ADDRESS]
