"""The reconciler's event queue, filled by reflectors, the etcd watch and the webhook, drained by the loop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeAlias, TypeVar

import msgspec

from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.kube.objects import Changed, KindEvent
from kube2etcd.zones.base import Zone

MAX_EVENTS: Final = 10_000
"""Limit of queued events, and of events handled in one turn; a large object takes a few kilobytes."""


class EtcdChanged(msgspec.Struct, frozen=True):
    """A batch from the etcd watch numbered ``watch``; batches of earlier watches may still arrive."""

    batch: WatchBatch
    watch: int = 0


class EtcdLost(msgspec.Struct, frozen=True):
    """The etcd watch has ended: the mirror may be stale.

    ``again``: whether ``reason`` was reported before, with no stable watch since.
    """

    reason: str
    watch: int = 0
    again: bool = False


class Wake(msgspec.Struct, frozen=True):
    """Run one turn without an event."""


class Rezoned(msgspec.Struct, frozen=True):
    """Replaces the external zones."""

    zones: Sequence[Zone]


SyncEvent: TypeAlias = KindEvent | EtcdChanged | EtcdLost | Wake | Rezoned


_T = TypeVar("_T")


class EventQueue:
    """Events in order of arrival: any thread adds them, the loop's thread drains them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._has_room = threading.Event()
        # A callable is a question, to be answered in the loop's thread, which owns the state.
        self._queue: queue.SimpleQueue[tuple[float, SyncEvent | Callable[[], None]]] = queue.SimpleQueue()
        self.oldest = clock()
        """When (clock) the oldest of the last drained events arrived, or a drain without events ended."""
        self.arrivals: list[tuple[str, float]] = []
        """Kind and arrival time of each object event in the last drain."""

    @property
    def length(self) -> int:
        """Number of queued events."""
        return self._queue.qsize()

    def put(self, event: SyncEvent) -> None:
        """Add an event, from any thread; never waits."""
        self._queue.put((self._clock(), event))

    def deliver(self, event: KindEvent | EtcdChanged) -> None:
        """Add an event of a watch; a change waits while `MAX_EVENTS` are queued, as backpressure.

        Only for threads that hold no lock the loop may take.
        """
        while isinstance(event, Changed | EtcdChanged):
            self._has_room.clear()
            if self._queue.qsize() < MAX_EVENTS:
                break
            self._has_room.wait(1.0)
        self._queue.put((self._clock(), event))

    def ask(self, question: Callable[[], _T], timeout: float) -> _T:
        """Run ``question`` in the loop's thread between two turns and return its result; it must be short.

        :raises TimeoutError: the loop did not run it within ``timeout`` seconds.
        """
        future: Future[_T] = Future()

        def answer() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question())
                except Exception as error:
                    future.set_exception(error)

        self._queue.put((self._clock(), answer))
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    def drain(self, timeout: float) -> list[SyncEvent]:
        """All queued events, after waiting at most ``timeout`` seconds for the first.

        Runs the questions of `ask` before it returns.
        """
        drained: list[tuple[float, SyncEvent | Callable[[], None]]] = []
        while len(drained) < MAX_EVENTS:
            try:
                drained.append(self._queue.get(timeout=0 if drained else max(0, timeout)))
            except queue.Empty:
                break
        self._has_room.set()
        self.oldest = drained[0][0] if drained else self._clock()
        self.arrivals = [(one.kind, moment) for moment, one in drained if isinstance(one, Changed)]
        events: list[SyncEvent] = []
        for _, one in drained:
            if callable(one):
                one()
            else:
                events.append(one)
        return events
