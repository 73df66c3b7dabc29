"""The scripted API server and connections to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.kube import credentials
from kube2etcd.kube.client import ApiConnection
from kube2etcd.settings import Cluster
from tests.kube.scripted import Connect, Plugin, Scripted, TlsServer, TlsServers, kubeconfig


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as made:
        yield made


@pytest.fixture
def tls_servers() -> Iterator[TlsServers]:
    made: list[TlsServer] = []

    def start(*given: Any) -> TlsServer:
        made.append(TlsServer(*given))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def connect() -> Iterator[Callable[..., ApiConnection]]:
    made: list[ApiConnection] = []

    def connect_one(**settings: Any) -> ApiConnection:
        made.append(ApiConnection(Cluster(**{name: str(given) for name, given in settings.items()})))
        return made[-1]

    yield connect_one
    for one in made:
        one.close()


@pytest.fixture
def api(server: Scripted, connect: Connect) -> ApiConnection:
    return connect(kube_master_url=server.url)


@pytest.fixture
def connect_as(server: Scripted, connect: Connect, tmp_path: Path) -> Connect:
    """Connects by a kubeconfig ``kc`` with this user, to ``server`` unless another URL is given."""

    def connect_one(user: Any = None, url: str = "", **cluster: Any) -> ApiConnection:
        return connect(kubeconfig=kubeconfig(tmp_path / "kc", url or server.url, user, **cluster))

    return connect_one


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "plugin")
