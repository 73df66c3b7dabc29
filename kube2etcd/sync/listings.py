"""Cluster events into the store: which kinds have been listed, and which units to publish again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from kube2etcd.kube.objects import Rejected
from kube2etcd.kube.store import Unit
from kube2etcd.metrics import Metrics
from kube2etcd.sync.claims import Former
from kube2etcd.sync.events import Changed, Failing, Healthy, Listed, Rezoned, Wake
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reasons import lines

log = logging.getLogger(__name__)

GONE_AFTER: Final = 300.0
"""Seconds for which the API server must say that a listed kind is not installed before that counts as an
empty list: it says so too while it starts, or while a CRD is replaced."""

AT_ONCE: Final = 256
"""Units published at once: etcd writes the keys of the last ones meanwhile."""

ClusterEvent = Listed | Changed | Failing | Healthy | Rezoned | Wake

LeftOut = Callable[[Sequence[tuple[Unit, str]]], None]
"""Gets each object of which records are left out, with the reason; must not block."""


class Listings:
    """Applies cluster events to the publisher's store."""

    def __init__(
        self,
        publisher: Publisher,
        kinds: Iterable[str],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        left_out: LeftOut = lambda refused: None,
    ) -> None:
        self.waiting = set(kinds)
        """Kinds that have not been listed yet; nothing is published before all are."""
        self.counts: dict[str, int] = {}
        """How often each kind was listed."""
        self.stale: dict[str, float] = {}
        """Kinds that cannot be listed or watched, and since when (on the clock)."""
        self._publisher, self._metrics, self._clock = publisher, metrics, clock
        self._left_out = left_out
        self.units = set(publisher.units())
        """The units to publish again."""
        self.touched: set[Unit] = set()
        """The units that were published again last."""
        self._empty: set[str] = set()
        self._absent: dict[str, float] = {}

    def apply(self, event: ClusterEvent) -> None:
        """Apply one event.  One that cannot be applied, for an unforeseen reason, is logged and dropped."""
        try:
            self._apply(event)
        except Exception:
            what = event.event if isinstance(event, Changed) else event
            self._drop(f"{type(event).__name__} {what}"[:300])

    def refresh(self) -> Iterator[Former]:
        """Publish the touched units again, some at once; yields the keys whose desired value changed, with
        the former one.

        A unit that raises an unforeseen error keeps its former keys and costs nobody else's.
        """
        self.touched, self.units = self._publisher.with_followers(self.units), set()
        units = list(self.touched)
        if len(units) > AT_ONCE:
            # The oldest first: what they have is not taken from them later.
            units.sort(key=self._publisher.seniority)
        for first in range(0, len(units), AT_ONCE):
            some = units[first : first + AT_ONCE]
            try:
                yield self._publisher.refresh(some)
            except Exception:
                for unit in sorted(some):
                    yield self._refresh_one(unit)
        refused = self._publisher.take_reasons()
        for line in lines(refused):
            log.warning("%s", line)
        self._left_out(refused)

    def came_empty(self) -> bool:
        """Whether, since the last call, a kind that had objects (or was never listed) was listed empty."""
        empty, self._empty = bool(self._empty), set()
        return empty

    def _refresh_one(self, unit: Unit) -> Former:
        try:
            return self._publisher.refresh([unit])
        except Exception:
            self._drop(str(unit))
            # What changed before it failed comes with the next unit.
            return {}

    def _drop(self, what: str) -> None:
        log.exception("%s: unforeseen error; it is left as it was", what)
        self._metrics.unforeseen.inc()

    def _apply(self, event: ClusterEvent) -> None:
        publisher, metrics = self._publisher, self._metrics
        match event:
            case Listed():
                self._listed(event)
            case Changed(kind, change):
                self.units |= publisher.store.apply(kind, change)
                metrics.events.labels(kind).inc()
                if change.type == "DELETED":
                    # An object that is no unit of its own is not published again when it goes.
                    publisher.logged_reasons.forget(Unit(kind, change.namespace, change.name))
                elif change.rejected is not None:
                    self._log_rejected(kind, change.rejected)
            case Failing(kind, since, absent):
                if absent:
                    self._not_installed(kind)
                else:
                    self._absent.pop(kind, None)
                    self.stale[kind] = since
                    metrics.failures.labels(kind).inc()
                    metrics.stale_for(kind, self._clock() - since)
            case Healthy(kind):
                self._followed(kind)
                metrics.watches.labels(kind).inc()
                metrics.stale_for(kind, None)
            case Rezoned(zones):
                self.units |= publisher.rezone(zones)

    def _listed(self, event: Listed) -> None:
        kind, store = event.kind, self._publisher.store
        if not (event.objects or event.rejected) and (store.count(kind) or kind in self.waiting):
            self._empty.add(kind)
        self.units |= store.replace(kind, event.objects, event.rejected)
        self.waiting.discard(kind)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._followed(kind)
        self._metrics.listed(kind)
        self._publisher.logged_reasons.listed(kind, store.knows)
        for one in event.rejected:
            self._log_rejected(kind, one)

    def _followed(self, kind: str) -> None:
        self._absent.pop(kind, None)
        self.stale.pop(kind, None)

    def _not_installed(self, kind: str) -> None:
        """An optional kind is not installed; one that was takes its objects along if that lasts."""
        self.waiting.discard(kind)
        now = self._clock()
        since = self._absent.setdefault(kind, now)
        if kind not in self.counts or now - since < GONE_AFTER:
            return
        if self._publisher.store.count(kind):
            log.warning("%s: no longer installed; their names are deleted", kind)
        self._listed(Listed(kind, ()))
        self._absent[kind] = since

    def _log_rejected(self, kind: str, one: Rejected) -> None:
        unit = Unit(kind, one.namespace, one.name)
        for reason in self._publisher.logged_reasons.fresh(unit, [one.reason]):
            log.warning("%s %s/%s is left out: %s", kind, one.namespace, one.name, reason)
