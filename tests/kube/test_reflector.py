"""The list-watch loop as client-go tests it, failures, and calls from other threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from kube2etcd.backoff import BACKOFF_FIRST, BACKOFF_LIMIT
from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTooMany,
    ApiUnavailable,
)
from kube2etcd.kube.failures import ApiRefused, ApiSilent
from kube2etcd.kube.objects import KINDS, Changed, Kind, KindEvent
from kube2etcd.kube.reflector import (
    INACTIVITY_TIMEOUT,
    OPTIONAL_RETRY,
    PAGE_SIZE,
    RETRY_AFTER_LIMIT,
    STOP_TIMEOUT,
    stop_all,
)
from tests.kube.bodies import SERVICES
from tests.kube.world import (
    LIVED,
    VMIS,
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
    relist,
    relist_unnoticed,
    stop,
    watches,
)
from tests.running import running

DOWN, CUT = ApiUnavailable("down"), ApiUnavailable("cut")


def test_list_and_watch() -> None:
    bodies = page("a", "b"), event("ADDED", "c", "11"), event("DELETED", "a", "12")
    world = play(lists(bodies[0]), watches(*bodies[1:], LIVED))
    assert world.story == "list a b, watch 10, healthy, ADDED c, DELETED a"
    assert world.asked[0] == ("/api/v1/services", {"limit": str(PAGE_SIZE)})
    path, params = world.asked[1]
    assert 300 <= int(params.pop("timeoutSeconds")) <= 600
    assert path == "/api/v1/services"
    assert params == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10"}
    assert world.read_timeouts[0] == INACTIVITY_TIMEOUT
    assert world.reflector.bytes_read == sum(map(len, bodies))


def test_selectors_are_requested() -> None:
    world = play(lists(page(kind="Pod")), kind=KINDS["pods"])
    assert {path for path, _ in world.asked} == {"/api/v1/pods"}
    assert all("status.phase!=Failed" in params["fieldSelector"] for _, params in world.asked)


SHORT = (lists(page()), watches())
SILENT = watches(INACTIVITY_TIMEOUT, ApiSilent("nothing came"))
#: What the server answers, and what becomes of it.
STORIES: dict[str, tuple[Sequence[Request], str]] = {
    "a watch that the server ends is resumed from the last version": (
        [lists(page("a")), watches(event("MODIFIED", "a", "17"), LIVED), watches(LIVED)],
        "list a, watch 10, healthy, MODIFIED a, watch 17",
    ),
    "a bookmark moves the version": (
        [lists(page()), watches(bookmark("99"), LIVED), watches(LIVED)],
        "list, watch 10, healthy, watch 99",
    ),
    "a bookmark without a version": (
        [lists(page()), watches(bookmark(""), LIVED), watches(LIVED)],
        "list, watch 10, healthy, watch 10",
    ),
    "a silent watch is reopened without alarm": (
        [lists(page()), SILENT, SILENT, watches(LIVED)],
        "list, watch 10, healthy, watch 10, watch 10",
    ),
    "events before a failure are delivered once": (
        [lists(page()), watches(event("ADDED", "a", "11"), CUT), watches(event("ADDED", "b", "12"), LIVED)],
        "list, watch 10, healthy, ADDED a, failing, watch 11, healthy, ADDED b",
    ),
    "a version that expires once in a while is no failure": (
        [lists(page()), watches(LIVED, error_event(410))] * 2,
        "list, watch 10, healthy, list, watch 10",
    ),
    "a version that expires right after a list backs off": (
        [lists(page()), watches(ApiGone("too old"))] * 4,
        "list, watch 10" + ", list, watch 10, failing" * 3,
    ),
    "null items are an empty list": (
        [lists(b'{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}')],
        "list, watch 5, healthy",
    ),
    "after a very short watch, a line of a longer one shows health": (
        [*SHORT, watches(bookmark("11"), 60.0, bookmark("12"), LIVED)],
        "list, watch 10, healthy, failing, watch 10, healthy",
    ),
    "a line of another very short one does not": (
        [*SHORT, watches(bookmark("11"))],
        "list, watch 10, healthy, failing, watch 10, failing",
    ),
    "without any line (some kinds have no bookmarks), the next watch does": (
        [*SHORT, watches(INACTIVITY_TIMEOUT), watches(LIVED)],
        "list, watch 10, healthy, failing, watch 10, watch 10, healthy",
    ),
    "also if the longer one was silent": (
        [*SHORT, SILENT, watches(LIVED)],
        "list, watch 10, healthy, failing, watch 10, watch 10, healthy",
    ),
    "relist ends the watch": (
        [lists(page("a")), watches(relist), lists(page("b", version="20"))],
        "list a, watch 10, healthy, list b, watch 20",
    ),
    "relist comes before the next event": (
        [lists(page()), watches(relist_unnoticed, event("ADDED", "x", "11")), lists(page("x", version="20"))],
        "list, watch 10, healthy, list x, watch 20",
    ),
    "relist comes before the end of the watch": (
        [lists(page()), watches(relist_unnoticed), lists(page("x", version="20"))],
        "list, watch 10, healthy, list x, watch 20",
    ),
    "relist during a list makes another one": (
        [lists(relist, page("a")), lists(page("b", version="20"))],
        "list a, list b, watch 20, healthy",
    ),
    "a failed relist is retried": (
        [lists(page("a")), watches(relist), lists(DOWN), lists(page("b"))],
        "list a, watch 10, healthy, failing, list b, watch 10, healthy",
    ),
    "stop ends a watch": (
        [lists(page()), watches(stop, event("ADDED", "late", "11"))],
        "list, watch 10, healthy",
    ),
    "stop during a list": ([lists(stop, page("a"))], ""),
}


@pytest.mark.parametrize(("script", "story"), STORIES.values(), ids=STORIES)
def test_stories(script: Sequence[Request], story: str) -> None:
    world = play(*script)
    assert world.story == story
    assert len(world.waits) == world.events.count("failing"), "only a failure makes a pause"


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        (
            [lists(page("a", token="t")), lists(page("b", token="u")), lists(page("c"))],
            [(None, "500"), ("t", "500"), ("u", "500")],
        ),
        (
            [lists(page("a", token="t")), lists(ApiGone("the token is too old")), lists(page("a", "b", "c"))],
            [(None, "500"), ("t", "500"), (None, None)],
        ),
        (
            [
                lists(page("a", token="t")),
                *[lists(ApiTooLarge("more than we take"))] * 3,
                lists(page("b", token="u")),
                lists(page("c")),
            ],
            [(None, "500"), ("t", "500"), ("t", "62"), ("t", "7"), ("t", "1"), ("u", "1")],
        ),
    ],
    ids=["pages", "an expired token: without pages", "a page too large: fewer objects"],
)
def test_pages_are_one_list(script: Sequence[Request], asked: list[tuple[str, str]]) -> None:
    world = play(*script)
    assert world.story == "list a b c, watch 10, healthy"
    pages = [(params.get("continue"), params.get("limit")) for _, params in world.asked]
    assert pages[: len(asked)] == asked


@pytest.mark.parametrize(
    ("answers", "words"),
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
def test_an_error_is_never_an_empty_list(answers: list[Step], words: str) -> None:
    world = play(*map(lists, answers), lists(page("a")))
    assert world.story == "failing, list a, watch 10, healthy"
    assert words in str(world.errors[0])
    assert len(world.waits) == 1


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
    ids=["no connection", "too many", "refused", "error 500", "error 429", "no event"],
)
def test_a_failing_watch_is_resumed_without_a_list(failure: Step) -> None:
    world = play(
        lists(page("a")), watches(event("ADDED", "b", "11"), LIVED), watches(failure), watches(LIVED)
    )
    assert world.story == "list a, watch 10, healthy, ADDED b, watch 11, failing, watch 11, healthy"


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
def test_after_an_expired_version_or_a_refusal_it_lists_again(answer: Step, then: list[str]) -> None:
    world = play(lists(page("a")), watches(answer), lists(page("b", version="100")))
    recovered = [] if then == ["healthy"] else ["healthy"]
    assert world.events == ["list a", "watch 10", *then, "list b", "watch 100", *recovered]
    assert len(world.waits) == then.count("failing")


def test_one_malformed_object_costs_only_itself() -> None:
    world = play(
        lists(page("a", obj("odd", spec={"ports": "eighty"}), "b")),
        watches(event("MODIFIED", "b", "11", spec=[]), event("ADDED", "c", "12"), LIVED),
    )
    assert world.story == "list a b, watch 10, healthy, MODIFIED b, ADDED c"
    assert [one.name for one in world.rejected] == ["odd", "b"]


def test_unknown_event_types_are_skipped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    novel = event("RENAMED", "x", "11")
    world = play(lists(page()), watches(novel, novel, event("ADDED", "b", "12"), LIVED))
    assert world.story == "list, watch 10, healthy, ADDED b"
    assert sum("RENAMED" in one.getMessage() for one in caplog.records) == 1


# -- health and backoff


def test_very_short_watches_back_off() -> None:
    world = play(lists(page()), *[watches()] * 12)
    assert world.story == "list, watch 10, healthy, failing" + ", watch 10, failing" * 11
    assert len(world.waits) == 12
    assert BACKOFF_FIRST < max(world.waits) <= BACKOFF_LIMIT
    assert "ended after" in str(world.errors[0])
    assert {one.since for one in world.failures} == {1000.0}


def test_a_healthy_watch_resets_backoff_and_the_time_of_failure() -> None:
    world = play(*[lists(DOWN)] * 8, lists(page()), watches(LIVED, CUT), watches(LIVED))
    assert len(world.waits) == 9
    assert world.waits[8] <= BACKOFF_FIRST
    assert {one.since for one in world.failures[:8]} == {1000.0}
    assert world.failures[8].since > 1400


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(0.0, 0.0, 0.8), (5.0, 5.0, 5.8), (86400.0, RETRY_AFTER_LIMIT, RETRY_AFTER_LIMIT + 0.8)],
    ids=["none", "seconds", "a day"],
)
def test_retry_after(asked: float, least: float, most: float) -> None:
    assert least <= sum(play(lists(ApiTooMany("429", asked)), lists(page())).waits) <= most


def test_an_absent_optional_kind_is_polled_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = play(
        *[lists(ApiNotFound("not installed"))] * 3,
        lists(page("vm", kind="VirtualMachineInstance")),
        kind=VMIS,
    )
    assert world.story == "absent, absent, absent, list vm, watch 10, healthy"
    assert world.waits == [OPTIONAL_RETRY] * 3
    assert sum("not installed" in one.getMessage() for one in caplog.records) == 1
    assert {one.levelno for one in caplog.records} == {logging.INFO}


@pytest.mark.parametrize(("kind", "error"), [(SERVICES, ApiNotFound("unknown")), (VMIS, DOWN)])
def test_only_an_optional_kind_may_be_absent(kind: Kind, error: ApiError) -> None:
    assert play(lists(error), lists(page(kind=kind.kind)), kind=kind).events[0] == "failing"


def test_the_same_failure_is_logged_once_and_another_again(caplog: pytest.LogCaptureFixture) -> None:
    play(*(lists(ApiUnavailable(text)) for text in ("a", "a", "b", "a")), lists(page()))
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warned == ["services: a", "services: b", "services: a"]


# -- calls from other threads, and bugs


@pytest.mark.parametrize("error", [DOWN, ApiTooMany("x", 50)], ids=["backoff", "retry-after"])
def test_stop_ends_a_pause(error: ApiError) -> None:
    assert len(play(lists(error), on_pause=stop).waits) == 1


def test_relist_does_not_shorten_a_pause_that_the_server_asked_for() -> None:
    world = play(lists(ApiTooMany("429", 20)), lists(page()), on_pause=relist)
    assert len(world.waits) == 1
    assert world.clock.now >= 1020


def test_after_a_bug_everything_is_delivered_again(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(World):
        faults = 1

        def deliver(self, event: KindEvent) -> None:
            if isinstance(event, Changed) and self.faults:
                self.faults -= 1
                raise RuntimeError("a bug")
            super().deliver(event)

    world = Faulty(
        lists(page("a")),
        watches(event("ADDED", "b", "11"), LIVED),
        lists(page("a", "b", version="20")),
        watches(event("ADDED", "c", "21"), LIVED),
    ).run()
    assert world.story == "list a, watch 10, healthy, failing, list a b, watch 20, healthy, ADDED c"
    assert "internal error" in str(world.errors[0])
    assert any(one.exc_info for one in caplog.records)


def test_a_bug_while_stopping_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(World):
        def deliver(self, event: KindEvent) -> None:
            self.reflector.stop()
            raise RuntimeError("torn down")

    assert Faulty(lists(page("a"))).run().story == ""
    assert not caplog.records


def test_start_runs_it_in_a_daemon_thread_and_stop_joins_it() -> None:
    seen = threading.Event()
    world = World(lists(lambda _: seen.wait(20), page("a")))
    world.reflector.start()
    thread = running("reflector-services")
    assert thread is not None
    assert thread.daemon
    seen.set()
    stop_all([world.reflector])
    assert not thread.is_alive()


def test_however_many_hang_they_are_stopped_together() -> None:
    """One after the other they would take twenty seconds; a pod has one."""
    asked, over = threading.Semaphore(0), threading.Event()

    class Unreachable(World):
        """The network is down: a connect hangs, and nothing interrupts it."""

        def request(self, *_: Any, **__: Any) -> bytes:
            asked.release()
            over.wait(60)
            raise ApiUnavailable("no connection")

    reflectors = [Unreachable().reflector for _ in range(int(20 / STOP_TIMEOUT) + 1)]
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
