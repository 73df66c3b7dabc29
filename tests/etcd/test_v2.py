"""The v2 store where no real etcd can be made to misbehave; the rest is in tests/stack."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import Batch, Delete, Put, WatchBatch
from kube2etcd.etcd.servers import EtcdSettings
from kube2etcd.etcd.v2 import Tree, V2Store
from kube2etcd.etcd.v2_client import IN_FLIGHT, V2Connection
from tests.etcd.v2_server import ELECTION, Server, Told, file
from tests.stack.certificates import Authority


def batch(*changes: Put | Delete) -> list[Iterator[Batch]]:
    """One generation, which can be read once, as those are that come while they are made."""
    return [iter([tuple(changes)])]


ONE = [[(Put(b"/skydns/a", b"1"),)]]
MISSING: Told = (404, {"errorCode": 100, "message": "Key not found"})


@pytest.mark.parametrize("prefixes", [[], [b"/"], [b""], [b"/a/", b"/b/"]])
def test_one_prefix_and_not_the_root(prefixes: list[bytes]) -> None:
    with V2Connection(EtcdSettings()) as connection, pytest.raises(ValueError, match="one prefix"):
        V2Store(connection, prefixes)


@pytest.mark.parametrize(
    ("status", "told", "error", "hint"),
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
    server: Server, store: V2Store, status: int, told: int | bytes, error: type[EtcdError], hint: str
) -> None:
    body = {"errorCode": told, "message": "words"} if isinstance(told, int) else told
    server.answer = lambda *_: (status, body)
    with pytest.raises(EtcdError, match=hint) as raised:
        store.snapshot()
    assert type(raised.value) is error


@pytest.mark.parametrize("told", [(500, ELECTION), (200, b"<html>")], ids=["no leader", "not etcd"])
def test_a_server_that_cannot_answer_is_left_for_the_next(server: Server, told: Told) -> None:
    other = Server()
    server.answer = lambda *_: told
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


def test_a_name_comes_and_goes_with_what_a_listing_shows_of_it(server: Server, store: V2Store) -> None:
    keys = [f"/skydns/svc/web/{key}" for key in ("_tcp/_http/H", "_tcp/_dns/H", "H1", "ep/H", "H2")]
    visible = [f"/skydns/svc/web/{key}" for key in ("H1", "H2", "ep/H")]
    held: set[str] = set()
    answered: list[str] = []

    def answer(method: str, path: str, params: dict[str, str]) -> Told:
        if "dir" in params and any(key.startswith(f"{path}/") for key in held):
            return 403, {"errorCode": 108, "message": "Directory not empty"}
        if method != "GET":
            # The directory is asked for while this one is under way, if anything does not wait for it.
            time.sleep(0.01 * (path in keys))
            answered.append(path)
            (held.add if method == "PUT" else held.discard)(path)
        return 200, file(path, server.index) if method != "GET" else {}

    server.answer = answer
    store.apply(batch(*(Put(key.encode(), b"1") for key in keys)))
    assert sorted(answered[:3]) == sorted(visible)
    answered.clear()
    store.apply(batch(*(Delete(key.encode()) for key in keys)))
    at = {path: answered.index(path) for path in answered}
    assert max(at[path] for path in at if "_" in path) < min(at[path] for path in visible)
    assert at.keys() >= {"/skydns/svc/web/_tcp", "/skydns/svc/web/ep", "/skydns/svc/web", "/skydns/svc"}
    assert "/skydns" not in at
    assert not held


def test_a_value_in_place_of_a_directory_is_not_deleted(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, _: dict[str, str]) -> Told:
        if method == "DELETE":
            return 400, {"errorCode": 104, "message": "Not a directory", "cause": "/skydns/a"}
        return 200, file("/skydns/a/x") if path == "/skydns" else {}

    server.answer = answer
    store.snapshot()
    with pytest.raises(EtcdUnavailable, match="changed by others"):
        store.apply(batch(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/y")))
    assert [path for method, path, _ in server.asked if method == "DELETE"] == ["/skydns/a/x"]


def test_a_key_that_cannot_be_is_not_deleted(server: Server, store: V2Store) -> None:
    server.answer = lambda *_: MISSING
    ((_, reason),) = store.apply(batch(Delete(b"/elsewhere"), Delete(b"/skydns/x"))).refused
    assert "cannot hold such a key" in reason


def test_a_key_whose_deletion_cannot_be_checked_is_refused(server: Server, store: V2Store) -> None:
    server.answer = lambda *_: (400, {"errorCode": 209, "message": "Invalid field"})
    result = store.apply(batch(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/y")))
    assert result.written == 0
    assert [change.key for change, _ in result.refused] == [b"/skydns/a/x", b"/skydns/a/y"]
    assert all("Invalid field" in reason for _, reason in result.refused)


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


def test_a_member_that_is_behind_is_asked_again_with_a_quorum(server: Server, store: V2Store) -> None:
    def answer(_: str, path: str, params: dict[str, str]) -> Told:
        server.index = 10 if "quorum" in params else 9
        if "quorum" not in params:
            return 404, {"errorCode": 100, "message": "Key not found", "index": 9}
        if path.endswith("/hidden"):
            return 200, file(f"{path}/|a|_tcp")
        return 200, file("/skydns/a/_tcp/H" if "_tcp" in path else "/skydns/x")

    server.answer = answer
    assert store.snapshot().entries == {b"/skydns/x": b"1", b"/skydns/a/_tcp/H": b"1"}
    assert len(server.asked) == 5, "and one that is not only once"


def test_an_etcd_that_loses_its_data_while_it_is_read(server: Server, store: V2Store) -> None:
    def answer(_: str, path: str, __: dict[str, str]) -> Told:
        server.index = 10 if path == "/skydns" else 4
        return 200, {}

    server.answer = answer
    with pytest.raises(EtcdUnavailable, match="went back from 10 to 4"):
        store.snapshot()


def test_a_look_at_etcd_notices_that_it_went_back(server: Server, store: V2Store) -> None:
    store.probe()  # nothing is known yet
    store.snapshot()
    store.probe()
    server.index = 9
    with pytest.raises(EtcdUnavailable, match="went back from 10 to 9"):
        store.probe()


def test_writes_that_etcd_has_lost_are_no_events(server: Server, store: V2Store) -> None:
    server.index = 11
    server.answer = lambda method, path, _: (200, file(path, 11) if method == "PUT" else {})
    store.apply(ONE)
    server.index = 10
    store.snapshot()
    server.answer = lambda _, __, params: (200, file("/skydns/theirs", 11) if "wait" in params else {})
    told = store.watch(11, threading.Event())
    assert next(told) == WatchBatch(10)
    assert [event.key for event in next(told).events] == [b"/skydns/theirs"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"/skydns/a/b", "/skydns/a/b"),
        (b"/skydns/a/_tcp/_http/H1", "/skydns/a/_tcp/_http/H1"),
        (b"/skydns/a/_tcp", None),
        (b"/skydns", None),
        (b"/skydns/", None),
        (b"/skydnsx/a", None),
        (b"skydns/a", None),
        (b"/skydns/a//b", None),
        (b"/skydns/a/./b", None),
        (b"/skydns/a/../b", None),
        (b"/skydns/a|b", None),
        (b"/skydns/\xff", None),
        (b"/skydns/_kube2etcd/hidden/x", None),
    ],
)
def test_keys_that_can_be_listed(key: bytes, path: str | None) -> None:
    tree = Tree("skydns/")
    if path is None:
        with pytest.raises(EtcdRefused, match="cannot hold such a key"):
            tree.path(key)
    else:
        assert tree.path(key) == path


@pytest.mark.parametrize("path", ["/skydns/a/_tcp", "/skydns/a/_tcp/_http", "/skydns/_a/b"])
def test_hidden_directories_have_a_note(path: str) -> None:
    tree = Tree("/skydns")
    assert tree.is_hidden(path)
    assert tree.note(path).startswith("/skydns/_kube2etcd/hidden/|")
    assert tree.noted(tree.note(path)) == path
    assert not tree.is_hidden(path.replace("/_", "/a_"))


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"errorCode": 400, "message": "watcher is cleared due to etcd recovery"}, "watch again"),
        (b"junk", "empty or not etcd's"),
        (
            {"action": "expire", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 11}},
            "/skydns/a was removed",
        ),
        (
            {"action": "delete", "node": {"key": "/skydns/_kube2etcd/hidden/|a|_tcp", "modifiedIndex": 11}},
            "the note .* was removed",
        ),
    ],
)
def test_events_that_end_the_watch(
    server: Server, store: V2Store, told: bytes | dict[str, Any], error: str
) -> None:
    def answer(_: str, path: str, params: dict[str, str]) -> Told:
        if path.endswith("/hidden"):
            return 200, file(f"{path}/|a|_tcp")
        return 200, told if "wait" in params else {}

    server.answer = answer
    store.snapshot()
    with pytest.raises(EtcdError, match=error):
        list(store.watch(11, threading.Event()))


def test_a_directory_that_we_are_removing_is_not_lost(server: Server, store: V2Store) -> None:
    """The watch may report the removal before it is answered."""
    reported = threading.Event()

    def answer(method: str, path: str, params: dict[str, str]) -> Told:
        if "wait" in params:
            server.index = 13
            return 200, {"action": "delete", "node": {"key": "/skydns/a", "dir": True, "modifiedIndex": 11}}
        if "dir" in params:
            reported.wait(5)
        return (200, file(path, 11)) if method == "DELETE" else MISSING

    server.answer = answer
    applying = threading.Thread(target=store.apply, args=(batch(Delete(b"/skydns/a/x")),))
    applying.start()
    try:
        while not any("dir" in params for _, _, params in list(server.asked)):
            assert applying.is_alive()
        told = store.watch(11, threading.Event())
        assert [next(told), next(told)] == [WatchBatch(10), WatchBatch(11)]
    finally:
        reported.set()
        applying.join(5)


def test_a_watch_behind_the_end_of_etcd(store: V2Store) -> None:
    with pytest.raises(EtcdCompacted, match="went back from 99 to 10"):
        list(store.watch(100, threading.Event()))


def test_a_late_event_sends_the_watch_back_to_the_memory_of_etcd(server: Server, store: V2Store) -> None:
    """While a poll waits, hidden keys may change unseen before the event that ends it."""

    def answer(_: str, __: str, params: dict[str, str]) -> Told:
        if "wait" not in params:
            return 200, {}
        if params["waitIndex"] == "11" and server.index == 10:
            server.later = 13
            return 200, file("/skydns/a", 13)
        return 200, file("/skydns/b", 12) if params["waitIndex"] <= "12" else file("/skydns/a", 13)

    server.answer = answer
    told: Iterator[WatchBatch] = store.watch(11, threading.Event())
    assert [next(told) for _ in range(2)] == [WatchBatch(10), WatchBatch(10)]
    third, fourth = next(told), next(told)
    assert [one.revision for one in (third, fourth)] == [12, 13]
    assert [event.key for one in (third, fourth) for event in one.events] == [b"/skydns/b", b"/skydns/a"]


def test_own_writes_are_delivered_without_asking_etcd(server: Server, store: V2Store) -> None:
    def answer(method: str, path: str, params: dict[str, str]) -> Told:
        if method == "GET":
            return 200, {}
        server.index += 1
        return 200, file(path, server.index)

    server.answer = answer
    store.apply(batch(Put(b"/skydns/a", b"1")))
    store.apply(batch(Put(b"/skydns/_tcp/b", b"1"), Put(b"/skydns/c", b"1")))
    store.apply(batch(Delete(b"/skydns/a")))
    told = store.watch(11, threading.Event())
    next(told)
    events = next(told)
    assert events.revision == server.index
    assert [(event.key, event.value) for event in events.events] == [
        (b"/skydns/a", b"1"),
        (b"/skydns/c", b"1"),
        (b"/skydns/_tcp/b", b"1"),
        (b"/skydns/a", None),
    ]
    assert not any("wait" in params for _, _, params in server.asked)


def test_paths_are_escaped_and_listings_are_walked(server: Server) -> None:
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
    assert server.asked[0][1] == "/s/a b/ä?#%2F"


def test_the_password_is_read_again_once(server: Server, tmp_path: Path) -> None:
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


def test_missing_password_file(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    with V2Connection(EtcdSettings((server.url,), user="me", password_file=password)) as connection:
        password.unlink()
        with pytest.raises(EtcdUnauthenticated, match="cannot be read"):
            connection.get("/")


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_tls_files_in_the_middle_of_a_rotation(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("client")
    files = {"ca": authority.ca_file, "cert": ours.cert_file, "key": ours.key_file}
    settings = EtcdSettings(("https://127.0.0.1:1",), files["ca"], files["cert"], files["key"])
    with V2Connection(settings) as connection:
        files[name].write_text("")
        with pytest.raises(EtcdUnavailable, match=r"TLS files for etcd at .* cannot be read"):
            connection.get("/")


def test_a_silent_server() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        V2Connection(
            EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=0.2)
        ) as connection,
        pytest.raises(EtcdUnavailable, match="did not answer in time"),
    ):
        connection.get("/")


def test_close_ends_all_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = V2Connection(EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=30))
        future = connection.submit(lambda: connection.get("/"))
        threading.Timer(0.1, connection.close).start()
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.done(future)
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.submit(lambda: 0)
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.get("/")


def test_after_close_what_had_not_begun_is_cancelled() -> None:
    connection = V2Connection(EtcdSettings(("http://127.0.0.1:1",)))
    go = threading.Event()
    futures = [connection.submit(lambda: go.wait(60)) for _ in range(4 * IN_FLIGHT)]
    connection.close()
    with pytest.raises(EtcdUnavailable, match="is closed"):
        connection.done(futures[-1])
    go.set()
