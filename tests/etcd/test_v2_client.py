"""The v2 client where no real etcd can be made to misbehave; the rest is in tests/stack."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import WatchEvent
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_client import IN_FLIGHT, OwnWrites, V2Connection, meaning
from tests.etcd.v2_server import Server, Told, file
from tests.stack.certificates import Authority


@pytest.mark.parametrize(
    ("status", "code", "error", "hint"),
    [
        (400, 401, EtcdCompacted, "read a new snapshot"),
        (400, 400, EtcdUnavailable, "watch again"),
        (401, 0, EtcdUnauthenticated, "its password file and its role"),
        (401, 110, EtcdUnauthenticated, "its password file and its role"),
        (403, 0, EtcdUnauthenticated, "its password file and its role"),
        (404, 0, EtcdRefused, "--enable-v2"),
        (400, 104, EtcdRefused, "/skydns/a holds a value"),
        (403, 102, EtcdRefused, "/skydns/a is a directory"),
        (500, 300, EtcdUnavailable, "whether it has a leader"),
        (307, 0, EtcdUnavailable, "see its log"),
        (503, 0, EtcdUnavailable, "see its log"),
        (400, 209, EtcdRefused, "refuses the request"),
        (413, 0, EtcdRefused, "refuses the request"),
    ],
)
def test_meaning_of_a_failure(status: int, code: int, error: type[EtcdError], hint: str) -> None:
    found = meaning("http://127.0.0.1:2379", "PUT", status, code, "words", "/skydns/a")
    assert type(found) is error
    assert hint in str(found)


def test_paths_are_escaped_and_listings_are_walked(server: Server) -> None:
    nodes = [
        {"key": "/s/a", "value": "1", "modifiedIndex": 7, "ttl": 5},
        {"key": "/s/d", "dir": True},
        {"key": "/s/e", "dir": True, "nodes": [{"key": "/s/e/f", "value": ""}]},
    ]
    server.answer = lambda *_: (200, {"node": {"key": "/s", "dir": True, "nodes": nodes}})
    with V2Connection(EtcdSettings((server.url,))) as connection:
        node = connection.get("/s/a b/ä?#%2F").reply.node
    assert node is not None
    found = sorted((one.key, one.value, one.modified) for one in node.files())
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
            connection.result(future)
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
        connection.result(futures[-1])
    go.set()


def test_a_write_under_way_is_waited_for_before_an_index_is_called_foreign() -> None:
    own = OwnWrites()
    event = WatchEvent(b"/a", b"1", 7)
    assert not own.made(7, 5)
    entered, go = threading.Event(), threading.Event()

    def write() -> None:
        with own.writing() as made:
            entered.set()
            go.wait(5)
            made(7, event)

    thread = threading.Thread(target=write)
    thread.start()
    assert entered.wait(5)
    assert not own.made(7, 0), "not known yet"
    threading.Timer(0.05, go.set).start()
    assert own.made(7, 5)
    thread.join()
    assert own.event(7) == event
    assert 8 not in own


def test_only_the_latest_own_writes_are_kept() -> None:
    own = OwnWrites()
    with own.writing() as made:
        for index in range(5000):
            made(index, None)
    assert 4999 in own
    assert 0 not in own


def test_an_event_in_the_memory_of_etcd(server: Server) -> None:
    server.answer = lambda *_: (200, file("/skydns/a", 9))
    with V2Connection(EtcdSettings((server.url,))) as connection:
        index, reply = connection.poll("/skydns", 9)
    assert (index, reply is not None) == (10, True)
    assert server.asked[0][2] == {"wait": "true", "recursive": "true", "waitIndex": "9"}
