"""Response bodies and streams that break, fall silent or never end."""

from __future__ import annotations

import time

import pytest

from kube2etcd.errors import ApiTruncated, ApiUnavailable
from kube2etcd.kube import transport
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.failures import ApiSilent
from tests.kube.scripted import Handler, Scripted, chunks, get, hang, lines


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_body_cut_short(server: Scripted, api: ApiConnection, kind: str) -> None:
    def short(handler: Handler) -> None:
        handler.begin(Content_Length="100")
        handler.wfile.write(b"{")
        handler.close_connection = True

    server.answers = [short if kind == "length" else chunks(b'{"a":', end=False)]
    with pytest.raises(ApiTruncated):
        get(api)


def test_a_body_that_dribbles_is_given_up_after_the_whole_timeout(
    server: Scripted, api: ApiConnection
) -> None:
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
        assert stream.status == 200
        assert stream.headers["Transfer-Encoding"] == "chunked"
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


def test_a_line_that_never_ends_is_given_up(
    server: Scripted, api: ApiConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_LINE", 1000)
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
