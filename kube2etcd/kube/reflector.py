"""The Reflector: keeps a sink equal to one kind of object in the API server.

List, then watch from the list's version, resume where a watch ended, list again when the version is gone.
One thread per kind; :meth:`Reflector.run` is all of it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from kube2etcd.errors import ApiError, ApiForbidden, ApiGone, ApiNotFound, ApiTooMany, ApiUnavailable
from kube2etcd.kube.delivery import Delivery, Health, Interrupted, Sink
from kube2etcd.kube.objects import Kind
from kube2etcd.kube.transport import Abort
from kube2etcd.kube.watch import CONNECT_TIMEOUT, INACTIVITY_TIMEOUT, Lister, ListerWatcher, Watcher

STOP_TIMEOUT: Final = 0.5
"""Seconds that a stop waits for the threads, which are daemons, at most."""

_log = logging.getLogger(__name__)


def stop_all(reflectors: Sequence[Reflector]) -> None:
    """End them together, within :data:`STOP_TIMEOUT` however many hang where nothing wakes them.

    That is the search for a name and the opening of a connection, when the server's network is gone.
    """
    for one in reflectors:
        one.end()
    deadline = time.monotonic() + STOP_TIMEOUT
    for one in reflectors:
        one.ended(deadline - time.monotonic())


class Reflector:
    """Lists and watches one kind, and delivers to a sink, until stopped.

    The life of it: 1. list, 2. ``replace``, 3. watch and ``apply``, 4. watch again from the last
    version when a watch ends, 5. back to 1 when the version is gone or somebody asks by ``relist``.

    The counters ``lists``, ``watches``, ``events``, ``bytes_read``, ``errors``, ``expired`` only grow
    and may be read from any thread.
    """

    def __init__(
        self,
        kind: Kind,
        connection: ListerWatcher,
        sink: Sink,
        *,
        namespace: str | None = None,
        inactivity: float = INACTIVITY_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.kind = kind
        self._clock = clock
        self._wake = threading.Event()
        self._wait = wait or self._wake.wait
        self._thread: threading.Thread | None = None
        self._watches_expired = 0
        # Guarded by the lock, as other threads set them.
        self._lock = threading.Lock()
        self._abort = Abort()
        self._stop = threading.Event()
        self._wanted: str | None = None
        self._watching = False
        path, rng = kind.path(namespace), rng or random.Random()
        self._delivery = Delivery(kind, sink, self._stop.is_set)
        self._health = Health(kind, sink, clock, rng)
        self._lister = Lister(kind, connection, path, self._abort)
        self._watcher = Watcher(
            kind,
            connection,
            path,
            self._abort,
            self._delivery,
            self._health,
            inactivity=inactivity,
            connect_timeout=connect_timeout,
            clock=clock,
            rng=rng,
            interrupted=self._interrupted,
        )

    # -- for other threads

    @property
    def lists(self) -> int:
        """Complete lists that were delivered."""
        return self._delivery.lists

    @property
    def watches(self) -> int:
        """Watches that were opened."""
        return self._watcher.watches

    @property
    def events(self) -> int:
        """Events that were delivered."""
        return self._delivery.events

    @property
    def errors(self) -> int:
        """Failures, of lists and watches."""
        return self._health.errors

    @property
    def bytes_read(self) -> int:
        """Bytes of lists and watches."""
        return self._lister.bytes_read + self._watcher.bytes_read

    @property
    def expired(self) -> int:
        """How often a version was too old."""
        return self._lister.expired + self._watches_expired

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name=f"reflector-{self.kind.name}", daemon=True)
        self._thread.start()

    def relist(self, reason: str) -> None:
        """Have the kind listed again at once, without waiting for it.

        A watch is cut short for it, a pause too (but not one that the server asked for).  A list that
        is under way is finished, and followed by another: what was asked for is a look from now on.
        """
        with self._lock:
            self._wanted = reason
            self._wake.set()
            if self._watching:
                self._abort.trigger()

    def stop(self) -> None:
        """End, also out of a read that hangs; returns within :data:`STOP_TIMEOUT`."""
        stop_all([self])

    def end(self) -> None:
        """Begin to end, and return at once."""
        with self._lock:
            self._stop.set()
            self._wake.set()
            self._abort.trigger()

    def ended(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread; whether it is over."""
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    # -- the loop

    def run(self) -> None:
        """List and watch until stopped."""
        while not self._stop.is_set():
            try:
                if self._wanted is not None or not self._delivery.version:
                    self._list()
                self._watch()
            except Interrupted:
                continue
            except ApiGone as error:
                self._on_gone(error)
            except ApiError as error:
                self._on_failure(error)
            except Exception as error:
                # A fault of ours or of the sink.  What was to be delivered may be lost, so all of it is
                # delivered again; the thread must not end, for nobody would notice.
                if self._stop.is_set():
                    break
                _log.exception("%s: the reflector failed, listing again", self.kind.name)
                self._delivery.forget()
                self._on_failure(ApiUnavailable(f"internal error: {type(error).__name__}: {error}"))

    def _list(self) -> None:
        with self._lock:
            reason, self._wanted = self._wanted, None
            if not self._stop.is_set():
                self._wake.clear()
                self._abort.reset()
        if reason is not None:
            _log.debug("%s: listing again: %s", self.kind.name, reason)
        try:
            objects, rejected, version = self._lister.read()
        except ApiError:
            with self._lock:  # what was asked for is still owed
                self._wanted = self._wanted or reason
            raise
        self._delivery.replace(objects, rejected, version)

    def _interrupted(self) -> bool:
        return self._stop.is_set() or self._wanted is not None

    def _watch(self) -> None:
        with self._lock:
            if self._interrupted():
                raise Interrupted
            self._watching = True
            self._abort.reset()
        try:
            self._watcher.watch()
        except ApiError:
            if self._interrupted():
                raise Interrupted from None
            raise
        finally:
            with self._lock:
                self._watching = False

    def _on_gone(self, error: ApiGone) -> None:
        """The version is too old.  Once is ordinary; again, right after a list, is a failure."""
        self._watches_expired += 1
        self._delivery.forget()
        if not self._watcher.fruitful:
            self._on_failure(ApiUnavailable(f"a fresh list is already too old: {error}"))
        self._watcher.fruitful = False

    def _on_failure(self, error: ApiError) -> None:
        if self._stop.is_set():
            return
        self._health.failed(error)
        if isinstance(error, (ApiNotFound, ApiForbidden)):
            # Whatever comes next may have begun anew: a kind installed again, other rights.
            self._delivery.forget()
        seconds = self._health.pause(error)
        if isinstance(error, ApiTooMany):
            self._pause_for_server(seconds)
        else:
            self._wait(seconds)

    def _pause_for_server(self, seconds: float) -> None:
        """A wait that only ``stop`` may cut short."""
        until = self._clock() + seconds
        while not self._stop.is_set() and (left := until - self._clock()) > 0:
            with self._lock:
                if not self._stop.is_set():
                    self._wake.clear()
            self._wait(left)
