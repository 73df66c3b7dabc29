"""The reflector and its connection against a real API server."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import ApiError, ApiGone
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.codec import decode_event
from kube2etcd.kube.credentials import ClusterSettings
from kube2etcd.kube.objects import KINDS, ApiObject, Event, Kind, Rejected
from kube2etcd.kube.reflector import Reflector
from tests.running import running
from tests.stack.harness import SLOW, ApiServer, wait_for
from tests.stack.objects import service

SERVICES = KINDS["services"]


class Recorder:
    """A sink that keeps what it is told, as the store would."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[tuple[str, str], ApiObject] = {}
        self.replaced = 0
        self.health = "unknown"

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        with self.lock:
            self.objects = {(o.metadata.namespace, o.metadata.name): o for o in objects}
            self.replaced += 1

    def apply(self, kind: Kind, event: Event) -> None:
        with self.lock:
            key = (event.namespace, event.name)
            if event.type == "DELETED":
                self.objects.pop(key, None)
            elif event.object is not None:
                self.objects[key] = event.object

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        self.health = "failing"

    def healthy(self, kind: Kind) -> None:
        self.health = "healthy"

    def names(self, namespace: str = "default") -> set[str]:
        with self.lock:
            return {name for space, name in self.objects if space == namespace}


Started = Callable[..., tuple[Reflector, Recorder]]


@pytest.fixture
def connection(apiserver: ApiServer) -> Iterator[ApiConnection]:
    made = ApiConnection(ClusterSettings(kubeconfig=apiserver.kubeconfig()))
    yield made
    made.close()


@pytest.fixture
def start(apiserver: ApiServer, connection: ApiConnection) -> Iterator[Started]:
    running: list[Reflector] = []

    def start_one(
        kind: Kind = SERVICES, over: ApiConnection = connection, **options: Any
    ) -> tuple[Reflector, Recorder]:
        sink = Recorder()
        reflector = Reflector(kind, over, sink, **options)
        running.append(reflector)
        reflector.start()
        return reflector, sink

    yield start_one
    for reflector in running:
        reflector.stop()


def test_a_change_arrives_within_milliseconds(apiserver: ApiServer, start: Started) -> None:
    _, sink = start()
    wait_for(lambda: sink.health == "healthy", "the watch")
    delays = []
    for i in range(20):
        apiserver.apply(service(f"quick-{i}"))
        created = time.perf_counter()
        wait_for(lambda i=i: f"quick-{i}" in sink.names(), "the event")  # type: ignore[misc]
        delays.append(time.perf_counter() - created)
    # No line may wait for a buffer to fill: that would show as seconds, not as a slow machine's tenths.
    assert sorted(delays)[10] < 0.25 * SLOW


def test_more_objects_than_a_page_holds(apiserver: ApiServer, start: Started) -> None:
    wanted = {f"many-{i:04}" for i in range(1100)}
    apiserver.apply_all([service(name, clusterIP="None") for name in sorted(wanted)])
    _, sink = start()
    wait_for(lambda: sink.replaced == 1, "the list", 30)
    assert sink.names() >= wanted


@pytest.mark.parametrize("when", ["quiet", "paused", "connecting"])
def test_stop_is_prompt(apiserver: ApiServer, start: Started, when: str) -> None:
    connected = connections(apiserver.port)
    if when == "connecting":
        apiserver.pause()
    reflector, sink = start()
    if when == "connecting":
        # into the handshake that nobody answers
        wait_for(lambda: connections(apiserver.port) > connected, "the connection")
    else:
        wait_for(lambda: sink.health == "healthy", "the watch")
    if when == "paused":
        apiserver.pause()
    began = time.monotonic()
    reflector.stop()
    took = time.monotonic() - began
    apiserver.resume()
    assert took < 0.5 * SLOW
    assert running(f"reflector-{reflector.kind.name}") is None


def connections(port: int) -> int:
    """How many connections to this port are established."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_a_restarted_server_is_followed_without_a_new_list(apiserver: ApiServer, start: Started) -> None:
    _, sink = start()
    wait_for(lambda: sink.health == "healthy", "the watch")
    apiserver.kill()
    wait_for(lambda: sink.health == "failing", "the failure to be noticed")
    assert sink.names() >= {"kubernetes"}, "an outage is no empty list"
    apiserver.start()
    apiserver.apply(service("reborn"))
    wait_for(lambda: "reborn" in sink.names() and sink.health == "healthy", "the change", 40)
    assert sink.replaced == 1


def test_a_too_old_version_is_gone(apiserver: ApiServer, connection: ApiConnection) -> None:
    apiserver.restart()  # its watch cache begins with what it lists now
    params = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"}
    with pytest.raises(ApiGone):
        read_one_event(connection, params)


def read_one_event(connection: ApiConnection, params: dict[str, str]) -> Event:
    """The first event of a watch; servers say 410 as a status or as an event."""
    with connection.stream(SERVICES.path(), params, connect_timeout=5, read_timeout=5) as stream:
        event = decode_event(SERVICES, next(iter(stream)))
    if event.code == 410:
        raise ApiGone(event.message)
    return event


def test_client_certificate(apiserver: ApiServer, start: Started) -> None:
    pair = apiserver.client_certificate("operator")
    over = ApiConnection(ClusterSettings(kubeconfig=apiserver.kubeconfig(certificate=pair, name="mtls")))
    _, sink = start(over=over)
    wait_for(lambda: sink.health == "healthy", "the watch")
    over.close()


def test_exec_plugin(apiserver: ApiServer, start: Started, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        f' "status": {{"token": "{apiserver.token}"}}}}'
    )
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    path = apiserver.kubeconfig(user=user, name="exec-kubeconfig")
    over = ApiConnection(ClusterSettings(kubeconfig=path))
    _, sink = start(over=over)
    wait_for(lambda: sink.health == "healthy", "the watch")
    over.close()


def test_no_proxy_from_env(apiserver: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere/ca.pem")
    over = ApiConnection(ClusterSettings(kubeconfig=apiserver.kubeconfig()))
    _, sink = start(over=over)
    wait_for(lambda: sink.health == "healthy", "the watch")
    over.close()
