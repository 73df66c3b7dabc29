"""Requests aborted from another thread."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from kube2etcd.errors import ApiError, ApiUnavailable
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.transport import Abort
from tests.kube.scripted import Answer, Opened, Scripted, chunks, hang, whole
from tests.stack.process import wait_for


@pytest.mark.parametrize("answer", [hang, chunks(b"one\n", None)], ids=["headers", "body"])
@pytest.mark.parametrize("verb", ["get", "stream"])
def test_abort_ends_a_request_at_once(
    server: Scripted, api: ApiConnection, answer: Answer, verb: str
) -> None:
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
    assert "called off" in str(raised[0])


def test_abort_ends_a_request_on_a_connection_that_is_used_again(
    server: Scripted, api: ApiConnection
) -> None:
    abort = Abort()
    server.answers = [whole(b"{}"), hang]
    api.get("/x", {}, timeout=5, abort=abort)
    timer = threading.Timer(0.1, abort.trigger)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ApiUnavailable, match="called off"):
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
        with pytest.raises(ApiUnavailable, match="called off"):
            api.get("/x", {}, timeout=60, abort=abort)
        timer.join()
        assert time.monotonic() - began < 20


def test_abort_stays_until_reset(server: Scripted, api: ApiConnection) -> None:
    abort = Abort()
    abort.trigger()
    with pytest.raises(ApiUnavailable, match="called off"):
        api.get("/x", {}, timeout=5, abort=abort)
    assert server.seen == []
    abort.reset()
    assert api.get("/x", {}, timeout=5, abort=abort)


def test_abort_calls_what_is_attached_late() -> None:
    abort = Abort()
    called: list[int] = []
    abort.attach(lambda: called.append(1))
    abort.trigger()
    abort.attach(lambda: called.append(2))
    abort.detach()
    abort.trigger()
    # The first is called again with the second's turn only if it is still attached.
    assert called == [1, 2]


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
