"""Response bodies, streams, aborts, proxies and TLS."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import ApiError, ApiTruncated, ApiUnavailable, SettingsError
from kube2etcd.kube import client
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.failures import ApiSilent
from tests.kube.scripted import (
    SECRET,
    Answer,
    Handler,
    Opened,
    Scripted,
    TlsServer,
    chunks,
    closed_port,
    get,
    hang,
    kubeconfig,
    lines,
    whole,
)
from tests.stack.certificates import Authority
from tests.stack.process import wait_for


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_body_cut_short(server: Scripted, api: ApiConnection, kind: str) -> None:
    def short(handler: Handler) -> None:
        handler.begin(Content_Length="100")
        handler.wfile.write(b"{")
        handler.close_connection = True

    server.answers = [short if kind == "length" else chunks(b'{"a":', end=False)]
    with pytest.raises(ApiTruncated):
        get(api)


def test_a_dribbling_body_is_given_up_after_the_timeout(server: Scripted, api: ApiConnection) -> None:
    def dribble(handler: Handler) -> None:
        handler.begin(Transfer_Encoding="chunked")
        while not handler.server.released.wait(0.02):
            handler.chunk(b" ")

    server.answers = [dribble]
    with pytest.raises(ApiUnavailable, match="not complete"):
        get(api, timeout=0.2)


def test_a_server_that_does_not_answer(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with pytest.raises(ApiUnavailable, match=r"nothing came .* for 0\.1 s"):
        get(api, timeout=0.1)


def test_lines_arrive_one_by_one_and_whole(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b'{"a":1}\n{"b"', b":2", b"}\n", b"\n{}\n" + b"x" * 300_000 + b"\n")]
    assert lines(api) == [b'{"a":1}', b'{"b":2}', b"{}", b"x" * 300_000]


def test_a_line_is_delivered_while_the_stream_stays_open(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"first\n", None)]
    with api.stream("/w", {}, connect_timeout=60, read_timeout=60) as stream:
        began = time.monotonic()
        assert next(iter(stream)) == b"first"
        assert time.monotonic() - began < 20


def test_a_line_without_end_is_truncated(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\ntw")]
    got = []
    with api.stream("/w", {}, connect_timeout=5, read_timeout=5) as stream:
        iterator = iter(stream)
        got.append(next(iterator))
        with pytest.raises(ApiTruncated, match="2 bytes"):
            next(iterator)
    assert got == [b"one"]


def test_an_endless_line(server: Scripted, api: ApiConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_LINE", 1000)
    server.answers = [chunks(*[b"x" * 400] * 5, None)]
    with pytest.raises(ApiTruncated, match="no end"):
        lines(api)


def test_a_stream_that_breaks(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n", end=False)]
    with pytest.raises(ApiUnavailable, match="broke"):
        lines(api)


def test_a_stream_that_falls_silent(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n", None)]
    with pytest.raises(ApiSilent, match=r"0\.1 s"):
        lines(api, read_timeout=0.1)


def test_a_slow_connect_is_not_silence(server: Scripted, api: ApiConnection) -> None:
    server.answers = [hang]
    with pytest.raises(ApiUnavailable) as caught, api.stream("/w", {}, connect_timeout=0.1, read_timeout=60):
        pass
    assert not isinstance(caught.value, ApiSilent)


@pytest.mark.parametrize("answer", [hang, chunks(b"one\n", None)], ids=["headers", "body"])
@pytest.mark.parametrize("verb", ["get", "stream"])
def test_abort_ends_a_request(server: Scripted, api: ApiConnection, answer: Answer, verb: str) -> None:
    server.answers = [answer]
    abort = Abort()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            if verb == "get":
                api.get("/x", {}, timeout=60, abort=abort)
            else:
                with api.stream("/x", {}, connect_timeout=60, read_timeout=60, abort=abort) as stream:
                    list(stream)
        except ApiError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: server.seen, "the request")
    began = time.monotonic()
    abort.trigger()
    thread.join(60)
    assert time.monotonic() - began < 20
    assert "aborted" in str(raised[0])


def test_abort_ends_a_request_on_a_reused_connection(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    server.answers = [whole(b"{}"), hang]
    api.get("/x", {}, timeout=5, abort=abort)
    timer = threading.Timer(0.1, abort.trigger)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ApiUnavailable, match="aborted"):
        api.get("/x", {}, timeout=60, abort=abort)
    timer.join()
    assert time.monotonic() - began < 20


def test_abort_ends_an_unanswered_tls_handshake(opened: Opened) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = opened(master_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        abort = Abort()
        timer = threading.Timer(0.1, abort.trigger)
        timer.start()
        began = time.monotonic()
        with pytest.raises(ApiUnavailable, match="aborted"):
            api.get("/x", {}, timeout=60, abort=abort)
        timer.join()
        assert time.monotonic() - began < 20


def test_an_unanswered_tls_handshake_is_given_up_when_the_error_says(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = opened(master_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ApiUnavailable, match=r"no connection within 0\.1 s"):
            api.get("/x", {}, timeout=60)


def test_abort_stays_until_reset(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    abort.trigger()
    with pytest.raises(ApiUnavailable, match="aborted"):
        api.get("/x", {}, timeout=5, abort=abort)
    assert server.seen == []
    abort.reset()
    assert api.get("/x", {}, timeout=5, abort=abort)


def test_abort_shuts_down_what_is_attached_late() -> None:
    abort = Abort()
    abort.trigger()
    ours, theirs = socket.socketpair()
    with ours, theirs, abort.over():
        abort.attach(ours)
        assert theirs.recv(1) == b""


def test_no_descriptor_is_left_behind(server: Scripted, api: ApiConnection) -> None:
    server.answers = [chunks(b"one\n")]
    abort = Abort()

    def watch_once() -> None:
        with api.stream("/w", {}, connect_timeout=5, read_timeout=5, abort=abort) as stream:
            list(stream)

    watch_once()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(30):
        watch_once()
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 5


def test_no_environment_proxy(server: Scripted, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    get(opened(master_url=server.url))
    assert len(server.seen) == 1


def test_the_kubeconfigs_proxy_does(server: Scripted, opened: Opened, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid:6443", **{"proxy-url": server.url})
    get(opened(kubeconfig=path))
    assert server.seen[0][0] == "http://api.invalid:6443/api/v1/services"


def test_the_kubeconfigs_proxy_is_not_there(opened: Opened, tmp_path: Path) -> None:
    proxy = f"http://u:{SECRET}@127.0.0.1:{closed_port()}"
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(ApiUnavailable, match="proxy-url") as caught:
        get(opened(kubeconfig=path))
    assert SECRET not in str(caught.value)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[TlsServer]:
    """A server whose authority is ``ca.crt``, good for api.test and loopback addresses."""
    authority = Authority(tmp_path, "ca")
    server = TlsServer(authority.issue("server", hosts=["api.test"]))
    yield server
    server.end()


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
    tls: TlsServer,
    tmp_path: Path,
    cluster: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    api = as_user(url=tls.url, **cluster)
    if not words:
        assert get(api) == b"{}"
    else:
        with pytest.raises(ApiUnavailable, match=words):
            get(api)
    assert ("is not verified" in caplog.text) == ("insecure-skip-tls-verify" in cluster)


@pytest.mark.parametrize("proxy", [f"socks5://u:{SECRET}@127.0.0.1:1080", "127.0.0.1:8080", "http://[bad"])
def test_an_invalid_proxy_is_a_settings_error(opened: Opened, tmp_path: Path, proxy: str) -> None:
    path = kubeconfig(tmp_path / "kc", "http://api.invalid", **{"proxy-url": proxy})
    with pytest.raises(SettingsError, match="proxy-url of the kubeconfig") as caught:
        opened(kubeconfig=path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["https://[bad", "https://h:99999", "https://h:port", "https://a b"])
def test_an_invalid_server_url_is_a_settings_error(opened: Opened, url: str) -> None:
    with pytest.raises(SettingsError, match="https://HOST:PORT"):
        opened(master_url=url)
