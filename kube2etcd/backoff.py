"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from typing import Final

BACKOFF_FIRST: Final = 0.8
BACKOFF_FACTOR: Final = 2.0
BACKOFF_LIMIT: Final = 15.0
BACKOFF_FLOOR: Final = 0.1
# Ceilings 0.8, 1.6, 3.2, 6.4, 12.8, then 15 s; a wait is uniform in [0, ceiling], at least 0.1 s.  A server
# that recovers is retried within 15 s, 7.5 s on average, so etcd converges within 20 s of the last fault; a
# thousand clients spread over 15 s; the first five failures cost about 12 s in all.


class Backoff:
    """Waits for consecutive failures of one operation."""

    def __init__(self, rng: random.Random, limit: float = BACKOFF_LIMIT) -> None:
        self._rng = rng
        self._limit = limit
        self._ceiling = BACKOFF_FIRST

    def next(self) -> float:
        """Seconds to wait before the next attempt; doubles the ceiling for the one after."""
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * BACKOFF_FACTOR, self._limit)
        return max(BACKOFF_FLOOR, self._rng.uniform(0.0, ceiling))

    def reset(self) -> None:
        """Back to the first ceiling, after a success."""
        self._ceiling = BACKOFF_FIRST
