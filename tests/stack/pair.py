"""The two servers that are compared: CoreDNS's own kubernetes plugin, and CoreDNS on the keys of the bridge.

Both read the same API server and send other names to the same upstream.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.rcode

from tests.stack.compare import Answer, Report, normalise
from tests.stack.harness import (
    LOOPBACK,
    ApiServer,
    Bridge,
    CoreDns,
    Etcd,
    clean_environment,
    free_port,
    wait_for,
)
from tests.stack.questions import Question, dashed

Object = dict[str, Any]

ZONE = "cluster.local"
READ_KINDS = (
    ("v1", "Namespace"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("v1", "Pod"),
)

UPSTREAM = """
.:{port} {
    bind 127.0.0.1
    template IN A example.com {
        answer "{{ .Name }} 60 IN A 192.0.2.80"
    }
    template IN AAAA example.com {
        answer "{{ .Name }} 60 IN AAAA 2001:db8::80"
    }
    template ANY ANY example.com {
        rcode NOERROR
        authority "example.com. 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 1800 86400 60"
    }
    template ANY ANY . {
        rcode NXDOMAIN
        authority ". 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 1800 86400 60"
    }
}
"""

ORACLE = """
.:{{port}} {{
    bind 127.0.0.1
    errors
    kubernetes {zones} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods {pods}
        ttl 30
        {fallthrough}
    }}
    {forward}
}}
"""


def oracle_corefile(kubeconfig: Path, pods: str, upstream: str, more_zones: Sequence[str] = ()) -> str:
    """CoreDNS as most clusters run it; ``upstream`` is HOST:PORT or ``none``."""
    outside = upstream != "none"
    return ORACLE.format(
        zones=" ".join((ZONE, *more_zones)),
        kubeconfig=kubeconfig,
        pods=pods,
        fallthrough="fallthrough in-addr.arpa ip6.arpa" if outside else "",
        forward=f"forward . {upstream}" if outside else "",
    )


def our_corefile(port: int, etcd_url: str, pods: str, upstream: str, extra: Sequence[str] = ()) -> str:
    """What ``kube2etcd corefile`` prints, with its other doors moved to free loopback ports."""
    command = [sys.executable, "-m", "kube2etcd", "corefile", "--domain", ZONE, "--etcd-server", etcd_url]
    command += ["--dns-listen", f"{LOOPBACK}:{port}", "--cache", "0", "--pods", pods, "--ttl", "30"]
    command += ["--upstream", upstream, *extra]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    doors: dict[str, str] = {}

    def move(match: re.Match[str]) -> str:
        door = doors.setdefault(match[0], f"{LOOPBACK}:{free_port()}")
        return f"{match[1]}{match[2]} {door}"

    return re.sub(r"^(\s*)(health|ready|prometheus) \S*$", move, done.stdout, flags=re.MULTILINE)


def bridge_args(kubeconfig: Path, etcd_url: str, pods: str) -> list[str]:
    """The options with which the bridge promises the kubernetes plugin's answers."""
    args = ["--kubeconfig", str(kubeconfig), "--etcd-server", etcd_url, "--domain", ZONE]
    return [*args, "--endpoint-names", "all", "--pods", pods, "--ttl", "30"]


@dataclass
class Pair:
    """The oracle and ours, running."""

    apiserver: ApiServer
    etcd: Etcd
    bridge: Bridge
    oracle: CoreDns
    ours: CoreDns
    pods: str

    def __post_init__(self) -> None:
        self._settled = itertools.count()

    @property
    def both(self) -> tuple[CoreDns, CoreDns]:
        """The two servers."""
        return self.oracle, self.ours

    def objects(self) -> list[Object]:
        """What the API server holds now, with allocated addresses."""
        return [obj for kind in READ_KINDS for obj in self.apiserver.list(*kind)]

    def settle(self) -> None:
        """Wait until both have seen everything so far.

        Events of one kind come in order, those of different kinds do not: so the last object of each kind is
        made here, and its name awaited on both sides.
        """
        last, names = _last_of_each_kind(next(self._settled), self.pods)
        for obj in last:
            self.apiserver.apply(obj)
        for server in self.both:
            for name in names:
                wait_for(
                    lambda server=server, name=name: _exists(server, name),  # type: ignore[misc]
                    f"{name} at {server.process.name}",
                    60,
                    server.process,
                    self.bridge.process,
                    not_yet=(OSError, AssertionError, dns.exception.DNSException),
                )

    def compare(self, asked: Iterable[Question], workers: int = 4) -> Report:
        """Ask both every question."""
        questions = list(asked)
        report = Report()
        with ThreadPoolExecutor(workers) as pool:
            pairs = pool.map(self._ask_both, questions)
            for question, (theirs, ours) in zip(questions, pairs, strict=True):
                report.add(question, theirs, ours)
        return report

    def _ask_both(self, question: Question) -> tuple[Answer, Answer]:
        theirs, ours = (_ask(server, question) for server in self.both)
        return theirs, ours


def _ask(server: CoreDns, question: Question) -> Answer:
    try:
        return normalise(server.ask(question.name, question.rdtype))
    except dns.exception.DNSException as error:
        return Answer(type(error).__name__)


def _exists(server: CoreDns, name: str) -> bool:
    return server.ask(name, "A", timeout=1.0).rcode() == dns.rcode.NOERROR


def _last_of_each_kind(number: int, pods: str) -> tuple[list[Object], list[str]]:
    """One object of each kind, and the names that exist once they have been seen."""
    namespace = f"zz-settled-{number}"
    where: Mapping[str, str] = {"namespace": namespace}
    address = f"198.18.{number // 250}.{number % 250 + 1}"
    service = {"apiVersion": "v1", "kind": "Service"}
    ports = [{"name": "settled", "port": 80, "protocol": "TCP"}]
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {**service, "metadata": {"name": "cluster", **where}, "spec": {"ports": ports}},
        {
            **service,
            "metadata": {"name": "headless", **where},
            "spec": {"ports": ports, "clusterIP": "None"},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "headless-0",
                **where,
                "labels": {"kubernetes.io/service-name": "headless"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "hostname": "last", "conditions": {"ready": True}}],
            "ports": ports,
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "last", **where},
            "spec": {"containers": [{"name": "c", "image": "example.com/none"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        },
    ]
    names = [f"{namespace}.svc", f"cluster.{namespace}.svc", f"last.headless.{namespace}.svc"]
    if pods == "verified":
        names.append(f"{dashed(address)}.{namespace}.pod")
    return objects, [f"{name}.{ZONE}" for name in names]


@contextlib.contextmanager
def running_pair(
    binaries: Mapping[str, Path],
    directory: Path,
    apiserver: ApiServer,
    etcd: Etcd,
    *,
    pods: str = "verified",
    with_upstream: bool = True,
    bridge_extra: Sequence[str] = (),
    zones_file: Path | None = None,
    oracle_zones: Sequence[str] = (),
) -> Iterator[Pair]:
    """Start the bridge, its CoreDNS, the oracle and the upstream, and stop them in the end.

    ``zones_file`` holds our settings; ``oracle_zones`` the kubernetes plugin serves beside the cluster's.
    """
    config = ["--config", str(zones_file)] if zones_file is not None else []
    kubeconfig = apiserver.kubeconfig()
    with contextlib.ExitStack() as stack:
        outside = "none"
        if with_upstream:
            upstream = CoreDns(directory, binaries, UPSTREAM, name="upstream")
            stack.callback(upstream.kill)
            upstream.start()
            outside = f"{LOOPBACK}:{upstream.port}"
        oracle = CoreDns(
            directory, binaries, oracle_corefile(kubeconfig, pods, outside, oracle_zones), name="oracle"
        )
        stack.callback(oracle.kill)
        oracle.start()
        port = free_port()
        text = our_corefile(port, etcd.url, pods, outside, config)
        ours = CoreDns(directory, binaries, text, port=port, name="ours")
        stack.callback(ours.kill)
        ours.start()
        bridge = Bridge(directory, [*bridge_args(kubeconfig, etcd.url, pods), *config, *bridge_extra])
        stack.callback(bridge.kill)
        bridge.start()
        bridge.wait_ready()
        yield Pair(apiserver, etcd, bridge, oracle, ours, pods)
