"""Following etcd's watch: what it tells is marked with the watch that told it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from kube2etcd.changes import WatchBatch
from kube2etcd.errors import EtcdCompacted
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.follower import EtcdFollower
from kube2etcd.inbox import EtcdChanged, EtcdLost, Inbox, News


class Watched:
    """A store whose watch tells one batch, and then does what the test says."""

    def __init__(self, then: Callable[[int], None] = lambda revision: None) -> None:
        self.then = then

    def watch(self, revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        yield WatchBatch(revision)
        self.then(revision)
        stop.wait(10)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def following(store: Watched, inbox: Inbox) -> EtcdFollower:
    follower = EtcdFollower(cast(EtcdStore, store), inbox)
    follower.start()
    return follower


def told(inbox: Inbox, count: int) -> list[News]:
    found: list[News] = []
    while len(found) < count:
        found += inbox.drain(10)
    return found


def test_each_watch_has_a_number(inbox: Inbox) -> None:
    follower = following(Watched(), inbox)
    first = follower.follow(5)
    assert told(inbox, 1) == [EtcdChanged(WatchBatch(5), first)]
    second = follower.follow(9)
    assert told(inbox, 1) == [EtcdChanged(WatchBatch(9), second)]
    assert first != second
    follower.stop()
    assert inbox.drain(0) == []


def test_a_batch_that_comes_late_has_the_number_of_its_own_watch() -> None:
    class Racing(Inbox):
        """The loop asks for another watch just as something of the former one comes in."""

        def put(self, news: News) -> None:
            if not again:
                again.append(follower.follow(1))
            super().put(news)

    inbox = Racing()
    follower = following(Watched(), inbox)
    again: list[int] = []
    first = follower.follow(900)
    late, new = told(inbox, 2)
    assert (late, new) == (EtcdChanged(WatchBatch(900), first), EtcdChanged(WatchBatch(1), again[0]))
    assert first != again[0]
    follower.stop()


@pytest.mark.parametrize("error", [EtcdCompacted("compacted"), ZeroDivisionError("odd")])
def test_a_watch_that_fails_says_so_with_its_number(inbox: Inbox, error: Exception) -> None:
    def fail(revision: int) -> None:
        raise error

    follower = following(Watched(fail), inbox)
    number = follower.follow(5)
    lost: list[News] = []
    while not lost:
        lost = [news for news in inbox.drain(10) if isinstance(news, EtcdLost)]
    assert isinstance(lost[0], EtcdLost)
    assert lost[0].watch == number
    assert str(error) in lost[0].reason
    follower.stop()
