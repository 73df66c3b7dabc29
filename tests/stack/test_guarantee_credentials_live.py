"""Credentials rotate under a running bridge, recover from errors without a restart, and are never logged."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.faults import HERE, Run, args, create_and_wait
from tests.stack.harness import SLOW, ApiServer, Authority, Binaries, Bridge, Etcd, EtcdTls, wait_for
from tests.stack.objects import service

PASSWORD = "correct-horse-battery"
WRONG = "wrong-horse-battery"


@pytest.fixture
def own_apiserver(
    binaries: Binaries, etcd_for_api: Etcd, apiserver: ApiServer, tmp_path: Path
) -> Iterator[ApiServer]:
    """Another API server on the same objects, with three tokens."""
    with ApiServer(
        tmp_path / "own-api",
        binaries,
        etcd_for_api.url,
        users={f"token-{one}-secret": (one, ("system:masters",)) for one in ("old", "new", "last")},
    ) as server:
        yield server


@pytest.mark.parametrize("how", ["client certificate", "exec plugin"])
def test_kubeconfig_client_certificate_and_exec_plugin(
    how: str, apiserver: ApiServer, etcd: Etcd, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies and CA bundles of the environment are ignored."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere/ca.pem")
    certificate = apiserver.client_certificate("operator") if how == "client certificate" else None
    plugin = tmp_path / "plugin"
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": apiserver.token}}
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": version, "command": str(plugin)}}
    run(kubeconfig=apiserver.kubeconfig(certificate=certificate, user=user, name="other-user"))
    create_and_wait(apiserver, etcd, "first")


def test_signal_ends_a_wait_for_an_exec_plugin(apiserver: ApiServer, etcd: Etcd, tmp_path: Path) -> None:
    plugin, began = tmp_path / "plugin", tmp_path / "began"
    plugin.write_text(f"#!/bin/sh\ntouch {began}\nexec sleep 20\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    bridge = Bridge(tmp_path / "bridge", args(apiserver.kubeconfig(user=user, name="hanging-user"), etcd))
    bridge.launch()
    wait_for(began.exists, "the plugin to run", 20, bridge)
    stopped = time.monotonic()
    assert bridge.stop() == -signal.SIGTERM
    assert time.monotonic() - stopped < SLOW


def revoke(apiserver: ApiServer, token: str) -> None:
    """Remove the token and restart the API server, which reads its tokens at its start."""
    lines = apiserver.tokens_file.read_text().splitlines()
    apiserver.tokens_file.write_text("\n".join(line for line in lines if token not in line) + "\n")
    apiserver.kill()
    apiserver.start()


def test_wrong_rotated_revoked_tokens(own_apiserver: ApiServer, etcd: Etcd, tmp_path: Path, run: Run) -> None:
    token = tmp_path / "token"
    token.write_text("token-bad-secret")
    kubeconfig = own_apiserver.kubeconfig(user={"tokenFile": str(token)}, name="kubeconfig-with-token-file")

    def refused() -> int:
        return bridge.log_text().count("(401")

    bridge = run(kubeconfig=kubeconfig, ready=False)
    pid = bridge.pid
    wait_for(lambda: bridge.metric("kube2etcd_api_failures_total", kind="services") >= 3, "attempts", 30)
    log = bridge.log_text()
    assert log.count("cannot list services (401") == 1
    assert "correct the token" in log
    assert "services are not listed yet" in bridge.readyz()
    token.write_text("token-old-secret")
    bridge.wait_ready(40)
    create_and_wait(own_apiserver, etcd, "first")
    # rotated in time
    token.write_text("token-new-secret")
    revoke(own_apiserver, "token-old-secret")
    create_and_wait(own_apiserver, etcd, "second", 40)
    # rotated too late
    before, logged = etcd.dump("/skydns"), refused()
    revoke(own_apiserver, "token-new-secret")
    wait_for(lambda: refused() > logged, "the 401 in the log", 40, bridge)
    bridge.wait_readyz("stale", 10)
    assert bridge.ready()
    assert etcd.dump("/skydns") == before
    token.write_text("token-last-secret")
    create_and_wait(own_apiserver, etcd, "third", 40)
    assert bridge.pid == pid
    assert "-secret" not in bridge.log_text()


def test_missing_wrong_and_changed_etcd_passwords_recover(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path, run: Run
) -> None:
    etcd.enable_auth("root", PASSWORD)
    file = tmp_path / "password"
    bridge = run("--etcd-user", "root", "--etcd-password-file", str(file), ready=False)
    pid = bridge.pid
    for given, reason in ((None, "cannot be read"), ("", "is empty"), (WRONG, "password file")):
        if given is not None:
            file.write_text(given)
        bridge.wait_readyz(reason, 15)
        assert not bridge.ready()
        assert bridge.get("/livez").status_code == 200
    file.write_text(PASSWORD + "\n")
    bridge.wait_ready(15)
    create_and_wait(apiserver, etcd, "first")
    # a restart invalidates etcd's simple tokens
    etcd.restart()
    create_and_wait(apiserver, etcd, "second")
    bridge.wait_ready(15)
    # the password changes on the server, then in the file
    etcd.ctl("user", "passwd", "root", "--interactive=false", stdin=PASSWORD + "2\n")
    etcd.user = ("root", PASSWORD + "2")
    file.write_text(PASSWORD + "2")
    create_and_wait(apiserver, etcd, "third")
    bridge.wait_ready(15)
    assert bridge.pid == pid
    log = bridge.log_text()
    assert PASSWORD not in log
    assert WRONG not in log


def test_api_server_ca_rotation(own_apiserver: ApiServer, etcd: Etcd, tmp_path: Path, run: Run) -> None:
    bridge = run(kubeconfig=own_apiserver.kubeconfig())
    create_and_wait(own_apiserver, etcd, "first")
    other = Authority(tmp_path / "other-pki", "kubernetes-ca")
    pair = other.issue("kube-apiserver", file="serving")
    own_apiserver.kill()
    own_apiserver.close()
    shutil.copy(pair.cert_file, own_apiserver.authority.directory / "serving.crt")
    shutil.copy(pair.key_file, own_apiserver.authority.directory / "serving.key")
    trusted = own_apiserver.ca_file.read_bytes()
    # the server changes first, then our CA file
    own_apiserver.launch()
    wait_for(lambda: "is not trusted" in bridge.log_text(), "the reason", 40, bridge)
    assert bridge.ready()
    shutil.copy(other.ca_file, own_apiserver.ca_file)
    assert own_apiserver.ca_file.read_bytes() != trusted
    own_apiserver.wait_up(30)
    create_and_wait(own_apiserver, etcd, "second", 40)


def test_etcd_ca_rotation(binaries: Binaries, apiserver: ApiServer, tmp_path: Path, run: Run) -> None:
    """An unrelated new CA: the server changes first, then our files."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    authority = Authority(tmp_path / "first", "etcd-ca")
    tls = EtcdTls.of(authority)
    shutil.copytree(tmp_path / "first", ours)
    etcd = Etcd(tmp_path, binaries, name="tls-etcd", tls=tls)
    client = tls.client
    files = {"cafile": authority.ca_file, "cert": client.cert_file, "key": client.key_file}
    options = [word for name, file in files.items() for word in (f"--etcd-{name}", str(ours / file.name))]
    with etcd:
        bridge = run(*options, etcd=etcd)
        create_and_wait(apiserver, etcd, "first")
        pid = bridge.pid
        EtcdTls.of(Authority(theirs, "etcd-ca"))
        etcd.kill()
        shutil.copytree(theirs, tmp_path / "first", dirs_exist_ok=True)
        etcd.start()
        bridge.wait_readyz("check the CA file and both sides' certificates", 20)
        assert not bridge.ready()
        apiserver.apply(service("second"))
        for file in ("client.crt", "client.key", authority.ca_file.name):
            shutil.copy(theirs / file, ours / file)
        bridge.wait_ready(30)
        create_and_wait(apiserver, etcd, "second")
        # the watch too
        etcd.delete(f"{HERE}/svc/default/second")
        create_and_wait(apiserver, etcd, "second")
        assert bridge.pid == pid
        assert "PRIVATE KEY" not in bridge.log_text()
        strange = [line for line in bridge.log_text().splitlines() if not line[:4].isdecimal()]
        assert not strange, "no library writes past the log"
