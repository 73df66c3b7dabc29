"""The webhook with a hosts file and a state file; Desktop Kubernetes."""

import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.stack.harness import LOOPBACK, wait_for
from tests.stack.webhook import Webhook, a, alias, block, ownership, serving, with_file


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    with with_file(tmp_path) as one:
        yield one


def test_acknowledged_changes_survive_a_kill(tmp_path: Path, webhook: Webhook) -> None:
    chance = random.Random(6)
    answered: set[str] = set()
    for turn in range(8):
        killer = threading.Timer(chance.uniform(0.01, 0.3), webhook.kill)
        killer.start()
        sent: set[str] = set()
        try:
            for number in range(1000):
                name = f"n{turn}-{number}.dtk.io"
                sent.add(name)
                assert webhook.apply(create=[a(name, "10.0.0.5")]) == 204
                answered.add(name)
        except requests.ConnectionError:
            pass
        killer.join()
        webhook.start()
        there = set(webhook.names())
        assert answered <= there
        assert there - answered <= sent
        answered = there
        assert block(tmp_path / "hosts") == [f"10.0.0.5 {name}" for name in sorted(there)]
    assert len(answered) > 8


def test_domains_and_cluster_ip_survive_a_restart(tmp_path: Path) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with with_file(tmp_path) as webhook:
        for _ in range(2):
            assert webhook.call("POST", "/domains", b"mydomain.io", form).status_code == 200
            assert webhook.call("POST", "/clusterip", b"192.168.122.167", form).status_code == 200
        assert webhook.apply(create=[alias("x.mydomain.io", "x.mydomain.io")]) == 204
        webhook.restart()
        assert webhook.call("GET", "/domains").json() == ["dtk.io", "mydomain.io"]
        assert webhook.call("GET", "/clusterip").json() == "192.168.122.167"
        assert block(tmp_path / "hosts") == ["192.168.122.167 x.mydomain.io"]
    with with_file(tmp_path, b"", "--cluster-ip", "10.1.1.1") as webhook:
        assert webhook.call("GET", "/clusterip").json() == "10.1.1.1"
        assert block(tmp_path / "hosts") == ["10.1.1.1 x.mydomain.io"]


def test_a_stop_answers_the_pending_call(tmp_path: Path, webhook: Webhook) -> None:
    many = [a(f"n{number}.dtk.io", "10.0.0.5") for number in range(20000)]
    status: list[int] = []
    caller = threading.Thread(target=lambda: status.append(webhook.apply(create=many)))
    idle = socket.create_connection((LOOPBACK, webhook.provider_port))
    caller.start()
    wait_for(lambda: (tmp_path / ".state.json.new").exists() or status, "the call to be in hand", 10)
    webhook.stop()
    caller.join(10)
    idle.close()
    assert status == [204]
    assert webhook.exit_code == 0
    webhook.start()
    webhook.stop_within(1.0)
    assert len(block(tmp_path / "hosts")) == 20000


def test_the_block_is_repaired(tmp_path: Path, webhook: Webhook) -> None:
    hosts = tmp_path / "hosts"
    assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
    good = hosts.read_bytes()
    hosts.write_bytes(b"# edited\n" + good.replace(b"10.0.0.5", b"6.6.6.6"))
    wait_for(lambda: hosts.read_bytes() == b"# edited\n" + good, "the block to be put right", 10)
    hosts.write_bytes(good.replace(b"# END kube2etcd\n", b""))
    wait_for(lambda: hosts.read_bytes() == good, "the marker to be put right", 10)
    hosts.unlink()
    wait_for(lambda: hosts.exists() and block(hosts) == ["10.0.0.5 foo.dtk.io"], "the file to be back", 10)


def test_two_webhooks_on_one_hosts_file(tmp_path: Path) -> None:
    """Each owner has a block of its own; two of one owner are told so, and no name goes back and forth."""
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")

    def options(name: str) -> list[str]:
        return ["--hosts-file", str(hosts), "--state-file", str(tmp_path / f"{name}.json")]

    with (
        serving(tmp_path / "one", *options("one")) as one,
        serving(tmp_path / "two", *options("two"), "--owner-id", "two") as two,
    ):
        assert one.apply(create=[a("one.dtk.io", "10.0.0.1")]) == 204
        assert two.apply(create=[a("two.dtk.io", "10.0.0.2")]) == 204
        for each in (one, two):
            each.wait_ready()
        content = hosts.read_text()
        assert "10.0.0.1 one.dtk.io" in content
        assert "10.0.0.2 two.dtk.io" in content
        before = hosts.stat().st_mtime_ns
        with serving(tmp_path / "three", *options("three")) as three:
            status = three.apply(create=[a("three.dtk.io", "10.0.0.3")])
            assert status in (204, 503)
            wait_for(
                lambda: any("--owner-id of its own" in each.readyz() for each in (one, three)),
                "the fight to be told",
                60,
            )
        assert hosts.stat().st_mtime_ns > before
        assert "10.0.0.2 two.dtk.io" in hosts.read_text()


#: What ProtectSystem=strict and ReadWritePaths=/etc/hosts come to.
_AS_THE_UNIT = """
set -e
mount --bind "$1" "$1"
mount --bind "$1/hosts" "$1/hosts"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""


def in_unit(etc: Path) -> list[str]:
    return ["unshare", "--mount", "--propagation=private", "--", "sh", "-c", _AS_THE_UNIT, "sh", str(etc)]


def test_a_hosts_file_in_a_read_only_folder(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    hosts = etc / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    options = [
        "--hosts-file",
        str(hosts),
        "--state-file",
        str(tmp_path / "state.json"),
        "--domains",
        "dtk.io",
    ]
    with Webhook(tmp_path, options, wrapper=in_unit(etc)) as webhook:
        inode = hosts.stat().st_ino
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5"), a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.stat().st_ino == inode
        assert block(hosts) == ["10.0.0.6 bar.dtk.io", "10.0.0.5 foo.dtk.io"]
        assert webhook.apply(delete=[a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.read_bytes().startswith(b"127.0.0.1 localhost\n# BEGIN kube2etcd")
        assert hosts.read_bytes().endswith(b"\n10.0.0.5 foo.dtk.io\n# END kube2etcd\n")
        assert sorted(path.name for path in etc.iterdir()) == ["hosts"]
        # An editor puts a new file in its place: the unit's path starts the service anew.
        edited = etc / "edited"
        edited.write_bytes(b"# edited\n" + hosts.read_bytes())
        edited.replace(hosts)
        webhook.restart()
        assert webhook.apply(create=[a("new.dtk.io", "10.0.0.7")]) == 204
        assert hosts.read_bytes().startswith(b"# edited\n127.0.0.1 localhost\n")
        assert block(hosts) == ["10.0.0.5 foo.dtk.io", "10.0.0.7 new.dtk.io"]


def test_desktop_kubernetes(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    with Webhook(
        tmp_path, ["--hosts-file", str(hosts), "--state-file", str(tmp_path / "state.json")]
    ) as webhook:
        assert webhook.call("GET", "/").json() == {"regexInclude": "^$"}
        for path, data in (("domains", "dtk.io"), ("clusterip", "192.168.122.167")):
            for _ in range(2):
                # As curl sends it: a form.
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                assert webhook.call("POST", f"/{path}", data.encode(), form).status_code == 200
        assert webhook.call("GET", "/domains").json() == ["dtk.io"]
        assert webhook.call("GET", "/").json() == {"include": ["dtk.io"]}
        example = alias("foo.dtk.io", "foo.dtk.io", labels={"resource": "ingress/default/test"})
        body = json.dumps([example]).encode()
        media = {"Content-Type": "application/external.dns.webhook+json;version=1"}
        adjusted = webhook.call("POST", "/adjustendpoints", body, media).json()
        assert adjusted == [{**example, "recordType": "A", "targets": ["192.168.122.167"]}]
        assert webhook.apply(create=[*adjusted, ownership(adjusted[0])]) == 204
        assert block(hosts) == ["192.168.122.167 foo.dtk.io"]
        webhook.restart()
        wait_for(lambda: block(hosts) == ["192.168.122.167 foo.dtk.io"], "the block after a restart", 5)
        assert webhook.call("GET", "/domains").json() == ["dtk.io"]
