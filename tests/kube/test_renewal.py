"""Credentials that change, vanish or are refused at run time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import ApiForbidden, ApiUnavailable
from kube2etcd.kube import credentials
from kube2etcd.kube.credentials import Access, read_access
from kube2etcd.settings import Cluster
from tests.kube.scripted import Handler, Opened, Plugin, Scripted, TlsServer, get, kubeconfig, status, whole
from tests.stack.certificates import Authority
from tests.stack.process import wait_for


def strict(good: str) -> Callable[[Handler], None]:
    """An API server that knows one token; as all do by default, it lets strangers in and forbids them all."""

    def answer(handler: Handler) -> None:
        given = handler.headers["Authorization"]
        refused = status(403 if given is None else 401)
        (whole(b"ok") if given == f"Bearer {good}" else refused)(handler)

    return answer


def test_old_credentials_outlast_it(server: Scripted, as_user: Opened, plugin: Plugin) -> None:
    plugin.gives(token="old")
    api = as_user(plugin.user)
    server.answers = [strict("new")]
    plugin.fails()
    for _ in range(2):
        with pytest.raises(ApiForbidden, match=r"401.*exec plugin"):
            get(api)
    assert server.tokens() == ["Bearer old"] * 4
    plugin.gives(token="new")
    assert get(api) == b"ok"


def test_a_failing_plugin_is_rerun(server: Scripted, as_user: Opened, plugin: Plugin) -> None:
    plugin.fails()
    api = as_user(plugin.user)
    server.answers = [strict("new")]
    with pytest.raises(ApiForbidden, match="the request had no credentials"):
        get(api)
    plugin.gives(token="new")
    assert get(api) == b"ok"


def test_a_hanging_plugin_is_killed_reported_and_run_again(
    server: Scripted,
    as_user: Opened,
    tmp_path: Path,
    plugin: Plugin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(credentials, "EXEC_TIMEOUT", 0.5)
    monkeypatch.setattr(credentials, "EXEC_RETRY", 2.0)
    plugin.gives(token="old", expirationTimestamp="2020-01-01T00:00:00Z")
    working = plugin.script
    api = as_user(plugin.user)
    server.answers = [strict("new")]
    plugin.hangs(str(tmp_path / "child"))
    failures: list[ApiForbidden] = []

    def ask() -> None:
        with pytest.raises(ApiForbidden) as found:
            get(api)
        failures.append(found.value)

    # As many as there are reflectors, at once: none waits for all the others' attempts.
    began = time.monotonic()
    threads = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert len(failures) == 6
    assert time.monotonic() - began < 6 * 0.5 + 2
    assert "no credentials within 0.5 s" in caplog.text
    child = Path(f"/proc/{int((tmp_path / 'child').read_text())}")
    wait_for(lambda: not child.exists(), "the end of its child")
    plugin.script = working
    plugin.gives(token="new")
    assert wait_for(lambda: get(api), "the next attempt", not_yet=(ApiForbidden,)) == b"ok"


def test_a_403_does_not_reload_credentials(server: Scripted, as_user: Opened) -> None:
    api = as_user({"token": "good"})
    server.answers = [status(403)]
    with pytest.raises(ApiForbidden, match="RBAC"):
        get(api)
    assert (api.reloads, len(server.seen)) == (0, 1)


def test_a_kubeconfig_that_loses_its_user(server: Scripted, as_user: Opened, tmp_path: Path) -> None:
    api = as_user({"token": "old"})
    get(api)
    kubeconfig(tmp_path / "kc", server.url)
    get(api)
    assert server.tokens() == ["Bearer old", None]


def test_a_change_while_the_credentials_are_read_is_not_missed(
    server: Scripted, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": "first"})
    api = opened(kubeconfig=path)
    texts = ["third"]

    def written_meanwhile(settings: Cluster) -> Access:
        access = read_access(settings)
        if texts:
            kubeconfig(path, server.url, {"token": texts.pop()})
        return access

    monkeypatch.setattr("kube2etcd.kube.client.read_access", written_meanwhile)
    kubeconfig(path, server.url, {"token": "second"})
    get(api)
    get(api)
    assert server.tokens() == ["Bearer second", "Bearer third"]


def test_a_refused_client_certificate_is_renewed(as_user: Opened, tmp_path: Path, plugin: Plugin) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")

    def gives(authority: Authority) -> None:
        pair = authority.issue("client")
        certificate, key = (file.read_text() for file in (pair.cert_file, pair.key_file))
        plugin.gives(clientCertificateData=certificate, clientKeyData=key)

    server = TlsServer(ours.issue("server"), ours.ca_file)
    try:
        gives(theirs)
        insecure: dict[str, Any] = {"insecure-skip-tls-verify": True}
        api = as_user(plugin.user, server.url, **insecure)
        with pytest.raises(ApiUnavailable):
            get(api)
        gives(ours)
        assert get(api) == b"{}"
    finally:
        server.end()


def test_a_proxy_that_cannot_be_used_keeps_what_there_was(
    server: Scripted, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": "old"})
    api = opened(kubeconfig=path)
    kubeconfig(path, server.url, {"token": "new"}, **{"proxy-url": "socks5://127.0.0.1:1080"})
    os.utime(path, ns=(1, 1))
    get(api)
    assert server.tokens() == ["Bearer old"]
    assert "proxy-url" in caplog.text
