"""The Reflector: delivers one kind of object from the API server, by paginated lists and watches.

Each kind of hang has its own timeout: the server ends a watch by itself (``timeoutSeconds``), a
connection that opens but never answers runs into :data:`CONNECT_TIMEOUT`, one that goes silent into
:data:`INACTIVITY_TIMEOUT`, and TCP keepalive detects a dead peer.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from kube2etcd.backoff import Backoff
from kube2etcd.errors import (
    ApiError,
    ApiForbidden,
    ApiGone,
    ApiNotFound,
    ApiTooLarge,
    ApiTooMany,
    ApiUnavailable,
)
from kube2etcd.kube.client import Abort, ApiConnection
from kube2etcd.kube.codec import CHANGES, Page, decode_event, decode_list
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import ApiObject, Changed, Event, Failing, Healthy, Kind, KindEvent, Listed

PAGE_SIZE: Final = 500
"""Objects per page: usually about 2 MB of JSON, so a list never needs much memory at once."""

MAX_PAGE_BYTES: Final = 64 << 20
"""A larger page is requested again with fewer objects; etcd limits one object to 1.5 MiB."""

LIST_TIMEOUT: Final = 60.0
"""Seconds for one whole page; equal to the API server's own request timeout."""

STOP_TIMEOUT: Final = 0.5
"""Seconds that a stop waits for the threads, which are daemons."""

HEALTHY_AFTER: Final = 10.0
"""Seconds a watch must last to reset the backoff."""

VERY_SHORT_WATCH: Final = 1.0
"""A watch that ends within a second is a failure, even if the server says it ended well."""

WATCH_SECONDS: Final = (300, 600)
"""Range of ``timeoutSeconds``, drawn at random so watches do not end at once."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds within which the first byte of a watch must arrive."""

INACTIVITY_TIMEOUT: Final = 90.0
"""Seconds without a byte after which a watch is reopened: one and a half bookmark intervals of about a
minute.  A kind in which nothing ever happens may get no bookmarks either; reopening its watch costs one small
request."""

OPTIONAL_RETRY: Final = 10.0
"""Seconds between attempts while an optional kind is not installed."""

RETRY_AFTER_LIMIT: Final = 60.0
"""Upper bound in seconds of an honoured Retry-After."""

_log = logging.getLogger(__name__)

Deliver = Callable[[KindEvent], None]
"""Takes what happens to a kind; called from the reflector's thread, never after ``stop``."""

Reuse = Callable[[str, list[ApiObject]], list[ApiObject]]
"""Replaces objects of a kind by equal ones already in the store, so that a list is not stored twice."""


class _Health:
    """Logs and delivers failures and recovery of a kind."""

    def __init__(self, kind: Kind, deliver: Deliver, clock: Callable[[], float], rng: random.Random) -> None:
        self.flapping = False
        """Watches end as soon as they open, so opening one is no sign of health."""
        self._kind, self._deliver, self._clock = kind, deliver, clock
        self._backoff = Backoff(rng)
        self._unhealthy = True
        self._well_at, self._broke_early = 0.0, False
        """When the last watch opened, and whether the one before it broke within `VERY_SHORT_WATCH`."""
        self._failing_since: float | None = None
        self._absent = False
        self._logged = ""

    def well(self) -> None:
        """A watch is open and reliable."""
        if not self._unhealthy:
            return
        if self._failing_since is not None:
            _log.info("%s: watching again after %.0f s", self._kind.name, self._clock() - self._failing_since)
        self._unhealthy, self._failing_since, self._logged = False, None, ""
        self._well_at, self._broke_early = self._clock(), self._broke_early and not self.flapping
        self._absent = self.flapping = False
        self._deliver(Healthy(self._kind.name))

    def proven(self) -> None:
        """A watch lasted: reset the backoff."""
        self._backoff.reset()
        self.flapping = self._broke_early = False

    def failed(self, error: ApiError) -> float:
        """Report a failure, and log it if it differs from the last; returns the seconds to wait."""
        absent = self._kind.optional and isinstance(error, ApiNotFound)
        if not self._unhealthy:
            # Once may happen while the server restarts.
            broke_early = self._clock() - self._well_at < VERY_SHORT_WATCH
            self.flapping |= broke_early and self._broke_early
            self._broke_early = broke_early
        if self._failing_since is None or (self._absent and not absent):
            self._failing_since = self._clock()
        self._unhealthy, self._absent = True, absent
        if str(error) != self._logged:
            self._logged = str(error)
            _log.log(logging.INFO if absent else logging.WARNING, "%s: %s", self._kind.name, error)
        self._deliver(Failing(self._kind.name, self._failing_since, absent, error))
        if isinstance(error, ApiTooMany):
            return min(error.retry_after, RETRY_AFTER_LIMIT) + self._backoff.next()
        return OPTIONAL_RETRY if absent else self._backoff.next()


def stop_all(reflectors: Sequence[Reflector]) -> None:
    """Stop all of them within :data:`STOP_TIMEOUT` in total, even if some cannot be interrupted.

    A name lookup, or a connect while the network is down, cannot be interrupted.
    """
    for one in reflectors:
        one.stop()
    deadline = time.monotonic() + STOP_TIMEOUT
    for one in reflectors:
        one.ended(deadline - time.monotonic())


class Reflector:
    """Lists and watches one kind, and delivers what happens, until stopped.

    1. list, 2. `Listed`, 3. watch and `Changed`, 4. watch again from the last resourceVersion when a watch
    ends, 5. back to 1 when that has expired (410 Gone), when the server has gone back behind it, or on
    ``relist``.
    """

    def __init__(
        self,
        kind: Kind,
        connection: ApiConnection,
        deliver: Deliver,
        *,
        known: Reuse = lambda kind, objects: objects,
        inactivity: float = INACTIVITY_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        rng: random.Random | None = None,
    ) -> None:
        self.kind = kind
        self.bytes_read = 0
        """Bytes of lists and watches so far, decompressed."""
        self._connection, self._deliver, self._path = connection, deliver, kind.path()
        self._known = known
        self._selectors = {"fieldSelector": kind.field_selector} if kind.field_selector else {}
        self._inactivity, self._connect_timeout = inactivity, connect_timeout
        self._clock, self._rng = clock, rng or random.Random()
        self._health = _Health(kind, deliver, clock, self._rng)
        self._version = ""
        """resourceVersion of the last delivery, to watch from; empty: list first."""
        self._progressed = True
        """Whether a watch delivered or lasted since the last 410 Gone."""
        self._doubtful = False
        """Whether the server may no longer be the one that was listed: it failed since, or was silent."""
        self._unknown_types: set[str] = set()
        self._wake, self._wait = threading.Event(), wait
        self._thread: threading.Thread | None = None
        # Guarded by the lock, as other threads set them.
        self._lock = threading.Lock()
        self._abort = Abort()
        self._stop = threading.Event()
        self._relist_reason: str | None = None
        self._watching = False

    # -- for other threads

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name=f"reflector-{self.kind.name}", daemon=True)
        self._thread.start()

    def relist(self, reason: str) -> None:
        """Request a new list at once; does not wait for it.

        Interrupts a watch, and a pause too unless the server asked for it.  A list in progress is finished
        and followed by another, since it may have read the state before this call.
        """
        with self._lock:
            self._relist_reason = reason
            self._wake.set()
            if self._watching:
                self._abort.trigger()

    def stop(self) -> None:
        """Stop soon, even during a hanging read; returns at once."""
        with self._lock:
            self._stop.set()
            self._wake.set()
            self._abort.trigger()

    def ended(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread; returns whether it has ended."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))
        return self._thread is None or not self._thread.is_alive()

    # -- the loop

    def run(self) -> None:
        """List and watch until stopped."""
        while not self._stop.is_set():
            try:
                if self._relist_reason is not None or not self._version or self._went_back():
                    self._list()
                self._watch()
            except ApiGone as error:
                self._on_gone(error)
            except ApiError as error:
                self._on_failure(error)
            except Exception as error:
                # A bug.  A delivery may be lost, so everything is delivered again; the
                # thread must not end unnoticed.
                if self._stop.is_set():
                    break
                _log.exception("%s: the reflector failed, listing again", self.kind.name)
                self._version = ""
                self._on_failure(ApiUnavailable(f"internal error: {type(error).__name__}: {error}"))

    def _list(self) -> None:
        with self._lock:
            reason, self._relist_reason = self._relist_reason, None
            if not self._stop.is_set():
                self._wake.clear()
                self._abort.reset()
        if reason is not None:
            _log.debug("%s: listing again: %s", self.kind.name, reason)
        try:
            try:
                whole = self._list_in_pages(PAGE_SIZE)
            except ApiGone:
                # The continue token expired, or etcd was compacted: a list without pages cannot expire.
                whole = self._list_in_pages(0)
        except ApiError:
            with self._lock:  # still requested
                self._relist_reason = self._relist_reason or reason
            raise
        if not self._stop.is_set():
            self._deliver(Listed(self.kind.name, whole.items, whole.rejected))
            self._version, self._doubtful = whole.resource_version, False

    def _went_back(self) -> bool:
        """Whether the server's resourceVersion is lower than ours: it is that of another cluster, or of a
        restored backup.

        A watch from ours would be silent until the server gets there, and then lack what happened before.
        """
        if not self._doubtful:
            return False
        params = self._selectors | {"limit": "1"}
        body = self._connection.request("GET", self._path, params, timeout=LIST_TIMEOUT, abort=self._abort)
        self.bytes_read += len(body)
        theirs, ours = decode_list(self.kind, body).resource_version, self._version
        self._doubtful = False
        if not (theirs.isdecimal() and ours.isdecimal() and int(theirs) < int(ours)):
            return False
        _log.warning(
            "%s: the server went back from resourceVersion %s to %s: another cluster, or a restored backup",
            self.kind.name,
            ours,
            theirs,
        )
        return True

    def _list_in_pages(self, size: int) -> Page:
        """One complete list as one page; ``size`` 0 requests it without pagination.

        Sends no resourceVersion, unlike client-go's first list, so the response is the most recent state,
        paginated.  With ``0`` it could come from a stale cache, older than what this process has already
        written, and unpaginated however large.
        """
        whole: Page | None = None
        seen: set[str] = set()
        params = self._selectors | ({"limit": str(size)} if size else {})
        while True:
            limit = MAX_PAGE_BYTES if size > 1 else None
            try:
                body = self._connection.request(
                    "GET", self._path, params, timeout=LIST_TIMEOUT, abort=self._abort, max_bytes=limit
                )
            except ApiTooLarge:
                size //= 8
                params["limit"] = str(max(size, 1))
                continue
            self.bytes_read += len(body)
            page = decode_list(self.kind, body)
            whole = whole or Page([], [], page.resource_version)
            whole.items.extend(self._known(self.kind.name, page.items))
            whole.rejected.extend(page.rejected)
            if not page.continue_:
                return whole
            if page.continue_ in seen:
                raise ApiUnavailable(f"the list of {self.kind.resource} does not end: its pages repeat")
            seen.add(page.continue_)
            params["continue"] = page.continue_

    def _interrupted(self) -> bool:
        """Whether `stop` or `relist` was called."""
        return self._stop.is_set() or self._relist_reason is not None

    def _watch(self) -> None:
        """One watch from the last resourceVersion, until it ends or is interrupted."""
        with self._lock:
            if self._interrupted():
                return
            self._watching = True
            self._abort.reset()
        opened = self._clock()
        try:
            self._read_watch(opened)
        except ApiError:
            if not self._interrupted():
                raise
        finally:
            with self._lock:
                self._watching = False
            lived = self._clock() - opened
            if lived >= HEALTHY_AFTER:
                self._health.proven()
                self._progressed = True
        if lived < VERY_SHORT_WATCH and not self._interrupted():
            self._health.flapping = True
            raise ApiUnavailable(
                f"the watch of {self.kind.resource} ended after {lived:.1f} s; "
                "a proxy in between may be cutting watches short"
            )

    def _read_watch(self, opened: float) -> None:
        params = self._selectors | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
            "resourceVersion": self._version,
        }
        # A kind in which nothing happens would count as failing while its first good watch is silent.
        silence = min(HEALTHY_AFTER, self._inactivity) if self._health.flapping else self._inactivity
        timeouts = {"connect_timeout": self._connect_timeout, "read_timeout": silence}
        try:
            with self._connection.stream(self._path, params, **timeouts, abort=self._abort) as lines:
                if not self._health.flapping:
                    self._health.well()
                for line in lines:
                    self.bytes_read += len(line)
                    if self._interrupted():
                        return
                    self._on_event(decode_event(self.kind, line))
                    if self._health.flapping and self._clock() - opened >= VERY_SHORT_WATCH:
                        self._health.well()
        except ApiSilent:
            # Not a failure yet: the next request shows whether the server is healthy.
            self._doubtful = True

    def _on_event(self, event: Event) -> None:
        if event.type in CHANGES:
            self._deliver(Changed(self.kind.name, event))
            self._progressed = True
        elif event.type != "BOOKMARK":
            if event.type not in self._unknown_types:
                self._unknown_types.add(event.type)
                _log.warning("%s: events of unknown type %r are ignored", self.kind.name, event.type[:40])
            return
        self._version = event.resource_version or self._version

    def _on_gone(self, error: ApiGone) -> None:
        """410 Gone: list again.  It counts as a failure only if no watch made progress since the last one."""
        self._version = ""
        if not self._progressed:
            self._on_failure(ApiUnavailable(f"the resourceVersion expired again before any event: {error}"))
        self._progressed = False

    def _on_failure(self, error: ApiError) -> None:
        if self._stop.is_set():
            return
        self._doubtful = True
        if isinstance(error, (ApiNotFound, ApiForbidden)):
            # The kind may have been reinstalled, or our permissions changed.
            self._version = ""
        # A relist does not shorten a wait that the server asked for.
        self._wait(self._stop if isinstance(error, ApiTooMany) else self._wake, self._health.failed(error))
