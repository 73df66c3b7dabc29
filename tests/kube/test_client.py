"""Responses, streams, connections and aborts, against a scripted server on a loopback socket."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import ApiError, ApiTooLarge, ApiUnavailable
from kube2etcd.kube import client
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.codec import decode_list
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import KINDS
from tests.kube import bodies
from tests.kube.scripted import (
    Answer,
    Connect,
    Handler,
    Scripted,
    TlsServers,
    chunked,
    get,
    hang,
    lines,
    respond,
)
from tests.stack.certificates import Authority
from tests.stack.process import free_port, wait_for

SERVICES = "/api/v1/services"


def test_request(server: Scripted, api: ApiConnection) -> None:
    server.answers = [respond(b'{"a":1}')]
    body = api.request("GET", SERVICES, {"limit": "500", "labelSelector": "a=b,c"}, timeout=5)
    assert body == b'{"a":1}'
    path, headers = server.requests[0]
    assert path == "/api/v1/services?limit=500&labelSelector=a%3Db%2Cc"
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("kube2etcd/")
    assert "Authorization" not in headers


@pytest.mark.parametrize("compressed", [False, True])
def test_body_over_the_limit(server: Scripted, api: ApiConnection, compressed: bool) -> None:
    body = b"x" * 2_000_000
    answer = respond(gzip.compress(body), Content_Encoding="gzip") if compressed else respond(body)
    server.answers = [answer, answer]
    with pytest.raises(ApiTooLarge, match="more than 1999999 bytes"):
        api.request("GET", SERVICES, {}, timeout=5, max_bytes=1_999_999)
    assert len(api.request("GET", SERVICES, {}, timeout=5, max_bytes=2_000_000)) == 2_000_000


def test_lists_accept_gzip_and_watches_do_not(server: Scripted, api: ApiConnection) -> None:
    body = bytes(range(256)) * 20_000
    packed = gzip.compress(body)
    parts = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    server.answers = [chunked(*parts, Content_Encoding="gzip")]
    assert [get(api), get(api)] == [body, body]
    server.answers = [chunked(b"{}\n")]
    assert lines(api) == [b"{}"]
    assert [headers["Accept-Encoding"] for _, headers in server.requests] == ["gzip", "gzip", "identity"]
    assert len(server.ports) == 1, "the connection is reused"


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_truncated_gzip_list(server: Scripted, api: ApiConnection, cut: float) -> None:
    packed = gzip.compress(bodies.body([{"metadata": {"name": f"s{number}"}} for number in range(2000)]))
    server.answers = [respond(packed[: int(len(packed) * cut)], Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        decode_list(KINDS["services"], get(api))
    server.answers = [respond(b"no gzip at all", Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        get(api)


def too_short(handler: Handler) -> None:
    handler.begin(Content_Length="100")
    handler.wfile.write(b"{")
    handler.close_connection = True


def too_slow(handler: Handler) -> None:
    handler.begin(Transfer_Encoding="chunked")
    while not handler.server.released.wait(0.02):
        handler.chunk(b" ")


def drop(handler: Handler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "timeout", "message"),
    [
        (too_short, 20, "broke"),
        (chunked(b'{"a":', end=False), 20, "broke"),
        (too_slow, 0.2, "not complete"),
        (hang, 0.1, r"nothing came .* for 0\.1 s"),
        (drop, 20, "broke"),
    ],
    ids=["too short", "missing chunk", "too slow", "no answer", "new connection closed"],
)
def test_incomplete_body(
    server: Scripted, api: ApiConnection, answer: Answer, timeout: float, message: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ApiUnavailable, match=message):
        get(api, timeout=timeout)
    assert len(server.requests) == 1


def test_idle_connection_closed_by_the_server_is_replaced(server: Scripted, api: ApiConnection) -> None:
    server.answers = [respond(b"{}"), drop, respond(b"again")]
    get(api)
    assert get(api) == b"again"


def test_path_of_the_server_url_is_kept(server: Scripted, connect: Connect) -> None:
    get(connect(kube_master_url=server.url + "/k8s/clusters/c-1/"))
    assert server.requests[0][0] == "/k8s/clusters/c-1/api/v1/services"


def test_stream_yields_whole_lines(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunked(b'{"a":1}\n{"b"', b":2", b"}\n", b"\n{}\n" + b"x" * 300_000 + b"\n")]
    assert lines(api) == [b'{"a":1}', b'{"b":2}', b"{}", b"x" * 300_000]


def test_stream_yields_a_line_while_it_stays_open(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunked(b"first\n", None)]
    with api.stream("/w", {}, connect_timeout=60, read_timeout=60) as stream:
        start = time.monotonic()
        assert next(iter(stream)) == b"first"
        assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (chunked(b"one\n", b"tw"), ApiUnavailable, "2 bytes"),
        (chunked(b"one\n", *[b"x" * 400] * 5, None), ApiUnavailable, "no end"),
        (chunked(b"one\n", end=False), ApiUnavailable, "broke"),
        (chunked(b"one\n", None), ApiSilent, "for 0.1 s"),
    ],
    ids=["ends within a line", "endless line", "connection lost", "silent"],
)
def test_failing_stream_yields_earlier_lines(
    server: Scripted,
    api: ApiConnection,
    answer: Answer,
    error: type[ApiError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MAX_LINE", 1000)
    server.answers = [answer]
    with api.stream("/w", {}, connect_timeout=30, read_timeout=0.1) as stream:
        assert next(stream) == b"one"
        start = time.monotonic()
        with pytest.raises(error, match=message):
            next(stream)
        assert time.monotonic() - start < 20, "the read timeout"


def test_server_without_a_response_is_unavailable_not_silent(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with pytest.raises(ApiUnavailable) as caught, api.stream("/w", {}, connect_timeout=0.1, read_timeout=60):
        pass
    assert type(caught.value) is ApiUnavailable


def send(api: ApiConnection, verb: str, abort: Abort) -> None:
    if verb == "get":
        api.request("GET", "/x", {}, timeout=60, abort=abort)
    else:
        with api.stream("/x", {}, connect_timeout=60, read_timeout=60, abort=abort) as stream:
            list(stream)


def assert_abort_ends(api: ApiConnection, verb: str, waiting: Callable[[], object]) -> None:
    """Abort a request once ``waiting`` is true."""
    abort = Abort()
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(send, api, verb, abort)
        wait_for(waiting, "the request")
        start = time.monotonic()
        abort.trigger()
        with pytest.raises(ApiUnavailable, match="aborted"):
            request.result(60)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("answer", [hang, chunked(b"one\n", None)], ids=["headers", "body"])
@pytest.mark.parametrize("verb", ["get", "stream"])
@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "reused connection"])
def test_abort_ends_a_request(
    server: Scripted, api: ApiConnection, answer: Answer, verb: str, reused: bool
) -> None:
    server.answers = [respond(b"{}"), answer] if reused else [answer]
    if reused:
        get(api)
    assert_abort_ends(api, verb, lambda: len(server.requests) > reused)


@pytest.fixture
def silent_tls(connect: Connect) -> Iterator[tuple[ApiConnection, socket.socket]]:
    """A connection to a server that never answers the TLS handshake, and its listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield connect(kube_master_url=f"https://127.0.0.1:{listener.getsockname()[1]}"), listener


def test_abort_ends_an_unanswered_tls_handshake(silent_tls: tuple[ApiConnection, socket.socket]) -> None:
    api, listener = silent_tls
    with contextlib.ExitStack() as ending:
        assert_abort_ends(api, "get", lambda: ending.enter_context(listener.accept()[0]).recv(1))


def test_unanswered_tls_handshake_times_out(
    silent_tls: tuple[ApiConnection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.1)
    with pytest.raises(ApiUnavailable, match=r"no connection within 0\.1 s"):
        silent_tls[0].request("GET", "/x", {}, timeout=60)


def test_abort_lasts_until_reset(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    abort.trigger()
    with pytest.raises(ApiUnavailable, match="aborted"):
        send(api, "get", abort)
    assert server.requests == []
    ours, theirs = socket.socketpair()
    with ours, theirs, abort.over():
        abort.attach(ours)  # after the abort
        assert theirs.recv(1) == b""
    abort.reset()
    send(api, "get", abort)


def test_streams_leak_no_descriptors(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunked(b"one\n")]
    abort = Abort()
    send(api, "stream", abort)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        send(api, "stream", abort)
    assert len(os.listdir("/proc/self/fd")) <= before + 5


def test_only_the_proxy_of_the_kubeconfig_is_used(
    server: Scripted, connect: Connect, connect_as: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    get(connect(kube_master_url=server.url))
    get(connect_as(url="http://api.invalid:6443", **{"proxy-url": server.url}))
    assert [path for path, _ in server.requests] == [SERVICES, f"http://api.invalid:6443{SERVICES}"]


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"certificate-authority": "ca.crt", "tls-server-name": "api.test"}, ""),
        ({"insecure-skip-tls-verify": True}, ""),
        ({"certificate-authority": "ca.crt", "tls-server-name": "other.test"}, "certificate-authority"),
        ({"tls-server-name": "api.test"}, "certificate-authority"),
    ],
    ids=["right name", "not verified", "wrong name", "unknown authority"],
)
def test_tls_verification(
    connect_as: Connect,
    tls_servers: TlsServers,
    tmp_path: Path,
    cluster: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Authority(tmp_path, "ca").issue("server", hosts=["api.test"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    api = connect_as(url=tls_servers(pair).url, **cluster)
    with pytest.raises(ApiUnavailable, match=message) if message else contextlib.nullcontext():
        assert get(api) == b"{}"
    assert ("is not verified" in caplog.text) == ("insecure-skip-tls-verify" in cluster)


def test_package_kubernetes_is_imported_only_when_needed() -> None:
    code = (
        "import sys; from kube2etcd.kube import client, reflector;"
        "client.ApiConnection(client.Cluster(kube_master_url='http://127.0.0.1:1'));"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
