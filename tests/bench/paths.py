"""How many modules and functions of ours five common paths pass, traced in real processes with a real etcd.

``python -m tests.bench.paths [--tree DIRECTORY] [--names]``: ``--tree`` traces another checkout's bridge,
``--names`` prints each function in the order of its first call.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kube2etcd.etcd.store import EtcdStore
from tests.bench.prepared import ClusterSize, PreparedApi, service
from tests.bench.tracer import TTL
from tests.stack.harness import LOOPBACK, BuildError, Etcd, Process, binaries, free_port, http, wait_for

TOP = Path(__file__).parents[2]
TRACER = Path(__file__).with_name("tracer.py")
KEY = "/skydns/local/cluster/svc/bench-0/service-0"
POSTED = {"dnsName": "path.dtk.io", "recordType": "A", "targets": ["10.0.0.7"]}


@dataclass(frozen=True)
class CallPath:
    """Functions as ``module:name``, in the order of their first calls; ``goal`` is a number of modules."""

    title: str
    functions: list[str]
    goal: int

    @property
    def modules(self) -> list[str]:
        """In the order of their first calls."""
        return list(dict.fromkeys(one.partition(":")[0] for one in self.functions))


class Traced:
    def __init__(self, directory: Path, tree: Path, arguments: Sequence[str], ready: str) -> None:
        path = str(directory / "control")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.settimeout(20)
        self._ready = ready
        paths = [str(tree), str(tree / "skydns-compat")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        command = [sys.executable, "-P", str(TRACER), path, *arguments]
        self.process = Process(
            "traced", command, directory, env=environment | {"PYTHONPATH": os.pathsep.join(paths)}
        )

    def __enter__(self) -> Traced:
        self.process.start()
        try:
            ours, _ = self._listener.accept()
        except TimeoutError:
            raise AssertionError(f"the traced command did not start:\n{self.process.log_tail()}") from None
        self._lines = ours.makefile("rw")
        ours.close()
        wait_for(self._is_ready, "the traced command to be ready", 60, self.process)
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._listener.close()
        self.process.kill()

    def _is_ready(self) -> bool:
        return http("GET", self._ready).status_code == 200

    def order(self, command: str) -> list[str]:
        """Start or stop recording; returns the functions so far."""
        self._lines.write(command + "\n")
        self._lines.flush()
        found: list[str] = json.loads(self._lines.readline())
        return found

    def trace(self, title: str, goal: int, act: Callable[[], object], done: Callable[[], object]) -> CallPath:
        """The functions called from ``act`` until ``done``."""
        self.order("record")
        act()
        wait_for(done, title, 30, self.process)
        return CallPath(title, self.order("stop"), goal)


def call_paths(tree: Path) -> Iterator[CallPath]:
    programs = binaries(names=["etcd", "writer"])
    with contextlib.ExitStack() as exits:
        directory = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="kube2etcd-paths-")))
        api = exits.enter_context(PreparedApi())
        etcd = exits.enter_context(Etcd(directory, programs))
        api.fill(ClusterSize(services=3))
        # Reads within one or two milliseconds, so that the path ends with its transaction.
        store = EtcdStore(exits.enter_context(etcd.connection()), KEY.encode())
        to_etcd = ["--etcd-server", etcd.url]
        folders = [directory / name for name in ("run", "webhook")]
        for folder in folders:
            folder.mkdir()

        listen = f"{LOOPBACK}:{free_port()}"
        options = ["--kube-master-url", api.url, *to_etcd, "--listen", listen, "--ttl", str(TTL)]
        with Traced(folders[0], tree, ["run", *options], f"http://{listen}/readyz") as run:
            setting_path = CallPath("--ttl 7 to its use", run.order("stop"), 6)

            def changed(address: str) -> Callable[[], object]:
                return lambda: api.event("Service", service(0, address))

            def holds(text: str) -> Callable[[], bool]:
                return lambda: text in str(store.snapshot().entries)

            def quiet(seconds: float) -> Callable[[], bool]:
                until = time.monotonic() + seconds
                return lambda: time.monotonic() >= until

            yield run.trace("a Service event to its transaction", 18, changed("10.9.9.9"), holds("10.9.9.9"))
            wait_for(quiet(0.5), "its echo")
            yield run.trace("the same Service, nothing changed", 8, changed("10.9.9.9"), quiet(0.3))
            yield setting_path
            key = next(key for key, value in etcd.dump(KEY).items() if "10.9.9.9" in value)
            yield run.trace(
                "a foreign key to its repair",
                10,
                lambda: etcd.put(key, '{"host":"10.6.6.6"}'),
                lambda: not holds("10.6.6.6")(),
            )

        hosts = directory / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        port = free_port()
        options = ["--port", str(port), "--listen", listen, "--domains", "dtk.io", "--hosts-file", str(hosts)]
        options += ["--state-file", str(directory / "state")]
        with Traced(folders[1], tree, ["webhook", *options], f"http://{listen}/readyz") as webhook:

            def post() -> None:
                headers = {"Content-Type": "application/external.dns.webhook+json;version=1"}
                url = f"http://{LOOPBACK}:{port}/records"
                http("POST", url, json={"create": [POSTED]}, headers=headers, timeout=10)

            yield webhook.trace(
                "a POST to the hosts file", 10, post, lambda: "path.dtk.io" in hosts.read_text()
            )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paths", description=__doc__)
    parser.add_argument("--tree", type=Path, default=TOP)
    parser.add_argument("--names", action="store_true")
    given = parser.parse_args(arguments)
    try:
        print("| path | modules | functions | goal |\n|---|---|---|---|")
        for path in call_paths(given.tree.resolve()):
            counts = f"{len(path.modules)} | {len(path.functions)} | {path.goal} modules"
            print(f"| {path.title} | {counts} |", flush=True)
            for name in path.functions if given.names else ():
                print(f"    {name}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
