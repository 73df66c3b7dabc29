"""Lists: paging, expired versions, malformed answers."""

from __future__ import annotations

import pytest

from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTruncated,
    ApiUnavailable,
)
from kube2etcd.kube.objects import KINDS
from tests.kube.world import Step, World, page


def test_pages_are_one_list() -> None:
    world = World()
    world.lists(page("a", token="t1")).lists(page("b", token="t2")).lists(page("c")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b", "c"], "10")]
    assert [p.get("continue") for verb, p in world.asked if verb == "list"] == [None, "t1", "t2"]


def test_selectors_and_namespace_are_asked_for() -> None:
    world = World(KINDS["pods"], namespace="demo")
    world.lists(page(kind="Pod")).watches(world.lived).run()
    assert world.path == "/api/v1/namespaces/demo/pods"
    assert all("status.phase!=Failed" in params["fieldSelector"] for _, params in world.asked)


def test_expired_continue_token_lists_in_one_piece() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiGone("the provided continue parameter is too old"))
    world.lists(page("a", "b", version="50")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b"], "50")]
    assert world.asked[2] == ("list", {})


def test_a_page_that_is_too_large_is_asked_for_again_with_fewer_objects() -> None:
    world = World()
    world.lists(page("a", token="t"))
    for _ in range(3):
        world.lists(ApiTooLarge("more than we take"))
    world.lists(page("b", token="u")).lists(page("c")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a", "b", "c"], "10")]
    limits = [(p.get("continue"), p["limit"]) for verb, p in world.asked if verb == "list"]
    assert limits == [(None, "500"), ("t", "500"), ("t", "62"), ("t", "7"), ("t", "1"), ("u", "1")]


@pytest.mark.parametrize("tokens", [["t", "t"], ["t", "u", "t"], ["t", "u", "v", "u"]])
def test_pages_that_repeat_are_no_list(tokens: list[str]) -> None:
    world = World()
    for token in tokens:
        world.lists(page("a", token=token))
    world.lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.lists == [("replace", ["a"], "10")]
    assert "repeat" in str(world.sink.errors[0])


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (ApiUnavailable("500"), ApiUnavailable),
        (ApiForbidden("403"), ApiForbidden),
        (ApiNotFound("404"), ApiNotFound),
        (ApiTruncated("cut"), ApiTruncated),
        (page("a", "b")[:-20], ApiTruncated),
        (b"", ApiTruncated),
        (b"<html>welcome to the wifi</html>", ApiTruncated),
        (b"{}", ApiUnavailable),
        (b'{"kind":"Status","status":"Failure","code":500}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{"resourceVersion":"1"}}', ApiUnavailable),
        (b'{"kind":"ServiceList","metadata":{},"items":[]}', ApiUnavailable),
        (page("a", kind="Pod"), ApiUnavailable),
    ],
    ids=[
        "500",
        "403",
        "404",
        "cut",
        "half a body",
        "no body",
        "a web page",
        "an empty document",
        "a status",
        "no items",
        "no version",
        "another kind",
    ],
)
def test_an_error_is_never_an_empty_list(failure: Step, error: type[ApiError]) -> None:
    world = World()
    world.lists(failure).lists(page("a")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a"], "10"), "healthy"]
    assert type(world.sink.errors[0]) is error
    assert len(world.waits) == 1


def test_an_error_in_the_second_page_delivers_nothing_of_the_first() -> None:
    world = World()
    world.lists(page("a", token="t")).lists(ApiUnavailable("500"))
    world.lists(page("a", token="t")).lists(page("b")).watches(world.lived)
    world.run()
    assert world.sink.told == ["failing", ("replace", ["a", "b"], "10"), "healthy"]


def test_an_empty_list_is_a_list() -> None:
    world = World()
    null_items = b'{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}'
    world.lists(null_items).watches(world.lived).run()
    assert world.sink.lists == [("replace", [], "5")]
