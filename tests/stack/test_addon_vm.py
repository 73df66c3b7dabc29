"""The pod of addons/vm serves machines to the world and nothing else."""

from collections.abc import Iterator

import pytest

from tests.addons.manifests import VALUES, filled, of_kind, pods
from tests.stack import addon
from tests.stack.addon import Cluster, answers, ask, expect
from tests.stack.harness import Binaries, KubeError
from tests.stack.objects import nic, vmi, vmi_crd
from tests.stack.pod import Pod

MANIFEST = "vm/vm-dns.yaml.in"
ADDRESS = VALUES["NAME_SERVER_IP"]
ZONE = f"vm.{VALUES['DOMAIN']}"


@pytest.fixture(scope="module")
def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as made:
        made.apply([vmi_crd(), *filled(MANIFEST), vmi("default", "vmi-sec", nic("nic1", "10.10.0.5"))])
        yield made


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[Pod]:
    one = cluster.pod(next(pods(filled(MANIFEST))), "vm-dns", ADDRESS)
    try:
        one.wait_ready()
        yield one
    finally:
        cluster.end(one)


def test_machines_are_answered_and_nothing_else(cluster: Cluster, pod: Pod) -> None:
    table = [
        (f"nic1.vmi-sec.default.{ZONE}", "A", ["10.10.0.5"]),
        (f"vmi-sec.default.{ZONE}", "A", ["10.10.0.5"]),
        (f"default.vmi-sec.default.{ZONE}", "A", ["NXDOMAIN"]),
        (f"ns.{ZONE}", "A", [ADDRESS]),
        (ZONE, "NS", [f"ns.{ZONE}."]),
        # the cluster's own names, other names: not here
        ("kubernetes.default.svc.cluster.local", "A", ["REFUSED"]),
        ("1.0.0.10.in-addr.arpa", "PTR", ["REFUSED"]),
        ("www.example.com", "A", ["REFUSED"]),
    ]
    answers(table, ADDRESS, port=5353)
    # the cluster's names are served on loopback alone
    for at in (ADDRESS, pod.network.address):
        with pytest.raises(OSError, match="refused"):
            ask("kubernetes.default.svc.cluster.local", at=at, port=1053, tcp=True)
    cluster.api.apply(vmi("default", "vmi-late", nic("nic1", "10.10.0.6")))
    expect(f"vmi-late.default.{ZONE}", "10.10.0.6", at=ADDRESS, port=5353)


@pytest.mark.parametrize(
    ("mark", "value", "said"),
    [
        ("DOMAIN", "sec.example.com.", "a lowercase RFC 1123 subdomain"),
        ("DOMAIN", "Sec.example.com", "a lowercase RFC 1123 subdomain"),
        ("DOMAIN", "", "a lowercase RFC 1123 subdomain"),
        ("DOMAIN", "{DOMAIN}", "a lowercase RFC 1123 subdomain"),
        ("NAME_SERVER_IP", "192.0.2.256", "must be a valid IP address"),
        ("NAME_SERVER_IP", "", "must be a valid IP address"),
        ("NAME_SERVER_IP", "{NAME_SERVER_IP}", "must be a valid IP address"),
    ],
)
def test_wrong_values_are_refused(cluster: Cluster, mark: str, value: str, said: str) -> None:
    [one] = of_kind(filled(MANIFEST, {**VALUES, mark: value}), "Deployment")
    with pytest.raises(KubeError, match=said):
        cluster.api.apply({**one, "metadata": {**one["metadata"], "name": "other"}})
