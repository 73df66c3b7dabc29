"""The Reflector and its connection against a real kube-apiserver: what only a real one can show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiUnavailable,
)
from kube2etcd.kube.client import ApiConnection, connect
from kube2etcd.kube.credentials import ClusterSettings
from kube2etcd.kube.objects import KINDS, ApiObject, Event, Kind, Rejected, decode_event
from kube2etcd.kube.reflector import Reflector
from tests.running import running
from tests.stack.harness import SLOW, ApiServer, Authority, wait_for
from tests.stack.objects import service, vmi_crd

SERVICES = KINDS["services"]


class Recorder:
    """A sink that keeps what it is told, as the store would."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[tuple[str, str], ApiObject] = {}
        self.rejected: list[Rejected] = []
        self.replaced = 0
        self.events: list[Event] = []
        self.errors: list[ApiError] = []
        self.health = "unknown"

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        with self.lock:
            self.objects = {(o.metadata.namespace, o.metadata.name): o for o in objects}
            self.rejected = rejected
            self.replaced += 1

    def apply(self, kind: Kind, event: Event) -> None:
        with self.lock:
            self.events.append(event)
            key = (event.namespace, event.name)
            if event.type == "DELETED":
                self.objects.pop(key, None)
            elif event.object is not None:
                self.objects[key] = event.object

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        self.errors.append(error)
        self.health = "failing"

    def healthy(self, kind: Kind) -> None:
        self.health = "healthy"

    def names(self, namespace: str = "default") -> set[str]:
        with self.lock:
            return {name for space, name in self.objects if space == namespace}


Started = Callable[..., tuple[Reflector, Recorder]]


@pytest.fixture
def connection(apiserver: ApiServer) -> Iterator[ApiConnection]:
    made = connect(ClusterSettings(kubeconfig=apiserver.kubeconfig()))
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


def test_list_then_changes_then_delete(apiserver: ApiServer, start: Started) -> None:
    apiserver.apply(service("before", clusterIP="10.0.1.1"))
    _, sink = start()
    wait_for(lambda: sink.replaced == 1 and "before" in sink.names(), "the list")
    assert sink.names() >= {"before", "kubernetes"}

    apiserver.apply(service("after"))
    wait_for(lambda: "after" in sink.names(), "the new Service")
    apiserver.delete(service("before"))
    wait_for(lambda: "before" not in sink.names(), "the delete")
    assert sink.replaced == 1
    assert sink.health == "healthy"
    assert sink.errors == []


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
    reflector, sink = start()
    wait_for(lambda: sink.replaced == 1, "the list", 30)
    assert sink.names() >= wanted
    assert reflector.lists == 1
    assert reflector.bytes_read > 100_000


@pytest.mark.parametrize("name", ["services", "endpointslices", "namespaces", "pods"])
def test_every_builtin_kind_is_listed_and_watched(start: Started, name: str) -> None:
    _, sink = start(KINDS[name])
    wait_for(lambda: sink.replaced == 1 and sink.health == "healthy", f"{name} to be listed")
    assert sink.rejected == []
    assert sink.errors == []


def test_a_kind_that_is_installed_later_is_noticed(apiserver: ApiServer, start: Started) -> None:
    _, sink = start(KINDS["virtualmachineinstances"])
    wait_for(lambda: sink.errors != [], "the 404")
    assert isinstance(sink.errors[0], ApiNotFound)
    assert sink.replaced == 0

    apiserver.apply(vmi_crd())
    apiserver.apply(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "vm1", "namespace": "default"},
            "spec": {"networks": [{"name": "default", "pod": {}}, {"name": "sec1", "multus": {}}]},
            "status": {"interfaces": [{"name": "sec1", "ipAddresses": ["192.0.2.7", "2001:db8::7"]}]},
        }
    )
    wait_for(lambda: sink.names() == {"vm1"}, "the machine", 30)
    assert sink.health == "healthy"


def test_one_odd_object_costs_only_itself(apiserver: ApiServer, start: Started) -> None:
    apiserver.apply(vmi_crd())
    machine = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance"}
    odd = {"interfaces": "none of your business"}
    for i in range(5):
        apiserver.apply({**machine, "metadata": {"name": f"good-{i}", "namespace": "default"}})
    apiserver.apply({**machine, "metadata": {"name": "odd", "namespace": "default"}, "status": odd})
    _, sink = start(KINDS["virtualmachineinstances"])
    wait_for(lambda: sink.replaced == 1, "the list")
    assert sink.names() == {f"good-{i}" for i in range(5)}
    assert [(r.namespace, r.name) for r in sink.rejected] == [("default", "odd")]

    apiserver.apply({**machine, "metadata": {"name": "late", "namespace": "default"}, "status": odd})
    wait_for(lambda: any(e.rejected for e in sink.events), "the odd event")
    assert sink.health == "healthy"


def test_a_paused_server_is_noticed_and_its_changes_come_after_it_wakes(
    apiserver: ApiServer, start: Started
) -> None:
    reflector, sink = start(inactivity=1.0, connect_timeout=1.0)
    wait_for(lambda: sink.health == "healthy", "the watch")
    apiserver.pause()
    wait_for(lambda: sink.health == "failing", "the pause to be noticed", 15)
    assert all(isinstance(error, ApiUnavailable) for error in sink.errors)
    apiserver.resume()
    apiserver.apply(service("slept"))
    wait_for(lambda: "slept" in sink.names() and sink.health == "healthy", "the change", 40)
    assert reflector.errors >= 1


@pytest.mark.parametrize("paused", [False, True], ids=["quiet", "paused"])
def test_stop_is_prompt(apiserver: ApiServer, start: Started, paused: bool) -> None:
    reflector, sink = start()
    wait_for(lambda: sink.health == "healthy", "the watch")
    if paused:
        apiserver.pause()
    began = time.monotonic()
    reflector.stop()
    took = time.monotonic() - began
    apiserver.resume()
    assert took < 0.5 * SLOW
    assert running(f"reflector-{reflector.kind.name}") is None


def test_stop_is_prompt_while_a_connection_opens_to_a_paused_server(
    apiserver: ApiServer, start: Started
) -> None:
    apiserver.pause()
    reflector, _ = start()
    time.sleep(0.3)  # into the handshake that nobody answers
    began = time.monotonic()
    reflector.stop()
    took = time.monotonic() - began
    apiserver.resume()
    assert took < 0.5 * SLOW
    assert running(f"reflector-{reflector.kind.name}") is None


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


def test_relist_on_demand_is_at_once(start: Started) -> None:
    reflector, sink = start()
    wait_for(lambda: sink.health == "healthy", "the watch")
    for count in range(2, 6):
        reflector.relist("test")
        wait_for(lambda count=count: sink.replaced == count, "the new list", 5)  # type: ignore[misc]
    assert sink.errors == []


def test_a_version_from_before_the_servers_memory_is_gone(
    apiserver: ApiServer, connection: ApiConnection
) -> None:
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


def test_bad_token_is_one_sentence_and_no_empty_list(apiserver: ApiServer, start: Started) -> None:
    secret = "wrong-token-never-shown"
    over = connect(ClusterSettings(kubeconfig=apiserver.kubeconfig(token=secret, name="bad")))
    _, sink = start(over=over)
    wait_for(lambda: sink.errors != [], "the refusal")
    error = sink.errors[0]
    assert isinstance(error, ApiForbidden)
    assert "401" in str(error)
    assert "list services" in str(error)
    assert secret not in str(error)
    assert sink.replaced == 0
    over.close()


def test_a_corrected_kubeconfig_is_taken_up(apiserver: ApiServer, start: Started) -> None:
    path = apiserver.kubeconfig(token="not-yet", name="corrected")
    over = connect(ClusterSettings(kubeconfig=path))
    _, sink = start(over=over)
    wait_for(lambda: sink.errors != [], "the refusal")
    apiserver.kubeconfig(name="corrected")
    wait_for(lambda: sink.health == "healthy" and "kubernetes" in sink.names(), "the recovery", 30)
    over.close()


def test_client_certificate(apiserver: ApiServer, start: Started) -> None:
    pair = apiserver.client_certificate("operator")
    over = connect(ClusterSettings(kubeconfig=apiserver.kubeconfig(certificate=pair, name="mtls")))
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
    over = connect(ClusterSettings(kubeconfig=path))
    _, sink = start(over=over)
    wait_for(lambda: sink.health == "healthy", "the watch")
    over.close()


def test_an_authority_that_did_not_sign_the_server(
    apiserver: ApiServer, start: Started, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "pki", "stranger")
    (tmp_path / "ca.crt").write_bytes(stranger.ca_file.read_bytes())
    path = apiserver.kubeconfig(cluster={"certificate-authority": str(tmp_path / "ca.crt")}, name="wrong-ca")
    over = connect(ClusterSettings(kubeconfig=path))
    _, sink = start(over=over)
    wait_for(lambda: sink.errors != [], "the refusal")
    assert "not trusted" in str(sink.errors[0])
    assert "certificate-authority" in str(sink.errors[0])

    # Rotated to the right one: the same process goes on.
    (tmp_path / "ca.crt").write_bytes(Path(apiserver.ca_file).read_bytes())
    wait_for(lambda: sink.health == "healthy", "the recovery", 30)
    over.close()


def test_the_environment_does_not_decide(
    apiserver: ApiServer, start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere/ca.pem")
    over = connect(ClusterSettings(kubeconfig=apiserver.kubeconfig()))
    _, sink = start(over=over)
    wait_for(lambda: sink.health == "healthy", "the watch")
    over.close()
