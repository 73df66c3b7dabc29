"""The listener on a socket: body limits, early refusals, untrusted headers, stop."""

import contextlib
import gc
import gzip
import ipaddress
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kube2etcd.http.server import Server
from kube2etcd.settings import HostPort, Network
from kube2etcd.webhook import api
from kube2etcd.webhook.api import MAX_BODY, MEDIA_TYPE, Listener
from tests.webhook.fakes import Client, a

MESSAGE = json.dumps({"create": [a("foo.dtk.io")]}).encode()
HEAD = b"POST /records HTTP/1.1\r\nHost: x\r\nContent-Type: " + MEDIA_TYPE.encode() + b"\r\n"
HERE = (ipaddress.ip_network("127.0.0.0/8"),)
ELSEWHERE = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("fd00::/8"))


class RunningListener:
    """A listener on a free port."""

    def __init__(self, allow: tuple[Network, ...] = ()) -> None:
        self.client = Client()
        self.listener = Listener(self.client.application, HostPort("127.0.0.1", 0), allow).start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.listener.port), timeout=20)

    def send(self, data: bytes) -> bytes:
        """All data that the peer sends until it closes."""
        with self.connect() as raw:
            with contextlib.suppress(OSError):
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
            return read_all(raw)

    def names(self) -> list[str]:
        return [one["dnsName"] for one in self.client.records()]


def read_all(raw: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := raw.recv(65536):
            found += part
    return found


def statuses(answers: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers)]


@pytest.fixture
def start_listener() -> Iterator[Any]:
    with contextlib.ExitStack() as ending:

        def start(*allow: Network) -> RunningListener:
            running = RunningListener(allow)
            ending.callback(running.listener.stop)
            return running

        yield start


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("fd00::1%eth0", True),
        ("127.0.0.1", False),
        ("192.0.3.1", False),
        ("198.51.100.9", False),
        ("::ffff:198.51.100.9", True),
        ("fd00:0:0:1::1", False),
    ],
)
def test_allowed_peers(peer: str, allowed: bool) -> None:
    networks = (
        ipaddress.ip_network("192.0.2.0/24"),
        ipaddress.ip_network("fd00::/64"),
        ipaddress.ip_network("::ffff:198.51.100.0/120"),
    )
    assert api.is_allowed(peer, networks) == allowed
    assert api.is_allowed(peer, ())


def chunked(body: bytes) -> bytes:
    return b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("in_chunks", [False, True], ids=["with a length", "chunked"])
def test_body_up_to_the_limit_is_accepted(start_listener: Any, in_chunks: bool) -> None:
    running = start_listener()
    for more, status in ((0, 204), (1, 413)):
        body = MESSAGE.ljust(MAX_BODY + more)
        length = b"Transfer-Encoding: chunked" if in_chunks else b"Content-Length: %d" % len(body)
        body = chunked(body) if in_chunks else body
        answer = running.send(HEAD + b"Connection: close\r\n" + length + b"\r\n\r\n" + body)
        assert statuses(answer) == [status]
    assert b'\r\n\r\n{"error":"' in answer
    assert len(answer) < 1024
    assert running.client.metric('calls_total{method="POST",path="/records",status="413"}') == 1
    assert running.names() == ["foo.dtk.io"]


def test_endless_chunk_extensions_are_refused(start_listener: Any) -> None:
    with start_listener().connect() as raw:
        raw.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(2 * MAX_BODY // 8000 + 1):
                raw.sendall(b"1;x=%b\r\nx\r\n" % (b"y" * 8000))
            assert statuses(read_all(raw)) == [413]


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: %(n)d\r\nContent-Length: %(n)d\r\n",
        b"Content-Length: 5\r\nContent-Length: %(n)d\r\n",
        b"Content-Length: %(n)d, %(n)d\r\n",
        b"Content-Length: +%(n)d\r\n",
        b"Content-Length: %(n)d\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: %(n)d\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: %(n)d\r\n Transfer-Encoding: chunked\r\n",
        b"Content-Length: %(n)d\nOrigin: x\r\n",
    ],
)
def test_request_smuggling_is_refused(start_listener: Any, lengths: bytes) -> None:
    running = start_listener()
    smuggled = HEAD + b"Content-Length: %d\r\n\r\n" % len(MESSAGE) + MESSAGE
    for body in (MESSAGE, chunked(MESSAGE)):
        assert statuses(running.send(HEAD + lengths % {b"n": len(body)} + b"\r\n" + body + smuggled)) == [400]
    assert running.names() == []


def test_expect_100_is_answered(start_listener: Any) -> None:
    running = start_listener()
    with running.connect() as raw:
        raw.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(MESSAGE))
        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
        raw.sendall(MESSAGE)
        raw.shutdown(socket.SHUT_WR)
        assert statuses(read_all(raw)) == [204]
    assert running.names() == ["foo.dtk.io"]


def test_curl_calls_of_the_desktop_guide(start_listener: Any) -> None:
    running = start_listener()
    for path, data in ((b"domains", b"late.io"), (b"clusterip", b"192.168.122.167")) * 2:
        head = (
            b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n" % path
        )
        form = b"Content-Length: %d\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n" % len(data)
        assert statuses(running.send(head + form + data)) == [200]
    assert running.client.call("GET", "/domains").json == ["dtk.io", "late.io"]
    assert running.client.call("GET", "/clusterip").json == "192.168.122.167"


GZIP = gzip.compress(MESSAGE)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + chunked(MESSAGE)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        pytest.param(HEAD + CHUNKED, 204, id="chunked"),
        pytest.param(
            HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n" + CHUNKED,
            400,
            id="chunked needs HTTP/1.1",
        ),
        pytest.param(
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(GZIP) + GZIP,
            400,
            id="compressed",
        ),
    ],
)
def test_transfer_encodings(start_listener: Any, message: bytes, status: int) -> None:
    running = start_listener()
    assert statuses(running.send(message)) == [status]
    assert running.names() == (["foo.dtk.io"] if status == 204 else [])


@pytest.mark.parametrize(
    ("allow", "header", "status"),
    [
        *(
            ((), b"Origin: %b\r\nContent-Length: 1000" % origin, 403)
            for origin in (b"null", b"", b"http://127.0.0.1:5000", b"http://evil.example")
        ),
        (ELSEWHERE, b"Content-Length: 1000", 403),
        (ELSEWHERE, b"Content-Length: 99999999999", 403),
        (ELSEWHERE, b"Transfer-Encoding: chunked", 403),
        ((), b"Content-Length: 99999999999", 413),
    ],
)
def test_refused_before_the_body(
    start_listener: Any, allow: tuple[Network, ...], header: bytes, status: int
) -> None:
    running = start_listener(*allow)
    with running.connect() as raw:
        raw.sendall(HEAD + b"Expect: 100-continue\r\n" + header + b"\r\n\r\n")
        answer = read_all(raw)
    assert statuses(answer) == [status]
    assert b'{"error":"' in answer
    assert running.client.metric(f'calls_total{{method="POST",path="/records",status="{status}"}}') == 1


@pytest.mark.parametrize(
    "header",
    [b"X-Forwarded-For", b"X_Forwarded_For", b"Forwarded", b"X-Real-IP", b"REMOTE_ADDR", b"Client-IP"],
)
def test_forwarding_headers_are_not_trusted(start_listener: Any, header: bytes) -> None:
    request = HEAD + b"Content-Length: 2\r\n" + header + b": %s\r\n\r\n{}"
    assert statuses(start_listener(*ELSEWHERE).send(request % b"192.0.2.7")) == [403]
    assert statuses(start_listener(*HERE).send(request % b"203.0.113.9")) == [204]


def test_slow_request_times_out(start_listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ARRIVAL", 1)
    running = start_listener()
    with running.connect() as raw:
        raw.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        raw.settimeout(0.1)
        deadline = time.monotonic() + 15
        closed = False
        while not closed:
            assert time.monotonic() < deadline, "not timed out"
            try:
                raw.sendall(b" ")
                closed = raw.recv(100) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
    assert running.names() == []


def test_too_many_connections_do_not_block_requests(
    start_listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "ARRIVAL", 1)
    monkeypatch.setattr(api, "CONNECTIONS", 10)
    running = start_listener()
    with contextlib.ExitStack() as ending:
        for _ in range(20):
            ending.enter_context(running.connect())
        assert statuses(running.send(b"GET /records HTTP/1.1\r\nHost: x\r\n\r\n")) == [200]


def test_stop_closes_all_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    running = RunningListener()
    with running.connect() as raw:
        raw.sendall(b"GET /records HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 200 ")
        running.listener.stop()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_stop_finishes_a_response_that_is_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    running = RunningListener()
    assert running.client.apply(create=[a("t.dtk.io", *["v" * 1000] * 9000, recordType="TXT")]) == 204
    slept, sleep = threading.Event(), time.sleep

    def record_sleep(seconds: float) -> None:
        slept.set()
        sleep(seconds)

    with running.connect() as raw:
        raw.sendall(b"GET /records HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = raw.recv(1)
        monkeypatch.setattr(time, "sleep", record_sleep)
        stopping = threading.Thread(target=running.listener.stop)
        stopping.start()
        assert slept.wait(20), "stop does not wait for the rest of the response"
        found += read_all(raw)
        stopping.join()
    assert len(json.loads(found.partition(b"\r\n\r\n")[2])[0]["targets"]) == 9000


def test_aborted_messages_leak_no_temporary_files() -> None:
    """Large bodies and responses are kept in files, which are closed with their connection."""
    before = len(os.listdir("/proc/self/fd"))
    running = RunningListener()
    assert running.client.apply(create=[a("t.dtk.io", *["v" * 1000] * 9000, recordType="TXT")]) == 204
    gc.disable()
    try:
        with running.connect() as reading, running.connect() as sending:
            reading.sendall(b"GET /records HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reading.recv(1)
            sending.sendall(HEAD + b"Content-Length: 4000000\r\n\r\n" + b" " * 3_000_000)
            Server.stop(running.listener)
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
