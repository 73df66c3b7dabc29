"""Events for the reconciler, from the reflectors, the watch on etcd and the webhook, in order.

Any thread may put, one thread drains.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kube2etcd.errors import ApiError, ApiNotFound
from kube2etcd.etcd.changes import WatchBatch
from kube2etcd.kube.objects import ApiObject, Event, Kind, Rejected
from kube2etcd.zones.base import Zone

MAX_EVENTS: Final = 10_000
"""Events that wait for the loop, or are handled in one turn; a large object has some kilobytes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete listing of a kind."""

    kind: str
    objects: Sequence[ApiObject]
    rejected: Sequence[Rejected] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """One object of a kind came, changed or went."""

    kind: str
    event: Event


@dataclass(frozen=True, slots=True)
class Failing:
    """A kind cannot be followed since then; ``absent``: it is optional and not installed."""

    kind: str
    since: float
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Healthy:
    """A kind is followed again."""

    kind: str


@dataclass(frozen=True, slots=True)
class EtcdChanged:
    """etcd's watch has told something; ``watch`` says which one, as a former one may still be heard."""

    batch: WatchBatch
    watch: int = 0


@dataclass(frozen=True, slots=True)
class EtcdLost:
    """etcd's watch has ended: what we believe of etcd may be wrong.

    ``again``: for a reason that was told before, and no watch has held since.
    """

    reason: str
    watch: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing new; turn once."""


@dataclass(frozen=True, slots=True)
class Rezoned:
    """The external zones are these from now on."""

    zones: Sequence[Zone]


News: TypeAlias = Listed | Changed | Failing | Healthy | EtcdChanged | EtcdLost | Wake | Rezoned


class Inbox:
    """A queue with the methods that the reflectors (`kube2etcd.kube.delivery.Sink`) expect."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = threading.Event()
        self._queue: queue.SimpleQueue[tuple[float, News]] = queue.SimpleQueue()
        self.oldest = clock()
        """When the oldest of the last drained news came in."""

    def put(self, news: News) -> None:
        """Add, from any thread.

        One event waits while `MAX_EVENTS` are there: whoever sends it is held back, and relists if need be.
        """
        while isinstance(news, Changed | EtcdChanged) and self._queue.qsize() >= MAX_EVENTS:
            self._room.clear()
            if self._queue.qsize() >= MAX_EVENTS:
                self._room.wait(1.0)
        self._queue.put((self._clock(), news))

    def drain(self, timeout: float) -> list[News]:
        """Everything there is, after waiting at most ``timeout`` seconds for the first."""
        try:
            self.oldest, first = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
        except queue.Empty:
            return []
        news = [first]
        while len(news) < MAX_EVENTS:
            try:
                news.append(self._queue.get_nowait()[1])
            except queue.Empty:
                break
        self._room.set()
        return news

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        """A reflector's complete list."""
        self.put(Listed(kind.name, objects, rejected))

    def apply(self, kind: Kind, event: Event) -> None:
        """A reflector's event."""
        self.put(Changed(kind.name, event))

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        """A reflector cannot list or watch."""
        self.put(Failing(kind.name, since, kind.optional and isinstance(error, ApiNotFound)))

    def healthy(self, kind: Kind) -> None:
        """A reflector watches."""
        self.put(Healthy(kind.name))
