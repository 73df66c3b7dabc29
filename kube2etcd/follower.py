"""Following what etcd's watch tells, in a thread of its own, into the inbox.

Knows stores that can be watched and the inbox.  Decides nothing: that a watch has ended is news like any
other, and from where the next one starts is for the loop to say, which has read etcd anew by then.
"""

from __future__ import annotations

import logging
import threading

from kube2etcd.errors import EtcdError
from kube2etcd.etcd.api import KeyStore
from kube2etcd.inbox import EtcdChanged, EtcdLost, Inbox

log = logging.getLogger(__name__)


class EtcdFollower:
    """One thread that watches etcd from the revision it was last told, into the inbox."""

    def __init__(self, store: KeyStore, inbox: Inbox) -> None:
        self._store = store
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
        try:
            for batch in self._store.watch(revision, ended):
                if ended.is_set():
                    return
                self._inbox.put(EtcdChanged(batch, number))
        except EtcdError as error:
            why = str(error)
        except Exception as error:
            # Whatever it was, we no longer know what etcd holds; reading it anew is always right.
            log.exception("the watch on etcd failed")
            why = f"the watch on etcd failed: {error}"
        if not ended.is_set():
            self._inbox.put(EtcdLost(why, number))
