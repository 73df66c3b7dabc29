"""Events for the reconciler, from the reflectors, the watch on etcd and the webhook, in order.

Any thread may put, one thread drains.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

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


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Question:
    """Something to be done in the loop's thread, which owns the state."""

    answer: Callable[[], None]


class Inbox:
    """A queue with the methods that the reflectors (`kube2etcd.kube.delivery.Sink`) expect."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = threading.Event()
        self._queue: queue.SimpleQueue[tuple[float, News | _Question]] = queue.SimpleQueue()
        self.oldest = clock()
        """When the oldest of the last drained news came in."""
        self.arrivals: list[tuple[str, float]] = []
        """Kind and arrival of each object's event that was drained last."""

    @property
    def length(self) -> int:
        """How many events wait."""
        return self._queue.qsize()

    def put(self, news: News) -> None:
        """Add, from any thread, without waiting."""
        self._queue.put((self._clock(), news))

    def ask(self, question: Callable[[], _T], timeout: float) -> _T:
        """What ``question`` returns between two turns of the loop, whose thread runs it; keep it short.

        :raises TimeoutError: the loop did not get to it within ``timeout`` seconds.
        """
        future: Future[_T] = Future()

        def answer() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question())
                except Exception as error:
                    future.set_exception(error)

        self._queue.put((self._clock(), _Question(answer)))
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    def wait_for_room(self) -> None:
        """Wait while `MAX_EVENTS` are there.

        Only for a thread that holds no lock which the loop may want, and whose source can be read again.
        """
        while True:
            self._room.clear()
            if self._queue.qsize() < MAX_EVENTS:
                return
            self._room.wait(1.0)

    def drain(self, timeout: float) -> list[News]:
        """Everything there is, after waiting at most ``timeout`` seconds for the first.

        Questions (`ask`) are answered on the way.
        """
        try:
            self.oldest, first = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
        except queue.Empty:
            self.arrivals = []
            return []
        came = [(self.oldest, first)]
        while len(came) < MAX_EVENTS:
            try:
                came.append(self._queue.get_nowait())
            except queue.Empty:
                break
        self._room.set()
        self.arrivals = [(one.kind, moment) for moment, one in came if isinstance(one, Changed)]
        news: list[News] = []
        for _, one in came:
            if isinstance(one, _Question):
                one.answer()
            else:
                news.append(one)
        return news

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        """A reflector's complete list."""
        self.put(Listed(kind.name, objects, rejected))

    def apply(self, kind: Kind, event: Event) -> None:
        """A reflector's event; while there are too many, the reflector waits and its watch is not read."""
        self.wait_for_room()
        self.put(Changed(kind.name, event))

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        """A reflector cannot list or watch."""
        self.put(Failing(kind.name, since, kind.optional and isinstance(error, ApiNotFound)))

    def healthy(self, kind: Kind) -> None:
        """A reflector watches."""
        self.put(Healthy(kind.name))
