"""A small cluster for an addon's pods: a node, an API server with RBAC, a resolver.

Pods are `tests.stack.pod`; a Service's address routes to its ready pods.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.addons.manifests import VALUES, filled, pods
from tests.stack import coredns
from tests.stack.container import Image, images
from tests.stack.coredns import rdata_or_rcode
from tests.stack.harness import ApiServer, Binaries, CoreDns, Etcd, Object, wait_for
from tests.stack.node import IPV4, IPV6, Family, Node
from tests.stack.objects import api_object
from tests.stack.pod import Pod

#: addons/dns.
RC, SVC = "dns/skydns-rc.yaml.in", "dns/skydns-svc.yaml.in"
ADDRESS = VALUES["DNS_SERVER_IP"]
DOMAIN = VALUES["DNS_DOMAIN"]
KUBERNETES = f"kubernetes.default.svc.{DOMAIN}"
#: Rejected by both manifests and chart.
BAD_DOMAINS = ("kubernetes.local.", "Kubernetes.local", "", "a_b.local", "-a.local", "a..local")

#: The API server's options by family: pods reach it, and Services get addresses of the family.
API_OPTIONS: Mapping[Family, Sequence[str]] = {
    IPV4: ["--bind-address=0.0.0.0"],
    IPV6: [
        "--bind-address=::",
        "--service-cluster-ip-range=fd00:10::/112",
        "--advertise-address=2001:db8::10",
    ],
}


class Cluster:
    """A node, an API server with RBAC, a resolver, and pods."""

    def __init__(self, directory: Path, binaries: Binaries, node: Node) -> None:
        self.node = node
        self.images: dict[str, Image] = images(binaries, directory / "images")
        self.etcd = Etcd(directory / "api-etcd", binaries, name="api-etcd")
        self.api = ApiServer(
            directory / "apiserver",
            binaries,
            self.etcd.url,
            authorization_mode="RBAC",
            service_accounts=True,
            hosts=[node.family.api],
            extra_args=API_OPTIONS[node.family],
        )
        corefile = coredns.upstream_corefile(at=node.family.resolver, port="53")
        self.resolver = CoreDns(directory / "resolver", binaries, corefile)
        self.pods: list[tuple[str, Pod]] = []
        self.count = 0

    def dns_pod(self, values: Mapping[str, str] = VALUES, speedup: float = 1.0, *, manifest: str = RC) -> Pod:
        """Start a pod of addons/dns or another manifest, behind the DNS Service."""
        [template] = pods(filled(manifest, values))
        return self.pod(template, "kube-system", values["DNS_SERVER_IP"], speedup)

    def start(self) -> None:
        self.etcd.start()
        self.api.start()
        self.resolver.launch()
        # No addon may depend on the API server's default role for kube-dns.
        self.api.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:kube-dns")

    def stop(self) -> None:
        for _, pod in self.pods:
            pod.kill()
        for server in (self.resolver, self.api, self.etcd):
            server.kill()
        self.api.close()

    def apply(self, objects: Iterable[Object]) -> None:
        """Apply a manifest's objects in order, as kubectl does."""
        for one in objects:
            self.api.apply(one)

    def pod(
        self,
        template: Object,
        namespace: str,
        address: str,
        speedup: float = 1.0,
        *,
        name: str = "",
        always: bool = False,
    ) -> Pod:
        """Start a pod that backs the Service's ``address`` while ready, or ``always``."""
        # A controller creates it in each namespace.
        data = {"ca.crt": self.api.ca_file.read_text()}
        self.api.apply(api_object("v1", "ConfigMap", "kube-root-ca.crt", namespace, data=data))
        self.count += 1

        def changed() -> None:
            if not always:
                self.route(address)

        made = Pod(
            name or f"pod-{self.count}",
            template,
            namespace,
            self.node,
            self.api,
            self.api.port,
            self.images,
            speedup=speedup,
            changed=changed,
        )
        made.network.add_service_address(address)
        self.pods.append((address, made))
        if always:
            self.node.route(address, [made.network])
        made.start()
        return made

    def route(self, address: str) -> None:
        """Route the Service's address to its ready pods."""
        self.node.route(address, [pod.network for at, pod in self.pods if at == address and pod.ready])

    def remove_pod(self, pod: Pod, *, gently: bool = False) -> None:
        """Remove the pod from its Service, then stop it ``gently`` or kill it."""
        [place] = [place for place in self.pods if place[1] is pod]
        self.pods.remove(place)
        self.route(place[0])
        if gently:
            pod.stop()
        else:
            pod.kill()


@contextlib.contextmanager
def running(directory: Path, binaries: Binaries, family: Family = IPV4) -> Iterator[Cluster]:
    """A cluster; within the block the calling thread is in its node's network."""
    node = Node(directory, family)
    with contextlib.ExitStack() as exits:
        exits.callback(node.kill)
        exits.enter_context(node.entered())
        made = Cluster(directory, binaries, node)
        exits.callback(made.stop)
        made.start()
        yield made


def with_short_ttl(found: list[Object]) -> list[Object]:
    """The objects with a TTL of 5 s, so that CoreDNS's cache expires soon."""
    for one in found:
        if "settings.yaml" in one.get("data", {}):
            one["data"]["settings.yaml"] += "ttl: 5\n"
    return found


def ask(name: str, rtype: str = "A", *, at: str, port: int = 53, tcp: bool = False) -> list[str]:
    """The answer's rdata, sorted; or NODATA, or the rcode."""
    return sorted(rdata_or_rcode(coredns.ask(name, rtype, port, at=at, tcp=tcp, timeout=3)))


def assert_answers(questions: Iterable[tuple[str, str, list[str]]], *places: str, port: int = 53) -> None:
    """Assert that each server gives these answers, over UDP and TCP."""
    for at in places:
        for name, rtype, wanted in questions:
            for tcp in (False, True):
                assert ask(name, rtype, at=at, port=port, tcp=tcp) == wanted, (name, at, tcp)


def wait_for_answer(name: str, *wanted: str, at: str, port: int = 53, rtype: str = "A") -> None:
    """Wait for this answer; CoreDNS's cache may hold another for half a minute."""

    def answered() -> bool:
        assert ask(name, rtype, at=at, port=port) == sorted(wanted)
        return True

    wait_for(answered, f"{name} at {at}", 60)
