"""etcd URLs, TLS files and the password file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kube2etcd.errors import EtcdUnauthenticated, SettingsError
from kube2etcd.etcd.settings import Endpoint, EtcdSettings
from tests.stack.certificates import Authority


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:2379", Endpoint("127.0.0.1", 2379, False)),
        ("http://etcd", Endpoint("etcd", 2379, False)),
        ("https://etcd.kube-system.svc/", Endpoint("etcd.kube-system.svc", 2379, True)),
        ("http://[::1]:4001", Endpoint("[::1]", 4001, False)),
        ("https://[2001:db8::1]", Endpoint("[2001:db8::1]", 2379, True)),
        ("HTTP://Etcd:1", Endpoint("etcd", 1, False)),
    ],
)
def test_url(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(url) == endpoint


def test_tls_files_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "one")
    pair = authority.issue("client")
    url = ("https://127.0.0.1:2379",)
    good = EtcdSettings(url, authority.ca_file, pair.cert_file, pair.key_file)
    assert good.endpoints() == (Endpoint("127.0.0.1", 2379, True),)

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
