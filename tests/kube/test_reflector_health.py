"""Health, staleness and backoff of a reflector."""

from __future__ import annotations

import logging

import pytest

from kube2etcd.backoff import BACKOFF_FIRST, BACKOFF_LIMIT
from kube2etcd.errors import (
    ApiError,
    ApiNotFound,
    ApiTooMany,
    ApiUnavailable,
)
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import Kind
from kube2etcd.kube.reflector import (
    HEALTHY_AFTER,
    INACTIVITY_TIMEOUT,
    OPTIONAL_RETRY,
    RETRY_AFTER_LIMIT,
)
from tests.kube.bodies import SERVICES
from tests.kube.world import (
    CUT,
    DOWN,
    VMIS,
    WATCH_DURATION,
    bookmark,
    lists,
    page,
    play,
    probes,
    watches,
)


def test_very_short_watches_back_off() -> None:
    world = play(lists(page()), *[watches()] * 12)
    assert world.trace == "list, watch 10, healthy, failing" + ", watch 10, failing" * 11
    assert len(world.pauses) == 12
    assert BACKOFF_FIRST < max(world.pauses) <= BACKOFF_LIMIT
    assert "ended after" in str(world.errors[0])
    assert {one.since for one in world.failures} == {1000.0}


def test_watches_that_break_early_are_no_sign_of_health() -> None:
    """One may, as while the server restarts."""
    early = [request for _ in range(6) for request in (watches(0.1, CUT), probes(page()))]
    world = play(lists(page()), *early, watches(2.0, bookmark("11"), WATCH_DURATION))
    healthy, failing = ", watch 10, healthy", ", failing"
    broken = ", watch 10, failing" * 4
    assert world.trace == f"list{healthy}{failing}{healthy}{failing}{broken}{healthy}"
    assert len({one.since for one in world.failures[1:]}) == 1


def test_healthy_watch_resets_backoff_and_time_of_failure() -> None:
    world = play(*[lists(DOWN)] * 8, lists(page()), watches(WATCH_DURATION, CUT), watches(WATCH_DURATION))
    assert len(world.pauses) == 9
    assert world.pauses[8] <= BACKOFF_FIRST
    assert {one.since for one in world.failures[:8]} == {1000.0}
    assert world.failures[8].since > 1400


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [(0.0, 0.0, 0.8), (5.0, 5.0, 5.8), (86400.0, RETRY_AFTER_LIMIT, RETRY_AFTER_LIMIT + 0.8)],
    ids=["none", "seconds", "a day"],
)
def test_retry_after(retry_after: float, least: float, most: float) -> None:
    assert least <= sum(play(lists(ApiTooMany("429", retry_after)), lists(page())).pauses) <= most


def test_absent_optional_kind_is_polled_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = play(
        *[lists(ApiNotFound("not installed"))] * 3,
        lists(page("vm", kind="VirtualMachineInstance")),
        kind=VMIS,
    )
    assert world.trace == "absent, absent, absent, list vm, watch 10, healthy"
    assert world.pauses == [OPTIONAL_RETRY] * 3
    assert sum("not installed" in one.getMessage() for one in caplog.records) == 1
    assert {one.levelno for one in caplog.records} == {logging.INFO}


def test_failure_of_an_absent_kind_does_not_count_from_its_absence() -> None:
    absent = lists(ApiNotFound("not installed"))
    world = play(
        absent,
        absent,
        lists(DOWN),
        lists(DOWN),
        absent,
        lists(page(kind="VirtualMachineInstance")),
        kind=VMIS,
    )
    first, later, down, still, back = (one.since for one in world.failures)
    assert first == later < first + 2 * OPTIONAL_RETRY <= down == still == back


@pytest.mark.parametrize(("kind", "error"), [(SERVICES, ApiNotFound("unknown")), (VMIS, DOWN)])
def test_only_optional_kinds_may_be_absent(kind: Kind, error: ApiError) -> None:
    assert play(lists(error), lists(page(kind=kind.kind)), kind=kind).events[0] == "failing"


def test_silent_watch_after_short_ones_soon_counts_as_healthy() -> None:
    quiet = watches(HEALTHY_AFTER, ApiSilent("silent"))
    world = play(lists(page()), watches(0.1), quiet, watches(20.0))
    assert world.trace == "list, watch 10, healthy, failing, watch 10, watch 10, healthy"
    assert world.read_timeouts[:3] == [INACTIVITY_TIMEOUT, HEALTHY_AFTER, INACTIVITY_TIMEOUT]


def test_repeated_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    play(*(lists(ApiUnavailable(text)) for text in ("a", "a", "b", "a")), lists(page()))
    warned = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warned == ["services: a", "services: b", "services: a"]
