"""The client of the v3 API: failover, close, and what each failure means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from urllib3.util import Url

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
)
from kube2etcd.etcd import client as module
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.failures import is_stale_token, meaning
from kube2etcd.etcd.watch import watch
from kube2etcd.etcd.wire import Message, rpc
from kube2etcd.settings import Etcd as EtcdSettings


def test_a_channel_made_during_close_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a bridge that is stopped at this moment would wait for a silent server."""
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
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self._code: grpc.StatusCode = getattr(grpc.StatusCode, code)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "odd"


class Answer:
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
def two(monkeypatch: pytest.MonkeyPatch, code: str) -> EtcdConnection:
    """Two servers, of which the first fails with ``code``."""

    class Channel:
        token = None

        def __init__(self, endpoint: Url, settings: EtcdSettings, timeout: float) -> None:
            self.endpoint = endpoint

        def start(self, method: str, request: Message, timeout: float) -> Answer:
            return Answer(Failure(code) if self.endpoint.port == 1 else rpc.RangeResponse(count=7))

        def stream(self, requests: Iterator[Message]) -> Answer:
            return self.start("Watch", rpc.WatchRequest(), 0)

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "Channel", Channel)
    return EtcdConnection(EtcdSettings(("http://127.0.0.1:1", "http://127.0.0.1:2")))


def ask(connection: EtcdConnection) -> int:
    return connection.call("Range", rpc.RangeRequest()).count  # type: ignore[no-any-return]


def follow(connection: EtcdConnection) -> None:
    list(watch(connection, b"/s/", 1, threading.Event()))


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "DATA_LOSS"])
def test_failover_to_the_next_server(two: EtcdConnection) -> None:
    assert ask(two) == 7


@pytest.mark.parametrize(
    ("use", "code", "error"),
    [
        (ask, "PERMISSION_DENIED", EtcdRefused),
        (ask, "CANCELLED", EtcdUnavailable),
        (follow, "INTERNAL", EtcdUnavailable),
    ],
)
def test_a_failure_that_is_not_the_servers_leaves_it_in_use(
    two: EtcdConnection, use: Callable[[EtcdConnection], object], error: type[EtcdError]
) -> None:
    with pytest.raises(error):
        use(two)
    assert two.current().endpoint.port == 1


SERVER = "http://127.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses; last error: x", EtcdUnavailable),
        ("UNAVAILABLE", "etcdserver: leader changed", EtcdUnavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", EtcdSilent),
        ("CANCELLED", "Channel closed!", EtcdUnavailable),
        ("UNKNOWN", "raft: stopped", EtcdUnavailable),
        ("INTERNAL", "", EtcdUnavailable),
        ("DATA_LOSS", "etcdserver: corrupt cluster", EtcdUnavailable),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", EtcdUnavailable),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", EtcdNoSpace),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (2 vs. 1)", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", EtcdRefused),
        ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", EtcdRefused),
        ("PERMISSION_DENIED", "etcdserver: permission denied", EtcdRefused),
        ("UNIMPLEMENTED", "unknown service", EtcdRefused),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", EtcdUnauthenticated),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", EtcdUnauthenticated),
        (
            "INVALID_ARGUMENT",
            "etcdserver: authentication failed, invalid user ID or password",
            EtcdUnauthenticated,
        ),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old", EtcdUnauthenticated),
        # The lease ended between its grant and its use.
        ("NOT_FOUND", "etcdserver: requested lease not found", EtcdUnavailable),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", EtcdCompacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", EtcdCompacted),
    ],
)
def test_kind_of_error(code: str, details: str, kind: type[EtcdError]) -> None:
    error = meaning(SERVER, "Txn", code, details)
    assert type(error) is kind
    assert SERVER in str(error)
    assert "Txn" in str(error)
    assert ": " in str(error), "it says what to try"


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_has_a_meaning(code: grpc.StatusCode) -> None:
    assert isinstance(meaning(SERVER, "Range", code.name, ""), EtcdError)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (f"failed to connect to all addresses; last error: {'x' * 500}", f"{'x' * 199}…"),
        (
            "last error: UNKNOWN: ipv4:127.0.0.1:2379: Failed to connect to remote host: Connection refused",
            "Connection refused",
        ),
    ],
    ids=["cut", "the server is named once"],
)
def test_details_are_reduced_to_the_reason(details: str, reason: str) -> None:
    assert f"(Txn: {reason})" in str(meaning(SERVER, "Txn", "UNAVAILABLE", details))


def test_stale_token() -> None:
    assert is_stale_token("etcdserver: invalid auth token")
    assert not is_stale_token("etcdserver: permission denied")
