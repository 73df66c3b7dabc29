"""The loop, and the only writer of keys.

    events -> store -> publisher -> diff with the mirror of etcd -> safety -> etcd -> mirror -> status

A full pass is the same path over all keys.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from kube2etcd.errors import EtcdError
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.claims import Former
from kube2etcd.sync.events import Changed, EtcdChanged, EtcdLost, Inbox, SyncEvent
from kube2etcd.sync.listings import LeftOut, Listings
from kube2etcd.sync.plan import HELD_SHARE, Change, Plan, diff
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import Disputes, HeldDeletes
from kube2etcd.sync.status import Latency, Report, log_changes
from kube2etcd.sync.target import EntryStore, Target

TICK: Final = 1.0
"""Seconds between turns at most: the loop's heartbeat is its liveness."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop is made of."""

    publisher: Publisher
    etcd: EntryStore
    inbox: Inbox
    kinds: Iterable[str]
    relist: Callable[[str], None]
    """Have every kind listed again, for this reason, without waiting for it."""
    follow: Callable[[int], int]
    """Watch etcd from this revision on; the number of that watch."""
    metrics: Metrics
    status: Status
    other_leader: Callable[[], str] = str
    """Who writes in our place; empty: we may write."""
    progress: Callable[[int], None] = lambda done: None
    """Called between transactions, with the number of keys written by this call of the store."""
    left_out: LeftOut = lambda refused: None
    resync_period: float = 300.0
    clock: Callable[[], float] = time.monotonic


class Reconciler:
    """Keeps etcd equal to what the publisher wants."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.publisher, self._clock = parts, parts.publisher, parts.clock
        self.listings = Listings(parts.publisher, parts.kinds, parts.metrics, parts.clock, parts.left_out)
        self.target = Target(parts.etcd, parts.publisher, parts.metrics, parts.progress)
        owner = parts.publisher.layout.owner
        self.held, self.disputes = HeldDeletes(owner), Disputes(owner)
        self.plan = Plan()  # the last one, before anything of it was held
        self._report = Report(
            parts.publisher, self.listings, self.target, self.held, self.disputes, parts.metrics, parts.status
        )
        self._resync_at = self._clock() + parts.resync_period
        self._latency = Latency(parts.inbox, parts.metrics, parts.clock)

    def run(self, stop: threading.Event) -> None:
        """Turn on every event, and every `TICK`, until ``stop`` is set."""
        while not stop.is_set():
            self.turn(self.parts.inbox.drain(self._pause()))

    def turn(self, events: Sequence[SyncEvent]) -> None:
        """Take in events and write what differs."""
        parts, now = self.parts, self._clock()
        self._latency.begin()
        changed_only = bool(events) and all(isinstance(one, Changed) for one in events)
        for event in events:
            if isinstance(event, EtcdChanged | EtcdLost):
                self.target.apply(event)
            else:
                self.listings.apply(event)
        if now >= self._resync_at:
            self._resync_at = now + parts.resync_period
            parts.relist("resync")
            self.target.mirror.lose()
        elected, open_ = self.target.elect(parts.other_leader()), self.listings.units or self.held.keys
        if changed_only and not (elected or open_ or self.disputes.active) and self.target.settled(now):
            self._latency.clear()  # equal objects, or objects without names
            parts.status.beat()
            return
        if not self.listings.waiting:
            refreshed = self.listings.refresh()
            try:
                self._reconcile(refreshed, now)
            except EtcdError as error:
                self.target.failed(error, self._clock())
            for changed in refreshed:  # whatever became of etcd
                self.target.mirror.desire(changed)
        if self.held.relist_due(now):
            parts.relist("a plan is held")
        self._report.publish()

    def _reconcile(self, refreshed: Iterator[Former], now: float) -> None:
        """Compare ``refreshed`` keys, or all after a full read of etcd, and write what differs."""
        parts, target, full = self.parts, self.target, self.target.mirror.lost
        if full and now < target.retry_at:
            return
        if full and not target.equal:
            self._report.publish()  # reading may take long, and so may writing
        touched: set[bytes] = set()

        def take() -> None:
            for changed in refreshed:
                target.mirror.desire(changed)
                if target.mirror.revision:  # at first it is everything
                    touched.update(changed)

        created: list[Change] = []
        filled = 0
        if full:
            target.load(now, take)
            if not target.mirror and not target.other_leader:
                created, filled = target.fill(refreshed)
        take()
        waiting, refused = self.held.keys | self.disputes.keys, set(target.refused())
        looked_at = None if full else touched | waiting | target.pending(now)
        if not full and not looked_at and not self.disputes.active:
            self.listings.came_empty()  # it took nothing away
            self._latency.clear()
            return
        entries, owner = target.mirror, self.publisher.layout.owner
        keys = entries.unlike.keys() if looked_at is None else looked_at
        plan = self.plan = diff(entries, self.publisher.desired, owner, keys)
        target.foreign.note(plan, looked_at)
        plan = self.held.hold(plan, entries, self.listings.counts, self.listings.came_empty(), now)
        if target.other_leader:
            target.standby.note((change.key for change in plan.changes), now)
            plan = Plan()
        plan = self.disputes.withhold(plan, target.damaged, now)
        if plan.changes or filled:
            # What waited, or changed in the cluster as well, is no repair.
            repairs = target.repairs(plan, touched | waiting | refused)
            if full and len(repairs) > HELD_SHARE * len(self.publisher.desired):
                target.equal = False  # etcd lost its data
            if full and not target.equal:
                self._report.publish()
            target.write(plan, repairs, self._clock())
            written = Plan((*created, *plan.changes)).without(target.refused())
            since = now if full else parts.inbox.oldest
            log_changes(
                self.publisher, written, filled - len(created), self.listings.touched, self._clock() - since
            )
        if full:
            target.follow(parts.follow)
        target.compared(now)
        self._latency.written(now if full else None, bool(touched))

    def _pause(self) -> float:
        retries = self.target.mirror.lost and not self.listings.waiting
        return max(0.0, min(TICK, self.target.retry_at - self._clock())) if retries else TICK
