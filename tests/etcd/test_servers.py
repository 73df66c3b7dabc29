"""Servers, credentials and failover, shared by both clients."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from kube2etcd.errors import EtcdNoSpace, EtcdUnauthenticated, EtcdUnavailable, SettingsError
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.servers import endpoint_of, endpoints, password, try_each
from kube2etcd.etcd.v2_client import V2Connection
from kube2etcd.settings import Etcd as EtcdSettings
from tests.stack.certificates import Authority

HTTPS = ("https://127.0.0.1:1",)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
        ("http://etcd", "http://etcd:2379"),
        ("https://etcd.kube-system.svc/", "https://etcd.kube-system.svc:2379"),
        ("http://[::1]:4001", "http://[::1]:4001"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:2379"),
        ("HTTP://Etcd:1", "http://etcd:1"),
    ],
)
def test_endpoint_of_a_url(url: str, endpoint: str) -> None:
    assert str(endpoint_of(url)) == endpoint


def test_tls_files_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    ca, pair, other = str(authority.ca_file), authority.issue("client"), authority.issue("other")
    valid = EtcdSettings(HTTPS, ca, str(pair.cert_file), str(pair.key_file))
    assert endpoints(valid) == (endpoint_of(*HTTPS),)
    for invalid in (
        EtcdSettings(HTTPS, str(tmp_path / "missing")),
        EtcdSettings(HTTPS, str(pair.key_file)),
        EtcdSettings(HTTPS, ca, str(pair.cert_file), str(other.key_file)),
        EtcdSettings(HTTPS, ca, str(pair.cert_file), str(pair.cert_file)),
    ):
        with pytest.raises(SettingsError, match="TLS files for etcd cannot be used"):
            endpoints(invalid)


@pytest.mark.parametrize("connect", [EtcdConnection, V2Connection], ids=["v3", "v2"])
@pytest.mark.parametrize("text", ["", "half a certif"], ids=["empty", "truncated"])
@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_partly_written_tls_file_is_unavailable(
    tmp_path: Path, name: str, text: str, connect: type[EtcdConnection | V2Connection]
) -> None:
    """gRPC would ignore an empty file and trust all public CAs."""
    authority = Authority(tmp_path)
    pair = authority.issue("client")
    files = {"ca": authority.ca_file, "cert": pair.cert_file, "key": pair.key_file}
    with connect(EtcdSettings(HTTPS, *map(str, files.values()))) as connection:
        connection.leave(connection.current())  # type: ignore[arg-type]
        files[name].write_text(text)
        with pytest.raises(EtcdUnavailable, match=r"TLS files for etcd at .* cannot be read"):
            connection.current()


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "cannot be read: No such file"), (b"\n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")],
)
def test_password_file(tmp_path: Path, content: bytes | None, fault: str) -> None:
    settings = EtcdSettings(user="root", password_file=str(tmp_path / "password"))
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(EtcdUnauthenticated, match=fault):
        password(settings)
    (tmp_path / "password").write_text(" se cret \r\n")
    assert password(settings) == " se cret "
    assert password(EtcdSettings()) == ""


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(EtcdUnavailable("unavailable"), 3), (EtcdUnauthenticated("no"), 1), (EtcdNoSpace("full"), 1)],
    ids=str,
)
def test_next_server_is_tried_only_after_an_outage(error: EtcdUnavailable, attempts: int) -> None:
    attempt = Mock(side_effect=error)
    with pytest.raises(type(error)):
        try_each(3, attempt)
    assert attempt.call_count == attempts
