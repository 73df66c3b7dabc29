"""How long to wait after failures in a row: exponential, with full jitter.  Knows no clock, only chance."""

from __future__ import annotations

import random
from typing import Final

BACKOFF_FIRST: Final = 0.8
BACKOFF_FACTOR: Final = 2.0
BACKOFF_LIMIT: Final = 15.0
BACKOFF_FLOOR: Final = 0.1
# 0.8, 1.6, 3.2, 6.4, 12.8, then 15 s; each wait is drawn evenly from [0, that] but is at least
# 0.1 s.  So a server that comes back is found after 7.5 s on average and 15 s at most (etcd is equal 20 s
# after the last fault: each kind waits by itself, and one that waits is enough to be behind), a thousand
# clients come back spread over 15 s, and the first five failures cost about 12 s altogether.


class Backoff:
    """How long to wait after the next failure in a row."""

    def __init__(self, rng: random.Random, limit: float = BACKOFF_LIMIT) -> None:
        self._rng = rng
        self._limit = limit
        self._ceiling = BACKOFF_FIRST

    def next(self) -> float:
        """Seconds to wait now; the wait after this one may be twice as long."""
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * BACKOFF_FACTOR, self._limit)
        return max(BACKOFF_FLOOR, self._rng.uniform(0.0, ceiling))

    def reset(self) -> None:
        """Start afresh."""
        self._ceiling = BACKOFF_FIRST
