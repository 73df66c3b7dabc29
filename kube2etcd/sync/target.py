"""etcd as the loop sees it: mirror, differences from the desired entries, and outages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Set
from itertools import chain
from typing import Final

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdNoSpace
from kube2etcd.etcd import KeyStore, changes
from kube2etcd.log import several
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.claims import FormerGroups
from kube2etcd.sync.events import EtcdChanged, EtcdLost
from kube2etcd.sync.mirror import Mirror
from kube2etcd.sync.plan import Change, Create, Delete, Plan, generations, pack
from kube2etcd.sync.publisher import Publisher

log = logging.getLogger(__name__)

LOG_TOTAL_ABOVE: Final = 1000
"""Number of keys in a plan above which the log gives a total instead of counts per zone."""

LARGE_SHARE: Final = 0.3
"""Share of our keys above which damaged, refused or unwritten keys mean that etcd as a whole is not equal,
rather than a fault of those names alone."""
MAX_TXN_OPS: Final = 128
"""Changes per transaction: etcd's default limit."""

ETCD_RETRY: Final = 0.5
"""Seconds between attempts to reach etcd; short, since it is local and every name depends on it."""

NO_SPACE_RETRY: Final = 5.0
"""As `ETCD_RETRY`, while etcd is out of space: each attempt reads all of etcd."""

REFUSED_RETRY: Final = 30.0
"""Seconds until refused keys are written again: permissions may have been granted by then."""

LEADER_GRACE: Final = 10.0
"""Seconds for which a standby waits for the leader to write missing keys before it becomes unready: a new
leader may take that long."""

ACCEPT_AFTER: Final = 30.0
"""Seconds after which a standby attributes a difference to the leader's settings or version, and may be ready
despite it: staying unready would block the very rollout that ends the difference."""


class Stopped(Exception):
    """The loop was asked to stop while keys were written; all transactions sent are answered."""


class Target:
    """etcd with its mirror, as the target of writes."""

    def __init__(
        self,
        store: KeyStore,
        publisher: Publisher,
        metrics: Metrics,
        status: Status,
        stop: threading.Event,
    ) -> None:
        """Writing sends heartbeats to ``status``, and ends with `Stopped` once ``stop`` is set."""
        self.mirror = Mirror(publisher.desired)
        self.equal = False
        """Whether etcd matched the cluster when last compared, except for a few refused or tolerated keys."""
        self.trouble = ""
        """Why etcd cannot be read or written; empty when it can."""
        self.retry_at = 0.0
        """When etcd may be read again (clock)."""
        self.watch = 0
        """Number of the current watch."""
        self.touched: set[bytes] = set()
        """Keys whose desired value changed in this turn."""
        self.damaged: set[bytes] = set()
        """Keys that other writers changed since the last comparison."""
        self._returned: set[bytes] = set()
        """Those of `damaged` that `reverted` has returned: they stay damaged until a write succeeds."""
        self.foreign: set[bytes] = set()
        """Other writers' keys in our zones (guarantee G6): counted, never changed."""
        self.malformed: set[bytes] = set()
        self.contested: set[bytes] = set()
        """Keys that we want but another writer keeps, since its owner id sorts first."""
        self.other_leader = ""
        """The current leader; empty when this bridge leads."""
        self.behind: dict[bytes, float] = {}
        """Keys that a standby would create, update or delete if it led, and since when (clock)."""
        self.difference_accepted = False
        """Whether a standby's difference has lasted so long that the leader must intend it."""
        self._store, self._publisher, self._metrics = store, publisher, metrics
        self._status, self._stop = status, stop
        self._refused: dict[bytes, str] = {}
        self._retry_refused_at = 0.0
        self._loads = 0
        """Full reads so far; what differs in the first one is no repair, as nothing was known before."""

    def apply(self, event: EtcdChanged | EtcdLost) -> None:
        """Apply an event of the etcd watch; those of an earlier watch are dropped."""
        if event.watch != self.watch:
            return
        if isinstance(event, EtcdChanged):
            if not self.mirror.lost:  # else the next full read finds the changes
                self.damaged |= self.mirror.take(event.batch)
            return
        self._metrics.etcd_watches_lost.inc()
        if not self.mirror.lost:
            log.log(
                logging.DEBUG if event.again else logging.WARNING, "reading etcd in full: %s", event.reason
            )
        self._lose()

    def elect(self, other_leader: str) -> None:
        """Record who leads; a new leader compares everything, since its predecessor may have lagged."""
        if self.other_leader and not other_leader:
            self.behind.clear()  # we write it now
            self.mirror.lost = True
            self.retry_at, self._loads = 0.0, 0  # what the former leader left undone is not a repair
        self.other_leader = other_leader
        self._metrics.leads.set(not other_leader)

    def desire(self, refreshed: Iterable[FormerGroups]) -> None:
        """Derive the ``refreshed`` units and note the keys whose desired value changed."""
        for changed in refreshed:
            self.mirror.desire(changed)
            if self.mirror.revision:  # at first it is everything
                self.touched.update(*changed.values())

    def load(self, now: float, refreshed: Iterable[FormerGroups]) -> tuple[list[Change], int]:
        """Read all of etcd; if it is empty and we lead, fill it with the ``refreshed`` keys.

        Returns what was written: the first changes, and how many more.

        :raises EtcdError: it cannot be read or filled; see `failed`.
        :raises Stopped: while it was filled.
        """
        self.retry_at = now + ETCD_RETRY
        # All units must be derived before the first key is compared.
        changed = self.mirror.load(self._store.read, lambda: self.desire(refreshed))
        self.damaged |= changed if self._loads else set()  # at first nothing is known
        self._loads += 1
        return ([], 0) if self.mirror or self.other_leader else self._fill(refreshed)

    def refused(self) -> dict[bytes, str]:
        """Keys that etcd refused and still lacks, each with its reason."""
        if self._refused:
            differing = self.mirror.differing
            self._refused = {key: reason for key, reason in self._refused.items() if key in differing}
        return self._refused

    def pending(self, now: float) -> set[bytes]:
        """Keys to compare anyway: damaged ones, those the leader has not written, refused ones when due."""
        return self.damaged.union(self.behind, self._refused if now >= self._retry_refused_at else ())

    def at_rest(self) -> bool:
        """Whether etcd is equal and no key needs another look."""
        return self.equal and not (self.mirror.lost or self.damaged or self.behind or self._refused)

    def note_foreign(self, plan: Plan, looked_at: Set[bytes] | None) -> None:
        """Record the foreign keys of a plan; ``looked_at``: the keys it covers, None: all."""
        if new := sorted(plan.malformed - self.malformed):
            keys = (key.decode(errors="replace") for key in new)
            lines = [f"etcd: foreign key {key} is malformed and breaks every name above it" for key in keys]
            for line in several(lines, "foreign keys are malformed; kube2etcd check lists them"):
                log.warning("%s", line)
        if new := sorted(plan.contested - self.contested):
            names = [self._publisher.layout.name(key) or key.decode(errors="replace") for key in new]
            lines = [f"{name} is held by another writer, whose owner id sorts first" for name in names]
            for line in several(lines, "names are held by another writer"):
                log.warning("%s", line)
        for known, found in (
            (self.foreign, plan.foreign),
            (self.malformed, plan.malformed),
            (self.contested, plan.contested),
        ):
            if looked_at is None:
                known.clear()
            else:
                known -= looked_at
            known |= found

    def reverted(self) -> Set[bytes]:
        """Keys that another writer changed after our last write, which may be a dispute; each change once.

        Empty for a standby: the leader shares our owner id and may write what we have not heard of yet.
        """
        new, self._returned = self.damaged - self._returned, set(self.damaged)
        return frozenset() if self.other_leader else new

    def stand_by(self, plan: Plan, now: float) -> Plan:
        """The plan if we lead; otherwise records its changes and returns an empty plan: the leader writes."""
        if not self.other_leader:
            return plan
        gone = sum(isinstance(change, Create) and change.key in self.damaged for change in plan.changes)
        if gone > LARGE_SHARE * len(self._publisher.desired):
            self.equal = False
        self.behind = {change.key: self.behind.get(change.key, now) for change in plan.changes}
        return Plan()

    def repairs(self, plan: Plan, known: Set[bytes]) -> set[bytes]:
        """The keys of ``plan`` that other writers changed, except those ``known`` to differ anyway.

        If they are many, etcd has lost data and is not `equal`.
        """
        damaged = self.damaged - known
        repairs = {change.key for change in plan.changes if change.key in damaged}
        if len(repairs) > LARGE_SHARE * len(self._publisher.desired):
            self.equal = False
        return repairs

    def write(self, plan: Plan, repairs: set[bytes], now: float) -> None:
        """Write a plan; ``repairs``: those of its keys that other writers changed.

        :raises EtcdError: etcd cannot be written, or another bridge leads now; see `failed`.
        :raises Stopped: between two transactions.
        """
        result = self._store.apply(generations(plan, self._publisher.groups, MAX_TXN_OPS), self._progress)
        self.mirror.wrote(plan.changes, result)
        refused = {change.key for change, _ in result.refused}
        done = [one for one in plan.changes if one.key not in refused]
        deletes = sum(isinstance(one, Delete) for one in done)
        self._note(result, len(done) - deletes, deletes)
        self._retry_refused_at = now + REFUSED_RETRY if refused else self._retry_refused_at
        if repaired := len(repairs - refused):
            self._metrics.repairs.inc(repaired)
            log.warning("etcd: repaired %d keys that differed from what was written", repaired)

    def compared(self, now: float) -> None:
        """Update `equal` after all writes of the turn."""
        self.trouble, self.damaged, self._returned = "", set(), set()
        # A few refused keys affect only their own names; if etcd refuses everything, it is not equal.
        accepts = len(self.refused()) <= LARGE_SHARE * len(self._publisher.desired)
        self.equal = (not self.behind or self._tolerable(now)) and accepts
        self._metrics.etcd_up(True)

    def failed(self, error: EtcdError, now: float) -> None:
        """Record a failed read or write of etcd."""
        self._lose()
        if isinstance(error, EtcdDeposed):
            log.info("%s", error)
            return
        if str(error) != self.trouble:
            log.warning("%s", error)
        self.trouble = str(error)
        self.retry_at = now + (NO_SPACE_RETRY if isinstance(error, EtcdNoSpace) else ETCD_RETRY)
        self._metrics.etcd_up(False)

    def _progress(self, _written: int) -> None:
        """Called between two transactions."""
        self._status.beat()
        if self._stop.is_set():
            raise Stopped

    def _lose(self) -> None:
        self.mirror.lost, self.equal = True, False

    def _fill(self, refreshed: Iterable[FormerGroups]) -> tuple[list[Change], int]:
        """Write new keys to an empty etcd as they come, so that etcd is busy while more are derived.

        Consumes all of ``refreshed`` unless etcd fails.  A key that changes again, since a later unit has a
        better claim, is left to `write`, even if it ends up wanted again: concurrent transactions must not
        share a key.  Returns the changes of the first batches, up to about `LOG_TOTAL_ABOVE`, and
        the number of the others.
        """
        desired, first, count = self._publisher.desired, list[Change](), 0

        def batches() -> Iterator[changes.Batch]:
            nonlocal count
            for changed in refreshed:
                created: list[list[Change]] = []
                for group, former in changed.items():
                    wanted, members = desired.within(group), list[Change]()
                    for key, before in former.items():
                        value = wanted.get(key)
                        if value is None or before is not None or key in self.mirror.differing:
                            self.mirror.desire({group: {key: before}})
                        else:
                            members.append(Create(key, value))
                    created.append(members)
                    count += len(members)
                if len(first) <= LOG_TOTAL_ABOVE:
                    first.extend(chain(*created))
                yield from pack(created, MAX_TXN_OPS)

        self._loads = 0  # if this fails, what is missing at the next read is no other writer's doing
        result = self._store.apply([batches()], self._progress)
        self._loads = 1
        self.mirror.filled(result)
        self._note(result, count - len(result.refused), 0)
        return first, count - len(first)

    def _note(self, result: changes.ApplyResult, puts: int, deletes: int) -> None:
        """Log and count what was written; ``puts`` and ``deletes`` are numbers of accepted changes."""
        known, messages = self.refused(), list[str]()
        for change, reason in result.refused:
            if known.get(change.key) != reason:  # logged once, however often it is retried
                messages.append(f"etcd refuses {change.key.decode(errors='replace')}: {reason}")
            known[change.key] = reason
        for line in several(messages, "keys are refused"):
            log.error("%s", line)
        log.debug("etcd: %d keys written, %d deleted", puts, deletes)
        self._metrics.wrote(puts, deletes)

    def _tolerable(self, now: float) -> bool:
        """Whether a standby stays ready though etcd is behind: the keys are few and old, or just appeared."""
        age = now - min(self.behind.values())
        missing = sum(key not in self.mirror for key in self.behind)
        accepted = age > ACCEPT_AFTER and missing <= LARGE_SHARE * len(self._publisher.desired)
        if accepted and not self.difference_accepted:
            log.warning(
                "etcd: %d keys differ from what this bridge would write; does the leader reach the API server"
                " and do both have the same version and settings?",
                len(self.behind),
            )
        self.difference_accepted = accepted
        return accepted or (self.equal and age <= LEADER_GRACE)
