"""Etcd made equal to what is wanted: read it, compare, write what differs.

Etcd's side of the loop.  Knows what etcd holds and would not take, what is held back, who leads.  Asks the
intake how often each kind was listed, and nobody else about the cluster.  Writes what the plan says and no
more, and nothing while another one leads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdNoSpace
from kube2etcd.etcd import changes
from kube2etcd.metrics import Metrics
from kube2etcd.sync.events import EtcdChanged, EtcdLost
from kube2etcd.sync.foreign import Foreign
from kube2etcd.sync.intake import Intake
from kube2etcd.sync.mirror import Mirror
from kube2etcd.sync.plan import HELD_SHARE, Plan, diff, generations
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import Holding
from kube2etcd.sync.standby import Standby

log = logging.getLogger(__name__)

#: Seconds between attempts to reach etcd; it is beside us, and every name waits for it.
ETCD_RETRY = 0.5
#: The same where it is full: it can be read, in full each time, until somebody makes room.
FULL_RETRY = 5.0
#: Seconds until keys that etcd would not take are offered again: rights may have been given by then.
REFUSED_RETRY = 30.0


class EntryStore(Protocol):
    """What is needed of etcd."""

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


class Applier:
    """The only one who writes."""

    def __init__(
        self,
        publisher: Publisher,
        entries: EntryStore,
        intake: Intake,
        *,
        follow: Callable[[int], int],
        report: Callable[[], None],
        metrics: Metrics,
        max_txn_ops: int,
        dry: bool,
        force: bool,
        progress: Callable[[int, int], None] | None,
        standing_by: Callable[[], str],
    ) -> None:
        """The arguments are those of the `Reconciler`; ``report()`` is called before what may take long."""
        self.mirror = Mirror()
        self.plan = Plan()
        """The last plan that was made: what `resync` reports."""
        self.equal = False
        """Whether etcd was equal to the cluster when it was last looked at."""
        self.trouble = ""
        """Why etcd cannot be read or written at present."""
        self.led = ""
        """Who writes instead of us; empty: we do."""
        self.holding = Holding(publisher.layout.owner, force)
        self.foreign = Foreign(publisher.layout.name)
        self.standby = Standby()
        self.retry_at = 0.0
        """When etcd may be read again, in the seconds of ``time.monotonic()``."""
        self._publisher, self._entries, self._intake = publisher, entries, intake
        self._follow, self._report, self._standing_by = follow, report, standing_by
        self._metrics, self._max_ops = metrics, max_txn_ops
        self._dry, self._progress = dry, progress
        self._refused: dict[bytes, str] = {}
        self._offer_at = 0.0
        self._damaged: set[bytes] = set()
        self._watch = self._loads = 0

    @property
    def held(self) -> frozenset[bytes]:
        """Keys whose deletion waits for a second listing."""
        return self.holding.keys

    def refused(self) -> dict[bytes, str]:
        """Keys that etcd would not take and still lacks, with its reason."""
        desired, entries = self._publisher.desired, self.mirror.entries
        self._refused = {
            key: reason for key, reason in self._refused.items() if desired.get(key) != entries.get(key)
        }
        return self._refused

    def take(self, item: EtcdChanged | EtcdLost) -> set[bytes]:
        """Take in what a watch on etcd tells; the keys that others changed."""
        if item.watch != self._watch:
            return set()
        if isinstance(item, EtcdChanged):
            return self.mirror.take(item.batch)
        self._metrics.etcd_watch_lost()
        if not self.mirror.lost:
            log.log(logging.DEBUG if item.again else logging.WARNING, "etcd is read anew: %s", item.reason)
        self._lose()
        return set()

    def take_turns(self) -> None:
        """Notice whether we lead; a new leader looks at everything, as its predecessor may be behind."""
        before, self.led = self.led, self._standing_by()
        if before and not self.led:
            self.standby.lead()
            self.mirror.lose()
            self.retry_at = 0.0
            self._loads = 0  # what is missing is the former leader's, and no repair
        self._metrics.leads(not self.led)

    def equalize(self, keys: set[bytes], changed: set[bytes], began: float) -> bool:
        """Look at these keys, or at all where etcd must be read anew; whether it was looked at.

        ``keys``: what may be wanted otherwise now; ``changed``: what others changed in etcd; ``began``: the
        seconds of ``time.monotonic()`` at which this turn began.  An etcd that cannot be used is told by
        `trouble`, and tried again.
        """
        self._damaged |= changed
        looked_at: set[bytes] | None = None
        try:
            if self.mirror.lost:
                if began < self.retry_at:
                    return False
                self._load(began)
            else:
                looked_at = keys | changed | self.held | self.standby.keys
                if began >= self._offer_at:
                    looked_at |= self.refused().keys()
                if not looked_at:
                    self._intake.came_empty()  # it took nothing away
                    return False
            self._apply(looked_at, keys, began)
        except EtcdDeposed as error:
            log.info("%s", error)
            self._lose()
            return False
        except EtcdError as error:
            self._fail(error)
            return False
        self.trouble, self._damaged = "", set()
        wanted = len(self._publisher.desired)
        # A few odd keys spoil their own names only; an etcd that takes nothing is not equal to anything.
        takes = len(self.refused()) <= HELD_SHARE * wanted
        self.equal = self.standby.bearable(began, self.equal, self.mirror.entries, wanted) and takes
        self._metrics.etcd_up(True)
        return True

    def _load(self, now: float) -> None:
        """Read etcd anew; nothing is known of it until that is done."""
        self.retry_at = now + ETCD_RETRY
        if not self.equal:
            self._report()  # reading may take long, and so may the writing that follows
        snapshot = self._entries.snapshot()
        unlike = self.mirror.load(snapshot)
        self._damaged |= unlike if self._loads else set()  # at first nothing is known
        self._watch = self._follow(snapshot.revision + 1)
        self._loads += 1

    def _apply(self, looked_at: set[bytes] | None, keys: set[bytes], began: float) -> None:
        """Write what differs among the keys that are ``looked_at``, None: all."""
        entries, owner, waited = self.mirror.entries, self._publisher.layout.owner, self.held
        plan = self.plan = diff(entries, self._publisher.desired, owner, looked_at)
        self.foreign.note(plan, looked_at)
        empty = self._intake.came_empty()
        plan = self.holding.allowed(plan, entries, self._intake.listings, empty, began)
        if self.led:
            self.standby.note((change.key for change in plan.changes), began)
        elif plan.changes and not self._dry:
            if looked_at is None:
                self.equal = False
                self._report()  # writing may take long
            self._write(plan)
            # No repair: what etcd did not take before, and what changed in the cluster while etcd was away.
            news = keys | waited | set(self._refused)
            repaired = len({change.key for change in plan.changes} & (self._damaged - news))
            if repaired:
                self._metrics.repaired(repaired)
                log.warning("%d keys in etcd were not as written, and are again", repaired)

    def _write(self, plan: Plan) -> None:
        adding, taking = generations(plan, self._publisher.group, self._max_ops)

        def progress(done: int) -> None:
            if self._progress is not None:
                self._progress(done, len(plan.changes))

        result = self._entries.apply([adding, taking], progress)
        self.mirror.wrote((one for batch in adding + taking for one in batch), result)
        refused = {change.key for change, _ in result.refused}
        puts, deletes = (sum(one.key not in refused for one in some) for some in (plan.puts, plan.deletes))
        self._metrics.wrote(puts, deletes)
        for change, reason in result.refused:
            self._refused[change.key] = reason
            self._offer_at = time.monotonic() + REFUSED_RETRY
            log.error("etcd refuses %s: %s", change.key.decode(errors="replace"), reason)
        log.info("%d keys written, %d deleted", puts, deletes)

    def _lose(self) -> None:
        self.mirror.lose()
        self.equal = False

    def _fail(self, error: EtcdError) -> None:
        if str(error) != self.trouble:
            log.warning("%s", error)
        self.trouble = str(error)
        self._lose()
        self.retry_at = time.monotonic() + (FULL_RETRY if isinstance(error, EtcdNoSpace) else ETCD_RETRY)
        self._metrics.etcd_up(False)
