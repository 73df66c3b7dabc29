"""An API server with prepared pages, in its own process: it only copies bytes, so the client is measured.

Lists have pages, compressed as by kube-apiserver; watches carry the events of `PreparedApi.event`, and
bookmarks.
"""

from __future__ import annotations

import gzip
import itertools
import json
import multiprocessing
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.managers import BaseManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

#: Where each kind is listed.
PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Service": "/api/v1/services",
    "Pod": "/api/v1/pods",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/endpointslices",
    "VirtualMachineInstance": "/apis/kubevirt.io/v1/virtualmachineinstances",
}
VERSIONS = {"EndpointSlice": "discovery.k8s.io/v1", "VirtualMachineInstance": "kubevirt.io/v1"}
#: Objects per page and per namespace.
PAGE_SIZE = 500
ENDPOINTS = 10
CLUSTER = "svc.cluster.local."


@dataclass(frozen=True)
class ClusterSize:
    """The number of objects of each kind; every Service has one slice, with ten endpoints by default.

    Services are headless, except the first ``cluster_ips``.
    """

    services: int = 0
    machines: int = 0
    endpoints: int = ENDPOINTS
    cluster_ips: int = 0

    @property
    def objects(self) -> int:
        """The number of objects without Namespaces."""
        return 2 * self.services + self.machines

    def lists(self) -> dict[str, Iterator[Object]]:
        namespaces = max(1, -(-max(self.services, self.machines) // PAGE_SIZE))
        return {
            "Namespace": (namespace(number) for number in range(namespaces)),
            "Service": (
                service(number, _address(10, number) if number < self.cluster_ips else "None")
                for number in range(self.services)
            ),
            "EndpointSlice": (endpoint_slice(number, self.endpoints) for number in range(self.services)),
            "Pod": iter(()),
            "VirtualMachineInstance": (machine(number) for number in range(self.machines)),
        }


def _managed(*keys: str) -> list[Object]:
    fields: Object = {f"f:{key}": {f"f:{key}-{number}": {} for number in range(8)} for key in keys}
    entry = {"manager": "controller", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
    return [entry | {"time": "2026-01-02T03:04:05Z", "fieldsV1": fields}]


def _metadata(number: int, name: str, **labels: str) -> Object:
    return {
        "name": name,
        "namespace": f"bench-{number // PAGE_SIZE}",
        "uid": f"00000000-0000-0000-0000-{number:012}",
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"} | labels,
        "annotations": {"example.com/note": "n" * 200},
        "managedFields": _managed("metadata", "spec", "status"),
    }


def namespace(number: int, **labels: str) -> Object:
    name = f"bench-{number}"
    labels = {"kubernetes.io/metadata.name": name} | labels
    return {"metadata": {"name": name, "resourceVersion": "1", "labels": labels}}


def service(number: int, address: str = "None") -> Object:
    """Service ``service-N`` with two ports, one of them in its slice; headless by default."""
    ports = [
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080},
        {"name": "https", "protocol": "TCP", "port": 443, "targetPort": 8443},
    ]
    spec = {"ports": ports, "selector": {"app": f"service-{number}"}, "clusterIP": address}
    spec |= {"clusterIPs": [address], "type": "ClusterIP", "ipFamilies": ["IPv4"], "sessionAffinity": "None"}
    return {"metadata": _metadata(number, f"service-{number}"), "spec": spec, "status": {"loadBalancer": {}}}


def name_of(number: int) -> str:
    """The DNS name of ``service-N``."""
    return f"service-{number}.bench-{number // PAGE_SIZE}.{CLUSTER}"


def endpoint_slice(number: int, endpoints: int, generation: int = 0) -> Object:
    """The slice of ``service-N``; its first address depends on the generation."""
    name = f"service-{number}"
    first = number * endpoints
    addresses = [_address(172, first + each) for each in range(endpoints)]
    if generation:
        addresses[0] = _address(100 + generation % 64, first)
    return {
        "metadata": _metadata(number, f"{name}-abcde", **{"kubernetes.io/service-name": name}),
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "node-1",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": f"bench-{number // PAGE_SIZE}",
                    "name": f"{name}-pod",
                },
            }
            for address in addresses
        ],
    }


def machine(number: int, generation: int = 0) -> Object:
    """VMI ``vm-N`` on the pod network and a second one, where its address depends on the generation."""
    volumes = [
        {"name": f"disk-{each}", "persistentVolumeClaim": {"claimName": "c" * 30}} for each in range(4)
    ]
    devices = [{"name": f"disk-{each}", "disk": {"bus": "virtio"}} for each in range(4)]
    domain = {"devices": {"disks": devices}, "cpu": {"cores": 4}, "machine": {"type": "q35"}}
    address = _address(100 + generation % 64, number)
    return {
        "metadata": _metadata(number, f"vm-{number}"),
        "spec": {
            "domain": domain,
            "volumes": volumes,
            "networks": [{"name": "default", "pod": {}}, {"name": "nic1", "multus": {"networkName": "x"}}],
        },
        "status": {
            "phase": "Running",
            "nodeName": "node-1",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
                for kind in ("Ready", "LiveMigratable", "AgentConnected", "StorageLiveMigratable")
            ],
            "interfaces": [
                _nic("default", [_address(172, number), f"fd10:244::{number // 65536:x}:{number % 65536:x}"]),
                _nic("nic1", [address]),
            ],
        },
    }


def _nic(name: str, addresses: list[str]) -> Object:
    return {"name": name, "ipAddress": addresses[0], "ipAddresses": addresses, "mac": "02:00:00:00:00:01"}


def _address(first: int, number: int) -> str:
    return f"{first}.{number // 62500 % 250}.{number // 250 % 250}.{number % 250 + 1}"


@dataclass
class _Kind:
    pages: list[bytes] = field(default_factory=list)
    watches: list[queue.SimpleQueue[bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: dict[tuple[str, str], Object] = field(default_factory=dict)
    """Objects that differ from their page."""
    listed_at: int = 0
    """Version of the list in progress."""
    recent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=50_000))
    """Versions and lines of events, for watches that begin at an older version."""

    def present(self, number: int, version: int) -> bytes:
        """A page as of ``version``."""
        with self.lock:
            self.listed_at = self.listed_at if number else version
            changed = dict(self.changed)
        if not changed:
            return self.pages[number]
        page = json.loads(gzip.decompress(self.pages[number]))
        page["metadata"]["resourceVersion"] = str(self.listed_at)
        page["items"] = [changed.get(_identity(one), one) for one in page["items"]]
        return gzip.compress(json.dumps(page).encode(), 1)

    def watch(self, since: int) -> queue.SimpleQueue[bytes]:
        """The lines of a new watch, beginning after version ``since``."""
        events: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        with self.lock:
            for version, line in self.recent:
                if version > since:
                    events.put(line)
            self.watches.append(events)
        return events


def _identity(one: Object) -> tuple[str, str]:
    return one["metadata"].get("namespace", ""), one["metadata"]["name"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self.kinds = {path: _Kind() for path in PATHS.values()}
        self.version = 1
        self.first_request = 0.0
        self._order = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore disconnects."""

    def fill(self, cluster: ClusterSize) -> None:
        """Prepare the pages of a cluster; watches of the previous one end."""
        for kind, objects in cluster.lists().items():
            state = self.kinds[PATHS[kind]]
            state.pages = list(self._pages(kind, objects))
            with state.lock:
                state.changed.clear()
                state.recent.clear()
                for watch in state.watches:
                    watch.put(b"")  # the last chunk
        self.first_request = 0.0

    def _pages(self, kind: str, objects: Iterator[Object]) -> Iterator[bytes]:
        """At least one page, with ``continue`` on all but the last."""
        head = {"kind": f"{kind}List", "apiVersion": VERSIONS.get(kind, "v1")}
        pages = itertools.chain(iter(lambda: list(itertools.islice(objects, PAGE_SIZE)), []), [[], []])
        for number, (page, more) in enumerate(itertools.pairwise(pages), 1):
            metadata = {"resourceVersion": str(self.version)} | ({"continue": str(number)} if more else {})
            yield gzip.compress(json.dumps(head | {"metadata": metadata, "items": page}).encode(), 1)

    def event(self, kind: str, one: Object) -> None:
        """Send a change to all watches, with the next version."""
        whole: Object = {"kind": kind, "apiVersion": VERSIONS.get(kind, "v1")} | one
        state = self.kinds[PATHS[kind]]
        with self._order, state.lock:
            self.version += 1
            whole["metadata"]["resourceVersion"] = str(self.version)
            line = json.dumps({"type": "MODIFIED", "object": whole}, separators=(",", ":")).encode() + b"\n"
            state.changed[_identity(whole)] = whole
            state.recent.append((self.version, line))
            for watch in state.watches:
                watch.put(line)

    def start(self) -> str:
        """Start serving; returns the URL."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get_first_request(self) -> float:
        return self.first_request

    def churn(self, cluster: ClusterSize, rate: float, seconds: float) -> None:
        """Start changing all slices but the last in turn, at this rate per second."""
        self._churning = threading.Thread(target=self._churn, args=(cluster, rate, seconds), daemon=True)
        self._churning.start()

    def wait(self) -> None:
        """Wait until `churn` ends."""
        self._churning.join()

    def _churn(self, cluster: ClusterSize, rate: float, seconds: float) -> None:
        began, sent, services = time.monotonic(), 0, cluster.services - 1
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(int(elapsed * rate) - sent):
                sent += 1
                number, generation = sent % services, sent // services + 1
                self.event("EndpointSlice", endpoint_slice(number, cluster.endpoints, generation))
            time.sleep(0.005)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # As Go servers do; otherwise the body waits 40 ms behind the header.
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        given = {key: values[0] for key, values in parse_qs(url.query).items()}
        state = self.server.kinds.get(url.path)
        if state is None:
            self._answer(404, json.dumps({"kind": "Status", "apiVersion": "v1", "code": 404}).encode())
        elif "watch" not in given:
            self.server.first_request = self.server.first_request or time.monotonic()
            body = state.present(int(given.get("continue", "0")), self.server.version)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self._answer(200, body, "gzip")
            else:
                self._answer(200, gzip.decompress(body))
        elif given.get("sendInitialEvents") == "true":
            self._answer(422, json.dumps({"kind": "Status", "apiVersion": "v1", "code": 422}).encode())
        else:
            self._watch(state, url.path, int(given.get("resourceVersion") or 0))
            self.close_connection = True

    def _answer(self, status: int, body: bytes, encoding: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, state: _Kind, path: str, since: int) -> None:
        events = state.watch(since)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kind = next(name for name, where in PATHS.items() if where == path)
        try:
            while True:
                self.wfile.flush()
                try:
                    line = events.get(timeout=10)
                except queue.Empty:
                    metadata = {"resourceVersion": str(self.server.version)}
                    mark = {"kind": kind, "apiVersion": VERSIONS.get(kind, "v1"), "metadata": metadata}
                    line = json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n"
                self.wfile.write(_chunk(line))
                if not line:
                    break
        except OSError:
            pass
        finally:
            with state.lock:
                state.watches.remove(events)


class _Manager(BaseManager):
    """Starts the process with the server."""


_Manager.register("Server", _Server, exposed=("start", "fill", "event", "churn", "wait", "get_first_request"))


class PreparedApi:
    """The process with the server, a context manager."""

    def __init__(self) -> None:
        self._manager = _Manager(ctx=multiprocessing.get_context("spawn"))
        self._manager.start()
        server = self._manager.Server()  # type: ignore[attr-defined]
        self.url: str = server.start()
        self.fill: Callable[[ClusterSize], None] = server.fill
        self.event: Callable[[str, Object], None] = server.event
        self.churn: Callable[[ClusterSize, float, float], None] = server.churn
        self.wait: Callable[[], None] = server.wait
        self._get_first_request: Callable[[], float] = server.get_first_request

    def __enter__(self) -> PreparedApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.shutdown()

    @property
    def first_request(self) -> float:
        """Monotonic time of the first list request since `fill`; 0 without one."""
        return self._get_first_request()
