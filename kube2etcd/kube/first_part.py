"""A list that comes at the head of a watch (``sendInitialEvents``, KEP-3157), as far as it has come.

Knows events; collects, and delivers nothing.
"""

from __future__ import annotations

from kube2etcd.errors import ApiError, ApiForbidden, ApiGone, ApiTooMany, ApiUnavailable
from kube2etcd.kube.objects import ApiObject, Event, Kind, Rejected


class FirstPart:
    """The list at the head of a streamed watch, as far as it has come."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.objects: dict[tuple[str, str], ApiObject] = {}
        self.rejected: dict[tuple[str, str], Rejected] = {}
        self.version = ""
        self.ended = False

    def take(self, event: Event) -> None:
        """Take in one of its events; the last one is a bookmark that says so."""
        key = (event.namespace, event.name)
        if event.initial_events_end:
            if not event.resource_version:
                raise ApiUnavailable(f"the streamed list of {self._kind.resource} has no version")
            self.version, self.ended = event.resource_version, True
        elif event.type in ("ADDED", "MODIFIED", "DELETED"):
            self.objects.pop(key, None)
            self.rejected.pop(key, None)
            if event.type == "DELETED":
                return
            if event.object is not None:
                self.objects[key] = event.object
            elif event.rejected is not None:
                self.rejected[key] = event.rejected


def error_of(kind: Kind, event: Event) -> ApiError:
    """The error that an ERROR event stands for; the codes are those of HTTP."""
    message = f"the watch of {kind.resource} ended with an error: {event.message} ({event.code})"
    if event.code == 410:
        return ApiGone(message)
    if event.code in (401, 403):
        return ApiForbidden(message)
    if event.code == 429:
        return ApiTooMany(message, 1.0)
    return ApiUnavailable(message)
