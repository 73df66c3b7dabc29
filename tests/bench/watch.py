"""How fast watch events are taken in, beside the stock client's ``Watch``.

A server in another process plays a watch as kube-apiserver writes it, one HTTP chunk per event, and only
copies bytes, so the ratio is the readers'.
"""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import kubernetes.client
import kubernetes.watch

from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.credentials import ClusterSettings
from kube2etcd.kube.objects import KINDS, decode_event
from tests.bench.measure import Bench, Row, median
from tests.bench.prepared import service

EVENTS = 20_000


class Player(ThreadingHTTPServer):
    """Answers every request with the same watch."""

    daemon_threads = True

    def __init__(self) -> None:
        bodies = ({"kind": "Service", "apiVersion": "v1"} | service(number) for number in range(EVENTS))
        lines = [json.dumps({"type": "ADDED", "object": one}).encode() + b"\n" for one in bodies]
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


def play(there: Connection) -> None:
    """Serve for ever, after sending the URL."""
    player = Player()
    there.send(player.url)
    player.serve_forever()


def stock(url: str, models: bool) -> int:
    """The stock client; how many events it gave."""
    configuration = kubernetes.client.Configuration()
    configuration.host = url
    with kubernetes.client.ApiClient(configuration) as client:
        listed = kubernetes.client.CoreV1Api(client).list_service_for_all_namespaces
        watch: Any = kubernetes.watch.Watch()  # type: ignore[no-untyped-call]
        stream = watch.stream(listed, timeout_seconds=1, deserialize=models, resource_version="0")
        return sum(1 for _ in stream)


def ours(url: str) -> int:
    """Our stream with its decoder; how many events it gave."""
    connection = ApiConnection(ClusterSettings(master_url=url))
    kind, count = KINDS["services"], 0
    with connection.stream(kind.path(), {"watch": "true"}, connect_timeout=10, read_timeout=10) as stream:
        for line in stream:
            count += decode_event(kind, line).object is not None
    connection.close()
    return count


def watch(bench: Bench) -> Iterator[Row]:
    """Events a second of the three readers in turn."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    player = context.Process(target=play, args=(there,), daemon=True)
    player.start()
    url = here.recv()
    readers: dict[str, Callable[[], int]] = {
        "stock": lambda: stock(url, True),
        "stock without models": lambda: stock(url, False),
        "ours": lambda: ours(url),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(bench.rounds):
        for name, read in readers.items():
            began = time.perf_counter()
            assert read() == EVENTS, name
            rates[name].append(EVENTS / (time.perf_counter() - began))
    player.terminate()
    mine, base = median(rates["ours"]), median(rates["stock"])
    bench.say(f"watch events: {mine:,.0f}/s, the stock client {base:,.0f}/s")
    what = "watch events a second"
    yield Row(what, "the stock client's Watch", mine / base, 8.0, at_least=True, details=rates)
