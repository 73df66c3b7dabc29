"""The loop, and the only writer of keys.

    events -> store -> publisher -> diff with the mirror of etcd -> safety -> etcd -> mirror -> status

A full pass is the same path over all keys.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from kube2etcd.errors import EtcdError
from kube2etcd.etcd import KeyStore
from kube2etcd.kube.objects import Changed
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.claims import FormerGroups
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue, SyncEvent
from kube2etcd.sync.listings import Listings, OnLeftOut
from kube2etcd.sync.plan import diff
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import Disputes, HeldDeletes, Rivals
from kube2etcd.sync.status import Report
from kube2etcd.sync.target import Stopped, Target

TICK: Final = 1.0
"""Longest time between turns in seconds: liveness is the loop's heartbeat."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the loop is made of."""

    publisher: Publisher
    etcd: KeyStore
    queue: EventQueue
    kinds: Iterable[str]
    late: Sequence[str] = ()
    """Kinds that need not be listed before the first write; until they are, deletions are held."""
    relist: Callable[[str], None]
    """Request a new list of every kind, for this reason; does not wait."""
    follow: Callable[[int], int]
    """Watch etcd from this revision on; returns the number of that watch."""
    metrics: Metrics
    status: Status
    stop: threading.Event = msgspec.field(default_factory=threading.Event)
    """Ends the loop once set, between two transactions."""
    other_leader: Callable[[], str] = str
    """The leader that writes instead of us; empty: we may write."""
    left_out: OnLeftOut = lambda reasons: None
    resync_period: float = 300.0
    """Seconds between full passes."""
    clock: Callable[[], float] = time.monotonic


class Reconciler:
    """Keeps etcd equal to what the publisher wants."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.publisher, self._clock = parts, parts.publisher, parts.clock
        self.listings = Listings(parts.publisher, parts.kinds, parts.metrics, parts.clock, parts.left_out)
        self.listings.expect(parts.late)
        self.target = Target(parts.etcd, parts.publisher, parts.metrics, parts.status, parts.stop)
        owner = parts.publisher.layout.owner
        self.held, self.disputes, self._rivals = HeldDeletes(owner), Disputes(owner), Rivals(owner)
        reported = parts.publisher, self.listings, self.target, self.held, self.disputes
        self._report = Report(*reported, parts.queue, parts.metrics, parts.status)
        self._resync_at, self._at_rest = self._clock() + parts.resync_period, False

    def run(self) -> None:
        """Take a turn when events arrive, and at least every `TICK` seconds, until asked to stop."""
        with contextlib.suppress(Stopped):
            while not self.parts.stop.is_set():
                retrying = self.target.mirror.lost and not self.listings.waiting
                pause = self.target.retry_at - self._clock() if retrying else TICK
                events = self.parts.queue.drain(min(TICK, pause))
                if not self.parts.stop.is_set():  # else connections are being closed, which is no failure
                    self.turn(events)

    def turn(self, events: Sequence[SyncEvent]) -> None:
        """Apply events and write what differs; a failure of etcd is recorded and retried in a later turn."""
        parts, target, now = self.parts, self.target, self._clock()
        for event in events:
            if isinstance(event, EtcdChanged | EtcdLost):
                target.apply(event)
            else:
                self.listings.apply(event)
            self._at_rest = self._at_rest and isinstance(event, Changed)
        if events and self._at_rest and not self.listings.units and now < self._resync_at:
            parts.status.beat()  # no event changed an object that has names
            return
        self._report.arrivals.extend(parts.queue.arrivals)
        if now >= self._resync_at:
            self._resync_at = now + parts.resync_period
            parts.relist("resync")
            target.mirror.lost = True
        target.elect(parts.other_leader())
        if not self.listings.waiting:
            refreshed = self.listings.refresh()
            try:
                self._reconcile(refreshed, now)
            except EtcdError as error:
                target.failed(error, self._clock())
            target.desire(refreshed)  # the rest, if etcd failed before all was derived
        if self.held.relist_due(now):
            parts.relist("deletions are held")
        self._report.publish()
        self._at_rest = target.at_rest() and not (self.held.keys or self.disputes.disputed)

    def _reconcile(self, refreshed: Iterator[FormerGroups], now: float) -> None:
        """Compare ``refreshed`` keys, or all after a full read of etcd, and write what differs."""
        parts, target, full = self.parts, self.target, self.target.mirror.lost
        if full and now < target.retry_at:
            return
        if full and not target.equal:
            self._report.publish()  # be unready first: reading and writing may take long
        target.touched = set()
        created, more = target.load(now, refreshed) if full else ([], 0)
        target.desire(refreshed)
        # Keys that were pending, or changed in the cluster too, are not repairs.
        known = target.touched | self.held.keys | self.disputes.keys
        keys = target.mirror.differing.keys() if full else known | target.pending(now)
        known |= target.refused().keys()
        empty = self.listings.take_listed_empty()
        if full or keys or self.disputes.disputed:
            plan = diff(target.mirror, self.publisher.desired, self.publisher.layout.owner, keys)
            reverted = target.reverted()
            plan = self._rivals.yield_to(plan, reverted, now)
            target.note_foreign(plan, None if full else keys)
            # Before `hold`: no second listing settles a key that another writer reverts.
            plan = self.disputes.withhold(plan, reverted, target.mirror.differing, now)
            plan = self.held.hold(plan, target.mirror, self.listings.counts, empty, now)
            plan = target.stand_by(plan, now)
            if plan.changes or created:
                repairs = target.repairs(plan, known)
                if not target.equal:
                    self._report.publish()
                target.write(plan, repairs, self._clock())
                began = now if full else parts.queue.oldest
                self._report.log_changes((*created, *plan.changes), more, self._clock() - began)
            if full:
                target.watch = parts.follow(target.mirror.revision + 1)
            target.compared(now)
        self._report.measure(now if full else None, bool(target.touched), self._clock())
