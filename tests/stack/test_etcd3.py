"""The released etcd3, unmodified, on our protobuf table, against real servers."""

from collections.abc import Iterator
from typing import Any

import pytest

from kube2etcd.etcd import wire
from kube2etcd.etcd.wire import rpc
from tests.stack.harness import Etcd

wire.install()

import etcd3  # noqa: E402


@pytest.fixture
def client(server: Etcd) -> Iterator[Any]:
    client = etcd3.client(host="127.0.0.1", port=server.port, timeout=5)
    yield client
    client.close()


def test_put_get_delete(client: Any) -> None:
    client.put("/a", "1")
    assert client.get("/a")[0] == b"1"
    previous = client.put("/a", "2", prev_kv=True).prev_kv
    assert previous.value == b"1"
    assert client.delete("/a")
    assert client.get("/a") == (None, None)


def test_range_with_limit_by_the_stub(client: Any) -> None:
    for number in range(5):
        client.put(f"/p/{number}", str(number))
    request = rpc.RangeRequest(key=b"/p/", range_end=b"/p0", limit=2)
    answer = client.kvstub.Range(request, timeout=5)
    assert ([kv.key for kv in answer.kvs], answer.more, answer.count) == ([b"/p/0", b"/p/1"], True, 5)
    old = client.kvstub.Range(rpc.RangeRequest(key=b"/p/0", revision=answer.header.revision - 4), timeout=5)
    assert old.kvs[0].value == b"0"
    count = client.kvstub.Range(rpc.RangeRequest(key=b"/p/", range_end=b"/p0", count_only=True), timeout=5)
    assert (count.count, len(count.kvs)) == (5, 0)


def test_transaction(client: Any) -> None:
    made = client.transactions
    client.put("/t", "1")
    ok, answers = client.transaction(
        compare=[
            made.value("/t") == "1",
            made.version("/t") == 1,
            made.create("/t") > 0,
            made.mod("/t") != 0,
        ],
        success=[
            made.put("/t", "2"),
            made.get("/t"),
            made.txn(compare=[], success=[made.put("/n", "x")], failure=[]),
        ],
        failure=[],
    )
    assert ok
    assert answers[1][0][0] == b"2"
    assert client.get("/n")[0] == b"x"
    failed, _ = client.transaction(compare=[made.value("/t") == "1"], success=[], failure=[made.delete("/t")])
    assert not failed
    assert client.get("/t") == (None, None)


def test_lease(client: Any) -> None:
    lease = client.lease(60)
    client.put("/l", "x", lease=lease)
    assert lease.granted_ttl == 60
    assert lease.keys == [b"/l"]
    assert next(iter(lease.refresh())).TTL == 60
    lease.revoke()
    assert client.get("/l") == (None, None)
