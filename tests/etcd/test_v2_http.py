"""Credentials and silence, as the connection to the v2 API meets them; tests/stack has all the rest."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kube2etcd.errors import EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_http import V2Connection
from tests.etcd.v2_server import Server, Told


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


def test_a_server_that_is_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        V2Connection(
            EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=0.2)
        ) as connection,
        pytest.raises(EtcdUnavailable, match="did not answer in time"),
    ):
        connection.get("/")
