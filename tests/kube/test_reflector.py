"""The list-watch loop as client-go tests it, failures, and calls from other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTooMany,
    ApiUnavailable,
)
from kube2etcd.kube.failures import ApiRefused
from kube2etcd.kube.objects import KINDS, Changed, KindEvent
from kube2etcd.kube.reflector import (
    INACTIVITY_TIMEOUT,
    PAGE_SIZE,
    STOP_TIMEOUT,
    stop_all,
)
from tests.kube.world import (
    CUT,
    DOWN,
    SILENT,
    WATCH_DURATION,
    Request,
    Step,
    World,
    bookmark,
    error_event,
    event,
    lists,
    obj,
    page,
    play,
    probes,
    relist,
    relist_with_buffered_data,
    stop,
    watches,
)
from tests.running import running


def test_list_and_watch() -> None:
    bodies = page("a", "b"), event("ADDED", "c", "11"), event("DELETED", "a", "12")
    world = play(lists(bodies[0]), watches(*bodies[1:], WATCH_DURATION))
    assert world.trace == "list a b, watch 10, healthy, ADDED c, DELETED a"
    assert world.requests[0] == ("/api/v1/services", {"limit": str(PAGE_SIZE)})
    path, params = world.requests[1]
    assert 300 <= int(params.pop("timeoutSeconds")) <= 600
    assert path == "/api/v1/services"
    assert params == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10"}
    assert world.read_timeouts[0] == INACTIVITY_TIMEOUT
    assert world.reflector.bytes_read == sum(map(len, bodies))


def test_selectors_are_requested() -> None:
    world = play(lists(page(kind="Pod")), kind=KINDS["pods"])
    assert {path for path, _ in world.requests} == {"/api/v1/pods"}
    assert all("status.phase!=Failed" in params["fieldSelector"] for _, params in world.requests)
    world = play(lists(page(kind="Pod")), SILENT, watches(WATCH_DURATION), kind=KINDS["pods"])
    [(path, params)] = world.probes
    assert (path, params["limit"]) == ("/api/v1/pods", "1")
    assert "status.phase!=Failed" in params["fieldSelector"]


SHORT = (lists(page()), watches())
#: The server's answers, and the resulting trace.
CASES: dict[str, tuple[Sequence[Request], str]] = {
    "watch ended by the server resumes from the last version": (
        [lists(page("a")), watches(event("MODIFIED", "a", "17"), WATCH_DURATION), watches(WATCH_DURATION)],
        "list a, watch 10, healthy, MODIFIED a, watch 17",
    ),
    "bookmark advances the version": (
        [lists(page()), watches(bookmark("99"), WATCH_DURATION), watches(WATCH_DURATION)],
        "list, watch 10, healthy, watch 99",
    ),
    "bookmark without a version": (
        [lists(page()), watches(bookmark(""), WATCH_DURATION), watches(WATCH_DURATION)],
        "list, watch 10, healthy, watch 10",
    ),
    "silent watch is reopened without a failure": (
        [lists(page()), SILENT, SILENT, watches(WATCH_DURATION)],
        "list, watch 10, healthy, watch 10, watch 10",
    ),
    "events before a failure are delivered once": (
        [
            lists(page()),
            watches(event("ADDED", "a", "11"), CUT),
            watches(event("ADDED", "b", "12"), WATCH_DURATION),
        ],
        "list, watch 10, healthy, ADDED a, failing, watch 11, healthy, ADDED b",
    ),
    "version that expires after a long watch is no failure": (
        [lists(page()), watches(WATCH_DURATION, error_event(410))] * 2,
        "list, watch 10, healthy, list, watch 10",
    ),
    "version that expires right after a list backs off": (
        [lists(page()), watches(ApiGone("too old"))] * 4,
        "list, watch 10" + ", list, watch 10, failing" * 3,
    ),
    "server that went back during a failure is listed again": (
        [lists(page("a")), watches(CUT), probes(page("b", version="9")), lists(page("b", version="9"))],
        "list a, watch 10, failing, list b, watch 9, healthy",
    ),
    "server that went back during a silence is listed again": (
        [lists(page("a")), SILENT, probes(page("b", version="9")), lists(page("b", version="9"))],
        "list a, watch 10, healthy, list b, watch 9",
    ),
    "server that did not go back is not listed again": (
        [
            *(lists(page("a")), watches(CUT), probes(page("a"))),
            *(watches(WATCH_DURATION), watches(WATCH_DURATION)),
        ],
        "list a, watch 10, failing, watch 10, healthy, watch 10",
    ),
    "versions that are not numbers are not compared": (
        [lists(page(version="b")), SILENT, probes(page(version="a")), watches(WATCH_DURATION)],
        "list, watch b, healthy, watch b",
    ),
    "failed probe is repeated": (
        [lists(page()), watches(CUT), probes(DOWN), probes(page(version="9")), lists(page(version="9"))],
        "list, watch 10, failing, failing, list, watch 9, healthy",
    ),
    "null items are an empty list": (
        [lists(b'{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}')],
        "list, watch 5, healthy",
    ),
    "healthy again at a line of a longer watch after a very short one": (
        [*SHORT, watches(bookmark("11"), 60.0, bookmark("12"), WATCH_DURATION)],
        "list, watch 10, healthy, failing, watch 10, healthy",
    ),
    "not healthy at a line of another very short watch": (
        [*SHORT, watches(bookmark("11"))],
        "list, watch 10, healthy, failing, watch 10, failing",
    ),
    "healthy at the watch after a longer one without lines (some kinds have no bookmarks)": (
        [*SHORT, watches(INACTIVITY_TIMEOUT), watches(WATCH_DURATION)],
        "list, watch 10, healthy, failing, watch 10, watch 10, healthy",
    ),
    "healthy at the watch after a longer silent one": (
        [*SHORT, SILENT, watches(WATCH_DURATION)],
        "list, watch 10, healthy, failing, watch 10, watch 10, healthy",
    ),
    "relist ends the watch": (
        [lists(page("a")), watches(relist), lists(page("b", version="20"))],
        "list a, watch 10, healthy, list b, watch 20",
    ),
    "relist precedes the next event": (
        [
            lists(page()),
            watches(relist_with_buffered_data, event("ADDED", "x", "11")),
            lists(page("x", version="20")),
        ],
        "list, watch 10, healthy, list x, watch 20",
    ),
    "relist precedes the end of the watch": (
        [lists(page()), watches(relist_with_buffered_data), lists(page("x", version="20"))],
        "list, watch 10, healthy, list x, watch 20",
    ),
    "relist during a list causes another list": (
        [lists(relist, page("a")), lists(page("b", version="20"))],
        "list a, list b, watch 20, healthy",
    ),
    "failed relist is retried": (
        [lists(page("a")), watches(relist), lists(DOWN), lists(page("b"))],
        "list a, watch 10, healthy, failing, list b, watch 10, healthy",
    ),
    "stop ends a watch": (
        [lists(page()), watches(stop, event("ADDED", "late", "11"))],
        "list, watch 10, healthy",
    ),
    "stop during a list": ([lists(stop, page("a"))], ""),
}


@pytest.mark.parametrize(("script", "trace"), CASES.values(), ids=CASES)
def test_list_and_watch_sequences(script: Sequence[Request], trace: str) -> None:
    world = play(*script)
    assert world.trace == trace
    assert len(world.pauses) == world.events.count("failing"), "only failures cause a pause"


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        (
            [lists(page("a", token="t")), lists(page("b", token="u")), lists(page("c"))],
            [(None, "500"), ("t", "500"), ("u", "500")],
        ),
        (
            [lists(page("a", token="t")), lists(ApiGone("token expired")), lists(page("a", "b", "c"))],
            [(None, "500"), ("t", "500"), (None, None)],
        ),
        (
            [
                lists(page("a", token="t")),
                *[lists(ApiTooLarge("too large"))] * 3,
                lists(page("b", token="u")),
                lists(page("c")),
            ],
            [(None, "500"), ("t", "500"), ("t", "62"), ("t", "7"), ("t", "1"), ("u", "1")],
        ),
    ],
    ids=["pages", "expired token: unpaged", "page too large: fewer objects"],
)
def test_pages_are_one_list(script: Sequence[Request], requests: list[tuple[str, str]]) -> None:
    world = play(*script)
    assert world.trace == "list a b c, watch 10, healthy"
    pages = [(params.get("continue"), params.get("limit")) for _, params in world.requests]
    assert pages[: len(requests)] == requests


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([ApiUnavailable("500")], "500"),
        ([ApiForbidden("403")], "403"),
        ([ApiNotFound("404")], "404"),
        ([page("a", "b")[:-20]], "JSON"),
        ([page("a", kind="Pod")], "not a ServiceList"),
        ([page("x", token="t"), DOWN], "down"),
        *(([page("a", token=token) for token in tokens], "repeat") for tokens in ("tt", "tut", "tuvu")),
    ],
)
def test_error_is_never_an_empty_list(answers: list[Step], message: str) -> None:
    world = play(*map(lists, answers), lists(page("a")))
    assert world.trace == "failing, list a, watch 10, healthy"
    assert message in str(world.errors[0])
    assert len(world.pauses) == 1


@pytest.mark.parametrize(
    "failure",
    [
        CUT,
        ApiTooMany("429", 3),
        ApiRefused("bad request", 400),
        error_event(500),
        error_event(429),
        b"<html>",
    ],
    ids=["connection lost", "too many", "refused", "error 500", "error 429", "malformed event"],
)
def test_failing_watch_is_resumed_without_a_list(failure: Step) -> None:
    world = play(
        lists(page("a")),
        watches(event("ADDED", "b", "11"), WATCH_DURATION),
        watches(failure),
        watches(WATCH_DURATION),
    )
    assert world.trace == "list a, watch 10, healthy, ADDED b, watch 11, failing, watch 11, healthy"


EXPIRED = b'{"type":"ERROR","object":{"kind":"Status","reason":"Expired","message":"too old"}}'


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (ApiGone("410: too old resource version"), []),
        (error_event(410, "too old resource version: 10 (99)"), ["healthy"]),
        (EXPIRED, ["healthy"]),
        (EXPIRED.replace(b"Expired", b"Gone"), ["healthy"]),
        (ApiForbidden("403"), ["failing"]),
        (ApiNotFound("404"), ["failing"]),
        (error_event(401), ["healthy", "failing"]),
    ],
)
def test_expired_version_or_refused_watch_causes_a_list(answer: Step, then: list[str]) -> None:
    world = play(lists(page("a")), watches(answer), lists(page("b", version="100")))
    recovered = [] if then == ["healthy"] else ["healthy"]
    assert world.events == ["list a", "watch 10", *then, "list b", "watch 100", *recovered]
    assert len(world.pauses) == then.count("failing")


def test_malformed_object_is_rejected_alone() -> None:
    world = play(
        lists(page("a", obj("malformed", spec={"ports": "eighty"}), "b")),
        watches(event("MODIFIED", "b", "11", spec=[]), event("ADDED", "c", "12"), WATCH_DURATION),
    )
    assert world.trace == "list a b, watch 10, healthy, MODIFIED b, ADDED c"
    assert [one.name for one in world.rejected] == ["malformed", "b"]


def test_unknown_event_types_are_skipped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    renamed = event("RENAMED", "x", "11")
    world = play(lists(page()), watches(renamed, renamed, event("ADDED", "b", "12"), WATCH_DURATION))
    assert world.trace == "list, watch 10, healthy, ADDED b"
    assert sum("RENAMED" in one.getMessage() for one in caplog.records) == 1


# -- calls from other threads, and bugs


@pytest.mark.parametrize("error", [DOWN, ApiTooMany("x", 50)], ids=["backoff", "retry-after"])
def test_stop_ends_a_pause(error: ApiError) -> None:
    assert len(play(lists(error), on_pause=stop).pauses) == 1


def test_relist_does_not_shorten_retry_after() -> None:
    world = play(lists(ApiTooMany("429", 20)), lists(page()), on_pause=relist)
    assert len(world.pauses) == 1
    assert world.clock.now >= 1020


def test_unforeseen_error_causes_a_list(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(World):
        faults = 1

        def deliver(self, event: KindEvent) -> None:
            if isinstance(event, Changed) and self.faults:
                self.faults -= 1
                raise RuntimeError("a bug")
            super().deliver(event)

    world = Faulty(
        lists(page("a")),
        watches(event("ADDED", "b", "11"), WATCH_DURATION),
        lists(page("a", "b", version="20")),
        watches(event("ADDED", "c", "21"), WATCH_DURATION),
    ).run()
    assert world.trace == "list a, watch 10, healthy, failing, list a b, watch 20, healthy, ADDED c"
    assert "internal error" in str(world.errors[0])
    assert any(one.exc_info for one in caplog.records)


def test_error_while_stopping_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(World):
        def deliver(self, event: KindEvent) -> None:
            self.reflector.stop()
            raise RuntimeError("torn down")

    assert Faulty(lists(page("a"))).run().trace == ""
    assert not caplog.records


def test_start_uses_a_daemon_thread_and_stop_joins_it() -> None:
    proceed = threading.Event()
    world = World(lists(lambda _: proceed.wait(20), page("a")))
    world.reflector.start()
    thread = running("reflector-services")
    assert thread is not None
    assert thread.daemon
    proceed.set()
    stop_all([world.reflector])
    assert not thread.is_alive()


def test_hanging_reflectors_are_stopped_together() -> None:
    """In sequence they would take twenty seconds; a pod has one."""
    connecting, over = threading.Semaphore(0), threading.Event()

    class Unreachable(World):
        """Connects hang and cannot be interrupted."""

        def request(self, *_: Any, **__: Any) -> bytes:
            connecting.release()
            over.wait(60)
            raise ApiUnavailable("no connection")

    reflectors = [Unreachable().reflector for _ in range(int(20 / STOP_TIMEOUT) + 1)]
    for reflector in reflectors:
        reflector.start()
    for _ in reflectors:
        assert connecting.acquire(timeout=20)
    start = time.monotonic()
    stop_all(reflectors)
    took = time.monotonic() - start
    over.set()
    assert took < 10
    assert all(reflector.ended(20) for reflector in reflectors)
