"""Kubernetes Events about records left out: content, errors, rate limit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from kube2etcd.errors import ApiError, ApiForbidden, ApiNotFound, ApiTooMany, ApiUnavailable
from kube2etcd.kube import recorder
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.recorder import EventRecorder
from kube2etcd.kube.store import Unit

WEB = Unit("services", "shop", "web")


class FakeApi:
    """An API server that has every object but ``gone``; raises ``failures`` when Events are posted."""

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
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def event_recorder(api: FakeApi) -> Iterator[EventRecorder]:
    one = EventRecorder(api, burst=2, pause=0.01, retry=0.01)  # type: ignore[arg-type]
    yield one
    one.stop()


@pytest.fixture
def running(event_recorder: EventRecorder) -> EventRecorder:
    event_recorder.start()
    return event_recorder


def test_event_has_object_and_reason(api: FakeApi, running: EventRecorder) -> None:
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


def test_name_of_an_event_follows_from_its_reason(api: FakeApi, running: EventRecorder) -> None:
    running.record([(WEB, "a"), (WEB, "a"), (WEB, "b" * 2000)])
    api.wait(3)
    names = [event["metadata"]["name"] for _, event in api.posted]  # type: ignore[index]
    assert names[0] == names[1] != names[2]
    assert len(str(api.posted[2][1]["note"])) == 1024


def test_errors_do_not_stop_the_recorder(
    api: FakeApi, running: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    api.failures = [
        ApiRefused("exists", 409),
        ApiRefused("invalid", 422),
        ApiForbidden("not allowed"),
    ]
    running.record([(WEB, reason) for reason in "abcd"])
    api.wait(4)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"events: none for {WEB}: invalid", f"events: none for {WEB}: not allowed"]


def test_outage_loses_no_event(
    api: FakeApi, event_recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    api.failures = [*[ApiUnavailable("down")] * 2, ApiTooMany("busy", 1.0), ApiUnavailable("failed")]
    event_recorder.record([(WEB, reason) for reason in "abc"])
    event_recorder.start()
    api.wait(7)
    assert [event["note"] for _, event in api.posted] == ["a", "b", "c", "a", "b", "c", "a"]
    assert [record.getMessage() for record in caplog.records] == [
        f"events: posted later: {why}" for why in ("down", "busy", "failed")
    ]


def test_malformed_answer_loses_only_its_event(
    api: FakeApi, running: EventRecorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"{}", b"<html>", json.dumps({"metadata": {"uid": "u"}}).encode()]
    monkeypatch.setattr(api, "read", lambda _: bodies.pop(0))
    running.record([(WEB, reason) for reason in "abc"])
    api.wait(1)
    assert [event["note"] for _, event in api.posted] == ["c"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_deleted_objects_and_other_units_get_no_event(api: FakeApi, running: EventRecorder) -> None:
    running.record([(Unit("services", "shop", "gone"), "x"), (Unit("zones", "", "cluster.local"), "x")])
    running.record([(Unit("namespaces", "", "Shop"), "x")])
    api.wait(1)
    [(path, event)] = api.posted
    assert path == "POST /apis/events.k8s.io/v1/namespaces/default/events"
    assert event["regarding"]["kind"] == "Namespace"  # type: ignore[index]


def test_events_beyond_the_queue_limit_are_dropped(
    api: FakeApi, event_recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    event_recorder.record([(WEB, str(number)) for number in range(recorder.MAX_WAITING + 3)])
    assert f"more than {recorder.MAX_WAITING} queued" in caplog.text
    event_recorder.start()
    api.wait(2)
    assert [event["note"] for _, event in api.posted[:2]] == ["0", "1"]


def test_events_after_a_burst_are_posted(api: FakeApi, running: EventRecorder) -> None:
    running.record([(WEB, str(number)) for number in range(5)])
    api.wait(5)
    running.record([(WEB, "later")])
    api.wait(6)
