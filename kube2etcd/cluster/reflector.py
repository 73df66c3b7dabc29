"""The Reflector: keeps a sink equal to one kind of object in the API server.

What it is: list, then watch from the list's version, resume where a watch ended, list again when
the version is gone.  One thread per kind; :meth:`Reflector.run` is all of it, on one screen.

What it may know: the list and watch protocol, and the sink's four verbs.  What it must never do:
deliver an error as an empty list, wait without a limit, fall silent, or know what the objects are
for.  Clock, waiting and chance are injected, so that tests never sleep.

Each kind of hang has its own timeout: the server ends a watch by itself (``timeoutSeconds``), a
connection that opens but never answers runs into :data:`CONNECT_TIMEOUT`, one that falls silent
into the inactivity timeout, and a peer that is gone is found by TCP keepalive.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, NoReturn, Protocol

from kube2etcd.cluster.abort import Abort
from kube2etcd.cluster.backoff import Backoff
from kube2etcd.cluster.failures import ApiRefused, ApiSilent
from kube2etcd.cluster.first_part import FirstPart, error_of
from kube2etcd.cluster.lister import Lister, ListerWatcher, selectors
from kube2etcd.cluster.objects import (
    ApiObject,
    Event,
    Kind,
    Rejected,
    decode_event,
)
from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooMany,
    ApiUnavailable,
)

HEALTHY_AFTER: Final = 10.0
"""A watch that lived as long as this starts the backoff afresh: the trouble was not this one's."""

VERY_SHORT_WATCH: Final = 1.0
"""A watch that ends within a second is a failure, even if the server says it ended well."""

WATCH_SECONDS: Final = (300, 600)
"""The server ends each watch after a time drawn from here; drawn, so that not all end at once."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until a watch must have answered its first byte."""

INACTIVITY_TIMEOUT: Final = 90.0
"""Seconds without a byte after which a watch is opened anew.  Bookmarks come about each minute, so
this is one missed bookmark and a half.  A kind in which nothing ever happens may have no bookmarks
either; opening its watch anew costs one small request."""

OPTIONAL_RETRY: Final = 10.0
"""Seconds between looks for a kind that is not installed: noticed within 30 s with room to spare."""

RETRY_AFTER_LIMIT: Final = 60.0
"""A server's (or a proxy's) wish to wait longer than this is not followed any further."""

STOP_TIMEOUT: Final = 0.5
"""Seconds that :meth:`Reflector.stop` waits for the thread, which is a daemon, at most."""

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where a Reflector delivers; called from the reflector's thread, never after ``stop``."""

    def replace(
        self, kind: Kind, objects: list[ApiObject], resource_version: str, rejected: list[Rejected]
    ) -> None:
        """Take a complete list: these are all objects there are."""
        ...

    def apply(self, kind: Kind, event: Event) -> None:
        """Take one ADDED, MODIFIED or DELETED."""
        ...

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        """Take note of a failure; called for each, ``since`` (on the clock) is that of the first."""
        ...

    def healthy(self, kind: Kind) -> None:
        """Take note that a watch is open; called when that has become true."""
        ...


class _Interrupted(Exception):
    """``stop`` or ``relist`` ended the watch."""


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
        streamed: bool = False,
        inactivity: float = INACTIVITY_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.kind = kind
        self.lists = 0
        self.watches = 0
        self.events = 0
        self.errors = 0
        self._connection = connection
        self._sink = sink
        self._path = kind.path(namespace)
        self._streamed = streamed
        self._inactivity = inactivity
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._wake = threading.Event()
        self._wait = wait or self._wake.wait
        self._rng = rng or random.Random()
        self._backoff = Backoff(self._rng)
        self._thread: threading.Thread | None = None
        self._version = ""
        self._unhealthy = True
        self._failing_since: float | None = None
        self._said = ""
        self._unknown_types: set[str] = set()
        self._watched_bytes = 0
        self._watches_expired = 0
        self._gone_before = False
        self._flapping = False
        self._opened = 0.0
        # Guarded by the lock, as other threads set them.
        self._lock = threading.Lock()
        self._abort = Abort()
        self._lister = Lister(kind, connection, self._path, self._abort)
        self._stop = threading.Event()
        self._wanted: str | None = None
        self._watching = False

    # -- for other threads

    @property
    def bytes_read(self) -> int:
        """Bytes of lists and watches."""
        return self._lister.bytes_read + self._watched_bytes

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
        with self._lock:
            self._stop.set()
            self._wake.set()
            self._abort.trigger()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_TIMEOUT)

    # -- the loop

    def run(self) -> None:
        """List and watch until stopped."""
        while not self._stop.is_set():
            try:
                if self._wanted is not None or not self._version:
                    self._list()
                self._watch()
            except _Interrupted:
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
                self._version = ""
                self._on_failure(ApiUnavailable(f"internal error: {type(error).__name__}: {error}"))

    def _list(self) -> None:
        with self._lock:
            reason, self._wanted = self._wanted, None
            if not self._stop.is_set():
                self._wake.clear()
                self._abort.reset()
        if reason is not None:
            _log.debug("%s: listing again: %s", self.kind.name, reason)
        if self._streamed:
            # The watch itself begins with the list; see _watch.
            self._version = ""
            return
        try:
            objects, rejected, version = self._lister.read()
        except ApiError:
            with self._lock:  # what was asked for is still owed
                self._wanted = self._wanted or reason
            raise
        self._deliver_list(objects, rejected, version)

    def _deliver_list(self, objects: list[ApiObject], rejected: list[Rejected], version: str) -> None:
        if self._stop.is_set():
            raise _Interrupted
        self._sink.replace(self.kind, objects, version, rejected)
        self.lists += 1
        self._version = version

    # -- the watch

    @property
    def _interrupted(self) -> bool:
        return self._stop.is_set() or self._wanted is not None

    def _watch(self) -> None:
        """One watch, from its opening to its end; with the list in front of it when streamed."""
        with self._lock:
            if self._interrupted:
                raise _Interrupted
            self._watching = True
            self._abort.reset()
        self._opened = self._clock()
        try:
            self._read_watch()
        except ApiError:
            if self._interrupted:
                raise _Interrupted from None
            raise
        finally:
            with self._lock:
                self._watching = False
            lived = self._clock() - self._opened
            if lived >= HEALTHY_AFTER:
                self._backoff.reset()
                self._gone_before = False
        if self._interrupted:
            raise _Interrupted
        if lived < VERY_SHORT_WATCH:
            self._flapping = True
            raise ApiUnavailable(
                f"the watch of {self.kind.resource} ended after {lived:.1f} s; "
                "a proxy in between may not let watches through"
            )

    def _read_watch(self) -> None:
        params = selectors(self.kind) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
        }
        first: FirstPart | None = None
        if self._version:
            params["resourceVersion"] = self._version
        else:
            first = FirstPart(self.kind)
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        try:
            with self._connection.stream(
                self._path,
                params,
                connect_timeout=self._connect_timeout,
                read_timeout=self._inactivity,
                abort=self._abort,
            ) as stream:
                self.watches += 1
                if first is None and not self._flapping:
                    self._on_healthy()
                self._read_lines(stream, first)
        except ApiRefused as error:
            if first is None:
                raise
            self._give_up_streaming(str(error))
        except ApiSilent:
            # Not a failure yet: whether the server is well, its answer to the next watch will tell.
            if first is not None:
                self._give_up_streaming("the first part did not end")
        else:
            if first is not None and not first.ended:
                self._give_up_streaming("the watch ended before its first part did")

    def _read_lines(self, stream: Iterable[bytes], first: FirstPart | None) -> None:
        for line in stream:
            if self._interrupted:
                raise _Interrupted
            self._watched_bytes += len(line) + 1
            event = decode_event(self.kind, line)
            if first is None or first.ended:
                self._on_event(event)
            else:
                self._on_first_part(first, event)
            if self._flapping and self._clock() - self._opened >= VERY_SHORT_WATCH:
                self._on_healthy()

    def _on_event(self, event: Event) -> None:
        if event.type == "ERROR":
            raise error_of(self.kind, event)
        if event.type == "BOOKMARK":
            self._version = event.resource_version or self._version
        elif event.type in ("ADDED", "MODIFIED", "DELETED"):
            self.events += 1
            self._sink.apply(self.kind, event)
            self._version = event.resource_version or self._version
            self._gone_before = False
        elif event.type not in self._unknown_types:
            self._unknown_types.add(event.type)
            _log.warning("%s: events of type %r are not known and left out", self.kind.name, event.type[:40])

    def _on_first_part(self, first: FirstPart, event: Event) -> None:
        if event.type == "ERROR":
            raise error_of(self.kind, event)
        if event.type == "BOOKMARK" and not event.initial_events_end:
            # An ordinary bookmark first: this server does not know what it was asked for.
            raise ApiRefused("the server ignores sendInitialEvents", 400)
        first.take(event)
        if first.ended:
            self._deliver_list(list(first.objects.values()), list(first.rejected.values()), first.version)
            self._on_healthy()

    def _give_up_streaming(self, why: str) -> NoReturn:
        _log.info("%s: lists come in pages from now on: %s", self.kind.name, why)
        self._streamed = False
        raise _Interrupted

    # -- what went well and what did not

    def _on_healthy(self) -> None:
        if not self._unhealthy:
            return
        if self._failing_since is not None:
            _log.info("%s: watching again after %.0f s", self.kind.name, self._clock() - self._failing_since)
        self._unhealthy = False
        self._failing_since = None
        self._said = ""
        self._flapping = False
        self._sink.healthy(self.kind)

    def _on_gone(self, error: ApiGone) -> None:
        """The version is too old.  Once is ordinary; again, right after a list, is a failure."""
        self._watches_expired += 1
        self._version = ""
        if self._gone_before:
            self._on_failure(ApiUnavailable(f"a fresh list is already too old: {error}"))
        self._gone_before = True

    def _on_failure(self, error: ApiError) -> None:
        if self._stop.is_set():
            return
        self.errors += 1
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._unhealthy = True
        if str(error) != self._said:
            self._said = str(error)
            absent = self.kind.optional and isinstance(error, ApiNotFound)
            _log.log(logging.INFO if absent else logging.WARNING, "%s: %s", self.kind.name, error)
        self._sink.failing(self.kind, self._failing_since, error)
        if isinstance(error, (ApiNotFound, ApiForbidden)):
            # Whatever comes next may have begun anew: a kind installed again, other rights.
            self._version = ""
        if isinstance(error, ApiTooMany):
            self._pause_for_server(min(error.retry_after, RETRY_AFTER_LIMIT) + self._backoff.next())
        elif self.kind.optional and isinstance(error, ApiNotFound):
            self._wait(OPTIONAL_RETRY)
        else:
            self._wait(self._backoff.next())

    def _pause_for_server(self, seconds: float) -> None:
        """A wait that only ``stop`` may cut short."""
        until = self._clock() + seconds
        while not self._stop.is_set() and (left := until - self._clock()) > 0:
            with self._lock:
                if not self._stop.is_set():
                    self._wake.clear()
            self._wait(left)
