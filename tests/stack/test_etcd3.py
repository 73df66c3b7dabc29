"""The released etcd3, unmodified, on our protobuf table, against real servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.etcd import wire
from kube2etcd.etcd.wire import rpc
from tests.stack.harness import Authority, Etcd, EtcdTls, wait_for

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


def test_authentication(server: Etcd) -> None:
    server.enable_auth("root", "secret")
    client = etcd3.client(host="127.0.0.1", port=server.port, timeout=5, user="root", password="secret")
    # without TLS gRPC refuses call credentials; the token goes as metadata all the same
    client.call_credentials = client.watcher._credentials = None
    client.put("/a", "1")
    assert client.get("/a")[0] == b"1"
    client.close()


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(binaries: dict[str, Path], tmp_path: Path, mutual: bool) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("client")
    tls = EtcdTls(authority.issue("server"), authority.ca_file, pair, client_auth=mutual)
    with Etcd(tmp_path / "etcd", binaries, tls=tls) as server:
        proof = {"cert_cert": str(pair.cert_file), "cert_key": str(pair.key_file)} if mutual else {}
        client = etcd3.client(
            host="127.0.0.1", port=server.port, timeout=5, ca_cert=str(authority.ca_file), **proof
        )
        client.put("/a", "1")
        assert client.get("/a")[0] == b"1"
        client.close()


def test_restarted_and_paused_server(client: Any, server: Etcd) -> None:
    client.put("/a", "1")
    server.restart()

    def read() -> bytes | None:
        value: bytes | None = client.get("/a")[0]
        return value

    assert wait_for(read, "an answer", 20, not_yet=(etcd3.exceptions.ConnectionFailedError,)) == b"1"
    server.pause()
    client.timeout = 0.5
    with pytest.raises(etcd3.exceptions.ConnectionTimeoutError):
        client.get("/a")
    server.resume()
