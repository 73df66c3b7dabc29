"""addons/external-dns: records posted to one pod are served by all DNS pods and survive restarts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.addons.manifests import VALUES, filled, pods
from tests.stack import addon
from tests.stack.addon import ADDRESS, KUBERNETES, RC, SVC, Cluster, ask, wait_for_answer
from tests.stack.external_dns import ingress
from tests.stack.harness import Binaries
from tests.stack.pod import Pod

ADDON = "external-dns"
DOMAIN = VALUES["DOMAIN"]


@dataclass
class Site:
    """The DNS pods and the cluster."""

    cluster: Cluster
    dns_pods: list[Pod] = field(default_factory=list)

    def add_dns_pod(self) -> Pod:
        self.dns_pods.append(self.cluster.dns_pod())
        return self.dns_pods[-1]

    def start_external_dns(self) -> Pod:
        """Start the pod of ExternalDNS and webhook, which syncs every second instead of every minute."""
        [template] = pods(filled(f"{ADDON}/external-dns.yaml.in"))
        [container] = template["spec"]["containers"]
        container["args"] = [word.replace("--interval=1m", "--interval=1s") for word in container["args"]]
        return self.cluster.pod(template, "external-dns", "10.0.0.99")

    def expect(self, name: str, *addresses: str) -> None:
        """Wait until every DNS pod gives this answer."""
        for pod in self.dns_pods:
            wait_for_answer(name, *addresses, at=pod.network.address)


@pytest.fixture
def site(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as cluster:
        cluster.apply([*filled(RC), *filled(SVC)])
        for manifest in ("crd.yaml", "dns.yaml.in", "external-dns.yaml.in"):
            cluster.apply(addon.with_short_ttl(filled(f"{ADDON}/{manifest}")))
        yield Site(cluster)


def test_all_dns_pods_serve_posted_records_across_restarts(site: Site) -> None:
    api = site.cluster.api
    api.apply(ingress("web", f"web.{DOMAIN}", to=["192.0.2.10"]))
    for _ in range(2):
        site.add_dns_pod()
    external_dns = site.start_external_dns()
    for pod in (*site.dns_pods, external_dns):
        pod.wait_ready()
    site.expect(f"web.{DOMAIN}", "192.0.2.10")
    assert ask(KUBERNETES, at=ADDRESS) == ["10.0.0.1"]
    assert ask(f"nobody.{DOMAIN}", at=ADDRESS) == ["NXDOMAIN"]
    # the registry's TXT record is not published
    assert ask(f"a-web.{DOMAIN}", "TXT", at=ADDRESS) == ["NXDOMAIN"]

    # a new DNS pod serves records posted before its start
    site.cluster.remove_pod(external_dns)
    site.cluster.remove_pod(site.dns_pods.pop(0))
    site.add_dns_pod().wait_ready()
    site.expect(f"web.{DOMAIN}", "192.0.2.10")

    # a new ExternalDNS pod still owns its records: it updates and deletes them
    api.apply(ingress("web", f"web.{DOMAIN}", to=["192.0.2.11"]))
    api.apply(ingress("shop", f"shop.{DOMAIN}", to=["192.0.2.12"]))
    external_dns = site.start_external_dns()
    external_dns.wait_ready()
    site.expect(f"shop.{DOMAIN}", "192.0.2.12")
    api.delete(ingress("shop", f"shop.{DOMAIN}", to=[]))
    site.expect(f"web.{DOMAIN}", "192.0.2.11")
    site.expect(f"shop.{DOMAIN}", "NXDOMAIN")
    assert not any(external_dns.restarts().values()), external_dns.state()
