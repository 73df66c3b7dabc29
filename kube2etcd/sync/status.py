"""Publishes readiness, gauges and latencies after each turn of the loop."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from kube2etcd.kube.store import Unit
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.events import Inbox
from kube2etcd.sync.listings import Listings
from kube2etcd.sync.plan import Change, Create, Delete, Plan, Update
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import Disputes, HeldDeletes
from kube2etcd.sync.target import MANY, Target

log = logging.getLogger(__name__)

ARRIVALS: Final = 10_000
"""Limit of events tracked to measure their time to etcd."""


def log_changes(publisher: Publisher, plan: Plan, more: int, units: Collection[Unit], seconds: float) -> None:
    """One line a zone for what was written, or one for all if it is much.

    ``more``: keys created beside those of ``plan``, ``units``: what was published again, ``seconds``: since
    it changed.
    """
    zones: dict[str, Counter[type[Change]]] = {}
    if more or len(plan.changes) > MANY:
        zones[""] = Counter(map(type, plan.changes))
        zones[""][Create] += more
    else:
        for change in plan.changes:
            zone = ""
            if (name := publisher.layout.name(change.key)) is not None:
                found = publisher.zone_of(name)
                zone = str(found.name) if found is not None else "reverse"
            zones.setdefault(zone, Counter())[type(change)] += 1
    for zone, counts in sorted(zones.items()):
        fields: dict[str, object] = {"zone": zone} if zone else {}
        fields |= {"added": counts[Create], "changed": counts[Update], "deleted": counts[Delete]}
        if len(units) == 1:
            fields["object"] = str(next(iter(units)))
        elif units:
            fields["objects"] = len(units)
        fields["latency"] = f"{seconds * 1000:.0f}ms"
        log.info("records changed", extra={"fields": fields})


class Report(msgspec.Struct, frozen=True):
    """Readiness with its reasons, and the gauges, from the state of the loop's parts."""

    publisher: Publisher
    listings: Listings
    target: Target
    held: HeldDeletes
    disputes: Disputes
    metrics: Metrics
    status: Status

    def publish(self) -> None:
        """Publish the current state."""
        target, listings = self.target, self.listings
        in_order = target.equal and not target.trouble and not self.disputes.active
        ready = in_order and not listings.waiting
        reasons = self._not_ready()
        if not ready and not reasons:
            reasons.append("etcd is not equal to the cluster yet")
        if refused := target.refused():
            reasons.append(f"etcd refuses {len(refused)} keys: {next(iter(refused.values()))}")
        if self.held.keys:
            reasons.append(f"{len(self.held.keys)} deletions are held until a second listing agrees")
        self._gauges()
        self.metrics.ready.set(ready)
        self.status.report(ready, reasons, listings.stale)

    def _not_ready(self) -> list[str]:
        """Reasons for being unready, or who leads in place of a ready standby."""
        target, behind = self.target, len(self.target.standby.keys)
        reasons = [f"{kind} are not listed yet" for kind in sorted(self.listings.waiting)]
        reasons += [reason for reason in (target.trouble, target.other_leader) if reason]
        if target.other_leader and behind and (target.standby.accepted or not target.equal):
            reasons.append(f"{behind} keys in etcd differ from what this bridge would write")
        if self.disputes.active:
            reasons.append(
                "another writer with our --owner-id undoes our changes in etcd:"
                f" {len(self.disputes.keys)} keys are left to it, and nothing is deleted"
            )
        return reasons

    def _gauges(self) -> None:
        metrics, store, foreign = self.metrics, self.publisher.store, self.target.foreign
        rejects = Counter(one.kind for one in store.rejects())
        for kind in self.listings.counts:
            metrics.objects.labels(kind).set(store.count(kind))
            metrics.rejected.labels(kind).set(rejects[kind])
        metrics.foreign(len(foreign.keys), len(foreign.malformed))
        metrics.contested.set(len(foreign.contested))
        metrics.disputed.set(len(self.disputes.keys))
        metrics.keys.set(len(self.target.mirror) - len(foreign.keys))
        metrics.held.set(len(self.held.keys))
        metrics.left_out(self.publisher.refusals)
        metrics.refused.set(len(self.target.refused()))


class Latency:
    """Measures the time from an event's arrival to its keys in etcd."""

    def __init__(self, inbox: Inbox, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._inbox, self._metrics, self._clock = inbox, metrics, clock
        # Kind and arrival of events whose keys are not in etcd yet; more wait only while etcd is away.
        self._arrivals: deque[tuple[str, float]] = deque(maxlen=ARRIVALS)

    def begin(self) -> None:
        """Start a turn with the drained events."""
        self._arrivals.extend(self._inbox.arrivals)
        self._metrics.queue.set(self._inbox.length)

    def clear(self) -> None:
        """Drop the events: none changed a key."""
        self._arrivals.clear()

    def written(self, resync_began: float | None, touched: bool) -> None:
        """Record that the events' keys are in etcd; ``resync_began``: start of a full pass (clock)."""
        now = self._clock()
        if resync_began is not None:
            self._metrics.resynced(now - resync_began)
        elif touched:
            self._metrics.latency.observe(now - self._inbox.oldest)
        if resync_began is not None or touched:
            for kind, arrived in self._arrivals:
                self._metrics.programmed(kind, now - arrived)
        self._arrivals.clear()
