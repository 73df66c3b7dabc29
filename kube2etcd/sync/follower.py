"""Following what etcd's watch tells, in a thread of its own, into the inbox.

That a watch has ended is news like any other: the loop reads etcd anew, in full, and says from where the
next watch starts.  So where no watch holds (no right to, a proxy that takes no streams) that news is held
back longer and longer: what is known of etcd stands meanwhile, and is written to.  But only as long as etcd
answers and has not lost its data, which is asked all the while: it is believed to be equal.

Knows stores that can be watched and the inbox.  Must never hold back that a watch which held has ended, nor
that etcd is away.
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
from kube2etcd.sync.events import EtcdChanged, EtcdLost, Inbox

log = logging.getLogger(__name__)

PAUSE_LIMIT: Final = 30.0
"""Seconds that the end of a watch is held back at most: so often etcd is read in full where none holds."""

CUT_LIMIT: Final = 5.0
"""The same where watches are possible: the last one stood for a moment, or came too late for etcd's memory.
What others changed is promised to be put right within seconds there."""

PROBE: Final = 1.0
"""Seconds between looks at etcd meanwhile."""

HELD: Final = 1.0
"""Seconds for which a watch must have stood so that its end is told at once."""

HEALTHY_AFTER: Final = 10.0
"""Seconds after which the pauses start afresh."""

# In a row: a restart of etcd may cost one or two.
_MANY = 3


class EtcdFollower:
    """One thread that watches etcd from the revision it was last told, into the inbox."""

    def __init__(self, store: KeyStore, inbox: Inbox, rng: random.Random | None = None) -> None:
        self._store = store
        self._backoff = Backoff(rng or random.Random(), PAUSE_LIMIT)
        # What ended the watches since one held, and how many they were.
        self._reasons: set[str] = set()
        self._failures = 0
        self._inbox = inbox
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._from = 0
        self._number = 0
        self._thread = threading.Thread(target=self._run, name="etcd-follower", daemon=True)

    def start(self) -> None:
        """Be ready to follow."""
        self._thread.start()

    def follow(self, revision: int) -> int:
        """Watch from ``revision`` on, and no longer from where it was.

        The number that is returned marks what this watch tells: the former one may be about to put
        something into the inbox, and after etcd has lost its data that means nothing any more.
        """
        with self._lock:
            self._from = revision
            self._number += 1
            self._ended.set()
            self._wake.set()
            return self._number

    def stop(self) -> None:
        """End, within half a second."""
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
        why = "the watch on etcd ended"
        stands: float | None = None
        possible = False
        try:
            for batch in self._store.watch(revision, ended):
                if ended.is_set():
                    return
                if stands is None:
                    stands = time.monotonic()
                self._inbox.wait_for_room()
                self._inbox.put(EtcdChanged(batch, number))
        except Exception as error:
            why = _reason(error)
            possible = isinstance(error, EtcdCompacted)
        if ended.is_set():
            return
        stood = 0.0 if stands is None else time.monotonic() - stands
        self._note(why, stood)
        if stood < HELD:
            limit = CUT_LIMIT if possible or stands is not None else PAUSE_LIMIT
            why = self._hold_back(min(self._backoff.next(), limit), ended) or why
        # When the loop has read etcd for another reason, this watch is nobody's any more.
        if not ended.is_set():
            self._inbox.put(EtcdLost(why, number, why in self._reasons))
            self._reasons.add(why)

    def _note(self, why: str, stood: float) -> None:
        """Take in that a watch has ended."""
        if stood >= HEALTHY_AFTER:
            self._backoff.reset()
        if stood >= HELD:
            self._reasons.clear()
            self._failures = 0
        else:
            self._failures += 1
        if self._failures == _MANY:
            log.warning(
                "no watch on etcd holds (%s): until one does, etcd is read in full now and then, in the end"
                " every %g s at most",
                why,
                PAUSE_LIMIT,
            )

    def _hold_back(self, seconds: float, ended: threading.Event) -> str:
        """Wait for ``seconds``, until ``ended``, or until etcd is away or empty: then the reason."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not ended.is_set():
            try:
                self._store.probe()
            except Exception as error:
                # So it was not that no watch is possible here.
                self._backoff.reset()
                return _reason(error)
            ended.wait(min(PROBE, left))
        return ""


def _reason(error: Exception) -> str:
    if isinstance(error, EtcdError):
        return str(error)
    # Whatever it was, we no longer know what etcd holds; reading it anew is always right.
    log.exception("the watch on etcd failed", exc_info=error)
    return f"the watch on etcd failed: {error}"
