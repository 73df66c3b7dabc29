"""An HTTP proxy that injects faults into API responses, a TCP tunnel, helpers of the guarantees' tests."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.stack.harness import LOOPBACK, ApiServer, Bridge, Etcd, wait_for
from tests.stack.objects import service

GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}


@dataclass
class Fault:
    """A fault of lists of one resource, injected ``times`` (None: until `Proxy.mend`).

    With ``watch`` it affects watches instead: an error status, an event truncated, or one dropped.
    """

    resource: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    truncate: bool = False
    drop_event: bool = False
    empty: bool = False
    later_pages: bool = False
    """Only pages after the first."""
    watch: bool = False
    times: int | None = None
    done: int = 0
    matched: int = 0
    """Requests that got the fault or are about to."""

    @property
    def exhausted(self) -> bool:
        """Whether it has been injected ``times``."""
        return self.done == self.times

    def matches(self, resource: str, params: Mapping[str, Sequence[str]]) -> bool:
        return (
            self.resource in ("*", resource)
            and self.watch == (params.get("watch") == ["true"])
            and (self.times is None or self.matched < self.times)
            and (not self.later_pages or "continue" in params)
        )


class Proxy:
    """Forwards plain HTTP to the API server, and injects faults.

    ``page`` replaces the page size that the bridge requests.
    """

    def __init__(self, apiserver: ApiServer) -> None:
        self.apiserver = apiserver
        self.faults: list[Fault] = []
        self.page = 0
        self.lock = threading.Lock()
        self.watches: dict[socket.socket, str] = {}
        self.gone: Counter[str] = Counter()
        """Watches that the API server itself ended with 410 Gone, by resource."""
        self.expired: set[socket.socket] = set()
        self.context = ssl.create_default_context(cafile=str(apiserver.ca_file))
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        self.kubeconfig = apiserver.kubeconfig(cluster={"server": self.url}, name="proxy-kubeconfig")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.break_watches()

    def fault(self, resource: str, **what: Any) -> Fault:
        """Inject a fault into requests for this resource (``*``: any) from now on."""
        fault = Fault(resource, **what)
        with self.lock:
            self.faults.append(fault)
        return fault

    def mend(self) -> None:
        with self.lock:
            self.faults.clear()

    def expire_watches(self) -> int:
        """End all open watches with 410 Gone, which forces relists; returns their number."""
        wait_for(lambda: len(self.watches) >= 3, "watches to be open", 10)
        with self.lock:
            self.expired |= set(self.watches)
        return self.break_watches()

    def break_watches(self) -> int:
        with self.lock:
            watched = list(self.watches)
        for sock in watched:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return len(watched)

    def match(self, resource: str, params: Mapping[str, Sequence[str]]) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.matches(resource, params):
                    fault.matched += 1
                    return fault
        return None

    def used(self, fault: Fault | None) -> None:
        """Count a faulty response that was sent; several may be in flight."""
        if fault is not None:
            with self.lock:
                fault.done += 1

    def unused(self, fault: Fault | None) -> None:
        """The response could not be sent: the next request gets the fault."""
        if fault is not None:
            with self.lock:
                fault.matched -= 1


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        params = parse_qs(url.query)
        resource = url.path.rpartition("/")[2]
        watch = params.get("watch") == ["true"]
        fault = self.proxy.match(resource, params)
        if fault is not None and fault.status:
            body = json.dumps({**GONE, "code": fault.status, "message": "injected by the test"}).encode()
            self._reply(fault.status, body, fault.headers)
            self.proxy.used(fault)
            return
        try:
            self._from_upstream(resource, watch, fault)
        except (OSError, http.client.HTTPException, ValueError):
            self.proxy.unused(fault)
            raise

    def _from_upstream(self, resource: str, watch: bool, fault: Fault | None) -> None:
        path = self.path
        if self.proxy.page and not watch:
            path = path.replace("limit=500", f"limit={self.proxy.page}")
        upstream = http.client.HTTPSConnection(
            LOOPBACK, self.proxy.apiserver.port, context=self.proxy.context, timeout=None if watch else 30
        )
        with contextlib.closing(upstream):
            upstream.request("GET", path, headers={"Authorization": self.headers["Authorization"] or ""})
            sock = upstream.sock
            # A response without a length keeps a reference to the socket, so close it too.
            with contextlib.closing(upstream.getresponse()) as answer:
                if watch and answer.status == 200:
                    self._watch(sock, answer, resource, fault)
                    return
                body = answer.read()
        self.proxy.gone[resource] += watch and answer.status == 410
        if fault is not None and fault.empty:
            listed = json.loads(body)
            listed["items"] = []
            listed["metadata"].pop("continue", None)
            listed["metadata"].pop("remainingItemCount", None)
            body = json.dumps(listed).encode()
        self._reply(answer.status, body, {}, truncate=fault is not None and fault.truncate)
        self.proxy.used(fault)

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str], *, truncate: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if truncate else body)

    def _watch(
        self, sock: socket.socket, answer: http.client.HTTPResponse, resource: str, fault: Fault | None
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with self.proxy.lock:
            self.proxy.watches[sock] = resource
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                while line := answer.readline():
                    self.proxy.gone[resource] += b'"code":410' in line
                    if fault is not None and fault.drop_event and b'"type":"BOOKMARK"' not in line:
                        self.proxy.used(fault)
                        fault = None
                        continue
                    if fault is not None and not fault.drop_event:
                        self.wfile.write(line[: len(line) // 2])
                        self.proxy.used(fault)
                        fault = None
                        break
                    self.wfile.write(line)
            self.proxy.unused(fault)  # the watch ended before an event
            with self.proxy.lock:
                expired = sock in self.proxy.expired
            if expired:
                self.wfile.write(json.dumps({"type": "ERROR", "object": GONE}).encode() + b"\n")
        finally:
            with self.proxy.lock:
                self.proxy.watches.pop(sock, None)
                self.proxy.expired.discard(sock)


class Tunnel:
    """Forwards TCP to a port until it blackholes everything.

    Open connections then stay open and silent for good, as when a firewall drops their state; new ones are
    accepted and get no answer until `mend`.
    """

    def __init__(self, port: int) -> None:
        self.upstream_port = port
        self.blackholing = False
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._dead: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def blackhole(self) -> None:
        """Pass no byte in either direction, and close no connection."""
        with self._lock:
            self.blackholing = True
            self._dead |= set(self._sockets)

    def mend(self) -> None:
        with self._lock:
            self.blackholing = False

    def close(self) -> None:
        with self._lock:
            sockets, self._sockets = [self._listener, *self._sockets], []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._sockets.append(client)
                    if self.blackholing:
                        self._dead.add(client)
                        continue
                try:
                    server = socket.create_connection((LOOPBACK, self.upstream_port), 5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._sockets.append(server)
                self.connections += 1
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                with self._lock:
                    dead = one in self._dead
                if not dead:
                    other.sendall(data)
        with self._lock:
            dead = one in self._dead
        if not dead:
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)


HERE = "/skydns/local/cluster"


def keys_of(etcd: Etcd, name: str) -> list[str]:
    """Keys of Services in ``default`` whose names begin with ``name``."""
    return [key for key in etcd.dump(HERE) if f"/default/{name}" in key]


def wait_for_keys(etcd: Etcd, name: str, deadline_s: float = 10.0) -> None:
    wait_for(lambda: keys_of(etcd, name), f"keys of {name}", deadline_s)


def create_and_wait(apiserver: ApiServer, etcd: Etcd, name: str, deadline_s: float = 15.0) -> None:
    """Create a Service and wait until it has keys."""
    apiserver.apply(service(name))
    wait_for_keys(etcd, name, deadline_s)


def args(kubeconfig: Path, etcd: Etcd, *extra: str) -> list[str]:
    return ["--kubeconfig", str(kubeconfig), *etcd.options, *extra]


#: Runs a test with etcd's v3 API and with v2.
both_apis = pytest.mark.parametrize("etcd", [(), "v2"], indirect=True, ids=["v3", "v2"])

#: What the fixture ``run`` returns, from options and keywords.
Run = Callable[..., Bridge]


def keys_of_fresh_bridge(
    directory: Path, binaries: Mapping[str, Path], kubeconfig: Path, *extra: str
) -> dict[str, str]:
    """The keys that a new bridge writes to an empty etcd."""
    shutil.rmtree(directory / "fresh", ignore_errors=True)
    with (
        Etcd(directory / "fresh", binaries, name="fresh-etcd") as etcd,
        Bridge(directory, args(kubeconfig, etcd, *extra), name="fresh-kube2etcd") as bridge,
    ):
        bridge.wait_ready()
        return etcd.dump("/skydns")


def same_keys(
    etcd: Etcd, expected: Mapping[str, str], deadline_s: float, foreign: Container[tuple[str, str]] = ()
) -> float:
    """Wait until etcd holds exactly these keys, and possibly ``foreign`` ones; returns the seconds."""
    began = time.monotonic()

    def equal() -> bool:
        present = {
            key: value
            for key, value in etcd.dump("/skydns").items()
            if key in expected or (key, value) not in foreign
        }
        wrong = sorted(
            key for key in present.keys() | expected.keys() if present.get(key) != expected.get(key)
        )
        shown = [f"{key}: {present.get(key)} instead of {expected.get(key)}" for key in wrong[:4]]
        assert not wrong, f"{len(wrong)} keys differ: {shown}"
        return True

    wait_for(equal, "etcd to hold the expected keys", deadline_s)
    return time.monotonic() - began
