"""Indices of etcd's v2 API that a watch has passed over: was that ours, somebody else's elsewhere, or hidden?

An open stream tells nothing of hidden keys, nor of other prefixes: both are only indices that are missing.
Whoever looks back is told of hidden keys, as long as etcd remembers them.  That is done a while later, when
what we wrote ourselves has been answered for certain.  Pure but for the clock that it is given.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

# What etcd remembers, of all its keys together.
_REMEMBERED = 1000
# Our own writes that are kept: more than can be among those.
_KEPT = 4 * _REMEMBERED


class Made:
    """The indices that our own writes got, the last few thousand; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def add(self, index: int) -> None:
        """A write of ours was answered."""
        with self._lock:
            self._order.append(index)
            self._known.add(index)
            if len(self._order) > _KEPT:
                self._known.discard(self._order.popleft())

    def __contains__(self, index: int) -> bool:
        with self._lock:
            return index in self._known


class Untold:
    """What one watch has passed over and not looked at yet."""

    def __init__(self, made: Made, delay: float, clock: Callable[[], float]) -> None:
        """``delay``: seconds after which our own writes have been answered."""
        self._made, self._delay, self._clock = made, delay, clock
        # Index -> when it was passed; both grow, so the first is the oldest.
        self._passed: dict[int, float] = {}

    def passed(self, first: int, last: int) -> None:
        """Nothing was told of these, both included, which come after all that were passed before."""
        now = self._clock()
        for index in range(max(first, last - _REMEMBERED + 1), last + 1):
            self._passed[index] = now
        while len(self._passed) > _REMEMBERED:
            del self._passed[next(iter(self._passed))]

    def looked_at(self, first: int, last: int) -> None:
        """Nothing is to be known of these any more, both included."""
        for index in [one for one in self._passed if first <= one <= last]:
            del self._passed[index]

    def due(self) -> int | None:
        """The first index that is to be looked at now."""
        since = self._clock() - self._delay
        while self._passed:
            index, when = next(iter(self._passed.items()))
            if when > since:
                break
            if index not in self._made:
                return index
            del self._passed[index]
        return None

    def others(self, index: int) -> bool:
        """Whether what is there was passed over long enough ago and is not ours; it is looked at by that."""
        if self._passed.get(index, math.inf) > self._clock() - self._delay:
            return False
        del self._passed[index]
        return index not in self._made
