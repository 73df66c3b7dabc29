"""Following etcd's watch: what it tells is marked with the watch that told it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from kube2etcd.backoff import BACKOFF_FIRST
from kube2etcd.errors import EtcdCompacted, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.kube.objects import KindEvent
from kube2etcd.sync import follower as module
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue, SyncEvent
from kube2etcd.sync.follower import EtcdFollower
from tests.running import running
from tests.sync.loop import Clock

REFUSED, AWAY, COMPACTED = EtcdRefused("no right"), EtcdUnavailable("cut off"), EtcdCompacted("too late")


class Store:
    """etcd as a follower sees it.

    Its watch tells one batch if it ``stands``, and then ends with ``error`` or stays.  ``trouble`` is what a
    look at etcd finds.
    """

    def __init__(self, error: Exception | None = None, *, stands: bool = True) -> None:
        self.error, self.stands = error, stands
        self.trouble: Exception | None = None
        self.probes = 0

    def watch(self, revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        if self.stands:
            yield WatchBatch(revision)
        if self.error is not None:
            raise self.error
        stop.wait(20)

    def probe(self) -> None:
        self.probes += 1
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def queue() -> EventQueue:
    return EventQueue()


class Chance(random.Random):
    """Draws what the test says, and keeps the ceilings."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self.drawn = drawn
        self.drew = threading.Event()
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings.append(b)
        self.drew.set()
        return self.drawn


def following(store: Store, queue: EventQueue, rng: random.Random | None = None) -> EtcdFollower:
    follower = EtcdFollower(cast(EtcdStore, store), queue, rng)
    follower.start()
    return follower


def told(queue: EventQueue, count: int) -> list[SyncEvent]:
    found: list[SyncEvent] = []
    while len(found) < count:
        found += queue.drain(10)
    return found


def test_a_batch_that_comes_late_has_the_number_of_its_own_watch() -> None:
    class Racing(EventQueue):
        """The loop asks for another watch just as something of the former one comes in."""

        def deliver(self, event: KindEvent | EtcdChanged) -> None:
            if not again:
                again.append(follower.follow(1))
            super().deliver(event)

    queue = Racing()
    follower = following(Store(), queue)
    again: list[int] = []
    first = follower.follow(900)
    late, new = told(queue, 2)
    assert (late, new) == (EtcdChanged(WatchBatch(900), first), EtcdChanged(WatchBatch(1), again[0]))
    assert first != again[0]
    follower.stop()


def test_pauses_grow_while_no_watch_holds(queue: EventQueue, caplog: pytest.LogCaptureFixture) -> None:
    chance = Chance(0.0)
    follower = following(Store(REFUSED, stands=False), queue, chance)
    for turn in range(8):
        number = follower.follow(turn)
        assert told(queue, 1) == [EtcdLost("no right", number, again=turn > 0)]
    assert chance.ceilings == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    (said,) = (one.getMessage() for one in caplog.records if one.levelno == logging.WARNING)
    assert said.startswith("no watch on etcd lasts (no right)")
    follower.stop()


class Ended(threading.Event):
    """Whoever waits for it lets the clock's time go by; ``then`` happens after each such wait."""

    def __init__(self, clock: Clock, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.clock, self.then = clock, then

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.clock.now += timeout
        self.then()
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize(
    ("error", "stood", "pause"),
    [
        pytest.param(REFUSED, False, module.PAUSE_LIMIT, id="no right to watch"),
        pytest.param(AWAY, False, module.PAUSE_LIMIT, id="a proxy that takes no streams"),
        pytest.param(COMPACTED, False, module.CUT_LIMIT, id="too late"),
        pytest.param(AWAY, True, module.CUT_LIMIT, id="a watch that stood"),
    ],
)
def test_end_is_held_back(
    queue: EventQueue, clock: Clock, error: Exception, stood: bool, pause: float
) -> None:
    store, began = Store(error, stands=stood), clock.now
    EtcdFollower(cast(EtcdStore, store), queue, Chance(1000.0))._watch(5, 1, Ended(clock))
    assert queue.drain(0)[-1] == EtcdLost(str(error), 1)
    assert clock.now == began + pause
    assert store.probes == pause / module.PROBE


@pytest.mark.parametrize("stood", [True, False], ids=["a watch that stood", "one that never did"])
@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (EtcdUnavailable("away"), "away"),
        (EtcdUnavailable("went back"), "went back"),
        (ZeroDivisionError("odd"), "the watch on etcd failed: odd"),
    ],
    ids=["dead", "wiped", "odd"],
)
def test_lost_etcd_is_told(
    queue: EventQueue, clock: Clock, trouble: Exception, said: str, stood: bool
) -> None:
    store, chance = Store(REFUSED, stands=stood), Chance(1000.0)
    follower = EtcdFollower(cast(EtcdStore, store), queue, chance)
    for again in range(5):
        store.trouble = None

        def dies() -> None:
            store.trouble = trouble

        began = clock.now
        follower._watch(5, again, Ended(clock, dies))
        assert queue.drain(0)[-1] == EtcdLost(said, again, again > 0)
        assert clock.now == began + module.PROBE
    assert set(chance.ceilings) == {BACKOFF_FIRST}, "and the pauses start afresh"


def test_a_held_end_is_dropped_after_a_new_reading(queue: EventQueue) -> None:
    store, chance = Store(REFUSED, stands=False), Chance(1000.0)
    follower = following(store, queue, chance)
    follower.follow(5)
    assert chance.drew.wait(20)
    store.error, store.stands = None, True
    second = follower.follow(9)
    assert told(queue, 1) == [EtcdChanged(WatchBatch(9), second)]
    follower.stop()
    assert queue.drain(0) == []


def test_the_end_of_a_watch_that_held(queue: EventQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Chance(0.0)
    follower = following(Store(COMPACTED), queue, chance)
    for again in (False, True):
        number = follower.follow(5)
        assert told(queue, 2)[1] == EtcdLost("too late", number, again)
    assert chance.ceilings == [0.8, 1.6]
    monkeypatch.setattr(module, "STABLE_AFTER", 0.0)
    monkeypatch.setattr(module, "HEALTHY_AFTER", 0.0)
    number = follower.follow(5)
    assert told(queue, 2)[1] == EtcdLost("too late", number), "and its reason is news again"
    assert len(chance.ceilings) == 2
    monkeypatch.undo()
    follower.follow(5)
    told(queue, 2)
    assert chance.ceilings == [0.8, 1.6, 0.8]
    follower.stop()


def test_stop_ends_what_is_held_back(queue: EventQueue) -> None:
    chance = Chance(1000.0)
    follower = following(Store(REFUSED, stands=False), queue, chance)
    follower.follow(5)
    assert chance.drew.wait(20)
    follower.stop()
    if (thread := running("etcd-follower")) is not None:
        thread.join(20)
        assert not thread.is_alive()
    assert queue.drain(0) == []
