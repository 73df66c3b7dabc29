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
from collections.abc import Callable, Iterable
from typing import Protocol

from kube2etcd import changes
from kube2etcd.cluster.objects import Rejected
from kube2etcd.cluster.store import Unit
from kube2etcd.errors import EtcdDeposed, EtcdError
from kube2etcd.inbox import Changed, EtcdChanged, EtcdLost, Failing, Healthy, Inbox, Listed, News, Rezoned
from kube2etcd.metrics import Metrics, Status
from kube2etcd.mirror import Mirror
from kube2etcd.plan import HELD_SHARE, Plan, diff, generations, to_hold
from kube2etcd.publish import Publisher

log = logging.getLogger(__name__)

#: Seconds between attempts to reach etcd; it is beside us, and every name waits for it.
ETCD_RETRY = 0.5
#: Seconds that the loop waits for news at most, so that its heartbeat is seen.
TICK = 1.0
#: Seconds that a standby waits for the leader to write what is missing, before it calls itself unready:
#: so long may another one take to lead.
PATIENCE = 10.0
#: Seconds after which a difference is no delay any more: the leader has other settings or another version.
#: A standby that stayed unready for that would hold up the very update that is to end it.
OTHERWISE = 30.0
#: Seconds after which a held plan asks for another listing.
ASK_AGAIN = (5.0, 10.0, 20.0)
#: Reasons for left-out records that are told at once, such as at the start.
REASONS = 100
#: Characters of such a reason that are told; an annotation may have a quarter of a million.
LONGEST = 300


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
        self.held: frozenset[bytes] = frozenset()
        self._waiting = set(kinds)
        self._relist, self._follow = relist, follow
        self._metrics, self._status = metrics, status
        self._period, self._max_ops = resync_period, max_txn_ops
        self._dry, self._force, self._progress = dry, force, progress
        self._units = set(publisher.units())
        self._stale: dict[str, float] = {}
        self._trouble = ""
        self._retry_at = 0.0
        self._resync_at = time.monotonic() + resync_period
        self._listings: dict[str, int] = {}
        self._empty: set[str] = set()
        self._watch = 0
        self._standing_by, self._standby = standing_by, ""
        self._behind: dict[bytes, float] = {}
        self._settled = False
        self._held_at: dict[str, int] = {}
        self._ask_at: list[float] = []
        self._foreign: set[bytes] = set()
        self._malformed: set[bytes] = set()
        self._contested: frozenset[bytes] = frozenset()
        self._refused: dict[bytes, str] = {}
        self._loads = 0

    def run(self, stop: threading.Event) -> None:
        """Turn until ``stop`` is set; an event in the inbox, or a tick, makes a turn."""
        while not stop.is_set():
            self.turn(self.inbox.drain(self._pause()))

    def turn(self, news: list[News]) -> None:
        """One pass over what is new."""
        began = time.monotonic()
        changed = self._take_in(news)
        if began >= self._resync_at:
            self._resync_at = began + self._period
            self._relist("resync")
            self.mirror.lose()
        self._take_turns()
        if not self._waiting:
            keys = self.publisher.refresh(self._units)
            self._units.clear()
            self._say_left_out()
            self._reconcile(keys, changed, began)
        self._report()

    def _take_turns(self) -> None:
        """Notice whether we lead; a new leader looks at everything, as its predecessor may be behind."""
        before, self._standby = self._standby, self._standing_by()
        if before and not self._standby:
            self._behind.clear()
            self.mirror.lose()
            self._retry_at = 0.0
            self._loads = 0  # what is missing is the former leader's, and no repair
        self._metrics.leads(not self._standby)

    def _take_in(self, news: list[News]) -> set[bytes]:
        store = self.publisher.store
        changed: set[bytes] = set()
        for item in news:
            match item:
                case Listed(kind, objects, rejected):
                    if not (objects or rejected) and (store.count(kind) or kind in self._waiting):
                        self._empty.add(kind)
                    self._units |= store.replace(kind, objects, rejected)
                    self._waiting.discard(kind)
                    self._listings[kind] = self._listings.get(kind, 0) + 1
                    self._stale.pop(kind, None)
                    self._metrics.listed(kind)
                    for one in rejected:
                        self._say_rejected(kind, one)
                case Changed(kind, event):
                    self._units |= store.apply(kind, event)
                    self._metrics.events(kind)
                    if event.rejected is not None:
                        self._say_rejected(kind, event.rejected)
                case Failing(kind, since, absent):
                    if absent:
                        self._waiting.discard(kind)
                    else:
                        self._stale[kind] = since
                        self._metrics.failed(kind)
                        self._metrics.stale_since(kind, time.time())
                case Healthy(kind):
                    self._stale.pop(kind, None)
                    self._metrics.watched(kind)
                    self._metrics.stale_since(kind, None)
                case Rezoned(zones):
                    self._units |= self.publisher.rezone(zones)
                case EtcdChanged(batch, watch):
                    if watch == self._watch:
                        changed |= self.mirror.take(batch)
                case EtcdLost(reason, watch):
                    if watch != self._watch:
                        continue
                    if not self.mirror.lost:
                        log.warning("etcd is read anew: %s", reason)
                    self.mirror.lose()
                    self.equal = False
        return changed

    def _say_rejected(self, kind: str, one: Rejected) -> None:
        unit = Unit(kind, one.namespace, one.name)
        for reason in self.publisher.told.fresh(unit, [one.reason]):
            log.warning("%s %s/%s is left out: %s", kind, one.namespace, one.name, reason)

    def _say_left_out(self) -> None:
        """Each reason once for each object, and no more at once than somebody would read."""
        untold = self.publisher.untold()
        for unit, reason in untold[:REASONS]:
            log.warning("%s: %s", unit, reason if len(reason) <= LONGEST else reason[:LONGEST] + "…")
        if untold[REASONS:]:
            log.warning(
                "%d more records are left out for odd reasons; kube2etcd explain NAME tells one",
                len(untold[REASONS:]),
            )

    def _reconcile(self, keys: set[bytes], changed: set[bytes], began: float) -> None:
        was_equal = self.equal
        try:
            full = self._load(began) if self.mirror.lost else False
            if self.mirror.lost:
                return
            if not full and not keys and not changed and not self.held and not self._behind:
                self._empty.clear()  # it took nothing away
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
        self._trouble = ""
        self.equal = not self._behind or self._bearable(began, was_equal)
        self._metrics.etcd_up(True)
        if full:
            self._metrics.resynced(time.monotonic() - began)
        elif keys:
            self._metrics.latency(time.monotonic() - self.inbox.oldest)

    def _bearable(self, now: float, was_equal: bool) -> bool:
        """Whether a standby may call etcd as good as equal, although it would write something else."""
        age = now - min(self._behind.values())
        missing = sum(key not in self.mirror.entries for key in self._behind)
        settled = age > OTHERWISE and missing <= HELD_SHARE * len(self.publisher.desired)
        if settled and not self._settled:
            log.warning(
                "%d keys in etcd are not as this bridge would write them: has the leader the same version and"
                " settings?",
                len(self._behind),
            )
        self._settled = settled
        return settled or (was_equal and age <= PATIENCE)

    def _load(self, now: float) -> bool:
        """Read etcd anew, unless that was tried a moment ago."""
        if now < self._retry_at:
            return False
        self._retry_at = now + ETCD_RETRY
        if not self.equal:
            self._report()  # reading may take long, and so may the writing that follows
        self.equal = False
        snapshot = self.entries.snapshot()
        self.mirror.load(snapshot)
        self._watch = self._follow(snapshot.revision + 1)
        self._foreign.clear()
        self._malformed.clear()
        self._loads += 1
        return True

    def _apply(self, keys: set[bytes], changed: set[bytes], full: bool, began: float) -> None:
        owner = self.publisher.layout.owner
        looked_at = None if full else keys | changed | self.held | self._behind.keys()
        plan = diff(self.mirror.entries, self.publisher.desired, owner, looked_at)
        self._note_foreign(plan, looked_at)
        self.plan = plan
        waited = self.held
        plan = self._hold(plan)
        if self._standby:
            self._behind = {change.key: self._behind.get(change.key, began) for change in plan.changes}
            return
        if self._dry or not plan.changes:
            return
        if full:
            self.equal = False
            self._report()
        adding, taking = generations(plan, self.publisher.group, self._max_ops)
        total, done = len(plan.changes), 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            if self._progress is not None:
                self._progress(done, total)

        result = self.entries.apply([adding, taking], progress)
        self.mirror.wrote((one for batch in adding + taking for one in batch), result)
        puts = len(plan.puts)
        self._metrics.wrote(puts, len(plan.changes) - puts)
        repaired = (
            sum(change.key not in keys and change.key not in waited for change in plan.changes)
            if self._loads > 1 or not full
            else 0
        )
        if repaired:
            self._metrics.repaired(repaired)
            log.warning("%d keys in etcd were not as written, and are again", repaired)
        for change, reason in result.refused:
            self._refused[change.key] = reason
            log.error("etcd refuses %s: %s", change.key.decode(errors="replace"), reason)
        log.info("%d keys written, %d deleted", puts, len(plan.changes) - puts)

    def _hold(self, plan: Plan) -> Plan:
        """Take out deletions that nobody has confirmed yet.

        All of them when a kind has come empty that was not, or at the start: that is what a server says
        that has not yet read its own data, and in a small cluster it takes few names away.
        """
        now = time.monotonic()
        mark = f'"owner":"{self.publisher.layout.owner}"'.encode()
        deletes = {change.key for change in plan.deletes}
        if self.held and self._confirmed():
            confirmed, self.held = self.held & deletes, frozenset()
            if confirmed:
                log.warning("a second listing agrees: %d keys are deleted after all", len(confirmed))
            deletes -= confirmed
            rest = Plan(tuple(change for change in plan.changes if change.key not in confirmed))
        else:
            rest = plan
        empty, self._empty = bool(self._empty), set()
        suspect = to_hold(rest, self.mirror.entries, mark) | (self.held & deletes)
        if empty:
            suspect |= deletes
        if self._force or not suspect:
            self.held = frozenset()
            self._metrics.held(0)
            return plan
        if not self.held:
            why = "after an empty list" if empty else "at once"
            log.warning("%d keys would be deleted %s: held until a second listing agrees", len(suspect), why)
            self._held_at = dict(self._listings)
            self._ask_at = [now + pause for pause in ASK_AGAIN]
            self._relist("a plan is held")
        self.held = suspect
        self._metrics.held(len(suspect))
        return plan.without(suspect)

    def _confirmed(self) -> bool:
        return all(self._listings[kind] > count for kind, count in self._held_at.items())

    def _note_foreign(self, plan: Plan, looked_at: set[bytes] | frozenset[bytes] | None) -> None:
        if looked_at is not None:
            self._foreign -= looked_at
            self._malformed -= looked_at
        for key in plan.malformed - self._malformed:
            log.warning(
                "foreign key %s is malformed and spoils the names above it", key.decode(errors="replace")
            )
        self._foreign |= plan.foreign
        self._malformed |= plan.malformed
        for key in plan.contested - self._contested:
            name = self.publisher.layout.name(key)
            log.warning("%s is held by another writer, whose owner id comes before ours", name)
        kept = self._contested - looked_at if looked_at is not None else frozenset()
        self._contested = kept | plan.contested
        self._metrics.foreign(len(self._foreign), len(self._malformed))
        self._metrics.contested(len(self._contested))

    def _lose(self, error: EtcdError) -> None:
        if str(error) != self._trouble:
            log.warning("%s", error)
        self._trouble = str(error)
        self.mirror.lose()
        self.equal = False
        self._retry_at = time.monotonic() + ETCD_RETRY
        self._metrics.etcd_up(False)

    def _pause(self) -> float:
        now = time.monotonic()
        if self._ask_at and self.held and now >= self._ask_at[0]:
            self._ask_at.pop(0)
            self._relist("a plan is still held")
        if self.mirror.lost and not self._waiting:
            return max(0.0, min(TICK, self._retry_at - now))
        return TICK

    def _report(self) -> None:
        store = self.publisher.store
        reasons = [f"{kind} are not listed yet" for kind in sorted(self._waiting)]
        if self._trouble:
            reasons.append(self._trouble)
        if self._standby:
            reasons.append(self._standby)
        if self._standby and self._behind and (self._settled or not self.equal):
            reasons.append(f"{len(self._behind)} keys in etcd are not as this bridge would write them")
        ready = self.equal and not self._waiting and not self._trouble
        if not ready and not reasons:
            reasons.append("etcd is not equal to the cluster yet")
        if self.held:
            reasons.append(f"{len(self.held)} deletions are held until a second listing agrees")
        for kind in self._listings:
            self._metrics.objects(kind, store.count(kind))
        self._metrics.keys(len(self.mirror.entries) - len(self._foreign))
        self._metrics.left_out(self.publisher.left_out())
        self._metrics.ready(ready)
        self._status.report(ready, reasons, self._stale)
