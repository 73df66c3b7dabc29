"""The etcd follower: numbered events, and when the end of a watch is reported."""

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

REFUSED, UNAVAILABLE, COMPACTED = (
    EtcdRefused("no right"),
    EtcdUnavailable("unavailable"),
    EtcdCompacted("compacted"),
)


class FakeStore:
    """etcd as the follower sees it: ``probe`` raises ``trouble`` if set.

    A watch delivers one batch if it ``opens``, then ends with ``error``, or lasts without one.
    """

    def __init__(self, error: Exception | None = None, *, opens: bool = True) -> None:
        self.error, self.opens = error, opens
        self.trouble: Exception | None = None
        self.probes = 0

    def watch(self, revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        if self.opens:
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


class FixedRandom(random.Random):
    """Always draws ``drawn``; records the upper bounds."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self.drawn = drawn
        self.used = threading.Event()
        self.bounds: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append(b)
        self.used.set()
        return self.drawn


def following(store: FakeStore, queue: EventQueue, rng: random.Random | None = None) -> EtcdFollower:
    follower = EtcdFollower(cast(EtcdStore, store), queue, rng)
    follower.start()
    return follower


def drained(queue: EventQueue, count: int) -> list[SyncEvent]:
    found: list[SyncEvent] = []
    while len(found) < count:
        found += queue.drain(10)
    return found


def test_late_batch_carries_the_number_of_its_own_watch() -> None:
    class Racing(EventQueue):
        """The loop requests the next watch just as the former one delivers."""

        def deliver(self, event: KindEvent | EtcdChanged) -> None:
            if not second:
                second.append(follower.follow(1))
            super().deliver(event)

    queue = Racing()
    follower = following(FakeStore(), queue)
    second: list[int] = []
    first = follower.follow(900)
    late, new = drained(queue, 2)
    assert (late, new) == (EtcdChanged(WatchBatch(900), first), EtcdChanged(WatchBatch(1), second[0]))
    assert first != second[0]
    follower.stop()


def test_delays_grow_while_no_watch_lasts(queue: EventQueue, caplog: pytest.LogCaptureFixture) -> None:
    rng = FixedRandom(0.0)
    follower = following(FakeStore(REFUSED, opens=False), queue, rng)
    for turn in range(8):
        number = follower.follow(turn)
        assert drained(queue, 1) == [EtcdLost("no right", number, again=turn > 0)]
    assert rng.bounds == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    (warning,) = (one.getMessage() for one in caplog.records if one.levelno == logging.WARNING)
    assert warning.startswith("no watch on etcd lasts (no right)")
    follower.stop()


class ClockEvent(threading.Event):
    """Waiting advances the clock instead; ``then`` is called after each wait."""

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
    ("error", "opened", "delay"),
    [
        pytest.param(REFUSED, False, module.PAUSE_LIMIT, id="no permission to watch"),
        pytest.param(UNAVAILABLE, False, module.PAUSE_LIMIT, id="proxy without streams"),
        pytest.param(COMPACTED, False, module.CUT_LIMIT, id="compacted"),
        pytest.param(UNAVAILABLE, True, module.CUT_LIMIT, id="watch that opened"),
    ],
)
def test_end_of_a_short_watch_is_reported_after_a_delay(
    queue: EventQueue, clock: Clock, error: Exception, opened: bool, delay: float
) -> None:
    store, start = FakeStore(error, opens=opened), clock.now
    EtcdFollower(cast(EtcdStore, store), queue, FixedRandom(1000.0))._watch(5, 1, ClockEvent(clock))
    assert queue.drain(0)[-1] == EtcdLost(str(error), 1)
    assert clock.now == start + delay
    assert store.probes == delay / module.PROBE


@pytest.mark.parametrize("opened", [True, False], ids=["opened", "never opened"])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (EtcdUnavailable("away"), "away"),
        (EtcdUnavailable("went back"), "went back"),
        (ZeroDivisionError("unforeseen"), "the watch on etcd failed: unforeseen"),
    ],
    ids=["unavailable", "data lost", "unforeseen"],
)
def test_outage_during_the_delay_is_reported_at_once(
    queue: EventQueue, clock: Clock, trouble: Exception, reason: str, opened: bool
) -> None:
    store, rng = FakeStore(REFUSED, opens=opened), FixedRandom(1000.0)
    follower = EtcdFollower(cast(EtcdStore, store), queue, rng)
    for again in range(5):
        store.trouble = None

        def fail() -> None:
            store.trouble = trouble

        start = clock.now
        follower._watch(5, again, ClockEvent(clock, fail))
        assert queue.drain(0)[-1] == EtcdLost(reason, again, again > 0)
        assert clock.now == start + module.PROBE
    assert set(rng.bounds) == {BACKOFF_FIRST}, "the backoff was reset"


def test_delayed_end_is_dropped_when_a_new_watch_starts(queue: EventQueue) -> None:
    store, rng = FakeStore(REFUSED, opens=False), FixedRandom(1000.0)
    follower = following(store, queue, rng)
    follower.follow(5)
    assert rng.used.wait(20)
    store.error, store.opens = None, True
    second = follower.follow(9)
    assert drained(queue, 1) == [EtcdChanged(WatchBatch(9), second)]
    follower.stop()
    assert queue.drain(0) == []


def test_end_of_a_lasting_watch_is_reported_at_once_and_resets_the_backoff(
    queue: EventQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = FixedRandom(0.0)
    follower = following(FakeStore(COMPACTED), queue, rng)
    for again in (False, True):
        number = follower.follow(5)
        assert drained(queue, 2)[1] == EtcdLost("compacted", number, again)
    assert rng.bounds == [0.8, 1.6]
    monkeypatch.setattr(module, "STABLE_AFTER", 0.0)
    monkeypatch.setattr(module, "HEALTHY_AFTER", 0.0)
    number = follower.follow(5)
    assert drained(queue, 2)[1] == EtcdLost("compacted", number), "its reason counts as new"
    assert len(rng.bounds) == 2
    monkeypatch.undo()
    follower.follow(5)
    drained(queue, 2)
    assert rng.bounds == [0.8, 1.6, 0.8]
    follower.stop()


def test_stop_drops_a_delayed_end(queue: EventQueue) -> None:
    rng = FixedRandom(1000.0)
    follower = following(FakeStore(REFUSED, opens=False), queue, rng)
    follower.follow(5)
    assert rng.used.wait(20)
    follower.stop()
    if (thread := running("etcd-follower")) is not None:
        thread.join(20)
        assert not thread.is_alive()
    assert queue.drain(0) == []
