"""Fixtures of the tests on real servers; everything below this folder carries the marker ``stack``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.build import Console
from tests.stack.build import binaries as build_binaries
from tests.stack.harness import ApiServer, Etcd

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> dict[str, Path]:
    """All servers, built on first use; the progress is shown although pytest captures output."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return build_binaries(Console())
    with capture.global_and_fixture_disabled():
        sys.stderr.flush()
        return build_binaries(Console())


@pytest.fixture(scope="session")
def etcd_for_api(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """The API server's own etcd."""
    etcd = Etcd(tmp_path_factory.mktemp("api-etcd"), binaries, name="api-etcd")
    etcd.start()
    yield etcd
    etcd.kill()


@pytest.fixture(scope="session")
def shared_apiserver(
    binaries: dict[str, Path], etcd_for_api: Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """One API server for the whole session: a new one takes seconds, a reset takes tenths."""
    server = ApiServer(tmp_path_factory.mktemp("apiserver"), binaries, etcd_for_api.url)
    server.start()
    yield server
    server.close()
    server.kill()


@pytest.fixture
def apiserver(shared_apiserver: ApiServer) -> Iterator[ApiServer]:
    """The session's API server, as good as new."""
    if not shared_apiserver.alive:
        shared_apiserver.start()
    shared_apiserver.reset()
    yield shared_apiserver
    shared_apiserver.resume()


@pytest.fixture
def etcd(binaries: dict[str, Path], tmp_path: Path) -> Iterator[Etcd]:
    """An etcd of its own with no data."""
    server = Etcd(tmp_path / "etcd", binaries)
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["etcd", "etcd34"], ids=["3.7", "3.4"])
def server(request: pytest.FixtureRequest, binaries: dict[str, Path], tmp_path: Path) -> Iterator[Etcd]:
    """The newest etcd, and the oldest one that clusters still run."""
    old = request.param == "etcd34"
    # Without fsync this one keeps its log in its own memory, and a restart finds an empty one.
    server = Etcd(tmp_path / "etcd", {**binaries, "etcd": binaries[request.param]}, fsync=old)
    server.start()
    yield server
    server.kill()
