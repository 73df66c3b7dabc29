"""Work in threads that nobody waits for any more."""

from __future__ import annotations

import socket
import threading

import pytest

from kube2etcd.errors import EtcdUnavailable
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_channel import IN_FLIGHT
from kube2etcd.etcd.v2_http import V2Connection


def test_after_close_nobody_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = V2Connection(EtcdSettings((f"http://127.0.0.1:{silent.getsockname()[1]}",), timeout=30))
        pending = connection.workers.start(lambda: connection.get("/"))
        threading.Timer(0.1, connection.close).start()
        with pytest.raises(EtcdUnavailable, match="is closed"):
            pending.result()
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.workers.start(lambda: 0)
        with pytest.raises(EtcdUnavailable, match="is closed"):
            connection.get("/")


def test_after_close_nobody_waits_for_what_had_not_begun() -> None:
    connection = V2Connection(EtcdSettings(("http://127.0.0.1:1",)))
    go = threading.Event()

    def work() -> int:
        go.wait(60)
        return 0

    pending = [connection.workers.start(work) for _ in range(IN_FLIGHT + 1)]
    connection.close()
    with pytest.raises(EtcdUnavailable, match="is closed"):
        pending[-1].result()
    go.set()
