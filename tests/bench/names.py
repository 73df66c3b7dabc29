"""5,000 names from ExternalDNS in one call: how long until CoreDNS and the hosts file have them all.

``python -m tests.bench.names [--count 5000] [--rounds 3]`` posts them with their ownership texts, then one
name more, to ``kube2etcd webhook`` with etcd and a hosts file, and to ``kube2etcd run --webhook`` that keeps
its state as objects of an API server.  10 s and 1 s are promised.  Each round the stock etcd3 client writes
the same keys into the same etcd, one by one, as many providers do: the ratio says more than the seconds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from kube2etcd.etcd import wire
from tests.bench.services import Asker
from tests.stack.build import BRIDGE
from tests.stack.coredns import on_keys
from tests.stack.harness import (
    LOOPBACK,
    ApiServer,
    BuildError,
    Etcd,
    binaries,
    wait_for,
)
from tests.stack.objects import dns_endpoint_crd
from tests.stack.webhook import JSON, KEYS, MEDIA_TYPE, Webhook, a, block, ownership

wire.install()

import etcd3  # noqa: E402

#: Seconds from the call that are promised: for all names, and for one more.
PROMISED = (10.0, 1.0)
#: Seconds after which a round has failed.
PATIENCE = 120.0
DOMAIN = "dtk.io"


@dataclass(frozen=True)
class Waited:
    """Seconds from a call until its answer, until the file has its names, and until DNS has them."""

    answer: float
    file: float
    dns: float

    @property
    def all(self) -> float:
        """Until everything is as asked for."""
        return max(self.file, self.dns)

    def __str__(self) -> str:
        return f"{self.all:.2f} s (answer {self.answer:.2f}, file {self.file:.2f}, DNS {self.dns:.2f})"


@dataclass(frozen=True)
class Round:
    """The large call, the one more, and the seconds that the stock client takes for the keys, one by one."""

    many: Waited
    one: Waited
    stock: float

    def __str__(self) -> str:
        return f"all {self.many}; one more {self.one}; the stock client's keys {self.stock:.2f} s"


class Stack:
    """An etcd, CoreDNS and a webhook, whose names are those of one round."""

    def __init__(self, directory: Path, programs: dict[str, Path], options: Sequence[str], run: bool) -> None:
        self.hosts = directory / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.etcd = Etcd(directory, programs)
        to_etcd = ["--domains", DOMAIN, "--etcd-server", self.etcd.url]
        command = "run" if run else "webhook"
        self.webhook = Webhook(
            directory, [*to_etcd, "--hosts-file", str(self.hosts), *options], command=command
        )
        self.dns = on_keys(directory, programs, *to_etcd)

    def round(self, count: int) -> Round:
        """Start, measure, stop."""
        servers = (self.etcd, self.webhook, self.dns)
        try:
            for server in servers:
                server.start()
            self.webhook.wait_ready()
            endpoints = [a(f"n{at}.{DOMAIN}", f"10.1.{at // 250}.{at % 250}") for at in range(count)]
            many = self._post([one for host in endpoints for one in (host, ownership(host))], count)
            more = a(f"more.{DOMAIN}", "10.2.0.1")
            one = self._post([more, ownership(more)], count + 1)
            return Round(many, one, self._stock())
        finally:
            for server in reversed(servers):
                server.kill()

    def _post(self, create: list[JSON], lines: int) -> Waited:
        names = [f"{one['dnsName']}." for one in create if one["recordType"] == "A"]
        random.Random(1).shuffle(names)
        asker = Asker(self.dns, names)
        with requests.Session() as session:
            session.trust_env = False
            began = time.monotonic()
            answer = session.post(
                f"{self.webhook.door}/records",
                json={"create": create},
                headers={"Content-Type": MEDIA_TYPE},
                timeout=PATIENCE,
            )
            answered = time.monotonic()
        if answer.status_code != 204:
            raise AssertionError(f"{answer.status_code}: {answer.text}")
        wait_for(lambda: len(block(self.hosts)) == lines, "the hosts file", PATIENCE, self.webhook.process)
        written = time.monotonic()
        asker.ask_until_all_answered(began + PATIENCE)
        return Waited(answered - began, written - began, asker.done - began)

    def _stock(self) -> float:
        entries = [(f"/stock{key}", value) for key, value in self.etcd.dump(KEYS).items()]
        client: Any = etcd3.client(host=LOOPBACK, port=self.etcd.port, timeout=10)
        with closing(client):
            began = time.monotonic()
            for key, value in entries:
                client.put(key, value)
            return time.monotonic() - began


def run(count: int, rounds: int) -> dict[str, list[Round]]:
    """Rounds of both kinds in turn; prints each."""
    programs = binaries(names=BRIDGE)
    found: dict[str, list[Round]] = {"webhook": [], "run, as objects": []}
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="kube2etcd-bench-")))
        api_etcd = Etcd(directory, programs, name="api-etcd")
        api = ApiServer(directory / "apiserver", programs, api_etcd.url)
        for server in (api_etcd, api):
            ending.callback(server.kill)
            server.start()
        ending.callback(api.close)
        for number in range(rounds):
            for kind, results in found.items():
                folder = directory / f"{len(results)}-{kind.split(',')[0]}"
                folder.mkdir()
                options = []
                if kind != "webhook":
                    api.reset()
                    api.apply(dns_endpoint_crd())
                    options += ["--kubeconfig", str(api.kubeconfig()), "--dns-endpoints"]
                    options += ["--state-objects", "default"]
                result = Stack(folder, programs, options, kind != "webhook").round(count)
                results.append(result)
                print(f"round {number + 1}, {kind}: {result}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.names", description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    try:
        found = run(given.count, given.rounds)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    for kind, results in found.items():
        stock = statistics.median(result.stock for result in results)
        many = statistics.median(result.many.all for result in results)
        one = statistics.median(result.one.all for result in results)
        kept = "yes" if many <= PROMISED[0] and one <= PROMISED[1] else "NO"
        print(
            f"median, {kind}: all {many:.2f} s, {many / stock:.2f} of the stock client; one more {one:.2f} s,"
            f" {one / stock:.3f}; within the promised {PROMISED[0]:.0f} s and {PROMISED[1]:.0f} s: {kept}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
