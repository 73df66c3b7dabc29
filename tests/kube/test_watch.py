"""One watch: its resource version, its lines, its end."""

from __future__ import annotations

import json

import pytest

from kube2etcd.errors import ApiTooMany, ApiTruncated, ApiUnavailable
from kube2etcd.kube.failures import ApiRefused, ApiSilent
from kube2etcd.kube.reflector import INACTIVITY_TIMEOUT
from tests.kube.world import Step, World, bookmark, error_event, event, obj, page


def test_bookmarks_move_the_version_and_are_not_delivered() -> None:
    world = World().lists(page())
    world.watches(bookmark("99"), world.lived).watches(world.lived)
    world.run()
    assert world.versions()[1] == "99"
    assert world.sink.told == [("replace", [], "10"), "healthy"]


def test_a_bookmark_without_a_version_moves_nothing() -> None:
    world = World().lists(page())
    world.watches(bookmark(""), world.lived).watches(world.lived).run()
    assert world.versions()[1] == "10"


@pytest.mark.parametrize(
    "failure",
    [
        ApiUnavailable("connection refused"),
        ApiTooMany("429", 3),
        ApiTruncated("in the middle of a line"),
        error_event(500),
        error_event(429),
        b'{"type":"ADDED","object":{"metadata":{"na',
        b"<html>",
    ],
    ids=["refused", "too many", "cut", "error 500", "error 429", "half a line", "no event"],
)
def test_a_failing_watch_is_resumed_without_a_list(failure: Step) -> None:
    world = World()
    world.lists(page("a")).watches(event("ADDED", "b", "11"), world.lived)
    world.watches(failure).watches(world.lived)
    world.run()
    assert len(world.sink.lists) == 1
    assert world.versions()[:3] == ["10", "11", "11"]
    assert len(world.sink.errors) == 1
    assert world.sink.told[-1] == "healthy"


def test_unknown_event_types_are_skipped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    strange = json.dumps({"type": "RENAMED", "object": obj("x", "11")}).encode()
    world = World()
    world.lists(page()).watches(strange, strange, event("ADDED", "b", "12"), world.lived).run()
    assert ("ADDED", "b") in world.sink.told
    assert ("RENAMED", "x") not in world.sink.told
    assert sum("RENAMED" in r.getMessage() for r in caplog.records) == 1


def test_a_silent_watch_is_opened_anew_without_alarm() -> None:
    world = World()
    world.lists(page("a"))
    for _ in range(3):
        world.watches(world.clock.passes(INACTIVITY_TIMEOUT), ApiSilent("nothing came for 90 s"))
    world.watches(world.lived).run()
    assert world.sink.told == [("replace", ["a"], "10"), "healthy"]
    assert world.versions()[:4] == ["10"] * 4
    assert world.waits == []


def test_events_before_an_error_are_delivered_once() -> None:
    world = World()
    world.lists(page()).watches(event("ADDED", "a", "11"), ApiUnavailable("cut"))
    world.watches(event("ADDED", "b", "12"), world.lived)
    world.run()
    assert [t for t in world.sink.told if t[0] == "ADDED"] == [("ADDED", "a"), ("ADDED", "b")]
    assert world.versions()[1] == "11"


def test_a_refused_ordinary_watch_is_a_failure() -> None:
    world = World()
    world.lists(page()).watches(ApiRefused("bad request", 400)).watches(world.lived).run()
    assert len(world.sink.errors) == 1
