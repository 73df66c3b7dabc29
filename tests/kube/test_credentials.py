"""Kubeconfigs, service accounts, exec plugins, and their rotation at run time."""

from __future__ import annotations

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube2etcd.errors import ApiUnavailable, SettingsError
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.credentials import read_access
from kube2etcd.settings import Cluster
from tests.kube.scripted import (
    SECRET,
    Handler,
    Opened,
    Plugin,
    Scripted,
    TlsServer,
    get,
    kubeconfig,
    lines,
    status,
    whole,
)
from tests.stack.certificates import Authority


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": SECRET}, f"Bearer {SECRET}"),
        ({"token": f"{SECRET}\n"}, f"Bearer {SECRET}"),
        ({"tokenFile": "token"}, f"Bearer {SECRET}"),
        ({"username": "u", "password": "p"}, "Basic " + base64.b64encode(b"u:p").decode()),
        ({}, None),
    ],
    ids=["token", "token with newline", "token file", "password", "nothing"],
)
def test_kubeconfig_users(
    server: Scripted, as_user: Opened, tmp_path: Path, user: dict[str, Any], authorization: str | None
) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    get(as_user(user))
    assert server.tokens() == [authorization]


def test_exec_plugin(server: Scripted, as_user: Opened, plugin: Plugin) -> None:
    plugin.gives(token=SECRET)
    api = as_user(plugin.user)
    get(api)
    get(api)
    assert server.tokens() == [f"Bearer {SECRET}"] * 2
    assert plugin.runs == 1


def test_credentials_that_cannot_be_renewed(
    as_user: Opened, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    plugin.gives(token=SECRET)
    api = as_user(plugin.user)
    monkeypatch.setattr("kubernetes.config.kube_config.KubeConfigLoader._set_config", refuse)
    with pytest.raises(ApiUnavailable, match="cannot be renewed"):
        get(api)


def test_context_and_url_override(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://unused.invalid", {"token": SECRET})
    get(opened(kubeconfig=path, kube_master_url=server.url))
    get(opened(kubeconfig=path, context="other", kube_master_url=server.url))
    assert server.tokens() == [f"Bearer {SECRET}", None]


def test_default_kubeconfig(
    server: Scripted, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    kubeconfig(home / ".kube" / "config", server.url, {"token": "from-home"})
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("KUBECONFIG")
    get(opened())
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kc", server.url, {"token": "from-env"})))
    get(opened())
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


def test_in_cluster(pod: Path) -> None:
    access = read_access(Cluster())
    assert access.host == "https://[fd00::1]:6443"
    assert access.authorization == f"Bearer {SECRET}"
    assert access.ca_file == str(pod / "ca.crt")


@pytest.mark.parametrize("broken", ["no address", "token", "ca.crt", "unreadable"])
def test_in_cluster_broken(pod: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    if broken == "no address":
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    elif broken == "unreadable":
        loader = "kubernetes.config.incluster_config.InClusterConfigLoader"
        monkeypatch.setattr(f"{loader}._read_token_file", refuse)
    else:
        (pod / broken).write_text("")
    reason = "Permission denied" if broken == "unreadable" else "cannot be used"
    with pytest.raises(SettingsError, match=f"service account .*{reason}"):
        ApiConnection(Cluster())


def test_in_cluster_rotation(
    pod: Path, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "next")
    server = TlsServer(authority.issue("server"))
    try:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_address[1]))
        api = opened()
        with pytest.raises(ApiUnavailable, match="not trusted"):
            get(api)
        for name, text in (("token", "rotated"), ("ca.crt", authority.ca_file.read_text())):
            (pod / "new").write_text(text)
            (pod / "new").replace(pod / name)
        get(api)
        get(api)
        assert server.tokens() == ["Bearer rotated"] * 2
    finally:
        server.end()


def test_401_reloads_credentials_and_retries_once(server: Scripted, as_user: Opened, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    api = as_user({"tokenFile": "token"})

    def check(handler: Handler) -> None:
        good = handler.headers["Authorization"] == "Bearer new"
        (whole(b"ok\n") if good else status(401))(handler)

    server.answers = [check]
    (tmp_path / "token").write_text("new")
    assert get(api) == b"ok\n"
    assert lines(api) == [b"ok"]
    assert server.tokens() == ["Bearer old", "Bearer new", "Bearer new"]


def test_401_for_several_threads_is_one_reload(server: Scripted, as_user: Opened, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    api = as_user({"tokenFile": "token"})
    both = threading.Barrier(2, timeout=20)

    def refuse_both(handler: Handler) -> None:
        if handler.headers["Authorization"] == "Bearer new":
            whole(b"ok")(handler)
        else:
            both.wait()
            status(401)(handler)

    server.answers = [refuse_both]
    (tmp_path / "token").write_text("new")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(get, [api, api])) == [b"ok", b"ok"]
    assert api.reloads == 1


def test_a_kubeconfig_that_is_half_written_keeps_the_old_credentials(
    server: Scripted, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kubeconfig(tmp_path / "kc", server.url, {"token": "old"})
    api = opened(kubeconfig=path)
    path.write_text(f"users: [{SECRET}")
    get(api)
    kubeconfig(path, server.url, {"token": "new"})
    get(api)
    assert server.tokens() == ["Bearer old", "Bearer new"]
    assert "keeping the old credentials" in caplog.text
    assert SECRET not in caplog.text


def test_a_token_invalid_in_a_header_is_not_shown(server: Scripted, as_user: Opened) -> None:
    api = as_user({"token": f"{SECRET}\nX: y"})
    with pytest.raises(ApiUnavailable, match="HTTP forbids") as caught:
        get(api)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


CONFIG = """
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
contexts: [{name: main, context: {cluster: c, user: u}}, {name: other, context: {cluster: gone}}]
"""
CHOICE = "name one with --context: main, other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("a: [", "is not YAML (line 1, column 5)"),
        ("a: \0", "is not YAML;"),
        (b"a: \xff", "is not UTF-8 (byte 3)"),
        ("[" * 1000, "is nested too deeply"),
        ("just words", "is malformed: Expected `object`, got `str`"),
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
        (f"contexts: [{', '.join(f'{{name: n{n}}}' for n in range(9))}]", "n6, n7 and 1 more"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_kubeconfigs_that_cannot_be_used(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "kc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as caught:
        ApiConnection(Cluster(kubeconfig=str(path)))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("asked", ["gone", ""])
def test_a_context_that_is_not_there(tmp_path: Path, asked: str) -> None:
    (tmp_path / "kc").write_text(CONFIG)
    with pytest.raises(SettingsError, match=f"kc has no context '{asked}'; {CHOICE}"):
        ApiConnection(Cluster(kubeconfig=str(tmp_path / "kc"), context=asked))


def test_an_odd_user_is_not_shown(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "https://127.0.0.1:1")
    config = yaml.safe_load(path.read_text())
    config["users"] = [{"name": "u", "token": SECRET}]  # one level too high
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(SettingsError, match=r"kc cannot be used: .*Expected key user") as caught:
        ApiConnection(Cluster(kubeconfig=str(path)))
    assert SECRET not in str(caught.value)


def test_an_unknown_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "~no-such-user/kc")
    with pytest.raises(SettingsError, match="no kubeconfig at ~no-such-user/kc"):
        ApiConnection(Cluster())


def test_a_kubeconfig_that_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        with pytest.raises(SettingsError) as caught:
            ApiConnection(Cluster(kubeconfig=str(tmp_path / "kube")))
        return str(caught.value)

    assert "kube (--kubeconfig), and this is no pod" in told()
    (tmp_path / "kube").mkdir()
    assert told().endswith("kube is a folder; name the file in it")
    (tmp_path / "kube" / "config").touch()
    assert told().endswith(f"did you mean {tmp_path / 'kube' / 'config'}?")
    (tmp_path / "kube" / "config").unlink()
    (tmp_path / "kube").rmdir()
    os.mkfifo(tmp_path / "kube")
    assert "not a regular file" in told()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/gone")
    with pytest.raises(SettingsError, match=r"gone \(KUBECONFIG\), and this is no pod"):
        ApiConnection(Cluster())


def test_a_kubeconfig_that_names_no_server(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "x")
    path.write_text(path.read_text().replace("server: x", "other: x"))
    with pytest.raises(SettingsError, match="no server"):
        ApiConnection(Cluster(kubeconfig=str(path)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Cluster(), "--kube-master-url"),
        (Cluster(context="main"), "no kubeconfig at"),
        (Cluster(kubeconfig="nowhere.yaml"), "nowhere.yaml"),
        (Cluster(kube_master_url="localhost:8080"), "https://HOST:PORT"),
        (Cluster(kube_master_url="ftp://x"), "https://HOST:PORT"),
    ],
    ids=["nothing", "context only", "missing file", "no scheme", "other scheme"],
)
def test_settings_that_name_no_cluster(settings: Cluster, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ApiConnection(settings)


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"certificate-authority": "bad.pem"}, {}),
        ({"certificate-authority": "gone.pem"}, {}),
        ({}, {"client-certificate": "bad.pem", "client-key": "bad.pem"}),
    ],
    ids=["authority", "missing authority", "client certificate"],
)
def test_certificate_files_that_cannot_be_used(
    as_user: Opened, tmp_path: Path, cluster: dict[str, str], user: dict[str, str]
) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"(bad|gone)\.pem"):
        as_user(user, "https://127.0.0.1:1", **cluster)


def test_a_kubeconfig_in_an_inaccessible_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    monkeypatch.setattr("kube2etcd.kube.credentials.SERVICE_ACCOUNT", _Nothing())
    with pytest.raises(SettingsError, match="kc cannot be read: Permission denied"):
        ApiConnection(Cluster(kubeconfig=str(tmp_path / "kc")))


class _Nothing:
    """A folder without files, whatever is asked of it."""

    def __truediv__(self, name: str) -> _Nothing:
        return self

    def is_file(self) -> bool:
        return False
