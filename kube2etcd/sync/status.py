"""Publishes readiness and gauges after each turn of the loop, and logs what was written."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import msgspec

from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.events import EventQueue
from kube2etcd.sync.listings import Listings
from kube2etcd.sync.plan import Change, Create, Delete, Update
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import Disputes, HeldDeletes
from kube2etcd.sync.target import LOG_TOTAL_ABOVE, Target
from skydns_compat.names import REVERSE

log = logging.getLogger(__name__)

ARRIVALS: Final = 10_000
"""Limit of events whose latency is being measured; so many are pending only while etcd is unavailable."""


class Report(msgspec.Struct, frozen=True):
    """Derives readiness, its reasons and the gauges from the state of the loop's parts."""

    publisher: Publisher
    listings: Listings
    target: Target
    held: HeldDeletes
    disputes: Disputes
    queue: EventQueue
    metrics: Metrics
    status: Status
    arrivals: deque[tuple[str, float]] = msgspec.field(default_factory=lambda: deque(maxlen=ARRIVALS))
    """Kind and arrival (clock) of events whose keys are not in etcd yet."""

    def __post_init__(self) -> None:
        self.metrics.queue.set_function(lambda: self.queue.length)

    def publish(self) -> None:
        """Set readiness, its reasons and the gauges from the current state."""
        target, listings = self.target, self.listings
        in_order = target.equal and not (target.trouble or self.disputes.disputed)
        ready = in_order and not listings.waiting
        reasons = self._not_ready()
        if not ready and not reasons:
            reasons.append("etcd does not match the cluster yet")
        if refused := target.refused():
            reasons.append(f"etcd refuses {len(refused)} keys: {next(iter(refused.values()))}")
        if self.held.keys:
            reasons.append(f"{len(self.held.keys)} deletions are held until a second listing agrees")
        self._gauges()
        self.metrics.ready.set(ready)
        self.status.report(ready, reasons, listings.stale)

    def _not_ready(self) -> list[str]:
        """Reasons for being unready; a ready standby names the leader too."""
        target, behind = self.target, len(self.target.behind)
        reasons = [f"{kind} are not listed yet" for kind in sorted(self.listings.waiting)]
        reasons += [reason for reason in (target.trouble, target.other_leader) if reason]
        if target.other_leader and behind and (target.difference_accepted or not target.equal):
            reasons.append(f"{behind} keys in etcd differ from what this bridge would write")
        if self.disputes.disputed:
            reasons.append(
                "another writer with our --owner-id reverts our changes in etcd:"
                f" {len(self.disputes.keys)} keys are left to it, and nothing is deleted"
            )
        return reasons

    def _gauges(self) -> None:
        metrics, store, target = self.metrics, self.publisher.store, self.target
        rejects = Counter(one.kind for one in store.rejects())
        for kind in self.listings.counts:
            metrics.objects.labels(kind).set(store.count(kind))
            metrics.rejected.labels(kind).set(rejects[kind])
        metrics.foreign(len(target.foreign), len(target.malformed))
        metrics.contested.set(len(target.contested))
        metrics.disputed.set(len(self.disputes.keys))
        metrics.keys.set(len(target.mirror) - len(target.foreign))
        metrics.held.set(len(self.held.keys))
        metrics.left_out(self.publisher.left_out_counts)
        metrics.refused.set(len(target.refused()))

    def log_changes(self, changes: Sequence[Change], more: int, seconds: float) -> None:
        """Log one line per zone for what was written, or one for all of it if that is much.

        ``more``: number of keys created besides ``changes``; ``seconds``: since the oldest event, or
        since the full pass began.
        """
        units = self.listings.touched
        zones: dict[str, Counter[type[Change]]] = {}
        refused = self.target.refused()
        written = [one for one in changes if one.key not in refused] if refused else changes
        if more or len(written) > LOG_TOTAL_ABOVE:
            zones[""] = Counter(map(type, written))
            zones[""][Create] += more
        else:
            for change in written:
                zone = ""
                if (name := self.publisher.layout.name(change.key)) is not None:
                    if (found := self.publisher.zone_of(name)) is not None:
                        zone = str(found.name)
                    elif any(map(name.below, REVERSE)):
                        zone = "reverse"
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

    def measure(self, resync_began: float | None, touched: bool, now: float) -> None:
        """Record that the events' keys are in etcd at ``now`` (clock).

        ``resync_began``: start of a full pass (clock), None otherwise; ``touched``: whether desired values
        changed.
        """
        if resync_began is not None:
            self.metrics.resynced(now - resync_began)
        elif touched:
            self.metrics.latency.observe(now - self.queue.oldest)
        if resync_began is not None or touched:
            for kind, arrived in self.arrivals:
                self.metrics.programmed(kind, now - arrived)
        self.arrivals.clear()
