"""What has been delivered of one kind, and the version up to which that is so.

What it may know: the sink's verbs and the order in which a list and events have to come.  What it must
never do: ask the server, take a failure for a list, or deliver after a stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kube2etcd.errors import ApiError
from kube2etcd.kube.objects import ApiObject, Event, Kind, Rejected


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
    """``stop`` or ``relist`` ended what was under way."""


class Delivery:
    """Lists and events of one kind on their way to a sink; the counters only grow."""

    def __init__(self, kind: Kind, sink: Sink, stopped: Callable[[], bool]) -> None:
        self.version = ""
        """From where to watch; empty: a list has to come first."""
        self.lists = 0
        self.events = 0
        self._kind, self._sink, self._stopped = kind, sink, stopped

    def replace(self, objects: list[ApiObject], rejected: list[Rejected], version: str) -> None:
        """Deliver a complete list.

        :raises Interrupted: nobody wants it any more.
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
        """Everything up to ``version`` has come; an empty one says nothing."""
        self.version = version or self.version

    def forget(self) -> None:
        """The version is good for nothing any more."""
        self.version = ""
