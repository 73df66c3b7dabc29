"""`EtcdStore` against a small in-memory server: batches, generations, refusals, timing."""

from __future__ import annotations

import queue
import threading
from typing import Any, cast

import pytest

from kube2etcd.errors import EtcdRefused, EtcdSilent, EtcdUnavailable
from kube2etcd.etcd.changes import ApplyResult, Batch, Change, Delete, Put
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.servers import EtcdSettings
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.etcd.wire import Message, rpc


class SlowLine:
    """An etcd behind a line that carries so many keys within the timeout, of all requests together."""

    def __init__(self, keys: list[bytes], carries: int) -> None:
        self.settings = EtcdSettings()
        self.endpoints = self.settings.endpoints()
        self.keys, self.carries = keys, carries
        self.under_way = 0

    def start(self, method: str, request: Message) -> SlowLine.Answer:
        found = [key for key in self.keys if request.key <= key < request.range_end]
        answer = rpc.RangeResponse(more=len(found) > request.limit)
        answer.header.revision = 7
        for key in found[: request.limit]:
            answer.kvs.add(key=key, value=b"1")
        self.under_way += len(answer.kvs)
        return SlowLine.Answer(self, answer, self.under_way > self.carries)

    class Answer:
        def __init__(self, line: SlowLine, answer: Message, late: bool) -> None:
            self.line, self.answer, self.late = line, answer, late

        def result(self) -> Any:
            self.line.under_way -= len(self.answer.kvs)
            if self.late:
                raise EtcdSilent("late")
            return self.answer


def test_a_slow_line_is_read_in_the_end() -> None:
    keys = [b"/s/%06d" % number for number in range(20_000)]
    line = SlowLine(keys, 1500)
    store = EtcdStore(cast(EtcdConnection, line), [b"/s/"], page=16_384)
    for _ in range(2):
        with pytest.raises(EtcdSilent):
            store.snapshot()
        line.under_way = 0
    assert store.snapshot().entries == dict.fromkeys(keys, b"1")


class Going:
    """An etcd with nothing but a revision, which may go back."""

    settings = EtcdSettings()
    endpoints = settings.endpoints()
    revision = 7

    def call(self, method: str, request: Message) -> Any:
        answer = rpc.RangeResponse()
        answer.header.revision = self.revision
        return answer

    def start(self, method: str, request: Message) -> Going:
        return self

    def result(self) -> Any:
        return self.call("Range", rpc.RangeRequest())


def test_a_look_at_etcd_notices_that_it_went_back() -> None:
    etcd = Going()
    store = EtcdStore(cast(EtcdConnection, etcd), [b"/s/"])
    store.probe()  # nothing is known yet
    store.snapshot()
    store.probe()
    etcd.revision = 8
    store.probe()
    etcd.revision = 6
    with pytest.raises(EtcdUnavailable, match="went back from 7 to 6"):
        store.probe()


class Server:
    """Answers transactions when they are waited for, in any way it is told to."""

    settings = EtcdSettings()
    endpoints = settings.endpoints()

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, bytes] = {}
        self.max_ops = 128
        self.bad: set[bytes] = set()
        self.denied = False
        self.down_after: int | None = None
        self.sent = 0
        self.under_way = 0
        self.most_under_way = 0
        self.log: list[tuple[str, bytes]] = []

    def start(self, method: str, request: Any) -> Server.Answer:
        assert method == "Txn"
        self.sent += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return Server.Answer(self, request, self.sent)

    class Answer:
        def __init__(self, server: Server, request: Any, number: int) -> None:
            self.server, self.request, self.number = server, request, number

        def result(self) -> Any:
            server = self.server
            server.under_way -= 1
            if server.down_after is not None and self.number > server.down_after:
                raise EtcdUnavailable("gone")
            if server.denied:
                raise EtcdRefused("permission denied")
            operations = self.request.success
            if len(operations) > server.max_ops:
                raise EtcdRefused("too many operations in txn request")
            answer = rpc.TxnResponse(succeeded=True)
            changed = False
            for operation in operations:
                if (operation.request_put.key or operation.request_delete_range.key) in server.bad:
                    raise EtcdRefused("no")
            for operation in operations:
                made = answer.responses.add()
                if operation.WhichOneof("request") == "request_put":
                    server.keys[operation.request_put.key] = operation.request_put.value
                    server.log.append(("put", operation.request_put.key))
                    made.response_put.SetInParent()
                    changed = True
                else:
                    gone = server.keys.pop(operation.request_delete_range.key, None) is not None
                    server.log.append(("delete", operation.request_delete_range.key))
                    made.response_delete_range.deleted = int(gone)
                    changed = changed or gone
            server.revision += changed
            answer.header.revision = server.revision
            return answer


class Backend(Server):
    """Its version, and what maintenance it was asked for."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.maintenance: queue.SimpleQueue[str] = queue.SimpleQueue()

    def call(self, method: str, request: Any) -> Any:
        self.maintenance.put(method)
        return rpc.StatusResponse(version=self.version)


@pytest.mark.parametrize(
    ("version", "calls"), [("3.4.13", ["Status", "Hash"]), ("3.5.0", ["Status"]), ("3.7.3", ["Status"])]
)
def test_an_old_etcd_is_nudged_after_a_bulk(version: str, calls: list[str]) -> None:
    server = Backend(version)
    opened(server).apply([[puts(start, 100) for start in range(0, 2000, 100)]])
    assert [server.maintenance.get(timeout=10) for _ in calls] == calls
    assert server.maintenance.empty()


def test_a_few_writes_are_no_bulk() -> None:
    server = Backend("3.4.13")
    opened(server).apply([[puts(0, 100)]])
    assert [one for one in threading.enumerate() if one.name == "etcd-nudge"] == []
    assert server.maintenance.empty()


def key(number: int) -> bytes:
    return b"/s/%05d" % number


def puts(start: int, count: int) -> Batch:
    return tuple(Put(key(number), b"v") for number in range(start, start + count))


def opened(server: Server, in_flight: int = 4, ops: int = 128) -> EtcdStore:
    return EtcdStore(cast(EtcdConnection, server), [b"/s/"], ops, in_flight)


def run(server: Server, *generations: list[Batch], in_flight: int = 4, ops: int = 128) -> ApplyResult:
    return opened(server, in_flight, ops).apply(generations)


def test_everything_is_written_and_the_window_is_kept() -> None:
    server = Server()
    result = run(server, [puts(start, 10) for start in range(0, 1000, 10)])
    assert len(server.keys) == 1000
    assert (result.written, result.refused) == (1000, ())
    assert result.own_revisions == frozenset(range(2, 102))
    assert result.revision == 101
    assert server.most_under_way == 4


def test_nothing_to_do_sends_nothing() -> None:
    server = Server()
    assert run(server, [], [()]).revision == 0
    assert server.sent == 0


def test_generation_is_a_barrier() -> None:
    server = Server()
    run(server, [puts(start, 1) for start in range(10)], [(Delete(key(number)),) for number in range(10)])
    assert [what for what, _ in server.log] == ["put"] * 10 + ["delete"] * 10


def test_deleting_nothing_makes_no_revision_of_ours() -> None:
    server = Server()
    result = run(server, [(Delete(b"/s/none"),)])
    assert result.own_revisions == frozenset()
    assert (result.revision, result.written) == (1, 1)


def test_only_the_culprits_are_refused() -> None:
    server = Server()
    server.bad = {key(5), key(200)}
    result = run(server, [puts(0, 100), puts(100, 128), puts(300, 10)])
    assert {change.key for change, _ in result.refused} == server.bad
    assert result.written == 236
    assert (
        set(server.keys)
        == {change.key for start, count in ((0, 100), (100, 128), (300, 10)) for change in puts(start, count)}
        - server.bad
    )


def test_smaller_limit_of_the_server_is_learned() -> None:
    server = Server()
    server.max_ops = 32
    result = run(server, [puts(start, 128) for start in range(0, 1280, 128)], in_flight=1)
    assert (result.written, result.refused) == (1280, ())
    # one refused in whole, one in half; all later ones are cut beforehand
    assert server.sent <= 10 * 4 + 4


def test_batch_above_the_limit_is_cut() -> None:
    server = Server()
    server.max_ops = 16
    assert run(server, [puts(0, 100)], ops=16).written == 100
    assert server.under_way == 0


def test_halves_write_before_they_delete() -> None:
    server = Server()
    server.keys = dict.fromkeys((key(number) for number in range(100, 120)), b"v")
    server.bad = {key(3)}
    batch: tuple[Change, ...] = (*(Delete(key(number)) for number in range(100, 120)), *puts(0, 20))
    result = run(server, [batch])
    assert [change.key for change, _ in result.refused] == [key(3)]
    kinds = [what for what, _ in server.log]
    assert kinds == sorted(kinds, reverse=True), "puts come first"


def test_when_nothing_is_allowed_it_is_not_tried_one_by_one() -> None:
    server = Server()
    server.denied = True
    result = run(server, [puts(start, 128) for start in range(0, 12_800, 128)])
    assert (result.written, len(result.refused)) == (0, 12_800)
    assert server.sent < 500


def test_unavailable_is_raised_after_everything_is_answered() -> None:
    server = Server()
    server.down_after = 6
    with pytest.raises(EtcdUnavailable):
        run(server, [puts(start, 1) for start in range(100)])
    assert server.under_way == 0
    assert server.sent <= 6 + 4 + 1
    assert len(server.keys) == 6


def test_lost_data_is_noticed() -> None:
    server = Server()
    server.revision = 999
    store = opened(server)
    store.apply([[puts(0, 1)]])
    server.revision = 1
    with pytest.raises(EtcdUnavailable, match="went back from 1000 to 2"):
        store.apply([[puts(1, 1)]])


def test_progress_counts_changes() -> None:
    told: list[int] = []
    opened(Server()).apply([[puts(0, 3), puts(3, 2)]], told.append)
    assert told == [3, 5]
