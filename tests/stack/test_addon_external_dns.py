"""addons/external-dns: records sent to one pod are served by all, and survive restarts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.addons.manifests import VALUES, Object, filled, pods
from tests.stack import addon
from tests.stack.addon import ADDRESS, KUBERNETES, RC, SVC, Cluster, ask, expect
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
    sender: Pod | None = None

    def add_server(self) -> Pod:
        [template] = pods(filled(RC))
        self.servers.append(self.cluster.pod(template, "kube-system", ADDRESS))
        return self.servers[-1]

    def start_sender(self) -> Pod:
        """ExternalDNS with its provider; it looks every second, not every minute."""
        [template] = pods(filled(f"{ADDON}/external-dns.yaml.in"))
        [container] = template["spec"]["containers"]
        container["args"] = [word.replace("--interval=1m", "--interval=1s") for word in container["args"]]
        self.sender = self.cluster.pod(template, "external-dns", "10.0.0.99")
        return self.sender

    def everywhere(self, name: str, *addresses: str) -> None:
        """Wait until every DNS pod answers this."""
        for pod in self.servers:
            expect(name, *addresses, at=pod.network.address)

    def apply(self, one: Object) -> None:
        self.cluster.api.apply(one)


@pytest.fixture
def site(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with addon.running(tmp_path_factory.mktemp("node"), binaries) as cluster:
        cluster.apply([*filled(RC), *filled(SVC)])
        for manifest in ("crd.yaml", "dns.yaml.in", "external-dns.yaml.in"):
            cluster.apply(addon.short_lived(filled(f"{ADDON}/{manifest}")))
        yield Site(cluster)


def test_all_pods_serve_what_one_received_and_keep_it(site: Site) -> None:
    site.apply(ingress("web", f"web.{DOMAIN}", to=["192.0.2.10"]))
    for _ in range(2):
        site.add_server()
    sender = site.start_sender()
    for pod in (*site.servers, sender):
        pod.wait_ready()
    site.everywhere(f"web.{DOMAIN}", "192.0.2.10")
    # the cluster's own names as ever; the domain itself is none
    assert ask(KUBERNETES, at=ADDRESS) == ["10.0.0.1"]
    assert ask(f"nobody.{DOMAIN}", at=ADDRESS) == ["NXDOMAIN"]
    # ownership is bookkeeping, and no name
    assert ask(f"a-web.{DOMAIN}", "TXT", at=ADDRESS) == ["NXDOMAIN"]

    # a new DNS pod answers what was sent before its time, with nobody there who would send it again
    site.cluster.end(sender)
    site.cluster.end(site.servers.pop(0))
    site.add_server().wait_ready()
    site.everywhere(f"web.{DOMAIN}", "192.0.2.10")

    # a new ExternalDNS knows what is its own: it changes and takes away
    site.apply(ingress("web", f"web.{DOMAIN}", to=["192.0.2.11"]))
    site.apply(ingress("shop", f"shop.{DOMAIN}", to=["192.0.2.12"]))
    site.start_sender().wait_ready()
    site.everywhere(f"shop.{DOMAIN}", "192.0.2.12")
    site.cluster.api.delete(ingress("shop", f"shop.{DOMAIN}", to=[]))
    # at the latest when CoreDNS's cache lets go
    site.everywhere(f"web.{DOMAIN}", "192.0.2.11")
    site.everywhere(f"shop.{DOMAIN}", "NXDOMAIN")
    assert site.sender is not None
    assert not any(site.sender.restarts().values()), site.sender.state()
