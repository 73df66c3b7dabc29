"""Following what etcd's watch tells, in a thread of its own, into the inbox.

That a watch has ended is news like any other: the loop reads etcd anew, in full, and says from where the
next watch starts.  So where no watch holds (no right to, a proxy that takes no streams) that news is held
back longer and longer: what is known of etcd stands meanwhile, and is written to.

Knows stores that can be watched and the inbox.  Must never hold back that a watch which held has ended.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Final

from kube2etcd.cluster.backoff import Backoff
from kube2etcd.errors import EtcdError, EtcdUnavailable
from kube2etcd.etcd.api import KeyStore
from kube2etcd.inbox import EtcdChanged, EtcdLost, Inbox

log = logging.getLogger(__name__)

PAUSE_LIMIT: Final = 30.0
"""Seconds that the end of a watch is held back at most: so often etcd is read in full where none holds."""

AWAY_LIMIT: Final = 5.0
"""The same where etcd was away, or cut off a watch that stood: it may have lost its data, and nobody else
would notice.  It is promised to be full again ten seconds after it is up."""

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
        self._thread = threading.Thread(target=self._run, name="etcd-watch", daemon=True)

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
        away = False
        try:
            for batch in self._store.watch(revision, ended):
                if ended.is_set():
                    return
                if stands is None:
                    stands = time.monotonic()
                self._inbox.put(EtcdChanged(batch, number))
        except EtcdError as error:
            why = str(error)
            away = isinstance(error, EtcdUnavailable)
        except Exception as error:
            # Whatever it was, we no longer know what etcd holds; reading it anew is always right.
            log.exception("the watch on etcd failed")
            why = f"the watch on etcd failed: {error}"
        if ended.is_set():
            return
        stood = 0.0 if stands is None else time.monotonic() - stands
        again = self._note(why, stood)
        limit = PAUSE_LIMIT if stands is None and not away else AWAY_LIMIT
        # Woken when the loop has read etcd for another reason: then this watch is nobody's any more.
        if stood >= HELD or not ended.wait(min(self._backoff.next(), limit)):
            self._inbox.put(EtcdLost(why, number, again))

    def _note(self, why: str, stood: float) -> bool:
        """Take in that a watch has ended; whether nobody needs to be told the reason."""
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
        again = why in self._reasons
        self._reasons.add(why)
        return again
