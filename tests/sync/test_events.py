"""Events come out in the order they went in, from every source."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.kube.objects import (
    Changed,
    Event,
    Healthy,
)
from kube2etcd.sync.events import EtcdLost, EventQueue, SyncEvent, Wake


def test_everything_comes_in_order() -> None:
    queue = EventQueue()
    news: list[SyncEvent] = [Wake(), EtcdLost("gone"), Healthy("services")]
    for item in news:
        queue.put(item)
    assert queue.drain(9.0) == news
    for timeout in (0.0, -1.0, 0.001):
        assert queue.drain(timeout) == []


def test_the_age_is_that_of_the_oldest() -> None:
    queue = EventQueue()
    started = queue.oldest
    queue.put(Wake())
    queue.put(Wake())
    queue.drain(0.0)
    first = queue.oldest
    assert first >= started
    queue.drain(0.0)
    assert queue.oldest == first


def test_a_flood_of_events_is_held_back_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.sync.events.MAX_EVENTS", 10)
    queue = EventQueue()

    def flood() -> None:
        for at in range(100):
            queue.deliver(Changed("services", Event("DELETED", None, "shop", str(at))))

    threading.Thread(target=flood, daemon=True).start()
    got: list[SyncEvent] = []
    while len(got) < 10:
        got += queue.drain(5.0)
    queue.put(Wake())  # a signal handler must never wait
    while len(got) < 101:
        drained = queue.drain(5.0)
        assert 0 < len(drained) <= 10
        got += drained
    names = [one.event.name for one in got if isinstance(one, Changed)]
    assert names == [str(at) for at in range(100)]
