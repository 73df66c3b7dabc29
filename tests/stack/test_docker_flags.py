"""getaddrinfo with the resolv.conf from ``docker-flags``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import coredns
from tests.stack.bridge import kube2etcd
from tests.stack.harness import ApiServer, Binaries, Etcd, wait_for
from tests.stack.node import Namespace, with_bind_mounts
from tests.stack.objects import endpoints, namespace, service
from tests.stack.process import Process, run_command

DOMAIN = "kubernetes.local"
IPV4_SERVER, IPV6_SERVER, DEAD_SERVER = "10.0.0.10", "fd00:53::a", "10.0.0.11"
OBJECTS = [
    namespace("shop"),
    service("near", clusterIP="10.0.7.1"),
    service("near", "shop", clusterIP="10.0.7.2"),
    service("web", "shop", clusterIP="10.0.7.3"),
    service("db", "shop", clusterIP="None"),
    endpoints("db", "10.244.1.11", "10.244.1.12", namespace="shop"),
]
#: Denies all other names, so that the resolver goes on with its search list.
NXDOMAIN_BLOCK = """
.:53 {
    template ANY ANY . {
        rcode NXDOMAIN
        authority ". 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 1800 86400 60"
    }
}
"""
#: Other files of the resolver.
ETC = {"nsswitch.conf": "hosts: files dns\n", "hosts": "127.0.0.1 localhost\n::1 localhost\n"}
GETADDRINFO = """
import json, socket, sys
try:
    found = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_STREAM)
    print(json.dumps(sorted({one[4][0] for one in found})))
except socket.gaierror as error:
    print(json.dumps(str(error)))
"""


class ClientHost:
    """A host outside the cluster whose resolv.conf names the DNS servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.network = Namespace("client", directory)
        for address in (IPV4_SERVER, f"{IPV6_SERVER}/128"):
            nodad = ["nodad"] if ":" in address else []  # no duplicate address detection
            self.network.run("ip", "address", "add", address, "dev", "lo", *nodad)
        for name, text in ETC.items():
            (directory / name).write_text(text)

    def addresses(self, name: str, *options: str, port: int = 443) -> list[str] | str:
        """The addresses from getaddrinfo with the resolv.conf of these options, or its error."""
        conf = self.directory / "resolv.conf"
        conf.write_text(kube2etcd("docker-flags", "--domain", DOMAIN, *options, "--format", "resolv.conf"))
        files = {f"/etc/{one}": self.directory / one for one in (*ETC, conf.name)}
        if Path("/run/nscd").is_dir():  # hide a running nscd, which would answer instead
            files["/run/nscd"] = self.directory / "etcd"
        command = with_bind_mounts(files, [sys.executable, "-I", "-S", "-c", GETADDRINFO, name, str(port)])
        done = run_command(*self.network.inside(*command))
        assert done.returncode == 0, done.stderr
        found: list[str] | str = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def client(
    binaries: Binaries, shared_apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClientHost]:
    """A host with CoreDNS on the keys of a real cluster, at two addresses."""
    directory = tmp_path_factory.mktemp("client")
    client = ClientHost(directory)
    etcd = Etcd(directory / "etcd", binaries)
    dns = Process("coredns", [], directory)
    try:
        etcd.start()
        if not shared_apiserver.alive:
            shared_apiserver.start()
        shared_apiserver.reset()
        shared_apiserver.apply_all(OBJECTS)
        options = ("--domain", DOMAIN, "--etcd-server", etcd.url)
        kube2etcd("resync", *options, "--kubeconfig", str(shared_apiserver.kubeconfig()))
        # The same data on the same port, now of the loopback in the client's network.
        etcd.stop()
        etcd.command = client.network.inside(*etcd.command)
        etcd.launch()
        corefile = directory / "Corefile"
        corefile.write_text(coredns.corefile(53, *options, "--dns-listen", ":53") + NXDOMAIN_BLOCK)
        dns.command = client.network.inside(str(binaries["coredns"]), "-conf", str(corefile))
        dns.start()
        first = ("near", "--dns-server-ip", IPV4_SERVER)
        wait_for(lambda: client.addresses(*first) == ["10.0.7.1"], "the first answer", 60, dns, etcd)
        yield client
    finally:
        dns.kill()
        etcd.kill()
        client.network.kill()


SERVERS = {
    "IPv4": (IPV4_SERVER,),
    "IPv6": (IPV6_SERVER,),
    "both": (IPV4_SERVER, IPV6_SERVER),
    "first server is dead": (DEAD_SERVER, IPV4_SERVER),
}


@pytest.mark.parametrize("servers", list(SERVERS.values()), ids=list(SERVERS))
@pytest.mark.parametrize("ndots", [(), ("--ndots", "5")], ids=["no ndots", "ndots 5"])
def test_resolves_names_as_pods(servers: tuple[str, ...], ndots: tuple[str, ...], client: ClientHost) -> None:
    options = [*(part for server in servers for part in ("--dns-server-ip", server)), *ndots]
    found = client.addresses("kubernetes", *options)
    assert isinstance(found, list), found
    assert found == client.addresses(f"kubernetes.default.svc.{DOMAIN}.", *options)
    for name in ("web.shop", "web.shop.svc", f"web.shop.svc.{DOMAIN}", f"web.shop.svc.{DOMAIN}."):
        assert client.addresses(name, *options) == ["10.0.7.3"], name
    assert client.addresses("db.shop", *options) == ["10.244.1.11", "10.244.1.12"]


def test_own_namespace_is_searched_first(client: ClientHost) -> None:
    server = ("--dns-server-ip", IPV4_SERVER)
    assert client.addresses("near", *server) == ["10.0.7.1"]
    assert client.addresses("near", *server, "--namespace", "shop") == ["10.0.7.2"]
    assert client.addresses("near.default", *server, "--namespace", "shop") == ["10.0.7.1"]
    assert client.addresses("web", *server, "--namespace", "shop") == ["10.0.7.3"]


def test_unknown_names_fail(client: ClientHost) -> None:
    for name in ("web", "gone.shop", "shop", "svc"):
        assert "Errno" in client.addresses(name, "--dns-server-ip", IPV4_SERVER), name
