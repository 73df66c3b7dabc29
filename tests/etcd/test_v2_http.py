"""Credentials and silence, as the connection to the v2 API meets them; tests/stack has all the rest."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_http import V2Connection
from tests.etcd.v2_server import Server, Told
from tests.stack.certificates import Authority


def test_the_password_is_read_anew_once(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("einß")

    def answer(*_: object) -> Told:
        password.write_text("zwei")
        return 401, {"message": "Insufficient credentials"}

    server.answer = answer
    settings = EtcdSettings((server.url,), user="me", password_file=password)
    with V2Connection(settings) as connection, pytest.raises(EtcdUnauthenticated):
        connection.get("/")
    assert server.credentials == ["Basic bWU6ZWluw58=", "Basic bWU6endlaQ=="]


def test_a_password_file_that_went_away(server: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    with V2Connection(EtcdSettings((server.url,), user="me", password_file=password)) as connection:
        password.unlink()
        with pytest.raises(EtcdUnauthenticated, match="cannot be read"):
            connection.get("/")


def test_connections_that_another_thread_has_just_left_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with V2Connection(EtcdSettings((server.url,))) as connection:
        connection.get("/")
        left = connection._session()
        connection.leave(left)
        found, anew = iter([left]), connection._session
        monkeypatch.setattr(connection, "_session", lambda: next(found, None) or anew())
        assert connection.put("/a", b"1").index == server.index
    assert [method for method, _, _ in server.asked] == ["GET", "PUT"]


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_tls_files_in_the_middle_of_a_rotation_are_waited_for(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("client")
    files = {"ca": authority.ca_file, "cert": ours.cert_file, "key": ours.key_file}
    settings = EtcdSettings(("https://127.0.0.1:1",), files["ca"], files["cert"], files["key"])
    with V2Connection(settings) as connection:
        files[name].write_text("")
        with pytest.raises(EtcdUnavailable, match=r"TLS files for etcd at .* cannot be read"):
            connection.get("/")


def test_a_server_that_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        V2Connection(
            EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=0.2)
        ) as connection,
        pytest.raises(EtcdUnavailable, match="did not answer in time"),
    ):
        connection.get("/")
