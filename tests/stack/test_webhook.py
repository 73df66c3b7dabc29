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
from tests.stack.webhook import MEDIA_TYPE, Webhook, a, alias, block, serving, with_file


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    with with_file(tmp_path) as one:
        yield one


def test_the_answers_as_the_client_reads_them(webhook: Webhook) -> None:
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
        assert webhook.get(path).status_code == 200
        assert webhook.call("GET", path).status_code == 404
    others = 'kube2etcd_webhook_calls_total{method="GET",path="other",status="404"} 5.0'
    # The page may be a moment old.
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
    assert refused in webhook.get("/metrics").text


def _read_all(raw: socket.socket) -> bytes:
    """What comes until the peer closes; it may close while we still send."""
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


def test_any_bytes_are_no_trouble(tmp_path: Path, webhook: Webhook) -> None:
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
    assert (tmp_path / "hosts").read_bytes().startswith(b"127.0.0.1 localhost\n")


def test_loopback_by_default(webhook: Webhook) -> None:
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{webhook.provider_port:04X}" in listening
    assert f"00000000:{webhook.provider_port:04X}" not in listening


# What ExternalDNS writes up to v0.16: its lists are called as they are in Go, and an empty one is null.
WANTED_UP_TO_V0_16 = b"""[
{"dnsName":"foo.dtk.io","targets":["10.0.0.5"],"recordType":"A","labels":{"resource":"ingress/default/a"}},
{"dnsName":"v6.dtk.io","targets":["2001:db8:0:0::5"],"recordType":"AAAA","recordTTL":120,
 "labels":{"resource":"ingress/default/c"}},
{"dnsName":"self.dtk.io","targets":["self.dtk.io"],"recordType":"CNAME",
 "labels":{"resource":"ingress/default/e"}}]"""
TEXT_UP_TO_V0_16 = (
    b'["\\"heritage=external-dns,external-dns/owner=me,external-dns/resource=ingress/default/a\\""]'
)
CREATED_UP_TO_V0_16 = (
    b"""{"Create":[
{"dnsName":"foo.dtk.io","targets":["10.0.0.5"],"recordType":"A",
 "labels":{"owner":"me","resource":"ingress/default/a"}},
{"dnsName":"foo.dtk.io","targets":"""
    + TEXT_UP_TO_V0_16
    + b""","recordType":"TXT","labels":{"ownedRecord":"foo.dtk.io"}},
{"dnsName":"a-foo.dtk.io","targets":"""
    + TEXT_UP_TO_V0_16
    + b""","recordType":"TXT","labels":{"ownedRecord":"foo.dtk.io"}},
{"dnsName":"v6.dtk.io","targets":["2001:db8:0:0::5"],"recordType":"AAAA","recordTTL":120,
 "labels":{"owner":"me","resource":"ingress/default/c"}}],
"UpdateOld":null,"UpdateNew":null,"Delete":null}"""
)
CHANGED_UP_TO_V0_16 = b"""{"Create":null,
"UpdateOld":[{"dnsName":"foo.dtk.io","targets":["10.0.0.5"],"recordType":"A","labels":{"owner":"me"}}],
"UpdateNew":[{"dnsName":"foo.dtk.io","targets":["10.0.0.9"],"recordType":"A","labels":{"owner":"me"}}],
"Delete":[{"dnsName":"v6.dtk.io","targets":["2001:db8:0:0::5"],"recordType":"AAAA","recordTTL":120}]}"""


def test_requests_of_older_clients(binaries: Binaries, etcd: Etcd, tmp_path: Path) -> None:
    dns = on_keys(tmp_path, binaries, "--domains", "dtk.io", "--etcd-server", etcd.url)
    hosts = tmp_path / "hosts"
    with serving(
        tmp_path, "--etcd-server", etcd.url, "--hosts-file", str(hosts), "--cluster-ip", "192.0.2.1"
    ) as webhook:
        posted = {"Content-Type": MEDIA_TYPE}
        with dns:
            for nothing in (b"null", b"[]"):
                answer = webhook.call("POST", "/adjustendpoints", nothing, {**posted, "Accept": MEDIA_TYPE})
                assert (answer.status_code, answer.text) == (200, "[]")
            answer = webhook.call("POST", "/adjustendpoints", WANTED_UP_TO_V0_16, posted)
            wanted = json.loads(WANTED_UP_TO_V0_16)
            assert answer.json()[:2] == wanted[:2]
            assert (answer.json()[2]["recordType"], answer.json()[2]["targets"]) == ("A", ["192.0.2.1"])
            nothing = b'{"Create":null,"UpdateOld":null,"UpdateNew":null,"Delete":null}'
            for body in (nothing, CREATED_UP_TO_V0_16, nothing):
                answer = webhook.call("POST", "/records", body, posted)
                assert (answer.status_code, answer.content) == (204, b"")
            created = json.loads(CREATED_UP_TO_V0_16)["Create"]
            kept = webhook.records()
            assert len(kept) == len(created)
            assert all(one in kept for one in created)
            dns.expect("foo.dtk.io", "A", "10.0.0.5")
            dns.expect("foo.dtk.io", "TXT", "NODATA")
            dns.expect("v6.dtk.io", "AAAA", "2001:db8::5")
            assert webhook.call("POST", "/records", CHANGED_UP_TO_V0_16, posted).status_code == 204
            dns.expect("foo.dtk.io", "A", "10.0.0.9")
            dns.expect("v6.dtk.io", "AAAA", "NXDOMAIN")
            assert webhook.names() == ["a-foo.dtk.io", "foo.dtk.io", "foo.dtk.io"]
            assert block(hosts) == ["10.0.0.9 foo.dtk.io"]
