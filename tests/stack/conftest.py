"""Fixtures of tests on real servers, all of which get the marker ``stack``."""

import contextlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stack.build import binaries as build_binaries
from tests.stack.coredns import coredns_for
from tests.stack.dns_stack import BridgeStack, StartStack
from tests.stack.etcd_v2 import EtcdV2
from tests.stack.faults import Proxy, Run, args
from tests.stack.harness import ApiServer, Binaries, Bridge, CoreDns, Etcd, Object
from tests.stack.pair import StartPair, running_pair

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> Binaries:
    """All server binaries, built on first use with visible progress."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return build_binaries()
    with capture.global_and_fixture_disabled():
        sys.stderr.flush()
        return build_binaries()


@pytest.fixture(scope="session")
def etcd_for_api(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("api-etcd"), binaries, name="api-etcd") as etcd:
        yield etcd


@pytest.fixture(scope="session")
def shared_apiserver(
    binaries: Binaries, etcd_for_api: Etcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """One API server for the session: a start takes seconds, a reset tenths of a second."""
    with ApiServer(tmp_path_factory.mktemp("apiserver"), binaries, etcd_for_api.url) as server:
        yield server


@pytest.fixture
def apiserver(shared_apiserver: ApiServer) -> Iterator[ApiServer]:
    """The session's API server, reset."""
    if not shared_apiserver.alive:
        shared_apiserver.start()
    shared_apiserver.reset()
    yield shared_apiserver
    shared_apiserver.resume()


def _etcd(place: Path, binaries: Binaries, given: Any) -> Etcd:
    if given == "v2":
        return EtcdV2(place, binaries)
    if given == "3.4":
        # Without fsync a killed etcd 3.4 loses its WAL and cannot start again.
        return Etcd(place, {**binaries, "etcd": binaries["etcd34"]}, fsync=True)
    return Etcd(place, binaries, extra_args=given)


@pytest.fixture
def etcd(binaries: Binaries, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """An empty etcd; its parameter is a list of options, ``3.4``, or ``v2`` for that API."""
    with _etcd(tmp_path / "etcd", binaries, getattr(request, "param", ())) as server:
        yield server
        server.resume()


@pytest.fixture
def servers(apiserver: ApiServer, etcd: Etcd) -> list[str]:
    """The options by which a command reaches the API server and etcd."""
    return args(apiserver.kubeconfig(), etcd)


@pytest.fixture(params=[(), "3.4"], ids=["3.7", "3.4"])
def server(request: pytest.FixtureRequest, binaries: Binaries, tmp_path: Path) -> Iterator[Etcd]:
    """The newest etcd, and the oldest still in use."""
    with _etcd(tmp_path / "etcd", binaries, request.param) as server:
        yield server
        server.resume()


@pytest.fixture
def dns(binaries: Binaries, tmp_path: Path, etcd: Etcd) -> Iterator[CoreDns]:
    """CoreDNS that serves the keys in etcd."""
    with coredns_for(tmp_path, binaries, *etcd.options) as server:
        yield server


@pytest.fixture
def proxy(apiserver: ApiServer) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(apiserver)) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, apiserver: ApiServer, etcd: Etcd) -> Iterator[Run]:
    """Create objects, start a bridge and wait until it is ready, unless ``ready`` is False.

    All bridges are killed after the test, and must have logged no traceback.
    """
    started: list[Bridge] = []
    with contextlib.ExitStack() as exits:

        def one(
            *options: str,
            objects: Sequence[Object] = (),
            kubeconfig: Path | None = None,
            etcd: Etcd = etcd,
            ready: bool = True,
            name: str = "kube2etcd",
        ) -> Bridge:
            apiserver.apply_all(objects)
            where = args(kubeconfig or apiserver.kubeconfig(), etcd, *options)
            bridge = exits.enter_context(Bridge(tmp_path, where, name=name))
            started.append(bridge)
            if ready:
                bridge.wait_ready()
            return bridge

        yield one
    for bridge in started:
        assert "Traceback" not in bridge.log_text()


@pytest.fixture
def start_stack(binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd) -> Iterator[StartStack]:
    """Create objects and start a bridge and its CoreDNS with these options, until the test ends.

    ``zones`` are settings of Services zones, by zone.
    """
    with contextlib.ExitStack() as exits:

        def one(
            *options: str,
            objects: Sequence[Object] = (),
            zones: Mapping[str, Mapping[str, Any]] | None = None,
            config: Mapping[str, Any] | None = None,
            dns_options: Sequence[str] = (),
        ) -> BridgeStack:
            apiserver.apply_all(objects)
            if zones is not None:
                config = {"zones": [{"zone": zone, **more} for zone, more in zones.items()]}
            directory = tmp_path / f"stack{next(number)}"
            return exits.enter_context(
                BridgeStack(directory, binaries, apiserver, etcd, options, config, dns_options)
            )

        number = itertools.count()
        yield one


@pytest.fixture
def start_pair(binaries: Binaries, tmp_path: Path, apiserver: ApiServer, etcd: Etcd) -> Iterator[StartPair]:
    """Start a `running_pair`, until the test ends."""
    with contextlib.ExitStack() as exits:
        yield lambda **options: exits.enter_context(
            running_pair(binaries, tmp_path, apiserver, etcd, **options)
        )
