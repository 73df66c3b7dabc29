"""Lists at the head of a watch, and the way back to pages."""

from __future__ import annotations

import json

import pytest

from kube2etcd.errors import ApiUnavailable
from kube2etcd.kube.failures import ApiRefused, ApiSilent
from tests.kube.world import Step, World, bookmark, error_event, event, obj, page


def test_streamed_list_and_watch_are_one_request() -> None:
    world = World(streamed=True)
    world.watches(
        event("ADDED", "a", "3"),
        event("ADDED", "b", "4"),
        bookmark("10", end=True),
        event("ADDED", "c", "11"),
        world.lived,
    )
    world.watches(world.lived).run()
    assert world.sink.told == [("replace", ["a", "b"], "10"), "healthy", ("ADDED", "c")]
    first, second = (params for _, params in world.asked[:2])
    assert first["sendInitialEvents"] == "true"
    assert first["resourceVersionMatch"] == "NotOlderThan"
    assert "resourceVersion" not in first
    assert "sendInitialEvents" not in second
    assert second["resourceVersion"] == "11"
    assert (world.reflector.lists, world.reflector.watches) == (1, 2)


def test_streamed_list_takes_changes_on_the_way_and_odd_objects() -> None:
    odd = json.dumps({"type": "ADDED", "object": obj("odd", "3", spec=[])}).encode()
    odd_then_gone = json.dumps({"type": "ADDED", "object": obj("fleeting", "3", spec=[])}).encode()
    world = World(streamed=True)
    world.watches(
        event("ADDED", "a", "3"),
        event("ADDED", "b", "4"),
        odd,
        odd_then_gone,
        event("DELETED", "a", "5"),
        event("DELETED", "fleeting", "5"),
        json.dumps({"type": "RENAMED", "object": obj("x")}).encode(),
        bookmark("10", end=True),
        world.lived,
    ).run()
    assert world.sink.lists == [("replace", ["b"], "10")]
    assert [r.name for r in world.sink.rejected] == ["odd"]


@pytest.mark.parametrize(
    "answer",
    [
        [ApiRefused("sendInitialEvents is forbidden for watch", 422)],
        [ApiRefused("bad request", 400)],
        [event("ADDED", "a", "3"), bookmark("10")],
        [event("ADDED", "a", "3"), ApiSilent("nothing more")],
        [event("ADDED", "a", "3")],
    ],
    ids=["422", "400", "ignored: ordinary bookmark", "ignored: silence", "ended early"],
)
def test_streamed_list_falls_back_to_pages(answer: list[Step]) -> None:
    world = World(streamed=True)
    world.watches(*answer).lists(page("a", "b")).watches(world.lived)
    world.run()
    assert world.sink.told == [("replace", ["a", "b"], "10"), "healthy"]
    assert world.waits == []


def test_streamed_list_that_fails_is_tried_again() -> None:
    world = World(streamed=True)
    world.watches(event("ADDED", "a", "3"), error_event(500)).watches(ApiUnavailable("refused"))
    world.watches(event("ADDED", "a", "3"), bookmark("10", end=True), world.lived).run()
    assert world.sink.told == ["failing", "failing", ("replace", ["a"], "10"), "healthy"]


def test_streamed_list_without_a_version_is_no_list() -> None:
    world = World(streamed=True)
    world.watches(event("ADDED", "a", "3"), bookmark("", end=True))
    world.watches(event("ADDED", "a", "3"), bookmark("10", end=True), world.lived).run()
    assert world.sink.told == ["failing", ("replace", ["a"], "10"), "healthy"]


def test_streamed_relist_on_demand() -> None:
    world = World(streamed=True)
    world.watches(bookmark("10", end=True), lambda: world.reflector.relist("resync"))
    world.watches(event("ADDED", "a", "3"), bookmark("20", end=True), world.lived).run()
    assert [t[2] for t in world.sink.lists] == ["10", "20"]
    assert world.sink.errors == []
