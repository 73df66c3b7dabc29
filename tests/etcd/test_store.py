"""`EtcdStore` against an in-memory server: batches, generations, refusals, timing."""

from __future__ import annotations

import math
import queue
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kube2etcd.errors import EtcdRefused, EtcdSilent, EtcdUnavailable
from kube2etcd.etcd.changes import ApplyResult, Batch, Delete, Put
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.servers import TIMEOUT
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.etcd.wire import Message, rpc


class Server:
    """Carries out a request when its result is awaited."""

    timeout, endpoints = TIMEOUT, ("http://127.0.0.1",)

    def __init__(self, version: str = "3.7.3") -> None:
        self.version = version
        self.revision = 1
        self.keys: dict[bytes, bytes] = {}
        self.max_ops = 128
        self.refused: set[bytes] = set()
        self.denied = False
        self.fails_after = math.inf
        self.capacity = math.inf
        """Keys that all concurrent requests together can transfer within the timeout."""
        self.transferring = 0
        self.sent = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.log: list[tuple[str, bytes]] = []
        self.maintenance: queue.SimpleQueue[str] = queue.SimpleQueue()

    def call(self, method: str, request: Message) -> Any:
        return self.start(method, request).result()

    def start(self, method: str, request: Message) -> SimpleNamespace:
        self.sent += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        number, keys = self.sent, len(self.found(request)) if method == "Range" else 0
        self.transferring += keys
        late = self.transferring > self.capacity

        def result() -> Any:
            self.in_flight -= 1
            self.transferring -= keys
            if late:
                raise EtcdSilent("timeout")
            if number > self.fails_after:
                raise EtcdUnavailable("gone")
            return getattr(self, method)(request)

        return SimpleNamespace(result=result)

    def found(self, request: Message) -> list[bytes]:
        return [one for one in self.keys if request.key <= one < request.range_end][: request.limit]

    def Range(self, request: Message) -> Message:
        assert request.key.startswith(b"/s/"), "outside our range a user may have no permission"
        found = self.found(request)
        answer = rpc.RangeResponse(more=bool(found) and found[-1] < max(self.keys))
        answer.header.revision = self.revision
        for one in found:
            answer.kvs.add(key=one, value=self.keys[one])
        return answer

    def Txn(self, request: Message) -> Message:
        changes = [
            (one.request_put.key, one.request_put, one.request_delete_range.key) for one in request.success
        ]
        if self.denied:
            raise EtcdRefused("permission denied")
        if len(changes) > self.max_ops:
            raise EtcdRefused("too many operations in txn request")
        if self.refused & {key or gone for key, _, gone in changes}:
            raise EtcdRefused("no")
        answer, before = rpc.TxnResponse(succeeded=True), self.revision
        for key, put, gone in changes:
            made = answer.responses.add()
            self.log.append(("put" if key else "delete", key or gone))
            if key:
                self.keys[key] = put.value
                made.response_put.SetInParent()
            else:
                made.response_delete_range.deleted = int(self.keys.pop(gone, None) is not None)
            if key or made.response_delete_range.deleted:
                self.revision = before + 1
        answer.header.revision = self.revision
        return answer

    def Status(self, request: Message) -> Message:
        self.maintenance.put("Status")
        return rpc.StatusResponse(version=self.version)

    def Hash(self, request: Message) -> Message:
        self.maintenance.put("Hash")
        return rpc.HashResponse()


def key(number: int) -> bytes:
    return b"/s/%05d" % number


def puts(start: int, count: int) -> Batch:
    return tuple(Put(key(number), b"v") for number in range(start, start + count))


def batches_of(count: int, size: int) -> list[Batch]:
    """``count`` puts in batches of ``size``."""
    return [puts(start, size) for start in range(0, count, size)]


def store_on(server: Server, in_flight: int = 4, ops: int = 128, page: int = 4096) -> EtcdStore:
    return EtcdStore(cast(EtcdConnection, server), b"/s/", ops, in_flight, page)


def apply(server: Server, *generations: list[Batch], in_flight: int = 4, ops: int = 128) -> ApplyResult:
    return store_on(server, in_flight, ops).apply(generations)


@pytest.fixture
def server() -> Server:
    return Server()


def test_pages_shrink_on_a_slow_connection(server: Server) -> None:
    server.keys = {key(number): b"1" for number in range(20_000)}
    server.capacity = 1500
    store = store_on(server, page=16_384)
    for _ in range(2):
        with pytest.raises(EtcdSilent):
            store.snapshot()
        server.transferring = 0
    assert store.snapshot().entries == server.keys


def test_probe_detects_lost_data(server: Server) -> None:
    store = store_on(server)
    store.probe()  # No revision is known yet.
    server.revision = 7
    store.snapshot()
    server.revision = 8
    store.probe()
    server.revision = 6
    with pytest.raises(EtcdUnavailable, match="went back from 7 to 6"):
        store.probe()


@pytest.mark.parametrize(
    ("version", "written", "calls"),
    [
        ("3.4.13", 2000, ["Status", "Hash"]),
        ("3.5.0", 2000, ["Status"]),
        ("3.7.3", 2000, ["Status"]),
        ("3.4.13", 100, []),
    ],
)
def test_etcd_3_4_is_nudged_after_many_writes(version: str, written: int, calls: list[str]) -> None:
    server = Server(version)
    apply(server, batches_of(written, 100))
    if not calls:
        assert [one for one in threading.enumerate() if one.name == "etcd-nudge"] == []
    assert [server.maintenance.get(timeout=10) for _ in calls] == calls
    assert server.maintenance.empty()


def test_all_batches_are_written_within_the_in_flight_limit(server: Server) -> None:
    progress: list[int] = []
    result = store_on(server).apply([batches_of(1000, 10)], progress.append)
    assert len(server.keys) == 1000
    assert (result.written, result.refused) == (1000, ())
    assert result.own_revisions == frozenset(range(2, 102))
    assert result.revision == 101
    assert server.max_in_flight == 4
    assert progress == [*range(10, 1001, 10)]


def test_no_change_makes_no_own_revision(server: Server) -> None:
    assert apply(server, [], [()]).revision == 0
    assert server.sent == 0
    result = apply(server, [(Delete(b"/s/none"),)])
    assert (result.own_revisions, result.revision, result.written) == (frozenset(), 1, 1)


def test_generation_is_a_barrier(server: Server) -> None:
    apply(server, batches_of(10, 1), [(Delete(key(number)),) for number in range(10)])
    assert [op for op, _ in server.log] == ["put"] * 10 + ["delete"] * 10


def test_only_keys_at_fault_are_refused(server: Server) -> None:
    server.refused = {key(5), key(200)}
    batches = [puts(0, 100), puts(100, 128), puts(300, 10)]
    result = apply(server, batches)
    assert {change.key for change, _ in result.refused} == server.refused
    assert result.written == 236
    assert server.keys.keys() == {change.key for batch in batches for change in batch} - server.refused


def test_smaller_limit_of_the_server_is_learned(server: Server) -> None:
    server.max_ops = 32
    result = apply(server, batches_of(1280, 128), in_flight=1)
    assert (result.written, result.refused) == (1280, ())
    # One batch is refused whole, one as halves; later ones are split beforehand.
    assert server.sent <= 10 * 4 + 4


def test_batch_above_the_limit_is_split(server: Server) -> None:
    server.max_ops = 16
    assert apply(server, [puts(0, 100)], ops=16).written == 100
    assert server.in_flight == 0


def test_split_batch_puts_before_it_deletes(server: Server) -> None:
    server.keys = dict.fromkeys((key(number) for number in range(100, 120)), b"v")
    server.refused = {key(3)}
    result = apply(server, [(*(Delete(key(number)) for number in range(100, 120)), *puts(0, 20))])
    assert [change.key for change, _ in result.refused] == [key(3)]
    kinds = [op for op, _ in server.log]
    assert kinds == sorted(kinds, reverse=True), "puts come first"


def test_denied_user_does_not_retry_every_key(server: Server) -> None:
    server.denied = True
    result = apply(server, batches_of(12_800, 128))
    assert (result.written, len(result.refused)) == (0, 12_800)
    assert server.sent < 500


def test_single_permitted_key_is_found_over_several_attempts(server: Server) -> None:
    batches = batches_of(1280, 128)
    server.refused = {change.key for batch in batches for change in batch} - {key(1000)}
    attempts = 0
    while not server.keys and attempts < 1000:
        attempts += 1
        apply(server, batches)
    assert server.keys.keys() == {key(1000)}


def test_refusals_report_progress(server: Server) -> None:
    """So the loop sends heartbeats and can be stopped."""
    progress: list[int] = []
    server.refused = {key(number) for number in range(1, 128)}
    store_on(server).apply([batches_of(128, 128)], progress.append)
    assert progress == [1] * 128


def test_refused_changes_are_searched_for_concurrently(server: Server) -> None:
    server.refused = {key(number) for number in range(10, 1280)}
    assert apply(server, batches_of(1280, 128), in_flight=8).written == 10
    assert server.max_in_flight >= 8
    assert server.sent < 1.2 * 1280


def test_unavailable_is_raised_after_all_requests_ended(server: Server) -> None:
    server.fails_after = 6
    with pytest.raises(EtcdUnavailable):
        apply(server, batches_of(100, 1))
    assert server.in_flight == 0
    assert server.sent <= 6 + 4 + 1
    assert len(server.keys) == 6
