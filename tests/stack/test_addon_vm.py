"""The pod of addons/vm serves the names of machines, and no others, to anyone."""

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
        # no other names, the cluster's included
        ("kubernetes.default.svc.cluster.local", "A", ["REFUSED"]),
        ("1.0.0.10.in-addr.arpa", "PTR", ["REFUSED"]),
        ("www.example.com", "A", ["REFUSED"]),
    ]
    answers(table, ADDRESS, port=5353)
    # the cluster's names are served on loopback only
    for at in (ADDRESS, pod.network.address):
        with pytest.raises(OSError, match="refused"):
            ask("kubernetes.default.svc.cluster.local", at=at, port=1053, tcp=True)
    cluster.api.apply(vmi("default", "vmi-late", nic("nic1", "10.10.0.6")))
    expect(f"vmi-late.default.{ZONE}", "10.10.0.6", at=ADDRESS, port=5353)


BAD = {
    "DOMAIN": ("sec.example.com.", "Sec.example.com", "", "{DOMAIN}"),
    "NAME_SERVER_IP": ("192.0.2.256", "", "{NAME_SERVER_IP}"),
}
SAID = {"DOMAIN": "a lowercase RFC 1123 subdomain", "NAME_SERVER_IP": "must be a valid IP address"}


@pytest.mark.parametrize(("mark", "value"), [(mark, one) for mark, values in BAD.items() for one in values])
def test_bad_values_are_refused(cluster: Cluster, mark: str, value: str) -> None:
    [one] = of_kind(filled(MANIFEST, {**VALUES, mark: value}), "Deployment")
    with pytest.raises(KubeError, match=SAID[mark]):
        cluster.api.apply({**one, "metadata": {**one["metadata"], "name": "other"}})
