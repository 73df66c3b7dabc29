"""The v2 key store on real etcds: snapshots, writes, watches, connections."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import Delete, Put
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_client import V2Connection
from kube2etcd.settings import Etcd as EtcdSettings
from tests.stack.etcd_v2 import NOTES, EtcdV2
from tests.stack.harness import SLOW, Authority, Binaries, EtcdCluster, EtcdTls, free_port, wait_for
from tests.stack.watching import Watching

PREFIX = "/skydns"
PORT = "/skydns/a/web/_tcp/_http/H1"
PASSWORD = "correct-horse-battery"


@pytest.fixture
def etcd(binaries: Binaries, tmp_path: Path) -> Iterator[EtcdV2]:
    with EtcdV2(tmp_path / "etcd", binaries) as server:
        yield server
        server.resume()


@pytest.fixture
def store(etcd: EtcdV2) -> Iterator[V2Store]:
    with V2Connection(EtcdSettings((etcd.url,)), timeout=1) as connection:
        yield V2Store(connection, b"/skydns/")


def put(store: V2Store, **keys: str) -> None:
    store.apply([[tuple(Put(f"{PREFIX}/{key}".encode(), value.encode()) for key, value in keys.items())]])


def test_hidden_keys(etcd: EtcdV2, store: V2Store) -> None:
    assert store.snapshot().entries == {}
    result = store.apply([[(Put(PORT.encode(), "ä".encode()), Put(b"/skydns/a/web/H1", b"{}"))]])
    assert (result.written, result.refused) == (2, ())
    assert PORT not in etcd.listed(PREFIX)
    with V2Connection(EtcdSettings((etcd.url,))) as another:
        found = V2Store(another, b"/skydns/").snapshot()
    assert found.entries == {PORT.encode(): "ä".encode(), b"/skydns/a/web/H1": b"{}"}
    assert found.revision == etcd.revision()
    store.apply([[(Delete(PORT.encode()), Delete(b"/skydns/a/web/H1"))]])
    assert not etcd.exists("/skydns/a")
    assert etcd.listed(NOTES) == {}


def test_reading_writes_nothing(etcd: EtcdV2, store: V2Store) -> None:
    etcd.put(f"{NOTES}/hidden/|a|web|_tcp|_http", "")
    etcd.put(f"{NOTES}/hidden/|b|web|_tcp|_http", "")
    etcd.ask("PUT", "/skydns/b/web/_tcp/_http", dir="true").raise_for_status()
    index = etcd.revision()
    assert store.snapshot().entries == {}
    assert store.snapshot().entries == {}
    assert etcd.revision() == index
    put(store, x="1")
    assert etcd.listed(NOTES) == {}, "the next write deletes them"
    assert not etcd.exists("/skydns/b"), "with what a killed bridge left"


def test_foreign_changes_are_overwritten_never_deleted(etcd: EtcdV2, store: V2Store) -> None:
    put(store, a="1", b="1", c="1")
    store.snapshot()
    for key in ("a", "b"):
        etcd.put(f"{PREFIX}/{key}", "theirs")
    etcd.delete(f"{PREFIX}/c")
    etcd.put(f"{PREFIX}/d", "theirs")
    put(store, a="2", c="2", d="2")
    kept = {"a": "2", "b": "theirs", "c": "2", "d": "2"}
    assert etcd.dump(PREFIX) == {f"{PREFIX}/{key}": value for key, value in kept.items()}
    changed = "/skydns/b was changed by others while it was to be deleted"
    with pytest.raises(EtcdUnavailable, match=changed):
        store.apply([[(Delete(b"/skydns/b"), Delete(b"/skydns/c"), Delete(b"/skydns/gone"))]])
    assert etcd.dump(PREFIX).keys() == {f"{PREFIX}/{key}" for key in "abd"}
    etcd.put(f"{PREFIX}/e", "learned from a watch")
    with pytest.raises(EtcdUnavailable):
        store.apply([[(Delete(b"/skydns/e"),)]])
    store.snapshot()
    store.apply([[(Delete(b"/skydns/e"), Delete(b"/skydns/b"))]])
    assert etcd.dump(PREFIX).keys() == {f"{PREFIX}/{key}" for key in "ad"}


def test_only_impossible_keys_are_refused(etcd: EtcdV2, store: V2Store) -> None:
    etcd.put("/skydns/value", "1")
    etcd.put("/skydns/dir/x", "1")
    odd = [b"/skydns/value/x", b"/skydns/dir", b"/skydns/\xff", b"/elsewhere/x", b"/skydns/a//b"]
    odd += [b"/skydns/../etc", b"/skydns/a|b/c", b"/skydns/_x", f"{NOTES}/hidden/x".encode()]
    result = store.apply([[tuple(Put(key, b"2") for key in [*odd, b"/skydns/fine"])]])
    assert [change.key for change, _ in result.refused] == odd
    assert result.written == 1
    assert etcd.dump(PREFIX) == {"/skydns/value": "1", "/skydns/dir/x": "1", "/skydns/fine": "2"}


def test_the_watch_reports_each_change_of_others(etcd: EtcdV2, store: V2Store) -> None:
    watching = Watching(store, store.snapshot().revision + 1).standing()
    put(store, **{"a/x": "1", "a/_tcp/x": "hidden"})
    etcd.put("/elsewhere", "1")
    store.apply([[(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/x"))]])
    etcd.put("/skydns/b", "2")
    etcd.ask("PUT", "/skydns/b", dir="true").raise_for_status()
    etcd.put("/skydns/c", "3")
    wait_for(lambda: ("/skydns/c", b"3") in watching.pairs, "the last")
    assert watching.pairs == [("/skydns/b", b"2"), ("/skydns/b", None), ("/skydns/c", b"3")]
    assert watching.batches[-1].revision >= etcd.index("/skydns/c")
    assert watching.error is None, "our own cleanup is no loss"
    # quiet for longer than the timeout, and still open
    wait_for(lambda: watching.batches[-1].events == (), "a sign of life", 10)
    etcd.put("/skydns/d", "4")
    wait_for(lambda: ("/skydns/d", b"4") in watching.pairs, "the next")
    assert watching.end() < 0.5 * SLOW


def test_the_watch_replays_what_it_missed(etcd: EtcdV2, store: V2Store) -> None:
    start = store.snapshot().revision + 1
    # but for our own writes, hidden or not, with their notes and deletions
    put(store, **{"a/x": "1", "a/_tcp/x": "1"})
    store.apply([[(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/x"))]])
    for number in range(20):
        etcd.put(f"/skydns/{number:02}", "1")
        etcd.put("/elsewhere", "1")
    watching = Watching(store, start).standing()
    etcd.put("/skydns/20", "1")
    wait_for(lambda: ("/skydns/20", b"1") in watching.pairs, "all of it")
    assert watching.error is None
    assert [key for key, _ in watching.pairs] == [f"/skydns/{number:02}" for number in range(21)]
    assert watching.end() < 0.5 * SLOW


def test_a_bulk_load_does_not_end_the_watch(etcd: EtcdV2, store: V2Store) -> None:
    watching = Watching(store, store.snapshot().revision + 1).standing()
    for turn in range(2):
        put(store, **{f"{number}/x": str(turn) for number in range(1500)})
    etcd.put("/skydns/theirs", "1")
    wait_for(lambda: watching.pairs == [("/skydns/theirs", b"1")], "what others do", 20)
    assert watching.error is None
    watching.end()


def test_the_watch_ends_where_it_would_miss_events(etcd: EtcdV2, store: V2Store) -> None:
    put(store, **{"a/x": "1"})
    watching = Watching(store, store.snapshot().revision + 1).standing()
    etcd.delete("/skydns/a")
    assert "/skydns/a was removed" in str(watching.failed())
    start = store.snapshot().revision + 1
    with V2Connection(EtcdSettings((etcd.url,))) as another:
        put(V2Store(another, b"/skydns/"), **{str(number): "x" for number in range(1100)})
    # etcd keeps a thousand events
    assert isinstance(Watching(store, start).standing().failed(), EtcdCompacted)
    assert "lost its data" in str(Watching(store, etcd.revision() + 50).standing().failed())


@pytest.mark.parametrize("listed", [True, False], ids=["listed ones change as well", "nothing else"])
def test_the_watch_reports_foreign_hidden_changes(etcd: EtcdV2, store: V2Store, listed: bool) -> None:
    watching = Watching(store, store.snapshot().revision + 1).standing()
    put(store, **{"a/_tcp/x": "1", "a/x": "1"})
    etcd.put("/elsewhere", "1")
    put(store, **{"a/_tcp/x": "2", "a/x": "2"})
    etcd.put("/skydns/a/_tcp/x", "theirs")
    if listed:
        etcd.put("/skydns/b", "1")
    theirs = [("/skydns/a/_tcp/x", b"theirs"), ("/skydns/b", b"1")][: 1 + listed]
    wait_for(lambda: watching.pairs == theirs, "them to be noticed, in order", 30)
    store.snapshot()
    put(store, **{"a/_tcp/x": "3", "a/x": "3"})
    store.apply([[(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/x"))]])
    etcd.ask("DELETE", f"{NOTES}/hidden/|a|_tcp")
    standing = len(watching.batches)
    wait_for(lambda: len(watching.batches) > standing + 3, "rounds of quiet", 30)
    assert watching.error is None, "our own cleanup is no loss"
    assert watching.pairs == theirs
    watching.end()


def test_lost_data_is_noticed_while_writing(etcd: EtcdV2, store: V2Store) -> None:
    put(store, **{str(number): "x" for number in range(50)})
    etcd.wipe()
    with pytest.raises(EtcdUnavailable, match="lost its data"):
        put(store, y="1")
    assert store.snapshot().entries.keys() <= {b"/skydns/y"}


def test_data_lost_amid_deletions_is_read_again(etcd: EtcdV2, store: V2Store) -> None:
    put(store, **{"a/x": "1", "a/_tcp/x": "1"})
    etcd.kill()
    with pytest.raises(EtcdUnavailable):
        store.apply([[(Delete(b"/skydns/a/x"), Delete(b"/skydns/a/_tcp/x"))]])
    etcd.wipe()
    assert store.snapshot().entries == {}, "directories to delete do not prevent a snapshot"
    put(store, y="1")
    assert etcd.dump(PREFIX) == {f"{PREFIX}/y": "1"}


def test_servers_are_tried_in_turn(binaries: Binaries, tmp_path: Path) -> None:
    members = [EtcdV2(tmp_path, binaries, name=f"etcd{number}") for number in range(3)]
    urls = (f"http://127.0.0.1:{free_port()}", *(member.url for member in members))
    with EtcdCluster(members), V2Connection(EtcdSettings(urls), timeout=2) as connection:
        store = V2Store(connection, b"/skydns/")
        assert store.snapshot().entries == {}
        put(store, a="1")
        members[0].kill()
        wait_for(lambda: members[1].ask("GET", "/v2/stats/self").json()["leaderInfo"]["leader"], "a leader")

        def written() -> bool:
            store.snapshot()
            put(store, b="1")
            return True

        wait_for(written, "the others to take over", 20, not_yet=(EtcdUnavailable,))
        assert store.snapshot().entries == {b"/skydns/a": b"1", b"/skydns/b": b"1"}
        members[1].kill()
        with pytest.raises(EtcdUnavailable):
            store.snapshot()  # one member of three has no quorum


def test_user_and_password(etcd: EtcdV2, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")

    def set_password(word: str) -> None:
        body = json.dumps({"user": "root", "password": word})
        etcd.ask("PUT", "/v2/auth/users/root", body).raise_for_status()
        etcd.login = ("root", word)

    set_password(PASSWORD)
    etcd.ask("PUT", "/v2/auth/enable").raise_for_status()
    etcd.ask("DELETE", "/v2/auth/roles/guest").raise_for_status()
    settings = EtcdSettings((etcd.url,), user="root", password_file=str(file))
    with V2Connection(settings) as connection:
        store = V2Store(connection, b"/skydns/")
        with pytest.raises(EtcdUnauthenticated) as raised:
            store.snapshot()
        assert "wrong" not in str(raised.value)
        file.write_text(PASSWORD + "\n")
        assert store.snapshot().entries == {}
        put(store, a="1")
        file.write_text(PASSWORD + "2")
        set_password(PASSWORD + "2")
        put(store, b="1")
        assert store.snapshot().entries.keys() == {b"/skydns/a", b"/skydns/b"}
    with V2Connection(EtcdSettings((etcd.url,))) as nobody, pytest.raises(EtcdUnauthenticated):
        V2Store(nobody, b"/skydns/").snapshot()


def test_certificates(binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "pki", "etcd-ca")
    tls = EtcdTls.of(authority)
    etcd = EtcdV2(tmp_path, binaries, name="tls-etcd", tls=tls)
    other = Authority(tmp_path / "other", "another-ca")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca_file))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with etcd:
        ours = EtcdSettings(
            (etcd.url,), str(authority.ca_file), str(tls.client.cert_file), str(tls.client.key_file)
        )
        with V2Connection(ours) as connection:
            store = V2Store(connection, b"/skydns/")
            put(store, a="1")
            assert store.snapshot().entries == {b"/skydns/a": b"1"}
            watching = Watching(store, etcd.revision() + 1).standing()
            etcd.put("/skydns/b", "1")
            wait_for(lambda: watching.pairs, "an event")
            assert watching.end() < 0.5 * SLOW
        for trusted in (other, authority):
            settings = EtcdSettings((etcd.url,), cafile=str(trusted.ca_file))
            with V2Connection(settings) as connection, pytest.raises(EtcdUnavailable):
                V2Store(connection, b"/skydns/").snapshot()
