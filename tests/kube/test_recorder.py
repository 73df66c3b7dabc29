"""Kubernetes Events about records left out: content, errors, rate."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from kube2etcd.errors import ApiError, ApiForbidden, ApiNotFound
from kube2etcd.kube import recorder
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.recorder import EventRecorder
from kube2etcd.kube.store import Unit

WEB = Unit("services", "shop", "web")


class Api:
    """An API server that has every object, and takes Events unless ``failures`` says otherwise."""

    def __init__(self) -> None:
        self.failures: list[ApiError] = []
        self.posted: list[tuple[str, dict[str, object]]] = []
        self.more = threading.Condition()

    def request(self, method: str, path: str, params: object, *, timeout: float, body: bytes = b"") -> bytes:
        if method == "GET":
            return self.read(path)
        with self.more:
            self.posted.append((f"{method} {path}", json.loads(body)))
            self.more.notify()
        if self.failures:
            raise self.failures.pop(0)
        return b"{}"

    def read(self, path: str) -> bytes:
        if path.endswith("/gone"):
            raise ApiNotFound("no such object")
        return json.dumps({"metadata": {"uid": f"uid of {path}"}}).encode()

    def wait(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.posted) >= count, 20)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def recording(api: Api) -> Iterator[EventRecorder]:
    one = EventRecorder(api, burst=2, pause=0.01)  # type: ignore[arg-type]
    yield one
    one.stop()


@pytest.fixture
def running(recording: EventRecorder) -> EventRecorder:
    recording.start()
    return recording


def test_an_event_names_object_and_reason(api: Api, running: EventRecorder) -> None:
    running.record([(WEB, "externalName 10.0.0.1 is an address")])
    api.wait(1)
    [(path, event)] = api.posted
    assert path == "POST /apis/events.k8s.io/v1/namespaces/shop/events"
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
        "uid": "uid of /api/v1/namespaces/shop/services/web",
    }
    assert (event["type"], event["reason"]) == ("Warning", "DNSRecordLeftOut")
    assert event["note"] == "externalName 10.0.0.1 is an address"


def test_the_same_reason_is_the_same_event_and_another_one_is_not(api: Api, running: EventRecorder) -> None:
    running.record([(WEB, "a"), (WEB, "a"), (WEB, "b" * 2000)])
    api.wait(3)
    names = [event["metadata"]["name"] for _, event in api.posted]  # type: ignore[index]
    assert names[0] == names[1] != names[2]
    assert len(str(api.posted[2][1]["note"])) == 1024


def test_errors_do_not_stop_it(api: Api, running: EventRecorder, caplog: pytest.LogCaptureFixture) -> None:
    api.failures = [
        ApiRefused("it is there", 409),
        ApiRefused("odd", 422),
        ApiForbidden("no right to create"),
    ]
    running.record([(WEB, reason) for reason in "abcd"])
    api.wait(4)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"events: none for {WEB}: odd", f"events: none for {WEB}: no right to create"]


def test_an_unreadable_answer_loses_only_its_own_event(
    api: Api, running: EventRecorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"{}", b"<html>", json.dumps({"metadata": {"uid": "u"}}).encode()]
    monkeypatch.setattr(api, "read", lambda _: bodies.pop(0))
    running.record([(WEB, reason) for reason in "abc"])
    api.wait(1)
    assert [event["note"] for _, event in api.posted] == ["c"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_deleted_objects_and_other_units_get_no_event(api: Api, running: EventRecorder) -> None:
    running.record([(Unit("services", "shop", "gone"), "x"), (Unit("zones", "", "cluster.local"), "x")])
    running.record([(Unit("namespaces", "", "Shop"), "x")])
    api.wait(1)
    [(path, event)] = api.posted
    assert path == "POST /apis/events.k8s.io/v1/namespaces/default/events"
    assert event["regarding"]["kind"] == "Namespace"  # type: ignore[index]


def test_overflow_drops(api: Api, recording: EventRecorder, caplog: pytest.LogCaptureFixture) -> None:
    recording.record([(WEB, str(number)) for number in range(recorder.MAX_WAITING + 3)])
    assert f"more than {recorder.MAX_WAITING} queued" in caplog.text
    recording.start()
    api.wait(2)
    assert [event["note"] for _, event in api.posted[:2]] == ["0", "1"]


def test_after_a_burst_it_pauses_and_recovers(api: Api, running: EventRecorder) -> None:
    running.record([(WEB, str(number)) for number in range(5)])
    api.wait(5)
    running.record([(WEB, "later")])
    api.wait(6)
