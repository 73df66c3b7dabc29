"""1,000 Services created at once: how long after the last creation until the last one is answered.

``python -m tests.bench.services [--count 1000] [--rounds 3]`` runs the bridge with its CoreDNS and, beside
it on the same API server, CoreDNS's own kubernetes plugin, which has no keys to write: their ratio says
more than the seconds, which depend on the machine.
"""

from __future__ import annotations

import argparse
import random
import select
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message

from tests.stack.build import BRIDGE
from tests.stack.harness import LOOPBACK, ApiServer, BuildError, CoreDns, Etcd, binaries
from tests.stack.pair import ZONE, Pair, running_pair

#: Questions on their way at once; few enough for the sockets' buffers.
WINDOW = 100


@dataclass(frozen=True)
class Round:
    """Seconds from the last creation until everything is answered, and how long the creations took."""

    creating: float
    ours: float
    theirs: float


class Asker:
    """Asks one server for many names at once, with little cost of its own."""

    def __init__(self, server: CoreDns, names: Sequence[str]) -> None:
        self.wires = {}
        for number, name in enumerate(names):
            question = dns.message.make_query(name, "A", use_edns=False)
            question.id = number
            self.wires[number] = question.to_wire()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((LOOPBACK, server.port))
        self.done = 0.0

    def ask_until_all_answered(self, deadline: float) -> None:
        """Ask for what is not answered yet, again and again; ``done`` is when nothing is left."""
        missing = dict(self.wires)
        while missing and time.monotonic() < deadline:
            numbers = list(missing)
            for start in range(0, len(numbers), WINDOW):
                window = numbers[start : start + WINDOW]
                for number in window:
                    self.socket.send(missing[number])
                self._collect(set(window), missing)
        self.done = time.monotonic()
        self.socket.close()
        if missing:
            raise AssertionError(f"{len(missing)} names not answered in time")

    def _collect(self, expected: set[int], missing: dict[int, bytes]) -> None:
        """Take the answers; what has records is no longer missing."""
        while expected and select.select([self.socket], [], [], 0.5)[0]:
            wire = self.socket.recv(4096)
            number = int.from_bytes(wire[:2], "big")
            expected.discard(number)
            if int.from_bytes(wire[6:8], "big"):
                missing.pop(number, None)


def one_round(pair: Pair, number: int, count: int) -> Round:
    """Create, measure, delete."""
    namespace = f"bench-{number}"
    pair.apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    services = [_service(namespace, index) for index in range(count)]
    names = [f"{service['metadata']['name']}.{namespace}.svc.{ZONE}." for service in services]
    random.Random(number).shuffle(names)
    askers = [Asker(server, names) for server in (pair.ours, pair.oracle)]
    began = time.monotonic()
    pair.apiserver.apply_all(services)
    created = time.monotonic()
    threads = [
        threading.Thread(target=asker.ask_until_all_answered, args=(created + 120,)) for asker in askers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pair.apiserver.delete_namespace(namespace)
    pair.settle()
    ours, theirs = (asker.done - created for asker in askers)
    return Round(created - began, ours, theirs)


def _service(namespace: str, index: int) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    metadata = {"name": f"service-{index}", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}


def run(count: int, rounds: int) -> list[Round]:
    """Start the servers, run the rounds, stop the servers; prints each round."""
    programs = binaries(names=BRIDGE)
    with tempfile.TemporaryDirectory(prefix="kube2etcd-bench-") as folder:
        directory = Path(folder)
        api_etcd, etcd = Etcd(directory, programs, name="api-etcd"), Etcd(directory, programs)
        apiserver = ApiServer(directory / "apiserver", programs, api_etcd.url)
        try:
            for server in (api_etcd, etcd, apiserver):
                server.start()
            with running_pair(programs, directory, apiserver, etcd, pods="insecure") as pair:
                results = []
                for number in range(rounds):
                    result = one_round(pair, number, count)
                    print(
                        f"round {number + 1}: {count} Services created in {result.creating:.2f} s; "
                        f"all answered {result.ours:.2f} s after the last creation, "
                        f"by the kubernetes plugin {result.theirs:.2f} s"
                    )
                    results.append(result)
                return results
        finally:
            apiserver.close()
            for server in (apiserver, etcd, api_etcd):
                server.kill()


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.services", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    try:
        results = run(given.count, given.rounds)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    ours = statistics.median(result.ours for result in results)
    theirs = statistics.median(result.theirs for result in results)
    print(f"median: ours {ours:.2f} s, the kubernetes plugin {theirs:.2f} s, ratio {ours / theirs:.2f}")
    print(f"ours within the 2 s that are promised: {'yes' if ours <= 2.0 else 'NO'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
