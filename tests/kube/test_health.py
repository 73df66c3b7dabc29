"""When a kind is reported failing or healthy, and the backoff in between."""

from __future__ import annotations

import logging

import pytest

from kube2etcd.backoff import BACKOFF_FIRST, BACKOFF_LIMIT
from kube2etcd.errors import ApiError, ApiNotFound, ApiTooMany, ApiUnavailable
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import Kind
from kube2etcd.kube.reflector import INACTIVITY_TIMEOUT, OPTIONAL_RETRY, RETRY_AFTER_LIMIT
from tests.kube.world import SERVICES, VMIS, Step, World, bookmark, page


def test_very_short_watches_back_off() -> None:
    world = World()
    world.lists(page())
    for _ in range(12):
        world.watches()
    world.run()
    assert len(world.waits) == 12
    assert max(world.waits) > BACKOFF_FIRST
    assert max(world.waits) <= BACKOFF_LIMIT
    assert "ended after" in str(world.sink.errors[0])
    # Opening alone is no health: that would alternate for ever.
    assert world.sink.told == [("replace", []), "healthy"] + ["failing"] * 12
    assert set(world.sink.since) == {1000.0}


def test_after_very_short_watches_health_shows_with_the_first_line_of_a_longer_one() -> None:
    world = World()
    world.lists(page()).watches()
    world.watches(bookmark("11"), world.clock.passes(60), bookmark("12"), world.lived)
    world.run()
    assert world.sink.told == [("replace", []), "healthy", "failing", "healthy"]


@pytest.mark.parametrize("silent", [False, True], ids=["ended by the server", "silent"])
def test_after_very_short_watches_health_shows_without_any_line_in_the_next_watch(silent: bool) -> None:
    """A kind in which nothing happens may have no bookmarks either."""
    world = World()
    world.lists(page()).watches()
    silence: list[Step] = [ApiSilent("nothing came for 90 s")] if silent else []
    world.watches(world.clock.passes(INACTIVITY_TIMEOUT), *silence).watches(world.lived)
    world.run()
    assert world.sink.told == [("replace", []), "healthy", "failing", "healthy"]


def test_backoff_starts_afresh_after_a_healthy_watch() -> None:
    world = World()
    for _ in range(8):
        world.lists(ApiUnavailable("down"))
    world.lists(page()).watches(world.lived, ApiUnavailable("cut")).watches(world.lived)
    world.run()
    assert len(world.waits) == 9
    assert world.waits[8] <= BACKOFF_FIRST


def test_since_is_the_first_failure_and_forgotten_when_healthy() -> None:
    world = World()
    world.lists(ApiUnavailable("down")).lists(ApiUnavailable("down")).lists(page())
    world.watches(world.lived, ApiUnavailable("cut")).watches(world.lived)
    world.run()
    assert world.sink.since[:2] == [1000.0, 1000.0]
    assert world.sink.since[2] > 1400


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [(0.0, 0.0, 0.8), (5.0, 5.0, 5.8), (86400.0, RETRY_AFTER_LIMIT, RETRY_AFTER_LIMIT + 0.8)],
    ids=["none", "seconds", "a day"],
)
def test_backoff_on_too_many_requests(asked: float, least: float, most: float) -> None:
    world = World()
    world.lists(ApiTooMany("429", asked)).lists(page()).watches(world.lived)
    world.run()
    assert least <= sum(world.waits) <= most


def test_an_absent_optional_kind_is_polled_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(VMIS)
    for _ in range(5):
        world.lists(ApiNotFound("not installed"))
    world.lists(page("vm", kind="VirtualMachineInstance")).watches(world.lived)
    world.run()
    assert world.waits == [OPTIONAL_RETRY] * 5
    assert sum("not installed" in r.getMessage() for r in caplog.records) == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert world.sink.told == ["failing"] * 5 + [("replace", ["vm"]), "healthy"]
    assert world.sink.absent == {True}


@pytest.mark.parametrize(
    ("kind", "error"),
    [(SERVICES, ApiUnavailable("away")), (SERVICES, ApiNotFound("unknown")), (VMIS, ApiUnavailable("away"))],
)
def test_only_an_optional_kind_may_be_absent(kind: Kind, error: ApiError) -> None:
    world = World(kind)
    world.lists(error).lists(page(kind=kind.kind)).watches(world.lived).run()
    assert world.sink.absent == {False}


def test_the_same_failure_is_logged_once_and_another_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for text in ("down", "down", "down", "forbidden", "down"):
        world.lists(ApiUnavailable(text))
    world.lists(page()).watches(world.lived).run()
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "services: down",
        "services: forbidden",
        "services: down",
    ]
