"""The loop: news in, store, records, plan, etcd.  The single writer.

    news -> Store -> touched units -> Publisher -> keys -> diff with the Mirror -> Plan -> etcd

It runs in one thread and waits in one place.  Everything else only puts news into the `Inbox`.  A
full pass is the same path without a restriction to keys, after both sides were read anew.  It never
deletes before every kind has been listed, and never believes a mass deletion at first sight.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from kube2etcd import changes
from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdNoSpace
from kube2etcd.foreign import Foreign
from kube2etcd.holding import Holding
from kube2etcd.inbox import EtcdChanged, EtcdLost, Inbox, News, Wake
from kube2etcd.intake import Intake
from kube2etcd.metrics import Metrics, Status
from kube2etcd.mirror import Mirror
from kube2etcd.plan import HELD_SHARE, Plan, diff, generations
from kube2etcd.publish import Publisher
from kube2etcd.standby import Standby

log = logging.getLogger(__name__)

#: Seconds between attempts to reach etcd; it is beside us, and every name waits for it.
ETCD_RETRY = 0.5
#: The same where it is full: it can be read, in full each time, until somebody makes room.
FULL_RETRY = 5.0
#: Seconds until keys that etcd would not take are offered again: rights may have been given by then.
REFUSED_RETRY = 30.0
#: Seconds that the loop waits for news at most, so that its heartbeat is seen.
TICK = 1.0


class EntryStore(Protocol):
    """What the loop needs of etcd."""

    def snapshot(self) -> changes.Snapshot:
        """Every key at one revision."""
        ...

    def apply(
        self,
        generations: Iterable[tuple[changes.Batch, ...]],
        progress: Callable[[int], None] | None = None,
    ) -> changes.ApplyResult:
        """Write, generation after generation."""
        ...


class Reconciler:
    """Keeps a store of entries equal to what a publisher wants."""

    def __init__(
        self,
        publisher: Publisher,
        entries: EntryStore,
        inbox: Inbox,
        kinds: Iterable[str],
        *,
        relist: Callable[[str], None],
        follow: Callable[[int], int],
        metrics: Metrics,
        status: Status,
        resync_period: float = 300.0,
        max_txn_ops: int = 128,
        dry: bool = False,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
        standing_by: Callable[[], str] = str,
    ) -> None:
        """``relist(reason)`` has every kind listed again; it does not wait for that.

        ``follow(revision)`` watches etcd from there and gives the number of that watch.
        ``standing_by()`` says why nothing may be written at present; empty: it may.
        """
        self.publisher = publisher
        self.entries = entries
        self.inbox = inbox
        self.mirror = Mirror()
        self.plan = Plan()
        """The last plan that was made: what `resync` reports."""
        self.equal = False
        """Whether etcd was equal to the cluster after the last turn."""
        self._intake = Intake(publisher, kinds, metrics)
        self._holding = Holding(publisher.layout.owner, force)
        self._foreign = Foreign(publisher.layout.name)
        self._standby, self._standing_by, self._led = Standby(), standing_by, ""
        self._relist, self._follow = relist, follow
        self._metrics, self._status = metrics, status
        self._period, self._max_ops = resync_period, max_txn_ops
        self._dry, self._progress = dry, progress
        self._resync_at = time.monotonic() + resync_period
        self._retry_at = self._offer_at = 0.0
        self._trouble = ""
        self._refused: dict[bytes, str] = {}
        self._damaged: set[bytes] = set()
        self._watch = self._loads = 0

    @property
    def held(self) -> frozenset[bytes]:
        """Keys whose deletion waits for a second listing."""
        return self._holding.keys

    def refused(self) -> dict[bytes, str]:
        """Keys that etcd would not take and still lacks, with its reason."""
        desired, entries = self.publisher.desired, self.mirror.entries
        self._refused = {
            key: reason for key, reason in self._refused.items() if desired.get(key) != entries.get(key)
        }
        return self._refused

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop`` is set; an event in the inbox, or a tick, makes a turn."""
        while not stop.is_set():
            self.turn(self.inbox.drain(self._pause()))

    def turn(self, news: list[News]) -> None:
        """One pass over what is new."""
        now = time.monotonic()
        changed = self._take_in(news)
        if now >= self._resync_at:
            self._resync_at = now + self._period
            self._relist("resync")
            self.mirror.lose()
        self._take_turns()
        if not self._intake.waiting:
            self._reconcile(self._intake.touched(), changed, now)
        if self._holding.asks(now):
            self._relist("a plan is held")
        self._report()

    def _take_in(self, news: list[News]) -> set[bytes]:
        """What the news is about goes to where it is known; the keys that others changed in etcd."""
        changed: set[bytes] = set()
        for item in news:
            match item:
                case EtcdChanged(batch, watch):
                    if watch == self._watch:
                        changed |= self.mirror.take(batch)
                case EtcdLost(reason, watch, again):
                    if watch == self._watch:
                        self._metrics.etcd_watch_lost()
                        self._forget(reason, again)
                case Wake():
                    pass
                case _:
                    self._intake.take(item)
        return changed

    def _take_turns(self) -> None:
        """Notice whether we lead; a new leader looks at everything, as its predecessor may be behind."""
        before, self._led = self._led, self._standing_by()
        if before and not self._led:
            self._standby.lead()
            self.mirror.lose()
            self._retry_at = 0.0
            self._loads = 0  # what is missing is the former leader's, and no repair
        self._metrics.leads(not self._led)

    def _reconcile(self, keys: set[bytes], changed: set[bytes], began: float) -> None:
        was_equal = self.equal
        self._damaged |= changed
        try:
            full = self._load(began) if self.mirror.lost else False
            if self.mirror.lost:
                return
            if began >= self._offer_at:
                changed |= self.refused().keys()
            if not full and not keys and not changed and not self.held and not self._standby.keys:
                self._intake.came_empty()  # it took nothing away
                return
            self._apply(keys, changed, full, began)
        except EtcdDeposed as error:
            log.info("%s", error)
            self.mirror.lose()
            self.equal = False
            return
        except EtcdError as error:
            self._lose(error)
            return
        self._trouble, self._damaged = "", set()
        wanted = len(self.publisher.desired)
        self.equal = self._standby.bearable(began, was_equal, self.mirror.entries, wanted)
        # A few odd keys spoil their own names only; an etcd that takes nothing is not equal to anything.
        self.equal &= len(self.refused()) <= HELD_SHARE * wanted
        self._metrics.etcd_up(True)
        if full:
            self._metrics.resynced(time.monotonic() - began)
        elif keys:
            self._metrics.latency(time.monotonic() - self.inbox.oldest)

    def _load(self, now: float) -> bool:
        """Read etcd anew, unless that was tried a moment ago."""
        if now < self._retry_at:
            return False
        self._retry_at = now + ETCD_RETRY
        if not self.equal:
            self._report()  # reading may take long, and so may the writing that follows
        self.equal = False
        snapshot = self.entries.snapshot()
        unlike = self.mirror.load(snapshot)
        self._damaged |= unlike if self._loads else set()  # at first nothing is known
        self._watch = self._follow(snapshot.revision + 1)
        self._loads += 1
        return True

    def _apply(self, keys: set[bytes], changed: set[bytes], full: bool, began: float) -> None:
        entries, owner, waited = self.mirror.entries, self.publisher.layout.owner, self.held
        looked_at = None if full else keys | changed | waited | self._standby.keys
        plan = self.plan = diff(entries, self.publisher.desired, owner, looked_at)
        self._foreign.note(plan, looked_at)
        empty = self._intake.came_empty()
        plan = self._holding.allowed(plan, entries, self._intake.listings, empty, began)
        if self._led:
            self._standby.note((change.key for change in plan.changes), began)
        elif plan.changes and not self._dry:
            if full:
                self.equal = False
                self._report()
            self._write(plan)
            # No repair: what etcd did not take before, and what changed in the cluster while etcd was away.
            news = keys | waited | set(self._refused)
            repaired = len({change.key for change in plan.changes} & (self._damaged - news))
            if repaired:
                self._metrics.repaired(repaired)
                log.warning("%d keys in etcd were not as written, and are again", repaired)

    def _write(self, plan: Plan) -> None:
        adding, taking = generations(plan, self.publisher.group, self._max_ops)

        def progress(done: int) -> None:
            if self._progress is not None:
                self._progress(done, len(plan.changes))

        result = self.entries.apply([adding, taking], progress)
        self.mirror.wrote((one for batch in adding + taking for one in batch), result)
        refused = {change.key for change, _ in result.refused}
        puts, deletes = (sum(one.key not in refused for one in some) for some in (plan.puts, plan.deletes))
        self._metrics.wrote(puts, deletes)
        for change, reason in result.refused:
            self._refused[change.key] = reason
            self._offer_at = time.monotonic() + REFUSED_RETRY
            log.error("etcd refuses %s: %s", change.key.decode(errors="replace"), reason)
        log.info("%d keys written, %d deleted", puts, deletes)

    def _forget(self, reason: str, again: bool) -> None:
        if not self.mirror.lost:
            log.log(logging.DEBUG if again else logging.WARNING, "etcd is read anew: %s", reason)
        self.mirror.lose()
        self.equal = False

    def _lose(self, error: EtcdError) -> None:
        if str(error) != self._trouble:
            log.warning("%s", error)
        self._trouble = str(error)
        self.mirror.lose()
        self.equal = False
        self._retry_at = time.monotonic() + (FULL_RETRY if isinstance(error, EtcdNoSpace) else ETCD_RETRY)
        self._metrics.etcd_up(False)

    def _pause(self) -> float:
        if self.mirror.lost and not self._intake.waiting:
            return max(0.0, min(TICK, self._retry_at - time.monotonic()))
        return TICK

    def _report(self) -> None:
        behind, waiting = len(self._standby.keys), sorted(self._intake.waiting)
        reasons = [f"{kind} are not listed yet" for kind in waiting]
        reasons += [reason for reason in (self._trouble, self._led) if reason]
        if self._led and behind and (self._standby.settled or not self.equal):
            reasons.append(f"{behind} keys in etcd are not as this bridge would write them")
        if self._refused and not self.equal:
            reason = next(iter(self._refused.values()))
            reasons.append(f"etcd refuses {len(self._refused)} keys: {reason}")
        ready = self.equal and not waiting and not self._trouble
        if not ready and not reasons:
            reasons.append("etcd is not equal to the cluster yet")
        if self.held:
            reasons.append(f"{len(self.held)} deletions are held until a second listing agrees")
        store = self.publisher.store
        odd = Counter(one.kind for one in store.rejects())
        for kind in self._intake.listings:
            self._metrics.objects(kind, store.count(kind))
            self._metrics.rejected(kind, odd[kind])
        foreign = self._foreign
        self._metrics.foreign(len(foreign.keys), len(foreign.malformed))
        self._metrics.contested(len(foreign.contested))
        self._metrics.keys(len(self.mirror.entries) - len(foreign.keys))
        self._metrics.held(len(self.held))
        self._metrics.left_out(self.publisher.left_out())
        self._metrics.ready(ready)
        self._status.report(ready, reasons, self._intake.stale)
