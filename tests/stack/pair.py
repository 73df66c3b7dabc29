"""The servers that are compared: CoreDNS's kubernetes plugin (the oracle), and CoreDNS on the bridge's keys.

Both serve the same API server's objects and forward other names to the same upstream.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.rcode

from tests.stack.bridge import config_option
from tests.stack.compare import Answer, Report, normalise
from tests.stack.coredns import coredns_for, plugin_corefile, upstream_corefile
from tests.stack.harness import LOOPBACK, ApiServer, Bridge, CoreDns, Etcd, wait_for
from tests.stack.kubeclient import Object
from tests.stack.objects import endpoint_slice, namespace, pod, service
from tests.stack.questions import Question, dashed

ZONE = "cluster.local"
READ_KINDS = (("v1", "Namespace"), ("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice"), ("v1", "Pod"))


@dataclass
class Pair:
    apiserver: ApiServer
    etcd: Etcd
    bridge: Bridge
    oracle: CoreDns
    ours: CoreDns
    pods: str
    options: Sequence[str]
    """Of both the bridge and its CoreDNS."""

    def __post_init__(self) -> None:
        self._rounds = itertools.count()

    @property
    def both(self) -> tuple[CoreDns, CoreDns]:
        return self.oracle, self.ours

    def objects(self) -> list[Object]:
        """The API server's objects, with the addresses it allocated."""
        return [obj for kind in READ_KINDS for obj in self.apiserver.list(*kind)]

    def catch_up(self) -> None:
        """Wait until both have seen every change so far.

        Events are ordered only within a kind, so this creates one more object of each kind and waits for its
        name on both servers.
        """
        last, names = _last_of_each_kind(next(self._rounds), self.pods)
        for obj in last:
            self.apiserver.apply(obj)
        for server in self.both:
            for name in names:
                wait_for(
                    lambda server=server, name=name: _exists(server, name),  # type: ignore[misc]
                    f"{name} at {server.name}",
                    60,
                    server,
                    self.bridge,
                )

    def compare(self, asked: Iterable[Question]) -> Report:
        questions = list(asked)
        report = Report()
        with ThreadPoolExecutor(4) as pool:
            pairs = pool.map(self._ask_both, questions)
            for question, (theirs, ours) in zip(questions, pairs, strict=True):
                report.add(question, theirs, ours)
        return report

    def _ask_both(self, question: Question) -> tuple[Answer, Answer]:
        theirs, ours = (_ask(server, question) for server in self.both)
        return theirs, ours


#: What the fixture ``start_pair`` returns, from the keywords of `running_pair`.
StartPair = Callable[..., Pair]


def _ask(server: CoreDns, question: Question) -> Answer:
    try:
        return normalise(server.ask(question.name, question.rdtype))
    except dns.exception.DNSException as error:
        return Answer(type(error).__name__)


def _exists(server: CoreDns, name: str) -> bool:
    return server.ask(name, "A", timeout=1.0).rcode() == dns.rcode.NOERROR


def _last_of_each_kind(number: int, pods: str) -> tuple[list[Object], list[str]]:
    """One new object of each kind, and the names that exist once all have been seen."""
    where = f"zz-last-{number}"
    address = f"198.18.{number // 250}.{number % 250 + 1}"
    last = {"addresses": [address], "hostname": "last", "conditions": {"ready": True}}
    objects: list[Object] = [
        namespace(where),
        service("cluster", where),
        service("headless", where, clusterIP="None"),
        endpoint_slice("headless-0", "headless", [last], namespace=where),
        pod("last", address, namespace=where),
    ]
    names = [f"{where}.svc", f"cluster.{where}.svc", f"last.headless.{where}.svc"]
    if pods == "verified":
        names.append(f"{dashed(address)}.{where}.pod")
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
    bridge: Bridge | None = None,
    config: Mapping[str, Any] | None = None,
    oracle_zones: str = "",
) -> Iterator[Pair]:
    """Start the bridge unless one is given, its CoreDNS, the oracle and the upstream; all stop on exit.

    ``config`` is the bridge's settings file; ``oracle_zones`` are further zones of the kubernetes plugin.
    """
    options = ["--domain", ZONE, *etcd.options, "--pods", pods, "--ttl", "30"]
    options += config_option(directory, config)
    kubeconfig = str(apiserver.kubeconfig())
    with contextlib.ExitStack() as exits:
        behind = "none"
        if with_upstream:
            upstream = exits.enter_context(CoreDns(directory, binaries, upstream_corefile(), name="upstream"))
            behind = f"{LOOPBACK}:{upstream.port}"
        text = plugin_corefile(
            f"kubeconfig {kubeconfig}",
            f"forward . {behind}" if with_upstream else "",
            zones=oracle_zones,
            pods=pods,
            within="fallthrough in-addr.arpa ip6.arpa" if with_upstream else "",
        )
        oracle = exits.enter_context(CoreDns(directory, binaries, text, name="oracle"))
        ours = exits.enter_context(
            coredns_for(directory, binaries, *options, "--upstream", behind, name="ours")
        )
        if bridge is None:
            source = ["--kubeconfig", kubeconfig, "--endpoint-names", "all"]
            bridge = exits.enter_context(Bridge(directory, [*source, *options]))
        bridge.wait_ready()
        yield Pair(apiserver, etcd, bridge, oracle, ours, pods, options)
