"""The webhook as a process: what is kept, what is published, and what happens when something is away."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.stack.bridge import clean_environment
from tests.stack.harness import LOOPBACK, Etcd, wait_for
from tests.stack.webhook import (
    JSON,
    MEDIA_TYPE,
    Webhook,
    a,
    alias,
    ownership,
    serving,
    with_file,
)

KEYS = "/skydns"
STATE = "/kube2etcd/webhook"


def block(hosts: Path) -> list[str]:
    """The lines of our block."""
    lines = hosts.read_text(errors="replace").splitlines()
    marks = [number for number, line in enumerate(lines) if "kube2etcd" in line]
    assert len(marks) in (0, 2)
    return lines[marks[0] + 1 : marks[1]] if marks else []


def hosts_of(etcd: Etcd) -> set[str]:
    """The addresses in the served keys."""
    values = [json.loads(value) for value in etcd.dump(KEYS).values()]
    return {value["host"] for value in values if value.get("host")}


def state_keys(etcd: Etcd) -> list[str]:
    """The keys of the state; their values are no text."""
    return etcd.ctl("get", "--prefix", "--keys-only", "--", STATE).split()


def why_unready(webhook: Webhook) -> str:
    """Waits until it says that it is not ready, and why."""
    wait_for(lambda: webhook.probe("/readyz").status_code == 503, "unready", 15)
    return webhook.probe("/readyz").text


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kube2etcd", "webhook", *args],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )


# --- on the wire ----------------------------------------


def test_the_answers_as_the_client_reads_them(tmp_path: Path) -> None:
    with with_file(tmp_path) as webhook:
        answer = webhook.call("GET", "/", headers={"Accept": MEDIA_TYPE})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == MEDIA_TYPE
        assert answer.json() == {"include": ["dtk.io"]}
        assert webhook.call("GET", "/records").text == "[]"
        applied = webhook.call(
            "POST", "/records", b'{"Create":[],"UpdateOld":null}', {"Content-Type": MEDIA_TYPE}
        )
        assert (applied.status_code, applied.content) == (204, b"")
        for path in ("/livez", "/readyz", "/healthz", "/readiness", "/metrics"):
            assert webhook.probe(path).status_code == 200
            assert webhook.call("GET", path).status_code == 404
        assert webhook.probe("/records").status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_before_it_is_kept(tmp_path: Path, chunked: bool) -> None:
    with with_file(tmp_path) as webhook:
        with socket.create_connection((LOOPBACK, webhook.port), timeout=10) as raw:
            size = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 33554433"
            raw.sendall(
                b"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: " + MEDIA_TYPE.encode() + b"\r\n" + size
            )
            raw.sendall(b"\r\n\r\n")
            if chunked:
                with contextlib.suppress(OSError):
                    for _ in range(33):
                        raw.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            answer = _read_all(raw)
        assert b" 413 " in answer.split(b"\r\n")[0]
        assert b'{"error":"' in answer
        assert len(answer) < 1024
        assert webhook.records() == []


def _read_all(raw: socket.socket) -> bytes:
    """What comes until the peer closes; it may close while we still send."""
    found = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(4096):
            found += piece
    return found


@pytest.mark.parametrize(
    "junk",
    [
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
    ],
)
def test_no_http_is_no_trouble(tmp_path: Path, junk: bytes) -> None:
    with with_file(tmp_path) as webhook:
        with (
            socket.create_connection((LOOPBACK, webhook.port), timeout=10) as raw,
            contextlib.suppress(OSError),
        ):
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            status = _read_all(raw).split(b"\r\n")[0]
            assert not status or b" 5" not in status[8:10], status
        assert webhook.records() == []


def _spoiled(good: bytes, chance: random.Random) -> bytes:
    """A request with a few of its bytes changed, lost, put in or doubled."""
    body = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = chance.randrange(len(body))
        match chance.randrange(4):
            case 0:
                body[at] = chance.randrange(256)
            case 1:
                del body[at : at + chance.randrange(1, 9)]
            case 2:
                body[at:at] = chance.randbytes(3)
            case _:
                body[at:at] = body[max(0, at - 10) : at]
    return bytes(body)


def test_any_bytes_are_no_trouble(tmp_path: Path) -> None:
    message = json.dumps({"create": [a("foo.dtk.io", "10.0.0.5"), alias("b.dtk.io", "foo.dtk.io")]})
    head = (
        f"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(message)}"
    )
    good = f"{head}\r\n\r\n{message}".encode()
    chance = random.Random(8)
    with with_file(tmp_path) as webhook:
        pid = webhook.process.pid
        for _ in range(500):
            spoiled = _spoiled(good, chance)
            with socket.create_connection((LOOPBACK, webhook.port), timeout=10) as raw:
                with contextlib.suppress(OSError):
                    raw.sendall(spoiled)
                    raw.shutdown(socket.SHUT_WR)
                assert b" 5" not in _read_all(raw)[8:10], spoiled
        assert webhook.process.alive
        assert webhook.process.pid == pid
        assert all(line.endswith("dtk.io") for line in block(tmp_path / "hosts"))
        assert (tmp_path / "hosts").read_bytes().startswith(b"127.0.0.1 localhost\n")


def test_the_door_is_loopback_unless_asked_otherwise(tmp_path: Path) -> None:
    with with_file(tmp_path) as webhook:
        listening = Path("/proc/net/tcp").read_text()
        assert f"0100007F:{webhook.port:04X}" in listening
        assert f"00000000:{webhook.port:04X}" not in listening


def test_who_is_not_allowed_is_refused(tmp_path: Path) -> None:
    with with_file(tmp_path, b"", "--bind", "0.0.0.0", "--allow", "192.0.2.0/24") as webhook:
        assert webhook.call("GET", "/").status_code == 403
        assert webhook.call("POST", "/domains", b"x.io").status_code == 403
    with with_file(tmp_path, b"", "--bind", "::", "--allow", "192.0.2.0/24,127.0.0.0/8") as webhook:
        assert webhook.call("GET", "/").status_code == 200


# --- hosts file and state file ----------------------------------------


def test_names_come_change_and_go(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    before = b"127.0.0.1 localhost\r\n# caf\xe9\r\n10.0.0.9 mine.dtk.io"
    with with_file(tmp_path, before, "--cluster-ip", "192.168.122.167") as webhook:
        foo, gone = a("foo.dtk.io", "10.0.0.5"), alias("alias.dtk.io", "elsewhere.example")
        assert webhook.apply(create=[foo, ownership(foo), gone, a("mine.dtk.io", "10.0.0.1")]) == 204
        assert block(hosts) == ["192.168.122.167 alias.dtk.io", "10.0.0.5 foo.dtk.io"]
        assert hosts.read_bytes().startswith(before + b"\r\n# BEGIN kube2etcd")
        changed = a("foo.dtk.io", "10.0.0.7", "fd00::7")
        assert webhook.apply(updateOld=[foo], updateNew=[changed], delete=[gone]) == 204
        assert block(hosts) == ["10.0.0.7 foo.dtk.io"]
        assert webhook.apply(delete=[changed, a("mine.dtk.io", "10.0.0.1")]) == 204
        assert hosts.read_bytes() == before + b"\r\n"
        assert webhook.names() == ["a-foo.dtk.io"]


def test_what_was_answered_for_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(6)
    with with_file(tmp_path) as webhook:
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


def test_domains_and_cluster_address_survive_a_restart(tmp_path: Path) -> None:
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


def test_it_stops_within_a_second_and_answers_what_is_in_hand(tmp_path: Path) -> None:
    with with_file(tmp_path) as webhook:
        many = [a(f"n{number}.dtk.io", "10.0.0.5") for number in range(20000)]
        status: list[int] = []
        caller = threading.Thread(target=lambda: status.append(webhook.apply(create=many)))
        idle = socket.create_connection((LOOPBACK, webhook.port))
        caller.start()
        wait_for(lambda: (tmp_path / ".state.json.new").exists() or status, "the call to be in hand", 10)
        webhook.process.stop()
        caller.join(10)
        idle.close()
        assert status == [204]
        assert webhook.process.exit_code == 0
        webhook.start()
        began = time.monotonic()
        webhook.process.stop()
        assert time.monotonic() - began < 1
        assert webhook.process.exit_code == 0
        assert len(block(tmp_path / "hosts")) == 20000


def test_the_block_is_put_right_without_a_call(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    with with_file(tmp_path) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        good = hosts.read_bytes()
        written = hosts.stat().st_mtime_ns
        hosts.write_bytes(b"# edited\n" + good.replace(b"10.0.0.5", b"6.6.6.6"))
        wait_for(lambda: hosts.read_bytes() == b"# edited\n" + good, "the block to be put right", 10)
        hosts.write_bytes(good.replace(b"# END kube2etcd\n", b""))
        wait_for(lambda: hosts.read_bytes() == good, "the marker to be put right", 10)
        hosts.unlink()
        wait_for(
            lambda: hosts.exists() and block(hosts) == ["10.0.0.5 foo.dtk.io"], "the file to be back", 10
        )
        assert written


def test_nothing_differs_nothing_is_written(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    with with_file(tmp_path) as webhook:
        foo = a("foo.dtk.io", "10.0.0.5")
        assert webhook.apply(create=[foo]) == 204
        before = hosts.stat()
        assert webhook.apply(create=[foo], updateNew=[foo]) == 204
        webhook.restart()
        webhook.wait_ready()
        after = hosts.stat()
        assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_mode_owner_and_symlink_are_kept(tmp_path: Path) -> None:
    real, hosts = tmp_path / "real", tmp_path / "hosts"
    real.write_bytes(b"127.0.0.1 localhost\n")
    real.chmod(0o640)
    if os.getuid() == 0:
        os.chown(real, 65534, 65534)
    try:
        os.setxattr(real, "user.kube2etcd", b"kept")
        attribute = True
    except OSError:
        attribute = False
    before = real.stat()
    hosts.symlink_to("real")
    with with_file(tmp_path) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        after = real.stat()
        assert hosts.is_symlink()
        assert block(real) == ["10.0.0.5 foo.dtk.io"]
        assert stat.S_IMODE(after.st_mode) == 0o640
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
        assert not attribute or os.getxattr(real, "user.kube2etcd") == b"kept"


def test_a_hosts_file_that_cannot_be_written_is_a_soft_error(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    with with_file(tmp_path) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        before = webhook.records()
        # Not for root either: there is a folder in the file's place.
        content = hosts.read_bytes()
        hosts.unlink()
        hosts.mkdir()
        began = time.monotonic()
        assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 503
        assert time.monotonic() - began < 5
        assert webhook.records() == before
        assert webhook.call("GET", "/").status_code == 200
        assert "hosts file" in why_unready(webhook)
        assert webhook.probe("/livez").status_code == 200
        webhook.restart()
        assert webhook.records() == before
        hosts.rmdir()
        hosts.write_bytes(content)
        webhook.wait_ready()
        assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 204
        assert block(hosts) == ["10.0.0.6 bar.dtk.io", "10.0.0.5 foo.dtk.io"]


def test_a_state_file_that_cannot_be_written_is_a_soft_error(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with with_file(tmp_path) as webhook:
        state.mkdir()
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 503
        assert webhook.records() == []
        assert block(tmp_path / "hosts") == []
        state.rmdir()
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        webhook.wait_ready()


def test_a_state_that_cannot_be_read_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"version":99}')
    with with_file(tmp_path) as webhook:
        for path in ("/", "/records", "/domains", "/clusterip"):
            assert webhook.call("GET", path).status_code == 503
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 503
        assert "upgrade" in webhook.probe("/readyz").text
        assert (tmp_path / "state.json").read_text() == '{"version":99}'
        (tmp_path / "state.json").unlink()
        webhook.wait_ready()
        assert webhook.records() == []


def test_cleanup_leaves_the_users_file(tmp_path: Path) -> None:
    before = b"127.0.0.1 localhost\n# mine\n"
    with with_file(tmp_path, before) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        webhook.stop()
        assert block(tmp_path / "hosts") == ["10.0.0.5 foo.dtk.io"]
        options = ["--hosts-file", str(tmp_path / "hosts"), "--state-file", str(tmp_path / "state.json")]
        for _ in range(2):
            assert run("--cleanup", *options).returncode == 0
            assert (tmp_path / "hosts").read_bytes() == before
            assert not (tmp_path / "state.json").exists()


# --- options ----------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--etcd-server URL, --hosts-file PATH, or both"),
        (["--hosts-file", "h", "--domains", "a..b"], "a..b"),
        (["--hosts-file", "h", "--domains", "dtk.io,b c"], "b c"),
        (["--hosts-file", "h", "--cluster-ip", "1.2.3"], "1.2.3"),
        (["--hosts-file", "h", "--cluster-ip", "1.2.3.4,1.2.3.5"], "two addresses of one family"),
        (["--hosts-file", "h", "--allow", "10.0.0.1/8"], "10.0.0.1/8"),
        (["--etcd-server", "http://127.0.0.1:1", "--state-prefix", "/skydns/x"], "among the keys"),
    ],
)
def test_settings_that_cannot_work_end_it_at_once(args: list[str], words: str) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert words in done.stderr


def test_every_option_has_a_twin_in_the_environment(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"")
    env = {
        "KUBE2ETCD_HOSTS_FILE": str(hosts),
        "KUBE2ETCD_STATE_FILE": str(tmp_path / "s.json"),
        "KUBE2ETCD_CLUSTER_IP": "192.0.2.1,fd00::1",
        "KUBE2ETCD_DOMAINS": "dtk.io,.a.b",
        "KUBE2ETCD_ALLOW": "127.0.0.0/8",
        "KUBE2ETCD_BIND": "127.0.0.1",
    }
    webhook = Webhook(tmp_path, [], env)
    try:
        webhook.start()
        assert webhook.call("GET", "/").json() == {"include": ["dtk.io", ".a.b"]}
        assert webhook.call("GET", "/clusterip").json() == "192.0.2.1,fd00::1"
        assert webhook.apply(create=[alias("x.dtk.io", "x.dtk.io"), alias("a.b", "a.b")]) == 204
        assert block(hosts) == ["192.0.2.1 x.dtk.io", "fd00::1 x.dtk.io"]
    finally:
        webhook.kill()


# --- etcd ----------------------------------------


def test_names_become_keys_and_state_lives_in_etcd(etcd: Etcd, tmp_path: Path) -> None:
    etcd.put("/skydns/io/dtk/theirs", '{"host":"192.0.2.9"}')
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        foo = a("foo.dtk.io", "10.0.0.5", recordTTL=77)
        assert webhook.apply(create=[foo, ownership(foo), a("deep.er.dtk.io", "fd00::1")]) == 204
        wait_for(lambda: hosts_of(etcd) == {"10.0.0.5", "fd00::1", "192.0.2.9"}, "keys", 5)
        webhook.wait_ready()
        keys = etcd.dump(KEYS)
        assert not any("heritage" in value for value in keys.values())
        assert any('"ttl":77' in value for value in keys.values())
        assert state_keys(etcd)
        assert not (tmp_path / "state.json").exists()
        webhook.kill()
        webhook.start()
        assert webhook.names() == ["a-foo.dtk.io", "deep.er.dtk.io", "foo.dtk.io"]
        webhook.wait_ready()
        assert etcd.dump(KEYS) == keys
        assert webhook.apply(delete=[foo]) == 204
        wait_for(lambda: hosts_of(etcd) == {"fd00::1", "192.0.2.9"}, "the key to go", 5)
        webhook.stop()
        assert run("--cleanup", "--etcd-server", etcd.url).returncode == 0
        assert etcd.dump(KEYS) == {"/skydns/io/dtk/theirs": '{"host":"192.0.2.9"}'}
        assert state_keys(etcd) == []


def test_keys_and_state_are_put_right_without_a_call(etcd: Etcd, tmp_path: Path) -> None:
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        wait_for(lambda: hosts_of(etcd) == {"10.0.0.5"}, "keys", 5)
        keys, state = etcd.dump(KEYS), state_keys(etcd)
        etcd.delete("/")
        wait_for(lambda: etcd.dump(KEYS) == keys, "the keys to be back", 10)
        wait_for(lambda: state_keys(etcd) == state, "the state to be back", 12)
        webhook.kill()
        webhook.start()
        assert webhook.names() == ["foo.dtk.io"]


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_an_etcd_that_is_away_is_a_soft_error(etcd: Etcd, tmp_path: Path, how: str) -> None:
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        webhook.wait_ready()
        before = webhook.records()
        if how == "stopped":
            etcd.stop()
        else:
            etcd.pause()
        for _ in range(2):
            began = time.monotonic()
            assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 503
            assert time.monotonic() - began < 5
            assert webhook.records() == before
            assert webhook.call("GET", "/").status_code == 200
        assert "etcd" in why_unready(webhook)
        assert webhook.probe("/livez").status_code == 200
        if how == "stopped":
            etcd.start()
        else:
            etcd.resume()
        webhook.wait_ready(20)
        assert webhook.records() == before
        assert webhook.apply(create=[a("bar.dtk.io", "10.0.0.6")]) == 204
        wait_for(lambda: hosts_of(etcd) == {"10.0.0.5", "10.0.0.6"}, "keys", 5)
        began = time.monotonic()
        webhook.process.stop()
        assert time.monotonic() - began < 1
        assert webhook.process.exit_code == 0


def test_it_stops_within_a_second_though_etcd_is_silent(etcd: Etcd, tmp_path: Path) -> None:
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204
        etcd.pause()
        why_unready(webhook)
        began = time.monotonic()
        webhook.process.stop()
        assert time.monotonic() - began < 1
        assert webhook.process.exit_code == 0
        etcd.resume()
        webhook.start()
        assert webhook.names() == ["foo.dtk.io"]


def test_without_etcd_at_the_start_it_waits(etcd: Etcd, tmp_path: Path) -> None:
    etcd.stop()
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        for path in ("/", "/records"):
            assert webhook.call("GET", path).status_code == 503
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 503
        assert webhook.probe("/livez").status_code == 200
        assert webhook.probe("/readyz").status_code == 503
        etcd.start()
        webhook.wait_ready()
        assert webhook.apply(create=[a("foo.dtk.io", "10.0.0.5")]) == 204


def test_a_kill_in_the_middle_of_a_large_call_is_all_or_nothing(etcd: Etcd, tmp_path: Path) -> None:
    chance = random.Random(7)
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        # Texts that do not shrink: many transactions for one call.
        texts = [f"{chance.getrandbits(40000):x}" for _ in range(600)]
        for turn in range(5):
            batch = [
                {"dnsName": f"t{turn}-{number}.dtk.io", "targets": [text], "recordType": "TXT"}
                for number, text in enumerate(texts)
            ]
            killer = threading.Timer(chance.uniform(0.1, 1.0), webhook.kill)
            killer.start()
            status = 0
            with contextlib.suppress(requests.ConnectionError):
                status = webhook.apply(create=batch)
            killer.join()
            webhook.start()
            wait_for(lambda: webhook.call("GET", "/records").status_code == 200, "the state to be read", 10)
            mine = [name for name in webhook.names() if name.startswith(f"t{turn}-")]
            assert len(mine) in ((600,) if status == 204 else (0, 600))


def test_domains_of_run_time_are_served(etcd: Etcd, tmp_path: Path) -> None:
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        assert webhook.apply(create=[a("foo.late.io", "10.0.0.5")]) == 204
        assert webhook.records() == []
        assert webhook.call("POST", "/domains", b"late.io").status_code == 200
        assert webhook.apply(create=[a("foo.late.io", "10.0.0.5"), alias("x.late.io", "x.late.io")]) == 204
        wait_for(lambda: hosts_of(etcd) == {"10.0.0.5"}, "keys", 5)
        assert webhook.call("POST", "/clusterip", b"192.0.2.1").status_code == 200
        wait_for(lambda: hosts_of(etcd) == {"10.0.0.5", "192.0.2.1"}, "keys", 5)


def test_a_mass_deletion_is_believed(etcd: Etcd, tmp_path: Path) -> None:
    with serving(tmp_path, "--etcd-server", etcd.url) as webhook:
        many = [a(f"n{number}.dtk.io", f"10.0.0.{number}") for number in range(1, 40)]
        assert webhook.apply(create=many) == 204
        wait_for(lambda: len(hosts_of(etcd)) == 39, "keys", 5)
        assert webhook.apply(delete=many) == 204
        wait_for(lambda: not hosts_of(etcd), "keys to go", 5)
        webhook.wait_ready()


def test_two_on_one_state_never_undo_each_other(etcd: Etcd, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one", "--etcd-server", etcd.url) as one,
        serving(tmp_path / "two", "--etcd-server", etcd.url) as two,
    ):
        assert one.apply(create=[a("one.dtk.io", "10.0.0.1")]) == 204
        wait_for(lambda: two.apply(create=[a("two.dtk.io", "10.0.0.2")]) == 204, "the other to catch up", 15)
        wait_for(lambda: one.names() == two.names() == ["one.dtk.io", "two.dtk.io"], "both to agree", 15)


# --- size ----------------------------------------


def large(count: int) -> list[JSON]:
    """Names with their ownership texts, as ExternalDNS posts them."""
    found = []
    for number in range(count):
        one = a(
            f"app-{number:05}.team-{number % 50}.dtk.io",
            f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
        )
        one["labels"] = {"owner": "me", "resource": f"ingress/team-{number % 50}/app-{number:05}"}
        found += [one, ownership(one)]
    return found


def test_five_thousand_names_in_one_call(etcd: Etcd, tmp_path: Path, record_property: object) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\n")
    with serving(tmp_path, "--etcd-server", etcd.url, "--hosts-file", str(hosts)) as webhook:
        batch = large(5000)
        began = time.monotonic()
        assert webhook.apply(create=batch) == 204
        answered = time.monotonic() - began
        wait_for(lambda: len(hosts_of(etcd)) == 5000, "all keys", 20)
        published = time.monotonic() - began
        assert len(block(hosts)) == 5000
        began = time.monotonic()
        assert webhook.apply(create=large(5001)[-2:]) == 204
        more = time.monotonic() - began
        wait_for(lambda: len(hosts_of(etcd)) == 5001, "one more key", 5)
        one_more = time.monotonic() - began
        print(
            f"5,000 names: answered after {answered:.2f} s, published after {published:.2f} s;"
            f" one more: answered after {more:.2f} s, published after {one_more:.2f} s"
        )
        assert len(webhook.records()) == 10002
        assert published < 10
        assert more < 1
        began = time.monotonic()
        webhook.kill()
        webhook.start()
        assert len(webhook.records()) == 10002
        webhook.wait_ready()
        assert webhook.apply(delete=webhook.records()) == 204
        wait_for(lambda: not hosts_of(etcd), "all keys to go", 20)
        assert block(hosts) == []
