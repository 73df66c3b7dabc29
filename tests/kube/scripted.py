"""A loopback HTTP server with scripted answers, and helpers to call it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from kube2etcd.kube.client import ApiConnection
from tests.stack.certificates import KeyPair

Answer = Callable[["Handler"], None]

SECRET = "s3cr3t-t0ken"

Connect = Callable[..., ApiConnection]

EXEC_API = "client.authentication.k8s.io/v1"


class Handler(BaseHTTPRequestHandler):
    """Sends the server's next answer; the last one is repeated."""

    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
            self.server.ports.add(self.client_address[1])
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    do_PUT = do_DELETE = do_GET

    def log_message(self, *args: object) -> None:
        pass

    def begin(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Scripted(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.answers: list[Answer] = [respond(b"{}")]
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ports: set[int] = set()
        """Client ports, one per connection."""
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tokens(self) -> list[str | None]:
        return [headers.get("Authorization") for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # many tests close the connection

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


class TlsServer(Scripted):
    """The same over TLS; ``clients``: CA of the client certificates that are required."""

    def __init__(self, pair: KeyPair, clients: Path | None = None) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert_file, pair.key_file)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")


TlsServers = Callable[..., TlsServer]


def respond(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.begin(status, Content_Length=str(len(body)), **headers)
        handler.wfile.write(body)

    return answer


def status(code: int, message: str = "server message", **headers: str) -> Answer:
    return respond(json.dumps({"kind": "Status", "code": code, "message": message}).encode(), code, **headers)


def accept_only(token: str) -> Answer:
    """Accepts one token: else 401, or without any 403, as API servers answer by default."""

    def answer(handler: Handler) -> None:
        given = handler.headers["Authorization"]
        refused = status(403 if given is None else 401)
        (respond(b"ok\n") if given == f"Bearer {token}" else refused)(handler)

    return answer


def chunked(*parts: bytes | None, end: bool = True, **headers: str) -> Answer:
    """A chunked answer; ``None`` hangs until the test ends."""

    def answer(handler: Handler) -> None:
        handler.begin(200, Transfer_Encoding="chunked", **headers)
        handler.wfile.flush()
        for part in parts:
            if part is None:
                handler.server.released.wait(60)
            else:
                handler.chunk(part)
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.close_connection = True

    return answer


def hang(handler: Handler) -> None:
    handler.server.released.wait(60)


def get(api: ApiConnection, path: str = "/api/v1/services", timeout: float = 5, **params: str) -> bytes:
    return api.request("GET", path, params, timeout=timeout)


def lines(api: ApiConnection, read_timeout: float = 5) -> list[bytes]:
    with api.stream("/api/v1/services", {"watch": "true"}, connect_timeout=5, read_timeout=read_timeout) as s:
        return list(s)


def kubeconfig(path: Path, server: str, user: Any = None, **cluster: Any) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "c", "user": "missing"}},
        ],
        "current-context": "main",
    }
    path.write_text(yaml.safe_dump(config))
    return path


class Plugin:
    """An exec plugin with a scripted answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.user = {"exec": {"apiVersion": EXEC_API, "command": str(path)}}
        self.restore()
        path.chmod(0o755)

    def restore(self) -> None:
        self._path.write_text(f'#!/bin/sh\necho x >> "{self._path}.runs"\ncat "{self._path}.answer"\n')

    @property
    def runs(self) -> int:
        return len(self._path.with_suffix(".runs").read_text().splitlines())

    def succeed(self, **status: str) -> None:
        credential = {"apiVersion": EXEC_API, "kind": "ExecCredential", "status": status}
        self._path.with_suffix(".answer").write_text(json.dumps(credential))

    def hang(self, child: str) -> None:
        """It never ends, nor does its child process, whose id is written to the file ``child``."""
        self._path.write_text(f'#!/bin/sh\nsleep 3600 &\necho $! > "{child}"\nwait\n')

    def fail(self) -> None:
        self._path.with_suffix(".answer").unlink(missing_ok=True)
