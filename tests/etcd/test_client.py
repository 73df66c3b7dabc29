"""The etcd client: connections, errors, settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdError,
    EtcdNoSpace,
    EtcdRefused,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
    SettingsError,
)
from kube2etcd.etcd import client as module
from kube2etcd.etcd.client import EtcdConnection, is_stale_token, meaning
from kube2etcd.etcd.servers import EtcdServer, EtcdSettings, try_each
from kube2etcd.etcd.watch import watch
from kube2etcd.etcd.wire import Message, rpc
from tests.stack.certificates import Authority


def test_a_channel_made_during_close_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a bridge that is stopped at this moment would wait for a silent server."""
    connection = EtcdConnection(EtcdSettings(("http://127.0.0.1:1",), timeout=30))
    made: list[Channel] = []

    class Channel(module.Channel):
        closed = False

        def __init__(self, endpoint: EtcdServer, settings: EtcdSettings) -> None:
            super().__init__(endpoint, settings)
            made.append(self)
            connection.close()

        def close(self) -> None:
            self.closed = True
            super().close()

    monkeypatch.setattr(module, "Channel", Channel)
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
        connection.current()
        connection.leave(connection.current())
        files[name].write_text(text)
        with pytest.raises(EtcdUnavailable, match=r"TLS files for etcd at .* cannot be read"):
            connection.current()


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


class IllChannel:
    """A channel to the first server fails with ``code``; to any other it works."""

    code = ""

    def __init__(self, endpoint: EtcdServer, settings: EtcdSettings) -> None:
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
    monkeypatch.setattr(module, "Channel", IllChannel)
    return EtcdConnection(EtcdSettings(("http://127.0.0.1:1", "http://127.0.0.1:2")))


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "DATA_LOSS"])
def test_failover_to_the_next_server(two: EtcdConnection, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(IllChannel, "code", code)
    assert two.call("Range", rpc.RangeRequest()).count == 7


@pytest.mark.parametrize(
    ("code", "error"), [("PERMISSION_DENIED", EtcdRefused), ("CANCELLED", EtcdUnavailable)]
)
def test_what_says_nothing_about_the_server_leaves_it_in_use(
    two: EtcdConnection, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(IllChannel, "code", code)
    with pytest.raises(error):
        two.call("Range", rpc.RangeRequest())
    assert two.current().endpoint.port == 1


def test_a_broken_watch_ends_no_other_call(two: EtcdConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IllChannel, "code", "INTERNAL")
    with pytest.raises(EtcdUnavailable):
        list(watch(two, [b"/s/"], 1, threading.Event()))
    assert two.current().endpoint.port == 1


SERVER = "http://127.0.0.1:2379"


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: Connection refused (111)",
            EtcdUnavailable,
        ),
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
        # between asking for a lease and using it we were held up for longer than it lasts
        ("NOT_FOUND", "etcdserver: requested lease not found", EtcdUnavailable),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", EtcdCompacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", EtcdCompacted),
    ],
)
def test_kind(code: str, details: str, kind: type[EtcdError]) -> None:
    error = meaning(SERVER, "Txn", code, details)
    assert type(error) is kind
    assert SERVER in str(error)
    assert "Txn" in str(error)
    assert ": " in str(error), "it says what to try"


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_has_a_meaning(code: grpc.StatusCode) -> None:
    assert isinstance(meaning(SERVER, "Range", code.name, ""), EtcdError)


def test_details_are_cut_to_the_reason() -> None:
    long = f"failed to connect to all addresses; last error: {'x' * 500}"
    assert "failed to connect" not in str(meaning(SERVER, "Range", "UNAVAILABLE", long))
    assert len(str(meaning(SERVER, "Range", "UNAVAILABLE", long))) < 400


def test_an_unreachable_server_is_named_once() -> None:
    details = "last error: UNKNOWN: ipv4:127.0.0.1:2379: Failed to connect to remote host: Connection refused"
    assert "(Txn: Connection refused)" in str(meaning(SERVER, "Txn", "UNAVAILABLE", details))


def test_stale_token() -> None:
    assert is_stale_token("etcdserver: invalid auth token")
    assert not is_stale_token("etcdserver: permission denied")


@pytest.mark.parametrize("error", [EtcdUnauthenticated("no"), EtcdNoSpace("full")], ids=lambda one: str(one))
def test_what_no_other_server_cures_is_raised_at_once(error: EtcdUnavailable) -> None:
    tried = []

    def attempt() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        try_each(3, attempt)
    assert tried == [1]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:2379", EtcdServer("127.0.0.1", 2379, False)),
        ("http://etcd", EtcdServer("etcd", 2379, False)),
        ("https://etcd.kube-system.svc/", EtcdServer("etcd.kube-system.svc", 2379, True)),
        ("http://[::1]:4001", EtcdServer("[::1]", 4001, False)),
        ("https://[2001:db8::1]", EtcdServer("[2001:db8::1]", 2379, True)),
        ("HTTP://Etcd:1", EtcdServer("etcd", 1, False)),
    ],
)
def test_url(url: str, endpoint: EtcdServer) -> None:
    assert EtcdServer.parse(url) == endpoint


def test_tls_files_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    pair = authority.issue("client")
    url = ("https://127.0.0.1:2379",)
    good = EtcdSettings(url, authority.ca_file, pair.cert_file, pair.key_file)
    assert good.endpoints() == (EtcdServer("127.0.0.1", 2379, True),)

    other = authority.issue("other")
    wrong = [
        EtcdSettings(url, tmp_path / "missing"),
        EtcdSettings(url, pair.key_file),
        EtcdSettings(url, authority.ca_file, pair.cert_file, other.key_file),
        EtcdSettings(url, authority.ca_file, pair.cert_file, pair.cert_file),
    ]
    for settings in wrong:
        with pytest.raises(SettingsError, match="TLS files for etcd cannot be used"):
            settings.endpoints()


def test_password_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = EtcdSettings(user="root", password_file=file)
    with pytest.raises(EtcdUnauthenticated, match="cannot be read: No such file"):
        settings.password()
    file.write_text("\n")
    with pytest.raises(EtcdUnauthenticated, match="is empty"):
        settings.password()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(EtcdUnauthenticated, match="UTF-8"):
        settings.password()
    file.write_text(" se cret \r\n")
    assert EtcdSettings().password() == ""
    assert settings.password() == " se cret "
