"""Connections to a real etcd: authentication, TLS, failover, restarts."""

import logging
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import EtcdRefused, EtcdUnauthenticated, EtcdUnavailable
from kube2etcd.etcd.changes import Delete, Put
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.settings import Etcd as EtcdSettings
from tests.stack.harness import Authority, Binaries, Etcd, EtcdCluster, EtcdTls, wait_for

PREFIX = b"/skydns/"
NOT_YET = (EtcdUnavailable,)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("hunter2")
    return file


def round_trips(connection: EtcdConnection) -> bool:
    """Whether a key can be written, read and deleted."""
    store = EtcdStore(connection, PREFIX)
    store.apply([[(Put(b"/skydns/probe", b"1"),)]])
    seen = store.snapshot().entries.get(b"/skydns/probe")
    store.apply([[(Delete(b"/skydns/probe"),)]])
    return seen == b"1"


def test_password_and_token_changes_recover(
    server: Etcd, password: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.enable_auth("bridge", "hunter2")
    password.write_text("wrong-one\n")
    settings = EtcdSettings((server.url,), user="bridge", password_file=str(password))
    with server.connection() as nobody, pytest.raises(EtcdUnauthenticated, match="etcd user"):
        EtcdStore(nobody, PREFIX).apply([[(Put(b"/skydns/a", b"1"),)]])
    with EtcdConnection(settings) as connection:
        with pytest.raises(EtcdUnauthenticated) as caught:
            round_trips(connection)
        assert "wrong-one" not in str(caught.value)
        password.write_text("hunter2\n")
        assert round_trips(connection)

        # a restart invalidates all tokens: the watch gets a new one, after another restart a write does
        store = EtcdStore(connection, PREFIX)
        revision = store.apply([[(Put(b"/skydns/a", b"1"),)]]).revision
        server.restart()
        stop = threading.Event()
        watch = wait_for(lambda: next(store.watch(revision, stop)), "a watch", 20, not_yet=NOT_YET)
        assert watch.revision == revision - 1
        server.restart()
        assert wait_for(lambda: round_trips(connection), "a new token", 20, not_yet=NOT_YET)

        # the token expires under transactions in flight
        server.ctl("user", "passwd", "bridge", "--interactive=false", stdin="second")
        server.user = ("bridge", "second")
        password.write_text("second")
        batches = [(Put(b"/skydns/%d" % number, b"x"),) for number in range(100)]
        result = store.apply([batches])
        assert (result.written, result.refused) == (100, ())
        token = str(connection.current().token)
    for secret in ("wrong-one", "hunter2", "second", token[10:30]):
        assert secret not in caplog.text


def test_user_without_rights_is_refused_not_unavailable(server: Etcd, password: Path) -> None:
    server.ctl("user", "add", "guest:guest")
    server.enable_auth("root", "secret")
    password.write_text("guest")
    with server.connection(user="guest", password_file=password) as connection:
        store = EtcdStore(connection, PREFIX)
        with pytest.raises(EtcdRefused, match="role"):
            store.snapshot()
        with pytest.raises(EtcdRefused, match="role"):
            next(store.watch(1, threading.Event()))
        batch = tuple(Put(b"/skydns/%d" % number, b"x") for number in range(4))
        assert len(store.apply([[batch]]).refused) == 4


def test_user_works_with_authentication_off_and_turned_on(
    server: Etcd, password: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with server.connection(user="bridge", password_file=password) as connection:
        assert round_trips(connection)
        assert "authentication is off" in caplog.text
        server.enable_auth("bridge", "hunter2")
        assert round_trips(connection), "with authentication enabled under an open connection"


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_verification_and_certificate_rotation(binaries: Binaries, tmp_path: Path, mutual: bool) -> None:
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    cafile, cert, key = tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key"

    def use(authority: Authority) -> EtcdTls:
        tls = EtcdTls.of(authority, client_auth=mutual)
        shutil.copy(authority.ca_file, cafile)
        shutil.copy(tls.client.cert_file, cert)
        shutil.copy(tls.client.key_file, key)
        return tls

    with Etcd(tmp_path / "etcd", binaries, tls=use(first)) as server:
        pair: dict[str, Any] = {"cert": cert, "key": key} if mutual else {}
        with server.connection(cafile=cafile, **pair) as connection:
            assert round_trips(connection)
            with server.connection(cafile=second.ca_file, **pair) as other, pytest.raises(EtcdUnavailable):
                round_trips(other)
            if mutual:
                with server.connection(cafile=cafile) as nobody, pytest.raises(EtcdUnavailable):
                    round_trips(nobody)
            server.stop()
            server.tls = use(second)
            server.join([server])
            server.start()
            assert wait_for(lambda: round_trips(connection), "the new certificates", 20, not_yet=NOT_YET)
            cafile.unlink()  # amid a rotation
            server.restart()
            shutil.copy(second.ca_file, cafile)
            assert wait_for(lambda: round_trips(connection), "the file to be back", 20, not_yet=NOT_YET)


def test_client_fails_over_from_dead_and_hung_members(binaries: Binaries, tmp_path: Path) -> None:
    with (
        EtcdCluster([Etcd(tmp_path, binaries, name=f"etcd{number}") for number in range(3)]) as cluster,
        EtcdConnection(EtcdSettings(tuple(cluster.urls)), timeout=2) as connection,
    ):
        assert round_trips(connection)
        member = cluster.members[connection.endpoints.index(connection.current().endpoint)]
        member.kill()
        assert wait_for(lambda: round_trips(connection), "another member", 20, not_yet=NOT_YET)
        member.start()
        silent = cluster.members[connection.endpoints.index(connection.current().endpoint)]
        silent.pause()
        assert wait_for(lambda: round_trips(connection), "a member that answers", 30, not_yet=NOT_YET)
        silent.resume()


def test_ipv6_endpoint(binaries: Binaries, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    etcd = Etcd(tmp_path / "etcd", binaries)
    ipv6 = f"http://[::1]:{etcd.port}"
    etcd.command.append(f"--listen-client-urls={etcd.url},{ipv6}")  # overrides the first one
    with etcd, EtcdConnection(EtcdSettings((ipv6,))) as connection:
        assert round_trips(connection)
