"""Kubeconfigs, service accounts, exec plugins, and their rotation at run time."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from kube2etcd.errors import ApiForbidden, ApiUnavailable, SettingsError
from kube2etcd.kube import client, credentials
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.credentials import Access, read_access
from kube2etcd.settings import Cluster
from tests.kube.scripted import (
    SECRET,
    Connect,
    Handler,
    Plugin,
    Scripted,
    TlsServers,
    accept_only,
    get,
    kubeconfig,
    lines,
    status,
)
from tests.stack.certificates import Authority
from tests.stack.process import wait_for


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": SECRET}, f"Bearer {SECRET}"),
        ({"token": f"{SECRET}\n"}, f"Bearer {SECRET}"),
        ({"tokenFile": "token"}, f"Bearer {SECRET}"),
        ({"username": "u", "password": "p"}, "Basic " + base64.b64encode(b"u:p").decode()),
        ({}, None),
    ],
    ids=["token", "token with newline", "token file", "password", "none"],
)
def test_kubeconfig_users(
    server: Scripted, connect_as: Connect, tmp_path: Path, user: dict[str, Any], authorization: str | None
) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    get(connect_as(user))
    assert server.tokens() == [authorization]


def test_exec_plugin(
    server: Scripted, connect_as: Connect, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    plugin.succeed(token=SECRET)
    api = connect_as(plugin.user)
    get(api)
    get(api)
    assert server.tokens() == [f"Bearer {SECRET}"] * 2
    assert plugin.runs == 1
    monkeypatch.setattr("kubernetes.config.kube_config.KubeConfigLoader._set_config", refuse)
    with pytest.raises(ApiUnavailable, match=r"of the kubeconfig \S*kc cannot be renewed"):
        get(api)


def test_context_and_url_override(server: Scripted, connect: Connect, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://unused.invalid", {"token": SECRET})
    get(connect(kubeconfig=path, kube_master_url=server.url))
    get(connect(kubeconfig=path, context="other", kube_master_url=server.url))
    assert server.tokens() == [f"Bearer {SECRET}", None]


def test_default_kubeconfig(
    server: Scripted, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube/config", server.url, {"token": "from-home"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    get(connect())
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kc", server.url, {"token": "from-env"})))
    get(connect())
    assert server.tokens() == ["Bearer from-home", "Bearer from-env"]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text(SECRET)
    (account / "ca.crt").write_bytes(Authority(tmp_path / "pki").ca_file.read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return account


@pytest.mark.parametrize("file", ["token", "ca.crt"])
def test_pod_without_one_of_its_files_is_not_said_to_be_none(pod: Path, file: str) -> None:
    (pod / file).unlink()
    assert f"{pod} lacks token or ca.crt" in settings_error()


def test_in_cluster(pod: Path) -> None:
    access = read_access(Cluster())
    assert access.server == "https://[fd00::1]:6443"
    assert access.authorization == f"Bearer {SECRET}"
    assert access.ssl_ca_cert == str(pod / "ca.crt")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no address", "cannot be used"),
        ("token", "cannot be used"),
        ("ca.crt", "cannot be used"),
        ("unreadable", "Permission denied"),
    ],
)
def test_unusable_service_account(
    pod: Path, fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "no address":
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    elif fault == "unreadable":
        loader = "kubernetes.config.incluster_config.InClusterConfigLoader"
        denied = Mock(side_effect=PermissionError(13, "Permission denied"))
        monkeypatch.setattr(f"{loader}._read_token_file", denied)
    else:
        (pod / fault).write_text("")
    with pytest.raises(SettingsError, match=f"service account .*{reason}"):
        ApiConnection(Cluster())


def test_in_cluster_rotation(
    pod: Path, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls_servers: TlsServers
) -> None:
    authority = Authority(tmp_path / "next")
    server = tls_servers(authority.issue("server"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_address[1]))
    api = connect()
    with pytest.raises(ApiUnavailable, match="not trusted"):
        get(api)
    for name, text in (("token", "rotated"), ("ca.crt", authority.ca_file.read_text())):
        (pod / "new").write_text(text)
        (pod / "new").replace(pod / name)
    get(api)
    get(api)
    assert server.tokens() == ["Bearer rotated"] * 2


def test_401_reloads_credentials_and_retries_once(
    server: Scripted, connect_as: Connect, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("old")
    api = connect_as({"tokenFile": "token"})
    server.answers = [accept_only("new")]
    (tmp_path / "token").write_text("new")
    assert get(api) == b"ok\n"
    assert lines(api) == [b"ok"]
    assert server.tokens() == ["Bearer old", "Bearer new", "Bearer new"]


def test_401_in_several_threads_causes_one_reload(
    server: Scripted, connect_as: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("old")
    api = connect_as({"tokenFile": "token"})
    both = threading.Barrier(2, timeout=20)

    def refuse_both(handler: Handler) -> None:
        if handler.headers["Authorization"] == "Bearer old":
            both.wait()
        accept_only("new")(handler)

    server.answers = [refuse_both]
    reads = Mock(side_effect=read_access)
    monkeypatch.setattr(client, "read_access", reads)
    (tmp_path / "token").write_text("new")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(get, [api, api])) == [b"ok\n", b"ok\n"]
    assert reads.call_count == 1


SOCKS = {"proxy-url": "socks5://127.0.0.1:1080"}


@pytest.mark.parametrize(
    ("change", "token", "logged"),
    [
        (lambda path, _: path.write_text(f"users: [{SECRET}"), "Bearer old", "keeping the old credentials"),
        (lambda path, _: path.unlink(), "Bearer old", ""),
        (lambda path, url: kubeconfig(path, url), None, ""),
        (lambda path, url: kubeconfig(path, url, {"token": "unused"}, **SOCKS), "Bearer old", "proxy-url"),
    ],
    ids=["half written", "removed", "without credentials", "unusable proxy"],
)
def test_changed_kubeconfig(
    server: Scripted,
    connect: Connect,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Path, str], object],
    token: str | None,
    logged: str,
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": "old"})
    api = connect(kubeconfig=path)
    get(api)
    change(path, server.url)
    get(api)
    kubeconfig(path, server.url, {"token": "new"})
    os.utime(path, ns=(1, 1))
    get(api)
    assert server.tokens() == ["Bearer old", token, "Bearer new"]
    assert logged in caplog.text
    assert SECRET not in caplog.text


def test_token_invalid_in_a_header_is_not_in_the_message(server: Scripted, connect_as: Connect) -> None:
    api = connect_as({"token": f"{SECRET}\nX: y"})
    with pytest.raises(ApiUnavailable, match="HTTP forbids") as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


CONFIG = """
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
contexts: [{name: main, context: {cluster: c, user: u}}, {name: other, context: {cluster: gone}}]
"""
MAIN = f"{CONFIG}current-context: main"
CHOICE = "name one with --context: main, other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("a: [", "is not YAML (line 1, column 5)"),
        ("a: \0", "is not YAML;"),
        (b"a: \xff", "is not UTF-8 (byte 3)"),
        ("[" * 1000, "is nested too deeply"),
        ("just words", "is malformed: Expected `object`, got `str`"),
        ('"\\ud800": 1', "holds text that is not Unicode"),
        ('current-context: "\\U00110000"', "holds text that is not Unicode"),
        ("a: 1\n---\nb: 2", "holds 2 documents"),
        ("current-context: x", "has no contexts"),
        ("current-context: x\ncontexts: []", "has no contexts"),
        ("contexts: 3", "got `int` - at `$.contexts`"),
        ("users: [u]", "got `str` - at `$.users[0]`"),
        ("clusters: [{cluster: {}}]", "missing required field `name` - at `$.clusters[0]`"),
        ("clusters: [{name: c, cluster: x}]", "got `str` - at `$.clusters[0].cluster`"),
        (CONFIG, "has no current context; " + CHOICE),
        (f"{CONFIG}current-context: ''", "has no current context; " + CHOICE),
        (f"{CONFIG}current-context: mian", "current context 'mian' is not in it; " + CHOICE),
        (f"{CONFIG}current-context: other", "no cluster 'gone', which its context 'other' names"),
        (MAIN.replace("server", "other"), "names no server"),
        (MAIN.replace("server:", "proxy-url: 3128, server:"), "is not text; write http://HOST:PORT"),
        (
            MAIN.replace(
                "user: {}", f"user: {{client-key-data: {SECRET}, client-certificate-data: {SECRET}}}"
            ),
            "client-key-data is not base64",
        ),
        (MAIN.replace("user: {}", f"token: {SECRET}"), "Expected key user"),  # one level too high
        (f"contexts: [{', '.join(f'{{name: n{n}}}' for n in range(9))}]", "n6, n7 and 1 more"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_unusable_kubeconfigs(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "kc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = settings_error(kubeconfig=str(path))
    assert message in found
    assert str(path) in found
    assert SECRET not in found
    assert SECRET not in message


def settings_error(**settings: str) -> str:
    """The error message of a connection with these settings."""
    with pytest.raises(SettingsError) as caught:
        ApiConnection(Cluster(**settings))
    return str(caught.value)


@pytest.mark.parametrize("context", ["gone", ""])
def test_unknown_context(tmp_path: Path, context: str) -> None:
    (tmp_path / "kc").write_text(CONFIG)
    message = settings_error(kubeconfig=str(tmp_path / "kc"), context=context)
    assert message.endswith(f"kc has no context '{context}'; {CHOICE}")


def test_kubeconfig_that_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kube"
    assert "kube (--kubeconfig), and this is no pod" in settings_error(kubeconfig=str(path))
    path.mkdir()
    assert settings_error(kubeconfig=str(path)).endswith("kube is a folder; name the file in it")
    (path / "config").touch()
    assert settings_error(kubeconfig=str(path)).endswith(f"did you mean {path / 'config'}?")
    (path / "config").unlink()
    path.rmdir()
    os.mkfifo(path)
    assert "not a regular file" in settings_error(kubeconfig=str(path))
    for name in (f"{tmp_path}/gone", "~no-such-user/kc"):
        monkeypatch.setenv("KUBECONFIG", name)
        assert f"no kubeconfig at {name} (KUBECONFIG), and this is no pod" in settings_error()


BAD_URLS = [
    *("localhost:8080", "ftp://x", "https://[bad", "https://h:99999", "https://h:port", "https://a b"),
    "https://h:6443/ ",
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--kube-master-url"),
        ({"context": "main"}, "no kubeconfig at"),
        *(({"kube_master_url": url}, "https://HOST:PORT") for url in BAD_URLS),
    ],
)
def test_settings_without_a_cluster(settings: dict[str, str], message: str) -> None:
    assert message in settings_error(**settings)


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"certificate-authority": "bad.pem"}, {}),
        ({"certificate-authority": "gone.pem"}, {}),
        ({}, {"client-certificate": "bad.pem", "client-key": "bad.pem"}),
    ],
    ids=["authority", "missing authority", "client certificate"],
)
def test_unusable_certificate_files(
    connect_as: Connect, tmp_path: Path, cluster: dict[str, str], user: dict[str, str]
) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"(bad|gone)\.pem"):
        connect_as(user, "https://127.0.0.1:1", **cluster)


def test_kubeconfig_in_an_inaccessible_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        if path.name != "kc":
            return False
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    assert settings_error(kubeconfig=str(tmp_path / "kc")).endswith("kc cannot be read: Permission denied")


# -- credentials that change, vanish or are refused at run time


@pytest.mark.parametrize("first", ["old", None], ids=["later", "at start"])
def test_failing_plugin_is_retried(
    server: Scripted, connect_as: Connect, plugin: Plugin, first: str | None
) -> None:
    if first is not None:
        plugin.succeed(token=first)
    api = connect_as(plugin.user)
    server.answers = [accept_only("new")]
    plugin.fail()
    for _ in range(2):
        with pytest.raises(ApiForbidden, match=r"401.*exec plugin" if first else "had no credentials"):
            get(api)
    assert server.tokens() == [first and "Bearer old"] * 4
    plugin.succeed(token="new")
    assert get(api) == b"ok\n"


def test_hanging_plugin_is_killed_logged_and_retried(
    server: Scripted,
    connect_as: Connect,
    tmp_path: Path,
    plugin: Plugin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(credentials, "EXEC_TIMEOUT", 0.5)
    monkeypatch.setattr(credentials, "EXEC_RETRY", 2.0)
    plugin.succeed(token="old", expirationTimestamp="2020-01-01T00:00:00Z")
    api = connect_as(plugin.user)
    server.answers = [accept_only("new")]
    plugin.hang(str(tmp_path / "child"))
    # As many threads as reflectors: none waits for the attempts of all others.
    start = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        errors = [one.exception(20) for one in [pool.submit(get, api) for _ in range(6)]]
    assert {type(one) for one in errors} == {ApiForbidden}
    assert time.monotonic() - start < 6 * 0.5 + 2
    assert "no credentials within 0.5 s" in caplog.text
    child = Path(f"/proc/{int((tmp_path / 'child').read_text())}")
    wait_for(lambda: not child.exists(), "the plugin's child to end")
    plugin.restore()
    plugin.succeed(token="new")
    assert wait_for(lambda: get(api), "the next run", not_yet=(ApiForbidden,)) == b"ok\n"


def test_403_does_not_reload_credentials(server: Scripted, connect_as: Connect) -> None:
    api = connect_as({"token": "good"})
    server.answers = [status(403)]
    with pytest.raises(ApiForbidden, match="RBAC"):
        get(api)
    assert len(server.requests) == 1


def test_change_during_a_reload_is_not_missed(
    server: Scripted, connect_as: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = connect_as({"token": "first"})
    texts = ["third"]

    def read_and_change(settings: Cluster) -> Access:
        access = read_access(settings)
        if texts:
            kubeconfig(tmp_path / "kc", server.url, {"token": texts.pop()})
        return access

    monkeypatch.setattr(client, "read_access", read_and_change)
    kubeconfig(tmp_path / "kc", server.url, {"token": "second"})
    get(api)
    get(api)
    assert server.tokens() == ["Bearer second", "Bearer third"]


def test_refused_client_certificate_is_renewed(
    connect_as: Connect, tmp_path: Path, plugin: Plugin, tls_servers: TlsServers
) -> None:
    trusted, other = Authority(tmp_path, "trusted"), Authority(tmp_path, "other")

    def issue(authority: Authority) -> None:
        pair = authority.issue("client")
        certificate, key = (file.read_text() for file in (pair.cert_file, pair.key_file))
        plugin.succeed(clientCertificateData=certificate, clientKeyData=key)

    server = tls_servers(trusted.issue("server"), trusted.ca_file)
    issue(other)
    insecure: dict[str, Any] = {"insecure-skip-tls-verify": True}
    api = connect_as(plugin.user, server.url, **insecure)
    with pytest.raises(ApiUnavailable):
        get(api)
    issue(trusted)
    assert get(api) == b"{}"
