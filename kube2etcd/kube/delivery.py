"""Delivery of one kind's lists and events to a sink, and the health of its watch."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final, Protocol

from kube2etcd.backoff import Backoff
from kube2etcd.errors import ApiError, ApiNotFound, ApiTooMany
from kube2etcd.kube.objects import ApiObject, Event, Kind, Rejected

OPTIONAL_RETRY: Final = 10.0
"""Seconds between attempts while an optional kind is not installed."""

RETRY_AFTER_LIMIT: Final = 60.0
"""Upper bound in seconds of an honoured Retry-After."""

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


class Interrupted(Exception):
    """`stop` or `relist` ended what was under way."""


class Delivery:
    """Lists and events of one kind on their way to a sink; the counters only grow."""

    def __init__(self, kind: Kind, sink: Sink, stopped: Callable[[], bool]) -> None:
        self.version = ""
        """resourceVersion to watch from; empty requires a list first."""
        self.lists = 0
        self.events = 0
        self._kind, self._sink, self._stopped = kind, sink, stopped

    def replace(self, objects: list[ApiObject], rejected: list[Rejected], version: str) -> None:
        """Deliver a complete list.

        :raises Interrupted: the reflector has stopped.
        """
        if self._stopped():
            raise Interrupted
        self._sink.replace(self._kind, objects, version, rejected)
        self.lists += 1
        self.version = version

    def apply(self, event: Event) -> None:
        """Deliver one ADDED, MODIFIED or DELETED."""
        self.events += 1
        self._sink.apply(self._kind, event)
        self.reach(event.resource_version)

    def reach(self, version: str) -> None:
        """Record that everything up to ``version`` was delivered; an empty one is ignored."""
        self.version = version or self.version

    def forget(self) -> None:
        """Drop the resourceVersion; a list comes next."""
        self.version = ""


class Health:
    """Reports failures and recovery of a kind to the log and the sink; ``errors`` only grows."""

    def __init__(self, kind: Kind, sink: Sink, clock: Callable[[], float], rng: random.Random) -> None:
        self.errors = 0
        self.flapping = False
        """Watches end as soon as they are open, so that opening one is no sign of health."""
        self._kind, self._sink, self._clock = kind, sink, clock
        self._backoff = Backoff(rng)
        self._unhealthy = True
        self._failing_since: float | None = None
        self._said = ""

    def well(self) -> None:
        """A watch is open and can be relied on."""
        if not self._unhealthy:
            return
        if self._failing_since is not None:
            _log.info("%s: watching again after %.0f s", self._kind.name, self._clock() - self._failing_since)
        self._unhealthy = False
        self._failing_since = None
        self._said = ""
        self.flapping = False
        self._sink.healthy(self._kind)

    def proven(self) -> None:
        """A watch lasted: reset the backoff."""
        self._backoff.reset()
        self.flapping = False

    def failed(self, error: ApiError) -> None:
        """Record a failure; logs it when it differs from the last."""
        self.errors += 1
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._unhealthy = True
        if str(error) != self._said:
            self._said = str(error)
            level = logging.INFO if self._absent(error) else logging.WARNING
            _log.log(level, "%s: %s", self._kind.name, error)
        self._sink.failing(self._kind, self._failing_since, error)

    def pause(self, error: ApiError) -> float:
        """Seconds to wait after ``error``; each call counts as one failure in a row."""
        if isinstance(error, ApiTooMany):
            return min(error.retry_after, RETRY_AFTER_LIMIT) + self._backoff.next()
        return OPTIONAL_RETRY if self._absent(error) else self._backoff.next()

    def _absent(self, error: ApiError) -> bool:
        return self._kind.optional and isinstance(error, ApiNotFound)
