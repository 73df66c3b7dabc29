"""Lists and single watches: paging, expired versions, malformed answers, bookmarks, ends."""

from __future__ import annotations

import json

import pytest

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTooMany,
    ApiTruncated,
    ApiUnavailable,
)
from kube2etcd.kube.failures import ApiRefused, ApiSilent
from kube2etcd.kube.objects import KINDS
from kube2etcd.kube.reflector import INACTIVITY_TIMEOUT
from tests.kube.world import Step, World, bookmark, error_event, event, obj, page


def test_pages_are_one_list() -> None:
    world = World()
    world.lists(page("a", token="t1")).lists(page("b", token="t2")).lists(page("c")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b", "c"])]
    assert [p.get("continue") for verb, p in world.asked if verb == "list"] == [None, "t1", "t2"]


def test_selectors_are_asked_for() -> None:
    world = World(KINDS["pods"])
    world.lists(page(kind="Pod")).watches(world.lived).run()
    assert world.path == "/api/v1/pods"
    assert all("status.phase!=Failed" in params["fieldSelector"] for _, params in world.asked)


def test_expired_continue_token_lists_in_one_piece() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiGone("the provided continue parameter is too old"))
    world.lists(page("a", "b", version="50")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b"])]
    assert world.asked[2] == ("list", {})


def test_a_page_that_is_too_large_is_asked_for_again_with_fewer_objects() -> None:
    world = World()
    world.lists(page("a", token="t"))
    for _ in range(3):
        world.lists(ApiTooLarge("more than we take"))
    world.lists(page("b", token="u")).lists(page("c")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b", "c"])]
    limits = [(p.get("continue"), p["limit"]) for verb, p in world.asked if verb == "list"]
    assert limits == [(None, "500"), ("t", "500"), ("t", "62"), ("t", "7"), ("t", "1"), ("u", "1")]


@pytest.mark.parametrize("tokens", [["t", "t"], ["t", "u", "t"], ["t", "u", "v", "u"]])
def test_pages_that_repeat_are_no_list(tokens: list[str]) -> None:
    world = World()
    for token in tokens:
        world.lists(page("a", token=token))
    world.lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a"])]
    assert "repeat" in str(world.sink.errors[0])


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ApiUnavailable("500"), ApiUnavailable),
        (ApiForbidden("403"), ApiForbidden),
        (ApiNotFound("404"), ApiNotFound),
        (page("a", "b")[:-20], ApiTruncated),
        (page("a", kind="Pod"), ApiUnavailable),
    ],
    ids=["500", "403", "404", "half a body", "another kind"],
)
def test_an_error_is_never_an_empty_list(failure: Step, error: type[ApiError]) -> None:
    world = World()
    world.lists(failure).lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a"]), "healthy"]
    assert type(world.sink.errors[0]) is error
    assert len(world.waits) == 1


def test_an_error_in_the_second_page_delivers_nothing_of_the_first() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiUnavailable("500"))
    world.lists(page("a", token="t")).lists(page("b")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a", "b"]), "healthy"]


def test_an_empty_list_is_a_list() -> None:
    world = World()
    null_items = b'{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}'
    world.lists(null_items).watches(world.lived).run()
    assert world.sink.lists == [("replace", [])]


@pytest.mark.parametrize(("version", "then"), [("99", "99"), ("", "10")], ids=["a version", "none"])
def test_bookmarks_move_the_version_and_are_not_delivered(version: str, then: str) -> None:
    world = World().lists(page())
    world.watches(bookmark(version), world.lived).watches(world.lived).run()
    assert world.versions()[1] == then
    assert world.sink.told == [("replace", []), "healthy"]


@pytest.mark.parametrize(
    "failure",
    [
        ApiUnavailable("connection refused"),
        ApiTooMany("429", 3),
        ApiRefused("bad request", 400),
        ApiTruncated("in the middle of a line"),
        error_event(500),
        error_event(429),
        b'{"type":"ADDED","object":{"metadata":{"na',
        b"<html>",
    ],
    ids=["no connection", "too many", "refused", "cut", "error 500", "error 429", "half a line", "no event"],
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
    assert world.sink.told == [("replace", ["a"]), "healthy"]
    assert world.versions()[:4] == ["10"] * 4
    assert world.waits == []


def test_events_before_an_error_are_delivered_once() -> None:
    world = World()
    world.lists(page()).watches(event("ADDED", "a", "11"), ApiUnavailable("cut"))
    world.watches(event("ADDED", "b", "12"), world.lived)
    world.run()
    assert [t for t in world.sink.told if t[0] == "ADDED"] == [("ADDED", "a"), ("ADDED", "b")]
    assert world.versions()[1] == "11"
