"""Published names as news for the reconciler: one object a name, and only of those that changed.

The webhook's names enter the store like objects of a cluster, so that one loop, one plan and one writer
serve both.  Any thread may call; it decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from kube2etcd.external import Endpoint
from kube2etcd.kube.objects import DnsEndpoint, Event, Metadata
from kube2etcd.sync.events import Changed, Inbox, Listed

#: The kind of the objects; apart from the API server's DNSEndpoints, which are listed by themselves.
KIND = "webhook"


class Feed:
    """What the store was told, and what it is to be told now."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.Lock()
        self._told: dict[str, tuple[Endpoint, ...]] | None = None

    def update(self, names: Mapping[str, tuple[Endpoint, ...]]) -> None:
        """These are the names now."""
        with self._lock:
            before, self._told = self._told, dict(names)
            if before is None:
                self._list()
                return
            for name in sorted(before.keys() - names.keys()):
                self._inbox.put(Changed(KIND, Event("DELETED", None, "", name)))
            for name, endpoints in names.items():
                if before.get(name) != endpoints:
                    kind = "MODIFIED" if name in before else "ADDED"
                    self._inbox.put(Changed(KIND, Event(kind, _object(name, endpoints), "", name)))

    def relist(self, reason: str = "") -> None:
        """Tell everything again; nothing before there is anything to tell."""
        with self._lock:
            if self._told is not None:
                self._list()

    def _list(self) -> None:
        told = self._told or {}
        self._inbox.put(Listed(KIND, [_object(name, endpoints) for name, endpoints in told.items()]))


def _object(name: str, endpoints: tuple[Endpoint, ...]) -> DnsEndpoint:
    return DnsEndpoint(Metadata("", name), endpoints)
