"""Proxies and TLS follow the kubeconfig, never the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import ApiUnavailable, SettingsError
from tests.kube.scripted import SECRET, Opened, Scripted, TlsServer, closed_port, get, kubeconfig
from tests.stack.certificates import Authority


def test_the_environments_proxy_does_not_decide(
    server: Scripted, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    get(opened(master_url=server.url))
    assert len(server.seen) == 1


def test_the_kubeconfigs_proxy_does(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid:6443", **{"proxy-url": server.url})
    get(opened(kubeconfig=path))
    assert server.seen[0][0] == "http://api.invalid:6443/api/v1/services"


def test_the_kubeconfigs_proxy_is_not_there(opened: Opened, tmp_path: Path) -> None:
    proxy = f"http://u:{SECRET}@127.0.0.1:{closed_port()}"
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(ApiUnavailable, match="proxy-url") as caught:
        get(opened(kubeconfig=path))
    assert SECRET not in str(caught.value)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsServer]:
    """A server whose authority is ``ca.crt``, good for api.test and loopback addresses."""
    authority = Authority(tmp_path, "ca")
    server = TlsServer(authority.issue("server", hosts=["api.test"]))
    yield server
    server.end()


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"certificate-authority": "ca.crt", "tls-server-name": "api.test"}, ""),
        ({"insecure-skip-tls-verify": True}, ""),
        ({"certificate-authority": "ca.crt", "tls-server-name": "other.test"}, "certificate-authority"),
        ({"tls-server-name": "api.test"}, "certificate-authority"),
    ],
    ids=["right name", "unchecked", "wrong name", "unknown authority"],
)
def test_tls(
    tls: TlsServer,
    opened: Opened,
    tmp_path: Path,
    cluster: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    api = opened(kubeconfig=kubeconfig(tmp_path / "kc", tls.url, **cluster))
    if not words:
        assert get(api) == b"{}"
    else:
        with pytest.raises(ApiUnavailable, match=words):
            get(api)
    assert ("not checked" in caplog.text) == ("insecure-skip-tls-verify" in cluster)


@pytest.mark.parametrize("proxy", [f"socks5://u:{SECRET}@127.0.0.1:1080", "127.0.0.1:8080", "http://[bad"])
def test_an_invalid_proxy_is_a_settings_error(opened: Opened, tmp_path: Path, proxy: str) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(SettingsError, match="proxy-url of the kubeconfig") as caught:
        opened(kubeconfig=path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["https://[bad", "https://h:99999", "https://h:port", "https://a b"])
def test_an_invalid_server_url_is_a_settings_error(opened: Opened, url: str) -> None:
    with pytest.raises(SettingsError, match="https://HOST:PORT"):
        opened(master_url=url)
