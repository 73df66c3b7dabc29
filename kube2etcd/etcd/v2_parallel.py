"""Requests of etcd's v2 API in a few threads: several on their way at once, and a caller that can stop.

The v2 API knows no transactions, so the time of a change is a round trip for each key; eight of them
together let etcd commit them together.  A caller who is told to stop need not wait for a server that
hangs.  Knows work and what came of it; must never look into either, and never leave work on its way
when it says that it is done.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from typing import Generic, TypeVar

from kube2etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable

# How often a waiting caller looks whether the threads are to be waited for any more.
_TICK = 0.1

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers:
    """A few threads, made when first needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed = False
        """Whether nothing is to be waited for any more."""
        self._pool = ThreadPoolExecutor(count, "etcd-v2")

    def start(self, work: Callable[[], _R]) -> Pending[_R]:
        """Begin ``work``, which may be several requests, without waiting for it."""
        try:
            return Pending(self, self._pool.submit(work))
        except RuntimeError:  # the pool is shut down
            raise closed_error() from None

    def together(self, work: Iterable[tuple[_T, Callable[[], _R]]]) -> Iterator[tuple[_T, _R | EtcdRefused]]:
        """Do all of it, several at once; what came of each, in order.

        The first error that is not about the request itself is raised, when nothing is on its way any more.
        """
        window: deque[tuple[_T, Pending[_R]]] = deque()
        try:
            for thing, what in work:
                if len(window) >= self.count:
                    one, pending = window.popleft()
                    yield one, pending.settled()
                window.append((thing, self.start(what)))
            while window:
                one, pending = window.popleft()
                yield one, pending.settled()
        finally:
            while window:
                with contextlib.suppress(EtcdError):
                    window.popleft()[1].result()

    def close(self) -> None:
        """Let nobody wait any longer: whatever is under way fails as EtcdUnavailable for its caller."""
        self.closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pending(Generic[_R]):
    """Work on its way."""

    def __init__(self, workers: Workers, future: Future[_R]) -> None:
        self._workers = workers
        self._future = future

    def result(self) -> _R:
        """What came of it; or an error of ours."""
        while True:
            if self._workers.closed and not self._future.done():
                raise closed_error()
            try:
                return self._future.result(_TICK)
            except NotYetError:
                continue
            except CancelledError:  # it was still waiting for a thread when the threads were closed
                raise closed_error() from None

    def settled(self) -> _R | EtcdRefused:
        """The same, where to be refused is a result."""
        try:
            return self.result()
        except EtcdRefused as error:
            return error


def closed_error() -> EtcdUnavailable:
    """What is said to whoever comes too late."""
    return EtcdUnavailable("the connection to etcd is closed")
