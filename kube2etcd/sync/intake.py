"""News of the cluster into the store, and which units to look at again.

Knows the store, and what the loop must know of listings: which kinds are still waited for, how often each
was listed, which cannot be listed at present.  Makes no records and asks nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from kube2etcd.kube.objects import Rejected
from kube2etcd.kube.store import Unit
from kube2etcd.metrics import Metrics
from kube2etcd.sync.events import Changed, Failing, Healthy, Listed, Rezoned
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reasons import lines

log = logging.getLogger(__name__)

#: Seconds for which the API server must say that a kind is not installed, which it was, before that counts
#: as a list without objects: while it starts, or its definitions are replaced, it says so as well.
GONE_AFTER = 300.0

ClusterNews = Listed | Changed | Failing | Healthy | Rezoned


class Intake:
    """The cluster's side of the loop."""

    def __init__(self, publisher: Publisher, kinds: Iterable[str], metrics: Metrics) -> None:
        self.waiting = set(kinds)
        """Kinds that have not been listed yet; before they are, nothing is published."""
        self.listings: dict[str, int] = {}
        """How often each kind was listed."""
        self.stale: dict[str, float] = {}
        """Kinds that cannot be listed or watched, and since when."""
        self._publisher, self._metrics = publisher, metrics
        self._units = set(publisher.units())
        self._empty: set[str] = set()
        self._absent: dict[str, float] = {}

    def take(self, item: ClusterNews) -> None:
        """Take in one piece of news."""
        store = self._publisher.store
        match item:
            case Listed():
                self._listed(item)
            case Changed(kind, event):
                self._units |= store.apply(kind, event)
                self._metrics.events(kind)
                if event.type == "DELETED":
                    # Not every object is a unit that is looked at when it goes.
                    self._publisher.told.forget(Unit(kind, event.namespace, event.name))
                elif event.rejected is not None:
                    self._say_rejected(kind, event.rejected)
            case Failing(kind, since, absent):
                if absent:
                    self._not_installed(kind)
                else:
                    self._absent.pop(kind, None)
                    self.stale[kind] = since
                    self._metrics.failed(kind)
                    self._metrics.stale_since(kind, time.time() - (time.monotonic() - since))
            case Healthy(kind):
                self._absent.pop(kind, None)
                self.stale.pop(kind, None)
                self._metrics.watched(kind)
                self._metrics.stale_since(kind, None)
            case _:
                self._units |= self._publisher.rezone(item.zones)

    def touched(self) -> set[bytes]:
        """The keys whose desired value may differ since this was last asked."""
        keys = self._publisher.refresh(self._units)
        self._units.clear()
        self._say_left_out()
        return keys

    def came_empty(self) -> bool:
        """Whether a kind has come empty that was not, or at the start, since this was last asked."""
        empty, self._empty = bool(self._empty), set()
        return empty

    def _listed(self, item: Listed) -> None:
        kind, store = item.kind, self._publisher.store
        if not (item.objects or item.rejected) and (store.count(kind) or kind in self.waiting):
            self._empty.add(kind)
        self._units |= store.replace(kind, item.objects, item.rejected)
        self.waiting.discard(kind)
        self.listings[kind] = self.listings.get(kind, 0) + 1
        self._absent.pop(kind, None)
        self.stale.pop(kind, None)
        self._metrics.listed(kind)
        self._publisher.told.listed(kind, store.knows)
        for one in item.rejected:
            self._say_rejected(kind, one)

    def _not_installed(self, kind: str) -> None:
        """An optional kind is not there; one that was is gone with its objects, if that lasts."""
        self.waiting.discard(kind)
        now = time.monotonic()
        since = self._absent.setdefault(kind, now)
        if kind not in self.listings or now - since < GONE_AFTER:
            return
        if self._publisher.store.count(kind):
            log.warning("%s are not installed any more: their names go", kind)
        self._listed(Listed(kind, ()))
        self._absent[kind] = since

    def _say_rejected(self, kind: str, one: Rejected) -> None:
        unit = Unit(kind, one.namespace, one.name)
        for reason in self._publisher.told.fresh(unit, [one.reason]):
            log.warning("%s %s/%s is left out: %s", kind, one.namespace, one.name, reason)

    def _say_left_out(self) -> None:
        """Each reason once for each object."""
        for line in lines(self._publisher.untold()):
            log.warning("%s", line)
