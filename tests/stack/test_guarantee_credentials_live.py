"""Credentials change under a running bridge; wrong ones are put right with no restart, and none is logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.stack.faults import HERE, running, service, services
from tests.stack.harness import ApiServer, Authority, Etcd, EtcdTls, wait_for

PASSWORD = "correct-horse-battery"
WRONG = "wrong-horse-battery"


def comes(apiserver: ApiServer, etcd: Etcd, name: str, deadline_s: float = 15) -> None:
    apiserver.apply(service(name))
    wait_for(lambda: [key for key in etcd.dump(HERE) if f"/default/{name}" in key], name, deadline_s)


@pytest.fixture
def own_apiserver(
    binaries: dict[str, Path], etcd_for_api: Etcd, apiserver: ApiServer, tmp_path: Path
) -> Iterator[ApiServer]:
    """Another door to the same objects, which knows two tokens."""
    server = ApiServer(
        tmp_path / "own-api",
        binaries,
        etcd_for_api.url,
        users={f"token-{one}-secret": (one, ("system:masters",)) for one in ("old", "new")},
    )
    server.start()
    yield server
    server.close()
    server.kill()


def test_a_token_file_that_is_rotated_is_read_again(
    own_apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("token-old-secret")
    config = yaml.safe_load(own_apiserver.kubeconfig().read_text())
    config["users"][0]["user"] = {"tokenFile": str(token)}
    kubeconfig = tmp_path / "rotated"
    kubeconfig.write_text(yaml.safe_dump(config))
    with running(tmp_path, kubeconfig, etcd) as bridge:
        comes(own_apiserver, etcd, "first")
        # the old token is worth nothing from now on
        token.write_text("token-new-secret")
        lines = own_apiserver.tokens_file.read_text().splitlines()
        own_apiserver.tokens_file.write_text(
            "\n".join(line for line in lines if "token-old" not in line) + "\n"
        )
        own_apiserver.kill()
        own_apiserver.start()
        comes(own_apiserver, etcd, "second", 40)
        assert "-secret" not in bridge.process.log.read_text()


def test_a_wrong_password_that_is_put_right_is_taken(
    apiserver: ApiServer, etcd: Etcd, tmp_path: Path
) -> None:
    etcd.enable_auth("root", PASSWORD)
    apiserver.apply_all(services(3))
    file = tmp_path / "password"
    file.write_text(WRONG)
    extra = ("--etcd-user", "root", "--etcd-password-file", str(file))
    with running(tmp_path, apiserver.kubeconfig(), etcd, *extra, ready=False) as bridge:
        wait_for(lambda: "password file" in bridge.get("/readyz").text, "why it is unready", 15)
        assert not bridge.ready()
        pid = bridge.process.pid
        file.write_text(PASSWORD + "\n")
        bridge.wait_ready(15)
        comes(apiserver, etcd, "first")
        # the tokens of a simple-token etcd do not outlive it
        etcd.restart()
        comes(apiserver, etcd, "second")
        bridge.wait_ready(15)
        # changed on the server, then in the file
        etcd.ctl("user", "passwd", "root", "--interactive=false", stdin=PASSWORD + "2\n")
        etcd.user = ("root", PASSWORD + "2")
        file.write_text(PASSWORD + "2")
        comes(apiserver, etcd, "third")
        bridge.wait_ready(15)
        assert bridge.process.pid == pid
        log = bridge.process.log.read_text()
        assert PASSWORD not in log
        assert WRONG not in log


def test_etcd_with_certificates_on_both_sides(
    binaries: dict[str, Path], apiserver: ApiServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki", "etcd-ca")
    client = authority.issue("bridge", file="client")
    tls = EtcdTls(authority.issue("etcd", file="server"), authority.ca_file, client)
    etcd = Etcd(tmp_path, binaries, name="tls-etcd", tls=tls)
    extra = ("--etcd-cafile", str(authority.ca_file), "--etcd-cert", str(client.cert_file))
    apiserver.apply_all(services(3))
    try:
        etcd.start()
        key = ("--etcd-key", str(client.key_file))
        with running(tmp_path, apiserver.kubeconfig(), etcd, *extra, *key) as bridge:
            etcd.wipe()
            comes(apiserver, etcd, "later")
            bridge.wait_ready(15)
            assert "PRIVATE KEY" not in bridge.process.log.read_text()
    finally:
        etcd.kill()
