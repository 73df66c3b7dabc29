"""How many bytes the bridge reads from the API server, beside a naive client that lists everything.

``python -m tests.bench.api_reads [--services 500] [--pods 2000] [--changes 100]`` counts the bytes on the
wire in front of one API server, of the same objects, in one run: a client that lists every kind whole, as
often as something changed, and the bridge as it is.  Bytes depend on the objects, their ratio hardly does.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.stack.build import BRIDGE
from tests.stack.harness import (
    LOOPBACK,
    ApiServer,
    Bridge,
    BuildError,
    Etcd,
    Object,
    binaries,
    wait_for,
)
from tests.stack.objects import nic, vmi, vmi_crd

#: What the naive client lists: the kinds from which names are made.
EVERYTHING = (
    "/api/v1/services",
    "/api/v1/namespaces",
    "/api/v1/pods",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/kubevirt.io/v1/virtualmachineinstances",
)
NAMESPACES = 20


class Counter:
    """A door to the API server that passes bytes on, TLS and all, and counts what comes back."""

    def __init__(self, port: int) -> None:
        self._target = (LOOPBACK, port)
        self._lock = threading.Lock()
        self._door = socket.create_server((LOOPBACK, 0))
        self._sockets: list[socket.socket] = [self._door]
        self.port = self._door.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> int:
        """Bytes since the last call."""
        with self._lock:
            count, self.count = self.count, 0
            return count

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._sockets += [client, server]
            for source, sink, counted in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=(source, sink, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with self._lock:
                        self.count += len(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def cluster(services: int, pods: int) -> Iterator[Object]:
    """Objects with labels and annotations as a cluster's have them; half of the pods are finished."""
    for number in range(NAMESPACES):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ns-{number}"}}
    for number in range(services):
        meta = _meta(number, f"service-{number}")
        ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "metrics", "port": 9090}]
        yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}}
        slice_meta = _meta(number, f"service-{number}-abcde")
        slice_meta["labels"]["kubernetes.io/service-name"] = f"service-{number}"
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": slice_meta,
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": [f"172.16.{number // 250}.{number % 250 + 1}"], "conditions": {"ready": True}}
            ],
        }
    for number in range(pods):
        address = f"172.20.{number // 250}.{number % 250 + 1}"
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": _meta(number, f"pod-{number}"),
            "spec": {"containers": [{"name": "main", "image": "example.com/shop/main:1.2.3"}]},
            "status": {
                "phase": "Running" if number % 2 else "Succeeded",
                "podIP": address,
                "podIPs": [{"ip": address}],
            },
        }
    for number in range(services // 10):
        yield vmi(
            f"ns-{number % NAMESPACES}", f"vm-{number}", nic("nic1", f"10.10.{number // 250}.{number % 250}")
        )


def _meta(number: int, name: str) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/managed-by": "Helm",
        "app.kubernetes.io/version": "1.2.3",
    }
    annotations = {"meta.helm.sh/release-name": name, "example.com/note": "n" * 200}
    return {
        "namespace": f"ns-{number % NAMESPACES}",
        "name": name,
        "labels": labels,
        "annotations": annotations,
    }


class Naive:
    """Lists every kind whole, as a script does: no pages, no watch, no selectors."""

    def __init__(self, api: ApiServer, port: int, encoding: str) -> None:
        self._base = f"https://{LOOPBACK}:{port}"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(api.ca_file)
        self._session.headers.update({"Authorization": f"Bearer {api.token}", "Accept-Encoding": encoding})

    def list_everything(self) -> None:
        """One look at the cluster."""
        for path in EVERYTHING:
            self._session.get(self._base + path, timeout=60).raise_for_status()


def through(api: ApiServer, port: int, directory: Path) -> Path:
    """A kubeconfig for the API server behind the counting door."""
    config = yaml.safe_load(api.kubeconfig().read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://{LOOPBACK}:{port}"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "counted-kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def touch(api: ApiServer, number: int, port: int) -> None:
    """One change that changes an answer: a port of a Service."""
    path = api.path("v1", "Service", f"ns-{number % NAMESPACES}", f"service-{number}")
    ports = [{"name": "http", "port": port, "targetPort": 8080}]
    api.request("PATCH", path, {"spec": {"ports": ports}}, content_type="application/merge-patch+json")


def bridge_reads(
    api: ApiServer, etcd: Etcd, directory: Path, changes: int, options: Sequence[str]
) -> tuple[int, int]:
    """Bytes that the bridge reads until it is ready, and for ``changes`` changes after that."""
    counter = Counter(api.port)
    common = ["--kubeconfig", str(through(api, counter.port, directory)), "--etcd-server", etcd.url]
    bridge = Bridge(directory, [*common, "--vm-domain", "", *options])
    try:
        bridge.start()
        bridge.wait_ready()
        first = counter.take()
        before = written(bridge.metrics())
        for number in range(changes):
            touch(api, number, counter.port)  # a number that no former bridge has seen
        wait_for(lambda: written(bridge.metrics()) >= before + changes, "the changes", 60, bridge.process)
        return first, counter.take()
    finally:
        bridge.kill()
        counter.close()


def written(metrics: Mapping[str, float]) -> float:
    """Keys put so far."""
    return metrics['kube2etcd_writes_total{op="put"}']


def naive_reads(api: ApiServer, changes: int, encoding: str) -> tuple[int, int]:
    """The same of a client that lists everything at first and after each change."""
    counter = Counter(api.port)
    try:
        client = Naive(api, counter.port, encoding)
        client.list_everything()
        first = counter.take()
        rounds = min(changes, 3)  # each is as large as the other
        for _ in range(rounds):
            client.list_everything()
        return first, counter.take() * changes // rounds
    finally:
        counter.close()


def run(services: int, pods: int, changes: int) -> None:
    """Start the servers, count, stop the servers; prints the table."""
    programs = binaries(names=BRIDGE)
    with tempfile.TemporaryDirectory(prefix="kube2etcd-bench-") as folder, contextlib.ExitStack() as stack:
        directory = Path(folder)
        api_etcd = Etcd(directory, programs, name="api-etcd")
        api = ApiServer(directory / "apiserver", programs, api_etcd.url)
        for server in (api_etcd, api):
            stack.callback(server.kill)
            server.start()
        stack.callback(api.close)
        api.apply(vmi_crd())
        api.apply_all(cluster(services, pods))
        rows = {
            "everything listed, as it comes": naive_reads(api, changes, "identity"),
            "everything listed, compressed": naive_reads(api, changes, "gzip"),
        }
        for name, options in (("kube2etcd", ()), ("kube2etcd --pods verified", ("--pods", "verified"))):
            etcd = Etcd(directory / f"etcd{len(rows)}", programs, name=f"etcd{len(rows)}")
            stack.callback(etcd.kill)
            etcd.start()
            rows[name] = bridge_reads(api, etcd, directory / f"bridge{len(rows)}", changes, options)
    print(f"{services} Services with slices, {pods} Pods (half of them finished), {services // 10} machines")
    print(f"{'':32}{'until ready':>14}{'ratio':>8}{f'{changes} changes':>16}{'ratio':>8}")
    base = rows["everything listed, as it comes"]
    for name, (first, later) in rows.items():
        print(f"{name:32}{first:14,}{first / base[0]:8.3f}{later:16,}{later / base[1]:8.5f}")


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.api_reads", description=__doc__)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--changes", type=int, default=100)
    given = parser.parse_args(arguments)
    try:
        run(given.services, given.pods, given.changes)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
