"""How fast watch events are taken in, beside the stock client's ``Watch``.

``python -m tests.bench.watch [--events 20000] [--rounds 3]`` has a server of its own play a watch as
kube-apiserver writes it, one HTTP chunk per event, and reads it three ways in turn: the stock client with its
models, the stock client without them, and our stream with its decoder.  The server is another process and
only copies bytes, so the ratio is the readers'.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import kubernetes.client
import kubernetes.watch

from kube2etcd.kube.client import connect
from kube2etcd.kube.credentials import ClusterSettings
from kube2etcd.kube.objects import KINDS, decode_event


def event(number: int) -> bytes:
    """One line of a watch of Services: 1.9 kB, half of it what only the API server itself wants to know."""
    fields: dict[str, Any] = {
        "f:metadata": {"f:labels": {}},
        "f:spec": {f"f:{key}": {} for key in ("ports", "selector", "type")},
    }
    service = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": f"service-{number}",
            "namespace": "bench",
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app.kubernetes.io/name": f"service-{number}", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"example.com/note": "n" * 600},
            "managedFields": [
                {
                    "manager": "helm",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-01-02T03:04:05Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            ],
        },
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            "selector": {"app": f"service-{number}"},
            "clusterIP": "10.0.0.1",
            "clusterIPs": ["10.0.0.1"],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }
    return json.dumps({"type": "ADDED", "object": service}, separators=(",", ":")).encode() + b"\n"


class Player(ThreadingHTTPServer):
    """Answers every request with the same watch."""

    daemon_threads = True

    def __init__(self, events: int) -> None:
        lines = [event(number) for number in range(events)]
        self.size = sum(map(len, lines)) // events
        self.answer = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines) + b"0\r\n\r\n"
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Player

    def log_message(self, format: str, *args: object) -> None:
        """Not a word."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(self.server.answer)
        self.close_connection = True


def play(events: int, told: Connection) -> None:
    """Serve for ever; tells the URL and the size of an event."""
    player = Player(events)
    told.send((player.url, player.size))
    player.serve_forever()


def stock(url: str, models: bool) -> int:
    """The stock client; how many events it gave."""
    configuration = kubernetes.client.Configuration()
    configuration.host = url
    with kubernetes.client.ApiClient(configuration) as client:
        services = kubernetes.client.CoreV1Api(client)
        watch: Any = kubernetes.watch.Watch()  # type: ignore[no-untyped-call]
        stream = watch.stream(
            services.list_service_for_all_namespaces,
            timeout_seconds=1,
            deserialize=models,
            resource_version="0",
        )
        return sum(1 for _ in stream)


def ours(url: str) -> int:
    """Our stream with its decoder; how many events it gave."""
    connection = connect(ClusterSettings(master_url=url))
    kind, count = KINDS["services"], 0
    with connection.stream(kind.path(), {"watch": "true"}, connect_timeout=10, read_timeout=10) as stream:
        for line in stream:
            count += decode_event(kind, line).object is not None
    connection.close()
    return count


def main(arguments: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watch", description=__doc__)
    parser.add_argument("--events", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    player = context.Process(target=play, args=(given.events, there), daemon=True)
    player.start()
    url, size = here.recv()
    readers: dict[str, Callable[[], int]] = {
        "stock Watch": lambda: stock(url, True),
        "stock Watch without models": lambda: stock(url, False),
        "kube2etcd": lambda: ours(url),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    costs: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(given.rounds):
        for name, read in readers.items():
            began, cpu = time.perf_counter(), time.thread_time()
            count = read()
            if count != given.events:
                print(f"{name} gave {count} events of {given.events}", file=sys.stderr)
                return 1
            rates[name].append(count / (time.perf_counter() - began))
            costs[name].append((time.thread_time() - cpu) / count * 1e6)
    player.terminate()
    base = statistics.median(rates["stock Watch"])
    print(f"{given.events} events of {size} bytes, median of {given.rounds} rounds")
    for name, found in rates.items():
        rate, cost = statistics.median(found), statistics.median(costs[name])
        print(f"{name:28}{rate:10,.0f} events/s {cost:8.1f} us CPU each {rate / base:7.1f} times the stock")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
