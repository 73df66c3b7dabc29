"""The list-watch loop in the situations that client-go's tests cover, and calls from other threads."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from kube2etcd.errors import ApiError, ApiForbidden, ApiGone, ApiNotFound, ApiTooMany, ApiUnavailable
from kube2etcd.kube.objects import Changed, KindEvent
from kube2etcd.kube.reflector import INACTIVITY_TIMEOUT, PAGE_SIZE, STOP_TIMEOUT, stop_all
from tests.kube.world import Step, World, error_event, event, obj, page
from tests.running import running


def test_list_and_watch() -> None:
    world = World()
    world.lists(page("a", "b"))
    world.watches(event("ADDED", "c", "11"), event("DELETED", "a", "12"), world.lived)
    world.run()
    assert world.sink.told == [("replace", ["a", "b"]), "healthy", ("ADDED", "c"), ("DELETED", "a")]
    assert world.path == "/api/v1/services"
    assert world.asked[0] == ("list", {"limit": str(PAGE_SIZE)})
    verb, params = world.asked[1]
    seconds = int(params.pop("timeoutSeconds"))
    assert verb == "watch"
    assert params == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10"}
    assert 300 <= seconds <= 600
    assert world.read_timeouts[0] == INACTIVITY_TIMEOUT


def test_a_watch_that_ends_is_resumed_from_the_last_version_without_a_pause() -> None:
    world = World()
    world.lists(page("a"))
    world.watches(event("MODIFIED", "a", "17"), world.lived)
    world.watches(world.lived)
    world.run()
    assert world.versions()[:3] == ["10", "17", "17"]
    assert world.waits == []
    assert world.sink.told.count("healthy") == 1


@pytest.mark.parametrize(
    "gone",
    [
        ApiGone("410: too old resource version"),
        error_event(410, "too old resource version: 10 (99)"),
        b'{"type":"ERROR","object":{"kind":"Status","reason":"Expired","message":"too old"}}',
        b'{"type":"ERROR","object":{"kind":"Status","reason":"Gone"}}',
    ],
    ids=["status", "event", "event by its reason", "event by its other reason"],
)
def test_full_list_if_expired(gone: Step) -> None:
    world = World()
    world.lists(page("a")).watches(gone)
    world.lists(page("b", version="100")).watches(world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]
    assert world.versions()[1] == "100"
    assert "resourceVersion" not in world.asked[2][1]
    assert world.sink.errors == []
    assert world.waits == []


def test_expired_again_right_after_a_list_backs_off() -> None:
    world = World()
    for _ in range(4):
        world.lists(page()).watches(ApiGone("too old"))
    world.run()
    assert len(world.waits) == 3
    assert len(world.sink.errors) == 3
    assert "already too old" in str(world.sink.errors[0])


def test_expired_once_in_a_while_is_never_a_failure() -> None:
    world = World()
    for _ in range(4):
        world.lists(page()).watches(world.lived, error_event(410))
    world.run()
    assert world.sink.errors == []
    assert world.waits == []


def test_one_odd_object_costs_only_itself() -> None:
    odd = json.dumps(
        {
            "kind": "ServiceList",
            "metadata": {"resourceVersion": "10"},
            "items": [obj("a"), obj("odd", spec={"ports": "eighty"}), obj("b")],
        }
    ).encode()
    odd_event = json.dumps({"type": "MODIFIED", "object": obj("b", "11", spec=[])}).encode()
    world = World()
    world.lists(odd).watches(odd_event, event("ADDED", "c", "12"), world.lived).run()
    assert world.sink.told == [("replace", ["a", "b"]), "healthy", ("MODIFIED", "b"), ("ADDED", "c")]
    assert [r.name for r in world.sink.rejected] == ["odd", "b"]


@pytest.mark.parametrize(
    "failure",
    [ApiForbidden("403"), ApiNotFound("404"), error_event(401), error_event(403)],
    ids=["403", "404", "error 401", "error 403"],
)
def test_after_a_refusal_the_list_is_made_anew(failure: Step) -> None:
    world = World()
    world.lists(page("a")).watches(failure).lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert len(world.sink.lists) == 2
    assert len(world.sink.errors) == 1


def test_relist_cuts_the_watch_short() -> None:
    world = World()
    world.lists(page("a")).watches(lambda: world.reflector.relist("resync"))
    world.lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]
    assert world.sink.errors == []
    assert world.waits == []
    assert world.versions()[1] == "20"


@pytest.mark.parametrize("more", [[event("ADDED", "x", "11")], []], ids=["an event", "the end"])
def test_relist_takes_effect_before_what_comes_next(more: list[Step]) -> None:
    world = World()

    def relist() -> None:
        world.reflector.relist("resync")
        world.deaf = True

    world.lists(page()).watches(relist, *more)
    world.lists(page("x", version="20")).watches(world.lived)
    world.run()
    assert ("ADDED", "x") not in world.sink.told
    assert len(world.sink.lists) == 2
    assert world.sink.errors == []


def test_relist_during_a_list_makes_another_one() -> None:
    world = World()
    world.lists(lambda: world.reflector.relist("held plan"), page("a"))
    world.lists(page("b", version="20")).watches(world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["b"]]


def test_a_failed_relist_is_tried_again() -> None:
    world = World()
    world.lists(page("a")).watches(lambda: world.reflector.relist("resync"))
    world.lists(ApiUnavailable("500")).lists(page("b")).watches(world.lived).run()
    assert len(world.sink.lists) == 2
    assert len(world.waits) == 1


def test_stop_ends_a_watch_and_nothing_is_delivered_after() -> None:
    world = World()
    world.lists(page()).watches(world.reflector.stop, event("ADDED", "late", "11"))
    world.run()
    assert ("ADDED", "late") not in world.sink.told
    assert world.sink.errors == []


def test_stop_during_a_list_delivers_nothing() -> None:
    world = World()
    world.lists(world.reflector.stop, page("a")).run()
    assert world.sink.told == []


@pytest.mark.parametrize("error", [ApiUnavailable("x"), ApiTooMany("x", 50)], ids=["backoff", "retry-after"])
def test_stop_ends_a_pause(error: ApiError) -> None:
    world = World()
    world.on_wait.append(world.reflector.stop)
    world.lists(error).run()
    assert len(world.waits) == 1


def test_relist_does_not_shorten_a_pause_that_the_server_asked_for() -> None:
    world = World()
    world.on_wait.append(lambda: world.reflector.relist("resync"))
    world.lists(ApiTooMany("429", 20)).lists(page()).watches(world.lived)
    world.run()
    assert len(world.waits) == 1
    assert world.clock.now >= 1020


def test_a_sink_that_fails_gets_everything_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    original, faults = world.sink.deliver, [RuntimeError("a fault of ours")]

    def deliver(event: KindEvent) -> None:
        if isinstance(event, Changed) and faults:
            raise faults.pop()
        original(event)

    world.sink.deliver = deliver  # type: ignore[method-assign]
    world.lists(page("a")).watches(event("ADDED", "b", "11"), world.lived)
    world.lists(page("a", "b", version="20")).watches(event("ADDED", "c", "21"), world.lived)
    world.run()
    assert [t[1] for t in world.sink.lists] == [["a"], ["a", "b"]]
    assert ("ADDED", "c") in world.sink.told
    assert "internal error" in str(world.sink.errors[0])
    assert any(r.exc_info for r in caplog.records)


def test_a_sink_that_fails_while_stopping_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def deliver(event: KindEvent) -> None:
        world.reflector.stop()
        raise RuntimeError("torn down")

    world.sink.deliver = deliver  # type: ignore[method-assign]
    world.lists(page("a")).run()
    assert world.sink.told == []
    assert not caplog.records


def test_start_runs_it_in_a_daemon_thread_and_stop_joins_it() -> None:
    world, looked_at = World(), threading.Event()
    world.lists(lambda: looked_at.wait(20), page("a"))
    world.reflector.start()
    thread = running("reflector-services")
    assert thread is not None
    assert thread.daemon
    looked_at.set()
    world.reflector.stop()
    assert not thread.is_alive()


class Unreachable(World):
    """A server whose network is gone: a connection is being opened, which nothing wakes."""

    def __init__(self, asked: threading.Semaphore, over: threading.Event) -> None:
        super().__init__()
        self._asked, self._over = asked, over

    def get(self, *_: Any, **__: Any) -> bytes:
        self._asked.release()
        self._over.wait(60)
        raise ApiUnavailable("no connection")


def test_however_many_hang_they_are_stopped_together() -> None:
    """One after the other they would need twenty seconds and more, and a process is given one."""
    asked, over = threading.Semaphore(0), threading.Event()
    reflectors = [Unreachable(asked, over).reflector for _ in range(int(20 / STOP_TIMEOUT) + 1)]
    for reflector in reflectors:
        reflector.start()
    for _ in reflectors:
        assert asked.acquire(timeout=20)
    began = time.monotonic()
    stop_all(reflectors)
    took = time.monotonic() - began
    over.set()
    assert took < 10
    assert all(reflector.ended(20) for reflector in reflectors)
