"""Watches etcd in a thread of its own and puts its events into the loop's queue.

When a watch ends, the loop reads etcd in full and starts the next one from that revision.  Where no watch
lasts (no permission, a proxy that buffers streams), its end is reported with exponential backoff while etcd
is probed; an outage, lost data, or the end of a watch that had lasted is reported at once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Final

from kube2etcd.backoff import Backoff
from kube2etcd.errors import EtcdCompacted, EtcdError
from kube2etcd.etcd import KeyStore
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue

log = logging.getLogger(__name__)

PAUSE_LIMIT: Final = 30.0
"""Longest delay in seconds before the end of a watch is reported; where no watch works, the interval of full
reads."""

CUT_LIMIT: Final = 5.0
"""As `PAUSE_LIMIT`, where watches do work (the last one opened, if briefly, or its revision was compacted):
there, other writers' changes must be repaired within seconds."""

PROBE: Final = 1.0
"""Seconds between probes of etcd during such a delay."""

STABLE_AFTER: Final = 1.0
"""Seconds a watch must have lasted for its end to be reported at once."""

HEALTHY_AFTER: Final = 10.0
"""Seconds a watch must have lasted to reset the backoff."""

# Consecutive failures before the warning: a restart of etcd may cause one or two.
_WARN_AFTER = 3


class EtcdFollower:
    """One thread that watches etcd from the revision of the last `follow`."""

    def __init__(self, store: KeyStore, queue: EventQueue, rng: random.Random | None = None) -> None:
        self._store = store
        self._backoff = Backoff(rng or random.Random(), PAUSE_LIMIT)
        # Why watches ended since the last stable one, and how many did.
        self._reasons: set[str] = set()
        self._failures = 0
        self._queue = queue
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._from = 0
        self._number = 0
        self._thread = threading.Thread(target=self._run, name="etcd-follower", daemon=True)

    def start(self) -> None:
        """Start the thread; it waits for `follow`."""
        self._thread.start()

    def follow(self, revision: int) -> int:
        """Replace the current watch with one from ``revision`` on; returns its number at once.

        Events carry that number because the previous watch may still deliver some, and those are invalid
        after etcd has lost its data.
        """
        with self._lock:
            self._from = revision
            self._number += 1
            self._ended.set()
            self._wake.set()
            return self._number

    def stop(self) -> None:
        """Stop within half a second."""
        with self._lock:
            self._stop.set()
            self._ended.set()
            self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.5)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            with self._lock:
                if self._stop.is_set():
                    return
                self._wake.clear()
                revision, number, ended = self._from, self._number, threading.Event()
                self._ended = ended
            self._watch(revision, number, ended)

    def _watch(self, revision: int, number: int, ended: threading.Event) -> None:
        why = "the etcd watch ended"
        opened: float | None = None
        compacted = False
        try:
            for batch in self._store.watch(revision, ended):
                if ended.is_set():
                    return
                if opened is None:
                    opened = time.monotonic()
                self._queue.deliver(EtcdChanged(batch, number))
        except Exception as error:
            why = _reason(error)
            compacted = isinstance(error, EtcdCompacted)
        if ended.is_set():
            return
        lasted = 0.0 if opened is None else time.monotonic() - opened
        self._count_end(why, lasted)
        if lasted < STABLE_AFTER:
            limit = CUT_LIMIT if compacted or opened is not None else PAUSE_LIMIT
            why = self._delay(min(self._backoff.next(), limit), ended) or why
        # If the loop has read etcd for another reason, this watch is superseded.
        if not ended.is_set():
            self._queue.put(EtcdLost(why, number, why in self._reasons))
            self._reasons.add(why)

    def _count_end(self, why: str, lasted: float) -> None:
        """Count a watch that ended after ``lasted`` seconds."""
        if lasted >= HEALTHY_AFTER:
            self._backoff.reset()
        if lasted >= STABLE_AFTER:
            self._reasons.clear()
            self._failures = 0
        else:
            self._failures += 1
        if self._failures == _WARN_AFTER:
            log.warning(
                "no watch on etcd lasts (%s): until one does, etcd is read in full, at most every %g s",
                why,
                PAUSE_LIMIT,
            )

    def _delay(self, seconds: float, ended: threading.Event) -> str:
        """Wait ``seconds``, or until ``ended``; returns the reason early if etcd is down or lost its data."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not ended.is_set():
            try:
                self._store.probe()
            except Exception as error:
                # An outage, which says nothing about whether watches work.
                self._backoff.reset()
                return _reason(error)
            ended.wait(min(PROBE, left))
        return ""


def _reason(error: Exception) -> str:
    if isinstance(error, EtcdError):
        return str(error)
    # Report it like any other end: the mirror may be stale, and a full read corrects it.
    log.exception("the watch on etcd failed", exc_info=error)
    return f"the watch on etcd failed: {error}"
