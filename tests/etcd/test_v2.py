"""The v2 store against misbehaving servers; tests/stack tests it against real ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import Batch, Delete, Put, WatchBatch
from kube2etcd.etcd.v2 import Tree, V2Store
from kube2etcd.etcd.v2_client import V2Connection
from kube2etcd.settings import Etcd as EtcdSettings
from tests.etcd.v2_server import ELECTION, Response, Server, file


def batch(*changes: Put | Delete) -> list[Iterator[Batch]]:
    """One generation, as an iterator: batches may still be derived."""
    return [iter([tuple(changes)])]


def with_hidden_directory(answer: Callable[[str, dict[str, str]], Response]) -> Callable[..., Response]:
    """Responses of ``answer``, plus a note of the hidden directory /skydns/a/_tcp."""

    def answer_with_note(_: str, path: str, params: dict[str, str]) -> Response:
        return (200, file(f"{path}/|a|_tcp")) if path.endswith("/hidden") else answer(path, params)

    return answer_with_note


ONE = [[(Put(b"/skydns/a", b"1"),)]]
MISSING: Response = (404, {"errorCode": 100, "message": "Key not found"})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


@pytest.fixture
def store(server: Server) -> Iterator[V2Store]:
    with V2Connection(EtcdSettings((server.url,)), timeout=2) as connection:
        yield V2Store(connection, b"/skydns/")


@pytest.mark.parametrize(
    ("status", "response", "error", "hint"),
    [
        (400, 401, EtcdCompacted, "read a new snapshot"),
        (400, 400, EtcdUnavailable, "watch again"),
        (401, {"message": "Insufficient credentials"}, EtcdUnauthenticated, "its password file and its role"),
        (401, 110, EtcdUnauthenticated, "its password file and its role"),
        (403, {}, EtcdUnauthenticated, "its password file and its role"),
        (404, b"404 page not found", EtcdRefused, "--enable-v2"),
        (500, 300, EtcdUnavailable, "whether it has a leader"),
        (502, b"<html>", EtcdUnavailable, "see its log"),
        (307, b"", EtcdUnavailable, "see its log"),
        (400, 209, EtcdRefused, "refuses the request"),
        (413, b"", EtcdRefused, "refuses the request"),
        (200, b"<html>", EtcdUnavailable, "empty or not etcd's"),
        (200, b"", EtcdUnavailable, "empty or not etcd's"),
    ],
)
def test_failed_requests(
    server: Server, store: V2Store, status: int, response: int | bytes, error: type[EtcdError], hint: str
) -> None:
    body = {"errorCode": response, "message": "reason"} if isinstance(response, int) else response
    server.answer = lambda *_: (status, body)
    with pytest.raises(EtcdError, match=hint) as raised:
        store.snapshot()
    assert type(raised.value) is error


@pytest.mark.parametrize("response", [(500, ELECTION), (200, b"<html>")], ids=["no leader", "not etcd"])
def test_failover_from_a_server_that_cannot_answer(server: Server, response: Response) -> None:
    server.answer = lambda *_: response
    with Server() as other, V2Connection(EtcdSettings((server.url, other.url))) as connection:
        store = V2Store(connection, b"/skydns/")
        other.answer = lambda _, path, __: (200, file(f"{path}/x") if path == "/skydns" else {})
        assert store.snapshot().entries == {b"/skydns/x": b"1"}
        assert len(server.calls) == 1
        server.answer, other.answer = other.answer, server.answer
        with pytest.raises(EtcdUnavailable):
            store.apply(ONE)
        assert store.snapshot().entries


@pytest.mark.parametrize("fails", ["the server", "progress"])
def test_nothing_is_sent_after_an_error(server: Server, store: V2Store, fails: str) -> None:
    def progress(_: int) -> None:
        raise EtcdUnavailable("failed")

    server.answer = lambda *_: (200, file("/skydns/0")) if fails == "progress" else (500, ELECTION)
    with pytest.raises(EtcdUnavailable):
        store.apply(batch(*(Put(f"/skydns/{n}".encode(), b"1") for n in range(100))), progress)
    assert len(server.calls) < 20


DENIED: Response = (400, {"errorCode": 209, "message": "Invalid field"})
NOT_A_FILE: Response = (403, {"errorCode": 102, "message": "Not a file", "cause": "/skydns/x"})


@pytest.mark.parametrize(
    ("change", "response", "hint", "paths"),
    [
        (Put(b"/skydns/a/_tcp/H", b"1"), NOT_A_FILE, "Not a file", ["/skydns/_kube2etcd/hidden/|a|_tcp"]),
        (Put(b"/skydns/a", b"1"), DENIED, "Invalid field", ["/skydns/a"]),
        (Delete(b"/skydns/a/x"), DENIED, "Invalid field", ["/skydns/a/x"]),
        (Delete(b"/elsewhere"), MISSING, "cannot hold such a key", []),
    ],
    ids=["directory note refused", "put", "delete", "invalid key"],
)
def test_refused_change(
    server: Server, store: V2Store, change: Put | Delete, response: Response, hint: str, paths: list[str]
) -> None:
    server.answer = lambda *_: response
    result = store.apply(batch(change))
    ((refused, reason),) = result.refused
    assert (refused, result.written) == (change, 0)
    assert hint in reason
    assert [path for _, path, _ in server.calls] == paths


def test_directory_that_cannot_be_removed_is_kept(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, params: dict[str, str]) -> Response:
        if "dir" in params:
            return DENIED
        return 200, {} if "hidden" in path else file("/skydns/a/x", 5 if method == "GET" else 11)

    server.answer, server.index = answer, 11
    store.snapshot()
    assert store.apply(batch(Delete(b"/skydns/a/x"))).written == 1


def test_value_in_place_of_a_directory_is_not_deleted(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, _: dict[str, str]) -> Response:
        if method == "DELETE":
            return 400, {"errorCode": 104, "message": "Not a directory", "cause": "/skydns/a"}
        return 200, file("/skydns/a/x") if path == "/skydns" else {}

    server.answer = answer
    store.snapshot()
    with pytest.raises(EtcdUnavailable, match="changed by others"):
        store.apply(batch(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/y")))
    deleted = [(path, params) for method, path, params in server.calls if method == "DELETE"]
    # etcd never reaches the first index, used for a key that was not read
    assert deleted == [("/skydns/a/_tcp/y", {"prevIndex": f"{2**62}"}), ("/skydns/a/x", {"prevIndex": "5"})]


def test_unreadable_hidden_directory_is_not_empty(server: Server, store: V2Store) -> None:
    server.answer = with_hidden_directory(lambda path, _: DENIED if "_tcp" in path else (200, {}))
    with pytest.raises(EtcdRefused, match="Invalid field"):
        store.snapshot()


def test_member_that_lags_is_detected(server: Server, store: V2Store) -> None:
    found = with_hidden_directory(
        lambda path, _: (200, file("/skydns/a/_tcp/H" if "_tcp" in path else "/skydns/x"))
    )
    lagging = True

    def answer(method: str, path: str, params: dict[str, str]) -> Response:
        server.index = 9 if lagging and "_tcp" in path else 10
        return MISSING if server.index == 9 else found(method, path, params)

    server.answer = answer
    with pytest.raises(EtcdUnavailable, match="went back from 10 to 9"):
        store.snapshot()
    lagging = False
    assert store.snapshot().entries == {b"/skydns/x": b"1", b"/skydns/a/_tcp/H": b"1"}


def test_lost_data_is_detected_by_probes_and_during_a_read(server: Server, store: V2Store) -> None:
    def answer(_: str, path: str, __: dict[str, str]) -> Response:
        server.index = 10 if path == "/skydns" else 4
        return 200, {}

    store.probe()  # no index is known yet
    store.snapshot()
    store.probe()
    server.index = 9
    with pytest.raises(EtcdUnavailable, match="went back from 10 to 9"):
        store.probe()
    server.answer = answer
    with pytest.raises(EtcdUnavailable, match="went back from 10 to 4"):
        store.snapshot()


def test_lost_writes_do_not_hide_later_events(server: Server, store: V2Store) -> None:
    server.index = 11
    server.answer = lambda method, path, _: (200, file(path, 11) if method == "PUT" else {})
    store.apply(ONE)
    server.index = 10
    store.snapshot()
    server.answer = lambda _, __, params: (200, file("/skydns/foreign", 11) if "wait" in params else {})
    watch = store.watch(11, threading.Event())
    assert next(watch) == WatchBatch(10)
    assert [event.key for event in next(watch).events] == [b"/skydns/foreign"]


def test_valid_and_invalid_keys() -> None:
    tree = Tree("skydns/")
    for key in ("/skydns/a/b", "/skydns/a/_tcp/_http/H1"):
        assert tree.path(key.encode()) == key
    invalid = ["a/_tcp", "_kube2etcd/hidden/x", "a//b", "a/./b", "a/../b", "a|b"]
    for key in (*(f"/skydns/{one}" for one in invalid), "/skydns", "/skydns/", "/skydnsx/a", "skydns/a"):
        with pytest.raises(EtcdRefused, match="cannot hold such a key"):
            tree.path(key.encode())
    with pytest.raises(EtcdRefused, match="cannot hold such a key"):
        tree.path(b"/skydns/\xff")


@pytest.mark.parametrize("path", ["/skydns/a/_tcp", "/skydns/a/_tcp/_http", "/skydns/_a/b"])
def test_note_of_a_hidden_directory(path: str) -> None:
    tree = Tree("/skydns")
    assert tree.is_hidden(path)
    assert tree.note(path).startswith("/skydns/_kube2etcd/hidden/|")
    assert tree.noted(tree.note(path)) == path
    assert not tree.is_hidden(path.replace("/_", "/a_"))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"errorCode": 400, "message": "watcher is cleared due to etcd recovery"}, "watch again"),
        (b"junk", "empty or not etcd's"),
        (
            {"action": "expire", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 11}},
            "/skydns/a was removed",
        ),
    ],
)
def test_events_that_end_the_watch(
    server: Server, store: V2Store, response: bytes | dict[str, Any], error: str
) -> None:
    server.answer = with_hidden_directory(lambda _, params: (200, response if "wait" in params else {}))
    store.snapshot()
    with pytest.raises(EtcdError, match=error):
        list(store.watch(11, threading.Event()))


@pytest.mark.parametrize(
    "key", ["/skydns/a/x", "/skydns/a/b/x"], ids=["the directory of the key", "the directory above"]
)
def test_removal_of_a_directory_by_us_does_not_end_the_watch(
    server: Server, store: V2Store, key: str
) -> None:
    """The watch may report the removal before our request returns."""
    polled, removing, answered = threading.Event(), threading.Event(), threading.Event()

    def answer(_: str, path: str, params: dict[str, str]) -> Response:
        if "wait" in params:
            polled.set()
            removing.wait(5)
            return 200, {"action": "delete", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 12}}
        if path != "/skydns/a" or "dir" not in params:
            return (200, file(path, 11)) if "dir" in params else MISSING
        removing.set()
        answered.wait(5)
        return 200, file(path, 12)

    server.answer, server.index = answer, 11
    watch = store.watch(12, threading.Event())
    batches = [next(watch)]
    watching = threading.Thread(target=lambda: batches.append(next(watch)))
    applying = threading.Thread(target=store.apply, args=(batch(Delete(key.encode())),))
    watching.start()
    try:
        assert polled.wait(5)
        applying.start()
        assert removing.wait(5)
        watching.join(0.3)
        assert watching.is_alive(), "the watch waits for the result of our request"
        server.index = 12
    finally:
        answered.set()
        applying.join(5)
        watching.join(5)
    assert batches == [WatchBatch(11), WatchBatch(12)]


def test_own_writes_are_skipped(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, params: dict[str, str]) -> Response:
        if "wait" in params:
            return 200, file("/skydns/foreign", int(params["waitIndex"]))
        if method == "GET":
            return 200, {}
        assert params["body"].startswith("value=") == (method == "PUT")
        server.index += 1
        return 200, file(path, server.index)

    server.answer = answer
    watch = store.watch(11, threading.Event())
    assert next(watch) == WatchBatch(10)
    for change in (Put(b"/skydns/a", b"1"), Put(b"/skydns/_tcp/b", b"1"), Delete(b"/skydns/a")):
        assert store.apply(batch(change)).skipped
    assert not store.apply(batch(Delete(b"/elsewhere"))).skipped
    ((foreign,),) = (one.events for one in [next(watch)])
    assert (foreign.key, foreign.mod_revision) == (b"/skydns/foreign", server.index + 1)


def test_paths_are_escaped_and_listings_flattened(server: Server) -> None:
    nodes = [
        {"key": "/s/a", "value": "1", "modifiedIndex": 7, "ttl": 5},
        {"key": "/s/d", "dir": True},
        {"key": "/s/e", "dir": True, "nodes": [{"key": "/s/e/f", "value": ""}]},
    ]
    server.answer = lambda *_: (200, {"node": {"key": "/s", "dir": True, "nodes": nodes}})
    with V2Connection(EtcdSettings((server.url,))) as connection:
        reply = connection.get("/s/a b/ä?#%2F")
    found = sorted((one.key, one.value, one.modified) for one in reply.files())
    assert found == [("/s/a", "1", 7), ("/s/e/f", "", 0)]
    assert server.calls[0][1] == "/s/a b/ä?#%2F"


@pytest.fixture
def silent() -> Iterator[EtcdSettings]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield EtcdSettings((f"http://127.0.0.1:{listener.getsockname()[1]}",))


def test_silent_server(silent: EtcdSettings) -> None:
    with V2Connection(silent, 0.2) as one, pytest.raises(EtcdUnavailable, match="did not answer in time"):
        one.get("/")


@pytest.mark.parametrize(
    "wait",
    [
        lambda connection: list(connection.together(connection.get, "/" * 100)),
        lambda connection: connection.poll("/", 1, threading.Event()),
    ],
    ids=["together", "poll"],
)
def test_close_ends_all_waits(silent: EtcdSettings, wait: Callable[[V2Connection], object]) -> None:
    connection = V2Connection(silent, 30)
    threading.Timer(0.1, connection.close).start()
    for one in (wait, wait, lambda connection: connection.get("/")):
        with pytest.raises(EtcdUnavailable, match="is closed"):
            one(connection)


def test_poll_ends_on_stop(silent: EtcdSettings) -> None:
    with V2Connection(silent, 30) as connection:
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        assert connection.poll("/", 1, stop) is None
