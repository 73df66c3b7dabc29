"""The v3 client where a real server cannot be made to do it; tests/stack has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kube2etcd.errors import EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import client as module
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from kube2etcd.etcd.wire import Message, rpc
from tests.stack.certificates import Authority


def test_a_channel_that_is_made_while_the_connection_is_closed_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a bridge that is stopped at this moment would wait for a silent server."""
    connection = EtcdConnection(EtcdSettings(("http://127.0.0.1:1",), timeout=30))
    made: list[Session] = []

    class Session(module.Session):
        closed = False

        def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
            super().__init__(endpoint, settings)
            made.append(self)
            connection.close()

        def close(self) -> None:
            self.closed = True
            super().close()

    monkeypatch.setattr(module, "Session", Session)
    with pytest.raises(EtcdUnavailable, match="is closed"):
        connection.start("Range", rpc.RangeRequest(key=b"a"))
    assert [one.closed for one in made] == [True]


@pytest.mark.parametrize("text", ["", "half a certif"])
@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_tls_files_in_the_middle_of_a_rotation_are_waited_for(tmp_path: Path, name: str, text: str) -> None:
    """gRPC would take an empty file for none, and trust every authority of the public web instead."""
    authority = Authority(tmp_path)
    ours = authority.issue("client")
    files = {"ca": authority.ca_file, "cert": ours.cert_file, "key": ours.key_file}
    settings = EtcdSettings(("https://127.0.0.1:1",), files["ca"], files["cert"], files["key"])
    with EtcdConnection(settings) as connection:
        connection.session()
        connection.leave(connection.session())
        files[name].write_text(text)
        with pytest.raises(EtcdUnavailable, match=r"TLS files for etcd at .* cannot be read"):
            connection.session()


class Failure(grpc.RpcError):
    """What gRPC raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self._code: grpc.StatusCode = getattr(grpc.StatusCode, code)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "odd"


class Answer:
    """The future of a request."""

    def __init__(self, found: Message | Failure) -> None:
        self._found = found

    def result(self) -> Message:
        if isinstance(self._found, Failure):
            raise self._found
        return self._found

    def __iter__(self) -> Iterator[Message]:
        yield self.result()


class IllSession:
    """A channel to the first server fails with ``code``; to any other it works."""

    code = ""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.endpoint = endpoint
        self.token = None

    def start(self, method: str, request: Message, timeout: float) -> Answer:
        return Answer(Failure(self.code) if self.endpoint.port == 1 else rpc.RangeResponse(count=7))

    def stream(self, requests: Iterator[Message]) -> Answer:
        return self.start("Watch", rpc.WatchRequest(), 0)

    def close(self) -> None:
        pass


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> EtcdConnection:
    monkeypatch.setattr(module, "Session", IllSession)
    return EtcdConnection(EtcdSettings(("http://127.0.0.1:1", "http://127.0.0.1:2")))


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "DATA_LOSS"])
def test_a_server_that_is_ill_is_left_for_the_next(
    two: EtcdConnection, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(IllSession, "code", code)
    assert two.call("Range", rpc.RangeRequest()).count == 7


@pytest.mark.parametrize(
    ("code", "error"), [("PERMISSION_DENIED", EtcdRefused), ("CANCELLED", EtcdUnavailable)]
)
def test_what_says_nothing_about_the_server_leaves_it_in_use(
    two: EtcdConnection, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(IllSession, "code", code)
    with pytest.raises(error):
        two.call("Range", rpc.RangeRequest())
    assert two.session().endpoint.port == 1


def test_a_watch_that_a_proxy_breaks_does_not_end_what_is_on_its_way(
    two: EtcdConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IllSession, "code", "INTERNAL")
    with pytest.raises(EtcdUnavailable):
        list(two.stream(iter(())))
    assert two.session().endpoint.port == 1
