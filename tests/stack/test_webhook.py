"""The webhook over HTTP."""

import contextlib
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.coredns import on_keys
from tests.stack.harness import LOOPBACK, Binaries, Etcd, wait_for
from tests.stack.objects import endpoint
from tests.stack.webhook import JSON, LOCALHOST, MEDIA_TYPE, Webhook, a, alias, block, in_files, serving


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    with serving(tmp_path, *in_files(tmp_path)) as one:
        yield one


def test_responses_and_metrics(webhook: Webhook) -> None:
    answer = webhook.call("GET", "/", headers={"Accept": MEDIA_TYPE})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, MEDIA_TYPE)
    assert answer.json() == {"include": ["dtk.io"]}
    assert webhook.call("GET", "/records").text == "[]"
    applied = webhook.call(
        "POST", "/records", b'{"Create":[],"UpdateOld":null}', {"Content-Type": MEDIA_TYPE}
    )
    assert (applied.status_code, applied.content) == (204, b"")
    for path in ("/livez", "/readyz", "/healthz", "/readiness", "/metrics"):
        assert webhook.get(path).status_code == 200
        assert webhook.call("GET", path).status_code == 404
    others = 'kube2etcd_webhook_calls_total{method="GET",path="other",status="404"} 5.0'
    # The page may be slightly stale.
    wait_for(lambda: others in webhook.get("/metrics").text, "all calls to be counted", 10)
    page = webhook.get("/metrics").text
    assert 'kube2etcd_webhook_calls_total{method="POST",path="/records",status="204"} 1.0' in page
    assert webhook.get("/records").status_code == 404


def test_an_oversized_chunked_body(webhook: Webhook) -> None:
    with socket.create_connection((LOOPBACK, webhook.provider_port), timeout=10) as raw:
        raw.sendall(b"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: " + MEDIA_TYPE.encode())
        raw.sendall(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(33):
                raw.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
        answer = _read_all(raw)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b'{"error":"' in answer
    assert len(answer) < 1024
    assert webhook.records() == []
    refused = 'kube2etcd_webhook_calls_total{method="POST",path="/records",status="413"} 1.0'
    wait_for(lambda: refused in webhook.get("/metrics").text, "it to be counted", 5)


def _read_all(raw: socket.socket) -> bytes:
    """What arrives until the peer closes, perhaps while we still send."""
    found = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(4096):
            found += piece
    return found


JUNK = [
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


def _spoiled(good: bytes, chance: random.Random) -> bytes:
    """A request with a few bytes changed, deleted, inserted or repeated."""
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


def test_garbage_is_survived(tmp_path: Path, webhook: Webhook) -> None:
    message = json.dumps({"create": [a("foo.dtk.io", "10.0.0.5"), alias("b.dtk.io", "foo.dtk.io")]})
    head = (
        f"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(message)}"
    )
    good = f"{head}\r\n\r\n{message}".encode()
    chance = random.Random(8)
    pid = webhook.pid
    for sent in [*JUNK, *(_spoiled(good, chance) for _ in range(500))]:
        with socket.create_connection((LOOPBACK, webhook.provider_port), timeout=10) as raw:
            with contextlib.suppress(OSError):
                raw.sendall(sent)
                raw.shutdown(socket.SHUT_WR)
            assert b" 5" not in _read_all(raw)[8:10], sent
    assert (webhook.alive, webhook.pid) == (True, pid)
    assert all(line.endswith("dtk.io") for line in block(tmp_path / "hosts"))
    assert (tmp_path / "hosts").read_bytes().startswith(LOCALHOST)


def test_loopback_by_default(webhook: Webhook) -> None:
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{webhook.provider_port:04X}" in listening
    assert f"00000000:{webhook.provider_port:04X}" not in listening


# What ExternalDNS posts up to v0.16: the lists have their Go names, and an empty list is null.
FOO = a("foo.dtk.io", "10.0.0.5", labels={"owner": "me", "resource": "ingress/default/a"})
V6 = a("v6.dtk.io", "2001:db8:0:0::5", recordTTL=120, labels={"owner": "me"})
SELF = alias("self.dtk.io", "self.dtk.io", labels={"resource": "ingress/default/e"})
OWNED = '"heritage=external-dns,external-dns/owner=me,external-dns/resource=ingress/default/a"'
TEXTS = [
    endpoint(name, "TXT", OWNED, labels={"ownedRecord": "foo.dtk.io"})
    for name in ("foo.dtk.io", "a-foo.dtk.io")
]


def changes(**lists: list[JSON]) -> bytes:
    return json.dumps({**dict.fromkeys(("Create", "UpdateOld", "UpdateNew", "Delete")), **lists}).encode()


def test_requests_of_older_clients(binaries: Binaries, etcd: Etcd, tmp_path: Path) -> None:
    posted = {"Content-Type": MEDIA_TYPE}
    hosts = tmp_path / "hosts"
    options = ("--etcd-server", etcd.url, "--hosts-file", str(hosts), "--cluster-ip", "192.0.2.1")
    with (
        serving(tmp_path, *options) as webhook,
        on_keys(tmp_path, binaries, "--domains", "dtk.io", "--etcd-server", etcd.url) as dns,
    ):

        def apply(**lists: list[JSON]) -> None:
            answer = webhook.call("POST", "/records", changes(**lists), posted)
            assert (answer.status_code, answer.content) == (204, b"")

        for nothing in (b"null", b"[]"):
            answer = webhook.call("POST", "/adjustendpoints", nothing, {**posted, "Accept": MEDIA_TYPE})
            assert (answer.status_code, answer.text) == (200, "[]")
        wanted = json.dumps([FOO, V6, SELF]).encode()
        *same, adjusted = webhook.call("POST", "/adjustendpoints", wanted, posted).json()
        assert same == [FOO, V6]
        assert (adjusted["recordType"], adjusted["targets"]) == ("A", ["192.0.2.1"])
        apply()
        apply(Create=[FOO, *TEXTS, V6])
        apply()
        kept = webhook.records()
        assert len(kept) == 4
        assert all(one in kept for one in (FOO, *TEXTS, V6))
        dns.expect("foo.dtk.io", "A", "10.0.0.5")
        dns.expect("foo.dtk.io", "TXT", "NODATA")
        dns.expect("v6.dtk.io", "AAAA", "2001:db8::5")
        apply(UpdateOld=[FOO], UpdateNew=[{**FOO, "targets": ["10.0.0.9"]}], Delete=[V6])
        dns.expect("foo.dtk.io", "A", "10.0.0.9")
        dns.expect("v6.dtk.io", "AAAA", "NXDOMAIN")
        assert webhook.names() == ["a-foo.dtk.io", "foo.dtk.io", "foo.dtk.io"]
        assert block(hosts) == ["10.0.0.9 foo.dtk.io"]
