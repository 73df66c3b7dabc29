"""The client of the v3 API: failover and close."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from urllib3.util import Url

from kube2etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import client as module
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.watch import watch
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.settings import Etcd as EtcdSettings


def test_channel_made_during_close_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a bridge stopped at this moment would wait for a silent server."""
    connection = EtcdConnection(EtcdSettings(("http://127.0.0.1:1",)), timeout=30)
    made: list[Channel] = []

    class Channel(module.Channel):
        closed = False

        def __init__(self, endpoint: Url, settings: EtcdSettings, timeout: float) -> None:
            super().__init__(endpoint, settings, timeout)
            made.append(self)
            connection.close()

        def close(self) -> None:
            self.closed = True
            super().close()

    monkeypatch.setattr(module, "Channel", Channel)
    with pytest.raises(EtcdUnavailable, match="is closed"):
        connection.start("Range", rpc.RangeRequest(key=b"a"))
    assert [one.closed for one in made] == [True]


class Failure(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = getattr(grpc.StatusCode, str(self))
        return code

    def details(self) -> str:
        return "details"


class FakeCall:
    """A future of one response, and a stream of it."""

    def __init__(self, found: Message | Failure) -> None:
        self._found = found

    def result(self) -> Message:
        if isinstance(self._found, Failure):
            raise self._found
        return self._found

    def __iter__(self) -> Iterator[Message]:
        yield self.result()

    def cancel(self) -> None:
        pass


@pytest.fixture
def two_servers(monkeypatch: pytest.MonkeyPatch, code: str) -> EtcdConnection:
    """Two servers, of which the first fails with ``code``."""

    class Channel:
        token = None

        def __init__(self, endpoint: Url, settings: EtcdSettings, timeout: float) -> None:
            self.endpoint = endpoint

        def start(self, method: str, request: Message, timeout: float) -> FakeCall:
            return FakeCall(Failure(code) if self.endpoint.port == 1 else rpc.RangeResponse(count=7))

        def stream(self, requests: Iterator[Message]) -> FakeCall:
            return self.start("Watch", rpc.WatchRequest(), 0)

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "Channel", Channel)
    return EtcdConnection(EtcdSettings(("http://127.0.0.1:1", "http://127.0.0.1:2")))


def read(connection: EtcdConnection) -> int:
    return connection.call("Range", rpc.RangeRequest()).count  # type: ignore[no-any-return]


def open_watch(connection: EtcdConnection) -> None:
    list(watch(connection, b"/s/", 1, threading.Event()))


failing = pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "DATA_LOSS"]
)


@failing
def test_failover_to_the_next_server(two_servers: EtcdConnection) -> None:
    assert read(two_servers) == 7


@failing
def test_write_that_may_have_been_applied_is_not_resent(two_servers: EtcdConnection) -> None:
    with pytest.raises(EtcdUnavailable):
        two_servers.start("Txn", rpc.TxnRequest()).result()
    assert two_servers.start("Txn", rpc.TxnRequest()).result().count == 7


@pytest.mark.parametrize(
    ("use", "code", "error"),
    [
        (read, "PERMISSION_DENIED", EtcdRefused),
        (read, "CANCELLED", EtcdUnavailable),
        (open_watch, "INTERNAL", EtcdUnavailable),
    ],
)
def test_failure_not_caused_by_the_server_causes_no_failover(
    two_servers: EtcdConnection, use: Callable[[EtcdConnection], object], error: type[EtcdError]
) -> None:
    with pytest.raises(error):
        use(two_servers)
    assert two_servers.current().endpoint.port == 1
