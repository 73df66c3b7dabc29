"""The key store on real etcds: snapshots, transactions and watches."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdCompacted, EtcdNoSpace, EtcdUnavailable
from kube2etcd.etcd.changes import Batch, Delete, Put, WatchBatch, WatchEvent
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.etcd.wire import rpc
from tests.stack.harness import SLOW, Binaries, Etcd, wait_for
from tests.stack.watching import Watching

PREFIX = b"/skydns/"


@pytest.fixture
def connection(server: Etcd) -> Iterator[EtcdConnection]:
    with server.connection(timeout=2) as connection:
        yield connection


@pytest.fixture
def store(connection: EtcdConnection) -> EtcdStore:
    return EtcdStore(connection, PREFIX)


def entries(count: int) -> dict[bytes, bytes]:
    half = count // 2
    forward = {
        b"/skydns/local/cluster/svc/ns%03d/web%02d/%08x"
        % (number // 50, number % 50, number * 2654435761 % 2**32): b'{"host":"10.0.0.1","n":%d}' % number
        for number in range(half)
    }
    reverse = {
        b"/skydns/arpa/in-addr/10/0/%d/%d" % (number >> 8, number & 255): b'{"host":"x.%d"}' % number
        for number in range(count - half)
    }
    return forward | reverse


def batches(changes: dict[bytes, bytes], size: int = 128) -> list[Batch]:
    puts = [Put(key, value) for key, value in changes.items()]
    return [tuple(puts[start : start + size]) for start in range(0, len(puts), size)]


def test_snapshot_returns_what_was_written(server: Etcd, connection: EtcdConnection) -> None:
    wanted = entries(20_000)
    store = EtcdStore(connection, PREFIX, page=1000)
    assert store.snapshot().entries == {}
    result = store.apply([batches(wanted)])
    assert (result.written, result.refused) == (20_000, ())
    assert len(result.own_revisions) == len(batches(wanted))
    assert result.revision == max(result.own_revisions) == server.revision()
    other = EtcdStore(connection, b"/skydnsx/")
    other.apply([[(Put(b"/skydnsx/a", b"1"), Put(b"/other/b", b"2"))]])
    assert other.snapshot().entries == {b"/skydnsx/a": b"1"}
    for _ in range(3):  # first page by page, then in parallel ranges
        snapshot = store.snapshot()
        assert snapshot.entries == wanted
        assert snapshot.revision == result.revision + 1


def test_snapshot_shows_a_single_revision(connection: EtcdConnection) -> None:
    """A writer moves one key back and forth; a snapshot of several revisions may have none or two of it."""
    wanted = entries(4000)
    first, last = min(wanted), max(wanted)
    store = EtcdStore(connection, PREFIX, page=200)
    store.apply([batches(wanted)])
    done = threading.Event()

    def move() -> None:
        writer = EtcdStore(connection, PREFIX)
        here, there = first + b"x", last + b"x"
        while not done.is_set():
            writer.apply([[(Put(here, b"1"), Delete(there))]])
            here, there = there, here

    thread = threading.Thread(target=move)
    thread.start()
    try:
        wait_for(lambda: len(store.snapshot().entries) == 4001, "the mover")
        for _ in range(20):
            found = store.snapshot().entries
            assert len({first + b"x", last + b"x"} & found.keys()) == 1
    finally:
        done.set()
        thread.join()


def test_hung_server_is_unavailable(server: Etcd, connection: EtcdConnection, store: EtcdStore) -> None:
    store.snapshot()
    stopped, watching = (Watching(store, server.revision() + 1).standing() for _ in range(2))
    server.pause()
    assert stopped.end() < 0.5 * SLOW
    began = time.monotonic()
    with pytest.raises(EtcdUnavailable, match="in time"):
        store.apply([batches(entries(10_000))])
    with pytest.raises(EtcdUnavailable):
        store.snapshot()
    assert time.monotonic() - began < 2 * connection.timeout + 1.5 * SLOW
    assert isinstance(watching.failed(2), EtcdUnavailable)
    server.resume()
    assert wait_for(store.snapshot, "etcd", not_yet=(EtcdUnavailable,)).revision > 0
    again = wait_for(lambda: next(store.watch(1, threading.Event())), "a watch", not_yet=(EtcdUnavailable,))
    assert again.revision == 0


def test_watch_and_write_detect_lost_data(server: Etcd, store: EtcdStore) -> None:
    revision = store.apply([batches(entries(1000), 1)]).revision
    watching = Watching(store, revision + 1).standing()
    server.wipe()
    assert isinstance(watching.failed(20), EtcdUnavailable)

    def refused() -> bool:
        with pytest.raises(EtcdCompacted, match="went back"):
            next(store.watch(revision + 1, threading.Event()))
        return True

    # etcd itself would wait in silence until it reaches that revision
    wait_for(refused, "the watch to fail", not_yet=(EtcdUnavailable,))
    with pytest.raises(EtcdUnavailable, match="lost its data"):
        store.apply([[(Put(b"/skydns/a", b"1"),)]])
    assert store.snapshot().entries == {b"/skydns/a": b"1"}
    assert store.apply([[(Put(b"/skydns/b", b"1"),)]]).written == 1


def test_watch_delivers_events_once_and_in_order(server: Etcd, store: EtcdStore) -> None:
    start = server.revision() + 1
    watching = Watching(store, start).standing()
    assert watching.batches[0] == WatchBatch(start - 1)
    store.apply([[(Put(b"/skydns/a", b"1"), Put(b"/skydns/b", b"2"))], [(Delete(b"/skydns/a"),)]])
    server.put("/elsewhere", "x")
    server.put("/skydns/c", "3")
    wait_for(lambda: len(watching.events) == 4, "four events")
    assert watching.events == [
        WatchEvent(b"/skydns/a", b"1", start),
        WatchEvent(b"/skydns/b", b"2", start),
        WatchEvent(b"/skydns/a", None, start + 1),
        WatchEvent(b"/skydns/c", b"3", start + 3),
    ]
    assert watching.end() < 0.5 * SLOW
    assert watching.error is None


def test_watch_resumes_from_a_revision(server: Etcd, store: EtcdStore) -> None:
    wanted = entries(3000)
    start = server.revision() + 1
    store.apply([batches(wanted, 2)])
    watching = Watching(store, start)
    wait_for(lambda: len(watching.events) >= 500, "some events")
    watching.end()
    seen = watching.events
    rest = Watching(store, watching.batches[-1].revision + 1)
    wait_for(lambda: len(seen) + len(rest.events) == 3000, "the rest")
    rest.end()
    assert {event.key: event.value for event in seen + rest.events} == wanted
    revisions = [event.mod_revision for event in seen + rest.events]
    assert revisions == sorted(revisions)


def test_watch_from_a_compacted_revision_fails(connection: EtcdConnection, store: EtcdStore) -> None:
    store.apply([batches(entries(100), 1)])
    connection.call("Compact", rpc.CompactionRequest(revision=50, physical=True))
    with pytest.raises(EtcdCompacted, match="50"):
        for _ in store.watch(10, threading.Event()):
            pass
    assert len(store.snapshot().entries) == 100
    watching = Watching(store, 60)
    wait_for(lambda: watching.events, "events after the compacted revision")
    watching.end()


def test_idle_watch_stays_open(server: Etcd) -> None:
    """Without events for several timeouts, the probe is answered and the watch stays."""
    with server.connection(timeout=1) as connection:
        store = EtcdStore(connection, PREFIX)
        watching = Watching(store, server.revision() + 1).standing()
        began = time.monotonic()
        wait_for(lambda: watching.error or time.monotonic() - began > 3.5, "three timeouts to pass")
        server.put("/skydns/a", "1")
        wait_for(lambda: watching.error or watching.events, "the event")
        assert watching.error is None
        watching.end()


def test_full_etcd_raises_no_space_and_still_reads(binaries: Binaries, tmp_path: Path) -> None:
    server = Etcd(tmp_path / "etcd", binaries, extra_args=["--quota-backend-bytes=2000000"])
    with server, server.connection() as connection:
        store = EtcdStore(connection, PREFIX)
        with pytest.raises(EtcdNoSpace, match="NOSPACE"):
            store.apply([[(Put(b"/skydns/%d" % number, b"x" * 100_000),)] for number in range(100)])
        alarms = wait_for(lambda: connection.health().alarms, "the alarm")
        assert alarms == ("NOSPACE",)
        assert store.snapshot().entries, "reads still work"
