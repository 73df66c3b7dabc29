"""Answers as they arrive, connections and aborts, against a scripted server on a loopback socket."""

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
from tests.kube.scripted import Answer, Handler, Opened, Scripted, TlsServers, chunks, get, hang, lines, whole
from tests.stack.certificates import Authority
from tests.stack.process import free_port, wait_for

SERVICES = "/api/v1/services"


def test_get(server: Scripted, api: ApiConnection) -> None:
    server.answers = [whole(b'{"a":1}')]
    body = api.request("GET", SERVICES, {"limit": "500", "labelSelector": "a=b,c"}, timeout=5)
    assert body == b'{"a":1}'
    path, headers = server.seen[0]
    assert path == "/api/v1/services?limit=500&labelSelector=a%3Db%2Cc"
    assert headers["Accept"] == "application/json"
    assert headers["User-Agent"].startswith("kube2etcd/")
    assert "Authorization" not in headers


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_over_the_limit(server: Scripted, api: ApiConnection, compressed: bool) -> None:
    body = b"x" * 2_000_000
    answer = whole(gzip.compress(body), Content_Encoding="gzip") if compressed else whole(body)
    server.answers = [answer, answer]
    with pytest.raises(ApiTooLarge, match="more than 1999999 bytes"):
        api.request("GET", SERVICES, {}, timeout=5, max_bytes=1_999_999)
    assert len(api.request("GET", SERVICES, {}, timeout=5, max_bytes=2_000_000)) == 2_000_000


def test_lists_may_come_compressed_and_watches_not(server: Scripted, api: ApiConnection) -> None:
    body = bytes(range(256)) * 20_000
    packed = gzip.compress(body)
    pieces = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    server.answers = [chunks(*pieces, Content_Encoding="gzip")]
    assert [get(api), get(api)] == [body, body]
    server.answers = [chunks(b"{}\n")]
    assert lines(api) == [b"{}"]
    assert [headers["Accept-Encoding"] for _, headers in server.seen] == ["gzip", "gzip", "identity"]
    assert len(server.ports) == 1, "the connection is used again"


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_truncated_compressed_list(server: Scripted, api: ApiConnection, cut: float) -> None:
    packed = gzip.compress(bodies.body([{"metadata": {"name": f"s{number}"}} for number in range(2000)]))
    server.answers = [whole(packed[: int(len(packed) * cut)], Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        decode_list(KINDS["services"], get(api))
    server.answers = [whole(b"no gzip at all", Content_Encoding="gzip")]
    with pytest.raises(ApiUnavailable):
        get(api)


def cut_short(handler: Handler) -> None:
    handler.begin(Content_Length="100")
    handler.wfile.write(b"{")
    handler.close_connection = True


def dribble(handler: Handler) -> None:
    handler.begin(Transfer_Encoding="chunked")
    while not handler.server.released.wait(0.02):
        handler.chunk(b" ")


def drop(handler: Handler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(
    ("answer", "timeout", "words"),
    [
        (cut_short, 20, "broke"),
        (chunks(b'{"a":', end=False), 20, "broke"),
        (dribble, 0.2, "not complete"),
        (hang, 0.1, r"nothing came .* for 0\.1 s"),
        (drop, 20, "broke"),
    ],
    ids=["too short", "a chunk is missing", "dribbling", "no answer", "a fresh connection is closed"],
)
def test_a_body_that_does_not_come(
    server: Scripted, api: ApiConnection, answer: Answer, timeout: float, words: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ApiUnavailable, match=words):
        get(api, timeout=timeout)
    assert len(server.seen) == 1


def test_an_idle_connection_that_the_server_has_closed_is_replaced(
    server: Scripted, api: ApiConnection
) -> None:
    server.answers = [whole(b"{}"), drop, whole(b"again")]
    get(api)
    assert get(api) == b"again"


def test_a_path_in_the_servers_url_is_kept(server: Scripted, opened: Opened) -> None:
    get(opened(kube_master_url=server.url + "/k8s/clusters/c-1/"))
    assert server.seen[0][0] == "/k8s/clusters/c-1/api/v1/services"


def test_lines_arrive_one_by_one_and_whole(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b'{"a":1}\n{"b"', b":2", b"}\n", b"\n{}\n" + b"x" * 300_000 + b"\n")]
    assert lines(api) == [b'{"a":1}', b'{"b":2}', b"{}", b"x" * 300_000]


def test_a_line_is_delivered_while_the_stream_stays_open(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"first\n", None)]
    with api.stream("/w", {}, connect_timeout=60, read_timeout=60) as stream:
        began = time.monotonic()
        assert next(iter(stream)) == b"first"
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (chunks(b"one\n", b"tw"), ApiUnavailable, "2 bytes"),
        (chunks(b"one\n", *[b"x" * 400] * 5, None), ApiUnavailable, "no end"),
        (chunks(b"one\n", end=False), ApiUnavailable, "broke"),
        (chunks(b"one\n", None), ApiSilent, "for 0.1 s"),
    ],
    ids=["cut in a line", "an endless line", "broken off", "silent"],
)
def test_a_stream_that_fails_gives_what_came_before(
    server: Scripted,
    api: ApiConnection,
    answer: Answer,
    error: type[ApiError],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MAX_LINE", 1000)
    server.answers = [answer]
    with api.stream("/w", {}, connect_timeout=30, read_timeout=0.1) as stream:
        assert next(stream) == b"one"
        began = time.monotonic()
        with pytest.raises(error, match=words):
            next(stream)
        assert time.monotonic() - began < 20, "the read timeout"


def test_a_server_that_does_not_answer_is_not_silent(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with pytest.raises(ApiUnavailable) as caught, api.stream("/w", {}, connect_timeout=0.1, read_timeout=60):
        pass
    assert type(caught.value) is ApiUnavailable


def ask(api: ApiConnection, verb: str, abort: Abort) -> None:
    if verb == "get":
        api.request("GET", "/x", {}, timeout=60, abort=abort)
    else:
        with api.stream("/x", {}, connect_timeout=60, read_timeout=60, abort=abort) as stream:
            list(stream)


def aborted(api: ApiConnection, verb: str, waiting: Callable[[], object]) -> None:
    """Abort a request once it is ``waiting``."""
    abort = Abort()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, api, verb, abort)
        wait_for(waiting, "the request")
        began = time.monotonic()
        abort.trigger()
        with pytest.raises(ApiUnavailable, match="aborted"):
            asked.result(60)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("answer", [hang, chunks(b"one\n", None)], ids=["headers", "body"])
@pytest.mark.parametrize("verb", ["get", "stream"])
@pytest.mark.parametrize("reused", [False, True], ids=["a fresh connection", "a reused one"])
def test_abort_ends_a_request(
    server: Scripted, api: ApiConnection, answer: Answer, verb: str, reused: bool
) -> None:
    server.answers = [whole(b"{}"), answer] if reused else [answer]
    if reused:
        get(api)
    aborted(api, verb, lambda: len(server.seen) > reused)


@pytest.fixture
def silent_tls(opened: Opened) -> Iterator[tuple[ApiConnection, socket.socket]]:
    """A connection to a server that never answers the TLS handshake, and its listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield opened(kube_master_url=f"https://127.0.0.1:{listener.getsockname()[1]}"), listener


def test_abort_ends_an_unanswered_tls_handshake(silent_tls: tuple[ApiConnection, socket.socket]) -> None:
    api, listener = silent_tls
    with contextlib.ExitStack() as ending:
        aborted(api, "get", lambda: ending.enter_context(listener.accept()[0]).recv(1))


def test_an_unanswered_tls_handshake_times_out(
    silent_tls: tuple[ApiConnection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.1)
    with pytest.raises(ApiUnavailable, match=r"no connection within 0\.1 s"):
        silent_tls[0].request("GET", "/x", {}, timeout=60)


def test_abort_stays_until_reset(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    abort.trigger()
    with pytest.raises(ApiUnavailable, match="aborted"):
        ask(api, "get", abort)
    assert server.seen == []
    ours, theirs = socket.socketpair()
    with ours, theirs, abort.over():
        abort.attach(ours)  # late
        assert theirs.recv(1) == b""
    abort.reset()
    ask(api, "get", abort)


def test_no_descriptor_is_left_behind(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n")]
    abort = Abort()
    ask(api, "stream", abort)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        ask(api, "stream", abort)
    assert len(os.listdir("/proc/self/fd")) <= before + 5


def test_only_the_kubeconfigs_proxy_is_used(
    server: Scripted, opened: Opened, as_user: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    get(opened(kube_master_url=server.url))
    get(as_user(url="http://api.invalid:6443", **{"proxy-url": server.url}))
    assert [path for path, _ in server.seen] == [SERVICES, f"http://api.invalid:6443{SERVICES}"]


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"certificate-authority": "ca.crt", "tls-server-name": "api.test"}, ""),
        ({"insecure-skip-tls-verify": True}, ""),
        ({"certificate-authority": "ca.crt", "tls-server-name": "other.test"}, "certificate-authority"),
        ({"tls-server-name": "api.test"}, "certificate-authority"),
    ],
    ids=["right name", "unchecked", "wrong name", "unknown authority"],
)
def test_tls(
    as_user: Opened,
    tls_servers: TlsServers,
    tmp_path: Path,
    cluster: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Authority(tmp_path, "ca").issue("server", hosts=["api.test"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    api = as_user(url=tls_servers(pair).url, **cluster)
    with pytest.raises(ApiUnavailable, match=words) if words else contextlib.nullcontext():
        assert get(api) == b"{}"
    assert ("is not verified" in caplog.text) == ("insecure-skip-tls-verify" in cluster)


def test_the_package_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys; from kube2etcd.kube import client, reflector;"
        "client.ApiConnection(client.Cluster(kube_master_url='http://127.0.0.1:1'));"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
