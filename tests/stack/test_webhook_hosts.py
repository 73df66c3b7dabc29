"""The webhook over HTTP, with a hosts file and a state file; Desktop Kubernetes."""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.stack.harness import LOOPBACK, wait_for
from tests.stack.webhook import (
    FORM,
    LOCALHOST,
    MEDIA_TYPE,
    Webhook,
    a,
    cname,
    file_options,
    hosts_block,
    ownership_txt,
    webhook_for,
)


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    with webhook_for(tmp_path, *file_options(tmp_path)) as one:
        yield one


def test_responses_and_metrics(webhook: Webhook) -> None:
    answer = webhook.request("GET", "/", headers={"Accept": MEDIA_TYPE})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, MEDIA_TYPE)
    assert answer.json() == {"include": ["dtk.io"]}
    assert webhook.request("GET", "/records").text == "[]"
    applied = webhook.request(
        "POST", "/records", b'{"Create":[],"UpdateOld":null}', {"Content-Type": MEDIA_TYPE}
    )
    assert (applied.status_code, applied.content) == (204, b"")
    for path in ("/livez", "/readyz", "/healthz", "/readiness", "/metrics"):
        assert webhook.get(path).status_code == 200
        assert webhook.request("GET", path).status_code == 404
    others = 'kube2etcd_webhook_calls_total{method="GET",path="other",status="404"} 5.0'
    wait_for(lambda: others in webhook.get("/metrics").text, "all calls to be counted", 10)
    page = webhook.get("/metrics").text
    assert 'kube2etcd_webhook_calls_total{method="POST",path="/records",status="204"} 1.0' in page
    assert webhook.get("/records").status_code == 404
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{webhook.provider_port:04X}" in listening, "loopback by default"
    assert f"00000000:{webhook.provider_port:04X}" not in listening


def _read_all(raw: socket.socket) -> bytes:
    """All bytes until the peer closes, perhaps while we still send."""
    found = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(4096):
            found += piece
    return found


MALFORMED = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  HTTP/1.1\r\n\r\n",
    b"POST /records HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /records HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /records HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /" + b"a" * 300000 + b" HTTP/1.1\r\n\r\n",
    b"GET /%ff%00%0a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nAccept: \xff\xfe;;;q=x\r\n\r\n",
    b"POST /records HTTP/1.1\r\nContent-Type: ;;;\r\nContent-Length: 2\r\n\r\n{}",
]


def _mutated(good: bytes, chance: random.Random) -> bytes:
    """A request with some bytes changed, deleted, inserted or repeated."""
    body = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(body))
        instead = chance.choice((b"", chance.randbytes(1), chance.randbytes(3), body[max(0, at - 10) : at]))
        body[at : at + chance.choice((0, 1, chance.randrange(1, 9)))] = instead
    return bytes(body)


def test_malformed_requests_are_survived(tmp_path: Path, webhook: Webhook) -> None:
    message = json.dumps({"create": [a("foo.dtk.io", "10.0.0.5"), cname("b.dtk.io", "foo.dtk.io")]})
    head = (
        f"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(message)}"
    )
    good = f"{head}\r\n\r\n{message}".encode()
    chance = random.Random(8)
    pid = webhook.pid
    for sent in [*MALFORMED, *(_mutated(good, chance) for _ in range(500))]:
        with socket.create_connection((LOOPBACK, webhook.provider_port), timeout=10) as raw:
            with contextlib.suppress(OSError):
                raw.sendall(sent)
                raw.shutdown(socket.SHUT_WR)
            assert b" 5" not in _read_all(raw)[8:10], sent
    assert (webhook.alive, webhook.pid) == (True, pid)
    assert all(line.endswith("dtk.io") for line in hosts_block(tmp_path / "hosts"))
    assert (tmp_path / "hosts").read_bytes().startswith(LOCALHOST)


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
        assert hosts_block(tmp_path / "hosts") == [f"10.0.0.5 {name}" for name in sorted(there)]
    assert len(answered) > 8


def test_stop_answers_the_pending_request(tmp_path: Path, webhook: Webhook) -> None:
    many = [a(f"n{number}.dtk.io", "10.0.0.5") for number in range(20000)]
    status: list[int] = []
    caller = threading.Thread(target=lambda: status.append(webhook.apply(create=many)))
    idle = socket.create_connection((LOOPBACK, webhook.provider_port))
    caller.start()
    wait_for(lambda: (tmp_path / ".state.json.new").exists() or status, "the call to be in progress", 10)
    webhook.stop()
    caller.join(10)
    idle.close()
    assert status == [204]
    assert webhook.exit_code == 0
    webhook.start()
    webhook.stop_within(1.0)
    assert len(hosts_block(tmp_path / "hosts")) == 20000


def test_hosts_block_is_repaired(tmp_path: Path, webhook: Webhook) -> None:
    hosts = tmp_path / "hosts"
    assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
    good = hosts.read_bytes()
    hosts.write_bytes(b"# edited\n" + good.replace(b"10.0.0.5", b"6.6.6.6"))
    wait_for(lambda: hosts.read_bytes() == b"# edited\n" + good, "the block to be repaired", 10)
    hosts.write_bytes(good.replace(b"# END kube2etcd\n", b""))
    wait_for(lambda: hosts.read_bytes() == good, "the marker to be repaired", 10)
    hosts.unlink()
    wait_for(
        lambda: hosts.exists() and hosts_block(hosts) == ["10.0.0.5 foo.dtk.io"], "the file to be back", 10
    )


def test_two_webhooks_on_one_hosts_file(tmp_path: Path) -> None:
    """Each owner id has its own block; two webhooks with one owner id report it."""
    hosts = tmp_path / "hosts"

    def another(name: str, *options: str) -> Webhook:
        place = tmp_path / name
        return webhook_for(place, *file_options(place, hosts), *options)

    with another("one") as one, another("two", "--owner-id", "two") as two:
        assert one.apply(create=[a("one.dtk.io", "10.0.0.1")]) == 204
        assert two.apply(create=[a("two.dtk.io", "10.0.0.2")]) == 204
        for each in (one, two):
            each.wait_ready()
        content = hosts.read_text()
        assert "10.0.0.1 one.dtk.io" in content
        assert "10.0.0.2 two.dtk.io" in content
        before = hosts.stat().st_mtime_ns
        with another("three") as three:
            assert three.apply(create=[a("three.dtk.io", "10.0.0.3")]) in (204, 503)
            both = (one, three)
            wait_for(lambda: any("--owner-id of its own" in each.readyz() for each in both), "a report", 60)
        assert hosts.stat().st_mtime_ns > before
        assert "10.0.0.2 two.dtk.io" in hosts.read_text()


#: The mounts of ProtectSystem=strict and ReadWritePaths=/etc/hosts.
READ_ONLY_MOUNTS = """
set -e
mount --bind "$1" "$1"
mount --bind "$1/hosts" "$1/hosts"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""


def test_hosts_file_in_a_read_only_directory(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    hosts = etc / "hosts"
    unit = ["unshare", "--mount", "--propagation=private", "--", "sh", "-c", READ_ONLY_MOUNTS, "sh", str(etc)]
    with webhook_for(tmp_path, *file_options(tmp_path, hosts), wrapper=unit) as webhook:
        inode = hosts.stat().st_ino
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5"), a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.stat().st_ino == inode
        assert hosts_block(hosts) == ["10.0.0.6 bar.dtk.io", "10.0.0.5 foo.dtk.io"]
        assert webhook.apply(delete=[a("bar.dtk.io", "10.0.0.6")]) == 204
        assert hosts.read_bytes().startswith(LOCALHOST + b"# BEGIN kube2etcd")
        assert hosts.read_bytes().endswith(b"\n10.0.0.5 foo.dtk.io\n# END kube2etcd\n")
        assert sorted(path.name for path in etc.iterdir()) == ["hosts"]
        # An editor replaces the file: the systemd path unit restarts the service.
        edited = etc / "edited"
        edited.write_bytes(b"# edited\n" + hosts.read_bytes())
        edited.replace(hosts)
        webhook.restart()
        assert webhook.apply(create=[a("new.dtk.io", "10.0.0.7")]) == 204
        assert hosts.read_bytes().startswith(b"# edited\n" + LOCALHOST)
        assert hosts_block(hosts) == ["10.0.0.5 foo.dtk.io", "10.0.0.7 new.dtk.io"]


def test_desktop_kubernetes_settings_survive_a_restart(tmp_path: Path) -> None:
    """A posted domain and cluster IP survive a restart; the option overrides a posted cluster IP."""
    hosts, options = tmp_path / "hosts", file_options(tmp_path)
    with Webhook(tmp_path, options) as webhook:
        assert webhook.request("GET", "/").json() == {"regexInclude": "^$"}
        for path, data in (("domains", b"dtk.io"), ("clusterip", b"192.168.122.167")):
            for _ in range(2):
                assert webhook.request("POST", f"/{path}", data, FORM).status_code == 200
        assert webhook.request("GET", "/domains").json() == ["dtk.io"]
        assert webhook.request("GET", "/").json() == {"include": ["dtk.io"]}
        example = cname("foo.dtk.io", "foo.dtk.io", labels={"resource": "ingress/default/test"})
        body = json.dumps([example]).encode()
        adjusted = webhook.request("POST", "/adjustendpoints", body, {"Content-Type": MEDIA_TYPE}).json()
        assert adjusted == [{**example, "recordType": "A", "targets": ["192.168.122.167"]}]
        itself = cname("bar.dtk.io", "bar.dtk.io")
        assert webhook.apply(create=[*adjusted, ownership_txt(adjusted[0]), itself]) == 204
        lines = ["192.168.122.167 bar.dtk.io", "192.168.122.167 foo.dtk.io"]
        assert hosts_block(hosts) == lines
        webhook.restart()
        wait_for(lambda: hosts_block(hosts) == lines, "the block after a restart", 5)
        assert webhook.request("GET", "/domains").json() == ["dtk.io"]
        assert webhook.request("GET", "/clusterip").json() == "192.168.122.167"
    with Webhook(tmp_path, [*options, "--domains", "own.io", "--cluster-ip", "10.1.1.1"]) as webhook:
        assert webhook.request("GET", "/domains").json() == ["own.io", "dtk.io"]
        assert webhook.request("GET", "/clusterip").json() == "10.1.1.1"
        assert hosts_block(hosts) == ["10.1.1.1 bar.dtk.io", "192.168.122.167 foo.dtk.io"]
