"""The watch of one kind: from its opening to its end, with the list in front of it where that is streamed.

What it may know: the watch protocol.  What it must never do: wait without a limit, take a part of a
list for the whole, or hold an event back.

Each kind of hang has its own timeout: the server ends a watch by itself (``timeoutSeconds``), a
connection that opens but never answers runs into :data:`CONNECT_TIMEOUT`, one that falls silent
into the inactivity timeout, and a peer that is gone is found by TCP keepalive.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from kube2etcd.errors import ApiUnavailable
from kube2etcd.kube.abort import Abort
from kube2etcd.kube.delivery import Delivery, Interrupted
from kube2etcd.kube.failures import ApiRefused, ApiSilent
from kube2etcd.kube.first_part import FirstPart, error_of
from kube2etcd.kube.health import Health
from kube2etcd.kube.lister import ListerWatcher, selectors
from kube2etcd.kube.objects import Event, Kind, decode_event

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

_log = logging.getLogger(__name__)


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
        streamed: bool,
        inactivity: float,
        connect_timeout: float,
        clock: Callable[[], float],
        rng: random.Random,
        interrupted: Callable[[], bool],
    ) -> None:
        """``interrupted()`` says whether the watch is to end; ``abort`` ends a read that waits."""
        self.watches = 0
        self.bytes_read = 0
        self.streamed = streamed
        """Whether lists come at the head of a watch; given up for good when the server cannot."""
        self.fruitful = True
        """Whether a watch brought an event or lived long, since somebody last set this back."""
        self._kind, self._connection, self._path, self._abort = kind, connection, path, abort
        self._delivery, self._health = delivery, health
        self._inactivity, self._connect_timeout = inactivity, connect_timeout
        self._clock, self._rng, self._interrupted = clock, rng, interrupted
        self._opened = 0.0
        self._unknown_types: set[str] = set()

    def watch(self) -> None:
        """One watch from the version that was delivered last; without one, with the list in front.

        :raises ApiError: it failed; :class:`ApiGone`: the version is too old.
        :raises Interrupted: it was cut short, or lists come in pages from now on.
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
        }
        first: FirstPart | None = None
        if self._delivery.version:
            params["resourceVersion"] = self._delivery.version
        else:
            first = FirstPart(self._kind)
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
                if first is None and not self._health.flapping:
                    self._health.well()
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
            if self._interrupted():
                raise Interrupted
            self.bytes_read += len(line) + 1
            event = decode_event(self._kind, line)
            if first is None or first.ended:
                self._on_event(event)
            else:
                self._on_first_part(first, event)
            if self._health.flapping and self._clock() - self._opened >= VERY_SHORT_WATCH:
                self._health.well()

    def _on_event(self, event: Event) -> None:
        if event.type == "ERROR":
            raise error_of(self._kind, event)
        if event.type == "BOOKMARK":
            self._delivery.reach(event.resource_version)
        elif event.type in ("ADDED", "MODIFIED", "DELETED"):
            self._delivery.apply(event)
            self.fruitful = True
        elif event.type not in self._unknown_types:
            self._unknown_types.add(event.type)
            _log.warning("%s: events of type %r are not known and left out", self._kind.name, event.type[:40])

    def _on_first_part(self, first: FirstPart, event: Event) -> None:
        if event.type == "ERROR":
            raise error_of(self._kind, event)
        if event.type == "BOOKMARK" and not event.initial_events_end:
            # An ordinary bookmark first: this server does not know what it was asked for.
            raise ApiRefused("the server ignores sendInitialEvents", 400)
        first.take(event)
        if first.ended:
            self._delivery.replace(list(first.objects.values()), list(first.rejected.values()), first.version)
            self._health.well()

    def _give_up_streaming(self, why: str) -> NoReturn:
        _log.info("%s: lists come in pages from now on: %s", self._kind.name, why)
        self.streamed = False
        raise Interrupted
