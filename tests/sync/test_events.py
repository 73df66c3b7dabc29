"""The queue keeps order, reports the oldest arrival, and limits its length."""

from __future__ import annotations

import threading

import pytest

from kube2etcd.kube.objects import (
    Changed,
    Event,
    Healthy,
)
from kube2etcd.sync.events import EtcdLost, EventQueue, SyncEvent, Wake


def test_drain_returns_events_in_order() -> None:
    queue = EventQueue()
    events: list[SyncEvent] = [Wake(), EtcdLost("gone"), Healthy("services")]
    for event in events:
        queue.put(event)
    assert queue.drain(9.0) == events
    for timeout in (0.0, -1.0, 0.001):
        assert queue.drain(timeout) == []


def test_oldest_is_the_arrival_of_the_first_drained_event() -> None:
    """Without events it is the time of the drain: what the loop does then is no event's latency."""
    now = [1.0]
    queue = EventQueue(lambda: now[0])
    queue.put(Wake())
    now[0] = 2.0
    queue.put(Wake())
    now[0] = 3.0
    queue.drain(0.0)
    assert queue.oldest == 1.0
    now[0] = 4.0
    queue.drain(0.0)
    assert queue.oldest == 4.0


def test_deliver_waits_while_the_queue_is_full_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube2etcd.sync.events.MAX_EVENTS", 10)
    queue = EventQueue()

    def flood() -> None:
        for at in range(100):
            queue.deliver(Changed("services", Event("DELETED", None, "shop", str(at))))

    threading.Thread(target=flood, daemon=True).start()
    drained: list[SyncEvent] = []
    while len(drained) < 10:
        drained += queue.drain(5.0)
    queue.put(Wake())  # put, as by a signal handler, never waits
    while len(drained) < 101:
        some = queue.drain(5.0)
        assert 0 < len(some) <= 10
        drained += some
    names = [one.event.name for one in drained if isinstance(one, Changed)]
    assert names == [str(at) for at in range(100)]
