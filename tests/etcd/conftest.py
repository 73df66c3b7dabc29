"""Fixtures for etcd's v2 API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kube2etcd.etcd.servers import EtcdSettings
from kube2etcd.etcd.v2 import V2Store
from kube2etcd.etcd.v2_client import V2Connection
from tests.etcd.v2_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def store(server: Server) -> Iterator[V2Store]:
    with V2Connection(EtcdSettings((server.url,), timeout=2)) as connection:
        yield V2Store(connection, [b"/skydns/"])
