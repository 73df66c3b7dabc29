"""The two requests of a Reflector: a complete list in pages, and a watch from a version on.

Each kind of hang has its own timeout: the server ends a watch by itself (``timeoutSeconds``), a
connection that opens but never answers runs into :data:`CONNECT_TIMEOUT`, one that falls silent
into the inactivity timeout, and a peer that is gone is found by TCP keepalive.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

from kube2etcd.errors import ApiError, ApiForbidden, ApiGone, ApiTooLarge, ApiTooMany, ApiUnavailable
from kube2etcd.kube.client import Response
from kube2etcd.kube.delivery import Delivery, Health, Interrupted
from kube2etcd.kube.failures import ApiSilent
from kube2etcd.kube.objects import ApiObject, Event, Kind, Page, Rejected, decode_event, decode_list
from kube2etcd.kube.transport import Abort

PAGE_SIZE: Final = 500
"""Objects per page: about 2 MB of JSON at most times, so a list never needs much memory at once."""

MAX_PAGE_BYTES: Final = 64 << 20
"""A larger page is asked for again with fewer objects; one object has 1.5 MiB at most, as etcd takes it."""

LIST_TIMEOUT: Final = 60.0
"""Seconds for one page, altogether; the API server itself gives up after as many."""


HEALTHY_AFTER: Final = 10.0
"""Seconds a watch must last to reset the backoff."""

VERY_SHORT_WATCH: Final = 1.0
"""A watch that ends within a second is a failure, even if the server says it ended well."""

WATCH_SECONDS: Final = (300, 600)
"""Range of ``timeoutSeconds``, drawn at random so watches do not end at once."""

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until a watch must have answered its first byte."""

INACTIVITY_TIMEOUT: Final = 90.0
"""Seconds without a byte after which a watch is reopened.  Bookmarks come about each minute, so
this is one missed bookmark and a half.  A kind in which nothing ever happens may have no bookmarks
either; reopening its watch costs one small request."""

_log = logging.getLogger(__name__)


class ListerWatcher(Protocol):
    """The connection interface of a Reflector."""

    def get(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: float,
        abort: Abort | None = None,
        max_bytes: int | None = None,
    ) -> Response:
        """Fetch one complete answer."""
        ...

    def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        abort: Abort | None = None,
    ) -> AbstractContextManager[Iterable[bytes]]:
        """Open an answer that arrives line by line."""
        ...


def selectors(kind: Kind) -> dict[str, str]:
    """The parameters that narrow a list or a watch of ``kind``."""
    given = {"labelSelector": kind.label_selector, "fieldSelector": kind.field_selector}
    return {key: value for key, value in given.items() if value}


class Lister:
    """Lists one kind; ``bytes_read`` and ``expired`` only grow."""

    def __init__(self, kind: Kind, connection: ListerWatcher, path: str, abort: Abort) -> None:
        self.bytes_read = 0
        self.expired = 0
        self._kind, self._connection, self._path, self._abort = kind, connection, path, abort

    def read(self) -> tuple[list[ApiObject], list[Rejected], str]:
        """All pages of one list.

        Without a resourceVersion, unlike client-go's first list: the answer is then the most recent state,
        in pages.  With ``0`` it would come from any server's cache, perhaps older than what this process
        has already written, and in one piece however large.
        """
        try:
            return self._read_pages(PAGE_SIZE)
        except ApiGone:
            # The continue token grew too old on the way, or the server has compacted: in one piece then,
            # which cannot expire.
            self.expired += 1
            return self._read_pages(0)

    def _read_pages(self, size: int) -> tuple[list[ApiObject], list[Rejected], str]:
        objects: list[ApiObject] = []
        rejected: list[Rejected] = []
        version = ""
        turned: set[str] = set()
        params = selectors(self._kind) | ({"limit": str(size)} if size else {})
        while True:
            try:
                page = self._read_page(params, MAX_PAGE_BYTES if size > 1 else None)
            except ApiTooLarge:
                size //= 8
                params["limit"] = str(max(size, 1))
                continue
            objects += page.items
            rejected += page.rejected
            version = version or page.resource_version
            if not page.continue_:
                return objects, rejected, version
            if page.continue_ in turned:
                raise ApiUnavailable(f"the list of {self._kind.resource} does not end: its pages repeat")
            turned.add(page.continue_)
            params["continue"] = page.continue_

    def _read_page(self, params: Mapping[str, str], max_bytes: int | None) -> Page:
        response = self._connection.get(
            self._path, params, timeout=LIST_TIMEOUT, abort=self._abort, max_bytes=max_bytes
        )
        self.bytes_read += len(response.body)
        return decode_list(self._kind, response.body)


class Watcher:
    """Watches one kind, one watch after the other; ``watches`` and ``bytes_read`` only grow."""

    def __init__(
        self,
        kind: Kind,
        connection: ListerWatcher,
        path: str,
        abort: Abort,
        delivery: Delivery,
        health: Health,
        *,
        inactivity: float,
        connect_timeout: float,
        clock: Callable[[], float],
        rng: random.Random,
        interrupted: Callable[[], bool],
    ) -> None:
        """``interrupted()`` says whether the watch is to end; ``abort`` ends a read that waits."""
        self.watches = 0
        self.bytes_read = 0
        self.fruitful = True
        """Whether a watch delivered an event or lasted since this was last reset."""
        self._kind, self._connection, self._path, self._abort = kind, connection, path, abort
        self._delivery, self._health = delivery, health
        self._inactivity, self._connect_timeout = inactivity, connect_timeout
        self._clock, self._rng, self._interrupted = clock, rng, interrupted
        self._opened = 0.0
        self._unknown_types: set[str] = set()

    def watch(self) -> None:
        """One watch from the version that was delivered last.

        :raises ApiError: it failed; :class:`ApiGone`: the version is too old.
        :raises Interrupted: it was cut short.
        """
        self._opened = self._clock()
        try:
            self._read()
        finally:
            lived = self._clock() - self._opened
            if lived >= HEALTHY_AFTER:
                self._health.proven()
                self.fruitful = True
        if self._interrupted():
            raise Interrupted
        if lived < VERY_SHORT_WATCH:
            self._health.flapping = True
            raise ApiUnavailable(
                f"the watch of {self._kind.resource} ended after {lived:.1f} s; "
                "a proxy in between may not let watches through"
            )

    def _read(self) -> None:
        params = selectors(self._kind) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
            "resourceVersion": self._delivery.version,
        }
        # Silence is no failure yet: the next watch request shows whether the server is healthy.
        with (
            contextlib.suppress(ApiSilent),
            self._connection.stream(
                self._path,
                params,
                connect_timeout=self._connect_timeout,
                read_timeout=self._inactivity,
                abort=self._abort,
            ) as stream,
        ):
            self.watches += 1
            if not self._health.flapping:
                self._health.well()
            self._read_lines(stream)

    def _read_lines(self, stream: Iterable[bytes]) -> None:
        for line in stream:
            if self._interrupted():
                raise Interrupted
            self.bytes_read += len(line) + 1
            self._on_event(decode_event(self._kind, line))
            if self._health.flapping and self._clock() - self._opened >= VERY_SHORT_WATCH:
                self._health.well()

    def _on_event(self, event: Event) -> None:
        if event.type == "ERROR":
            raise _error_of(self._kind, event)
        if event.type == "BOOKMARK":
            self._delivery.reach(event.resource_version)
        elif event.type in ("ADDED", "MODIFIED", "DELETED"):
            self._delivery.apply(event)
            self.fruitful = True
        elif event.type not in self._unknown_types:
            self._unknown_types.add(event.type)
            _log.warning("%s: events of unknown type %r are ignored", self._kind.name, event.type[:40])


def _error_of(kind: Kind, event: Event) -> ApiError:
    """The error that an ERROR event stands for; the codes are those of HTTP."""
    message = f"the watch of {kind.resource} ended with an error: {event.message} ({event.code})"
    if event.code == 410:
        return ApiGone(message)
    if event.code in (401, 403):
        return ApiForbidden(message)
    if event.code == 429:
        return ApiTooMany(message, 1.0)
    return ApiUnavailable(message)
