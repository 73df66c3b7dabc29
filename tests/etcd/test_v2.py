"""What no real server can be made to do; tests/stack has all the rest."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from kube2etcd.changes import Batch, Delete, Put, WatchBatch
from kube2etcd.errors import EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd import v2_watcher
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_http import IN_FLIGHT, V2Connection
from kube2etcd.etcd.v2_nodes import Tree

Request = tuple[str, str, dict[str, str]]
Told = tuple[int, dict[str, Any] | bytes]


class Server:
    """Answers as a test says, each request once more as etcd would not; keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, dict[str, str]], Told] = lambda *_: (200, {})
        self.asked: list[Request] = []
        self.index = 10
        self.credentials: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                url = urlsplit(self.path)
                params = {key: values[0] for key, values in parse_qs(url.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(url.path).removeprefix("/v2/keys")
                server.asked.append((self.command, path, params))
                server.credentials.append(self.headers.get("Authorization"))
                status, told = server.answer(self.command, path, {**params, "body": body.decode()})
                content = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("X-Etcd-Index", str(server.index))
                self.send_header("Content-Length", str(len(content)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def store(server: Server) -> Iterator[V2Store]:
    with V2Connection(EtcdSettings((server.url,), timeout=2)) as connection:
        yield V2Store(connection, [b"/skydns/"])


def file(key: str, index: int = 5) -> dict[str, Any]:
    return {"action": "set", "node": {"key": key, "value": "1", "modifiedIndex": index}}


def batch(*changes: Put | Delete) -> list[list[Batch]]:
    return [[tuple(changes)]]


ONE = batch(Put(b"/skydns/a", b"1"))
ELECTION = {"errorCode": 301, "message": "During Leader Election", "index": 3}


@pytest.mark.parametrize("prefixes", [[], [b"/"], [b""], [b"/a/", b"/b/"]])
def test_one_prefix_and_not_the_root(prefixes: list[bytes]) -> None:
    with V2Connection(EtcdSettings()) as connection, pytest.raises(ValueError, match="one prefix"):
        V2Store(connection, prefixes)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ((500, ELECTION), EtcdUnavailable),
        ((200, b"<html>"), EtcdUnavailable),
        ((502, b"<html>"), EtcdUnavailable),
        ((307, b""), EtcdUnavailable),
        ((404, b"404 page not found"), EtcdRefused),
        ((401, {"message": "Insufficient credentials"}), EtcdUnauthenticated),
        ((400, {"errorCode": 209, "message": "Invalid field"}), EtcdRefused),
    ],
)
def test_odd_answers_to_a_reading(server: Server, store: V2Store, told: Told, error: type[EtcdError]) -> None:
    server.answer = lambda *_: told
    with pytest.raises(error):
        store.snapshot()


def test_a_server_without_a_leader_is_left_for_the_next(server: Server) -> None:
    other = Server()
    server.answer = lambda *_: (500, ELECTION)
    other.answer = lambda _, path, __: (200, file(f"{path}/x") if path == "/skydns" else {})
    try:
        with V2Connection(EtcdSettings((server.url, other.url))) as connection:
            assert V2Store(connection, [b"/skydns/"]).snapshot().entries == {b"/skydns/x": b"1"}
            assert len(server.asked) == 1
            server.answer, other.answer = other.answer, server.answer
            with pytest.raises(EtcdUnavailable):
                V2Store(connection, [b"/skydns/"]).apply(ONE)
            assert V2Store(connection, [b"/skydns/"]).snapshot().entries
    finally:
        other.close()


def test_a_change_on_its_way_when_the_server_fails(server: Server, store: V2Store) -> None:
    server.answer = lambda *_: (500, {"errorCode": 300, "message": "Raft Internal Error"})
    with pytest.raises(EtcdUnavailable, match="Raft Internal Error"):
        store.apply(batch(*(Put(f"/skydns/{n}".encode(), b"1") for n in range(100))))
    assert len(server.asked) < 20, "the rest is not sent"


def test_somebody_who_writes_faster(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, _: dict[str, str]) -> Told:
        if method == "GET":
            return 200, file(path)
        return 412, {"errorCode": 101, "message": "Compare failed", "index": 9}

    server.answer = answer
    with pytest.raises(EtcdUnavailable, match="written by others all the time"):
        store.apply(ONE)


def test_nothing_is_written_below_a_directory_that_cannot_be_noted(server: Server, store: V2Store) -> None:
    server.answer = lambda method, *_: (
        403,
        {"errorCode": 102, "message": "Not a file", "cause": "/skydns/x"},
    )
    result = store.apply(batch(Put(b"/skydns/a/_tcp/H", b"1")))
    ((_, reason),) = result.refused
    assert "is a directory" in reason
    assert [path for _, path, _ in server.asked] == ["/skydns/_kube2etcd/hidden/|a|_tcp"]


def test_a_directory_that_may_not_be_removed_stays(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, params: dict[str, str]) -> Told:
        if "dir" in params:
            return 400, {"errorCode": 209, "message": "Invalid field"}
        if method == "GET":
            return 200, {} if "hidden" in path else file("/skydns/a/x")
        return 200, {"action": "compareAndDelete", "node": {"key": path, "modifiedIndex": 11}}

    server.answer, server.index = answer, 11
    store.snapshot()
    assert store.apply(batch(Delete(b"/skydns/a/x"))).written == 1


def test_a_hidden_directory_that_cannot_be_read_is_not_an_empty_one(server: Server, store: V2Store) -> None:
    def answer(_: str, path: str, __: dict[str, str]) -> Told:
        if path.endswith("/hidden"):
            return 200, file(f"{path}/|a|_tcp")
        return (400, {"errorCode": 209, "message": "Invalid field"}) if "_tcp" in path else (200, {})

    server.answer = answer
    with pytest.raises(EtcdRefused, match="Invalid field"):
        store.snapshot()


def test_progress_may_end_it(server: Server, store: V2Store) -> None:
    class StopError(Exception):
        pass

    def progress(_: int) -> None:
        raise StopError

    server.answer = lambda _, path, __: (200, file(path))
    with pytest.raises(StopError):
        store.apply(batch(*(Put(f"/skydns/{n}".encode(), b"1") for n in range(100))), progress)
    assert len(server.asked) < 20


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            b'{"errorCode":400,"message":"watcher is cleared due to etcd recovery","index":11}\n',
            "watch again",
        ),
        (b"junk\n", "the answer is not etcd's"),
        (b'{"action":"get"}\n', "refuses the request"),
        (b'{"action":"expire","node":{"key":"/skydns/a","dir":true,"modifiedIndex":11}}\n', "was removed"),
    ],
)
def test_odd_events(server: Server, store: V2Store, lines: bytes, error: str) -> None:
    server.answer = lambda *_: (200, lines)
    with pytest.raises(EtcdError, match=error):
        list(store.watch(11, threading.Event()))


def test_a_watch_that_fails_in_an_unforeseen_way_is_no_quiet_one(server: Server, store: V2Store) -> None:
    removed = {"action": "delete", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 11}}
    server.answer = lambda *_: (200, json.dumps(removed).encode() + b"\n")

    def own(_directory: str, _index: int) -> bool:
        raise KeyError("a fault of ours")

    stop = threading.Event()
    connection = V2Connection(EtcdSettings((server.url,)))
    threading.Timer(10, stop.set).start()
    with connection, pytest.raises(EtcdUnavailable, match="the watch on etcd failed"):
        list(v2_watcher.watch(connection, Tree("/skydns"), 11, stop, own))


def test_events_that_are_known_are_not_told_again(server: Server, store: V2Store) -> None:
    stop = threading.Event()
    old, new = (json.dumps(file("/skydns/a", index)).encode() for index in (9, 12))
    server.index = 12
    server.answer = lambda *_: (200, b"\n" + old + b"\n" + new + b"\n")
    told: list[WatchBatch] = []
    for one in store.watch(11, stop):
        told.append(one)
        if len(told) == 3:
            stop.set()
    assert [(one.revision, len(one.events)) for one in told] == [(10, 0), (12, 1), (12, 0)]
    assert {params["waitIndex"] for _, _, params in server.asked[:2]} == {"11", "13"}


def test_a_watch_that_is_refused(server: Server, store: V2Store) -> None:
    server.answer = lambda *_: (401, {"message": "Insufficient credentials"})
    with pytest.raises(EtcdUnauthenticated):
        list(store.watch(1, threading.Event()))


def test_the_password_is_read_anew_once(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("einß")

    def answer(*_: object) -> Told:
        password.write_text("zwei")
        return 401, {"message": "Insufficient credentials"}

    server.answer = answer
    settings = EtcdSettings((server.url,), user="me", password_file=password)
    with V2Connection(settings) as connection, pytest.raises(EtcdUnauthenticated):
        connection.get("/")
    assert server.credentials == ["Basic bWU6ZWluw58=", "Basic bWU6endlaQ=="]


def test_a_password_file_that_went_away(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    with V2Connection(EtcdSettings((server.url,), user="me", password_file=password)) as connection:
        password.unlink()
        with pytest.raises(EtcdUnauthenticated, match="cannot be read"):
            connection.get("/")


def test_after_close_nobody_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = V2Connection(EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=30))
        pending = connection.start(lambda: connection.get("/"))
        threading.Timer(0.1, connection.close).start()
        with pytest.raises(EtcdUnavailable, match="is closed"):
            pending.result()
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.start(lambda: 0)
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.get("/")


def test_after_close_nobody_waits_for_what_had_not_begun() -> None:
    connection = V2Connection(EtcdSettings(("http://127.0.0.1:1",)))
    go = threading.Event()

    def work() -> int:
        go.wait(10)
        return 0

    pending = [connection.start(work) for _ in range(IN_FLIGHT + 1)]
    connection.close()
    with pytest.raises(EtcdUnavailable, match="is closed"):
        pending[-1].result()
    go.set()


def test_a_server_that_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        V2Connection(
            EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=0.2)
        ) as connection,
        pytest.raises(EtcdUnavailable, match="did not answer in time"),
    ):
        connection.get("/")
