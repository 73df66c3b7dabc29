"""addons/external-dns: records sent to one pod are served by all and survive restarts."""

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
    """DNS pods, and the pod with ExternalDNS."""

    cluster: Cluster
    servers: list[Pod] = field(default_factory=list)

    def add_server(self) -> Pod:
        self.servers.append(self.cluster.dns_pod())
        return self.servers[-1]

    def start_sender(self) -> Pod:
        """ExternalDNS with its provider; it syncs every second instead of every minute."""
        [template] = pods(filled(f"{ADDON}/external-dns.yaml.in"))
        [container] = template["spec"]["containers"]
        container["args"] = [word.replace("--interval=1m", "--interval=1s") for word in container["args"]]
        return self.cluster.pod(template, "external-dns", "10.0.0.99")

    def everywhere(self, name: str, *addresses: str) -> None:
        """Wait until every DNS pod answers this."""
        for pod in self.servers:
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
        site.add_server()
    sender = site.start_sender()
    for pod in (*site.servers, sender):
        pod.wait_ready()
    site.everywhere(f"web.{DOMAIN}", "192.0.2.10")
    assert ask(KUBERNETES, at=ADDRESS) == ["10.0.0.1"]
    assert ask(f"nobody.{DOMAIN}", at=ADDRESS) == ["NXDOMAIN"]
    # the registry's ownership text is not published
    assert ask(f"a-web.{DOMAIN}", "TXT", at=ADDRESS) == ["NXDOMAIN"]

    # a new DNS pod answers what was sent before it started, with nobody to send it again
    site.cluster.remove_pod(sender)
    site.cluster.remove_pod(site.servers.pop(0))
    site.add_server().wait_ready()
    site.everywhere(f"web.{DOMAIN}", "192.0.2.10")

    # a new ExternalDNS knows what it owns: it updates and deletes
    api.apply(ingress("web", f"web.{DOMAIN}", to=["192.0.2.11"]))
    api.apply(ingress("shop", f"shop.{DOMAIN}", to=["192.0.2.12"]))
    sender = site.start_sender()
    sender.wait_ready()
    site.everywhere(f"shop.{DOMAIN}", "192.0.2.12")
    api.delete(ingress("shop", f"shop.{DOMAIN}", to=[]))
    # once CoreDNS's cache expires
    site.everywhere(f"web.{DOMAIN}", "192.0.2.11")
    site.everywhere(f"shop.{DOMAIN}", "NXDOMAIN")
    assert not any(sender.restarts().values()), sender.state()
