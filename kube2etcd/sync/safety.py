"""Holds mass deletions (guarantee G3), and yields to a second writer of the same keys (guarantee G13).

A plan that deletes many of our names, or any after an empty list, may stem from a wrong answer of the API
server: its deletions are held until a second listing confirms them.  A key that keeps being reverted under
our owner id is written by a second bridge: we stop writing it, and report that.  One that is reverted under
another owner id is left to the writer whose id sorts first.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Final

import msgspec

from kube2etcd.sync.plan import Create, Delete, Plan, Update, sorts_first, to_hold
from skydns_compat.message import owner_of

log = logging.getLogger(__name__)

RELIST_AFTER: Final = (5.0, 10.0, 20.0)
"""Seconds after the first request for a second listing at which it is repeated."""

TOLERATED_REVERTS: Final = 2
"""Reverts of one key within `DISPUTE_WINDOW` seconds; one more makes it disputed."""

DISPUTE_WINDOW: Final = 30.0
"""Seconds; two writers revert each other within milliseconds."""

PROBE_AFTER: Final = (15.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds until one disputed key is written again, to probe whether the other writer is gone; the last
repeats."""

PROBE_LASTS: Final = 3.0
"""Seconds for which the probed key must keep our value before the other writer counts as gone."""

YIELD_FOR: Final = 300.0
"""Seconds for which a key is first left to a rival before we write it again, in case the rival is gone.  They
double each time that it is not."""

MAX_YIELD: Final = 3600.0
"""Upper limit of `YIELD_FOR` after doubling, in seconds."""

MAX_TRACKED: Final = 10_000
"""Maximum number of keys in each table: reverted, disputed, yielded.  When the disputed one is full, every
Update and Delete is withheld; when the yielded one is, every Update that a rival reverts."""


class _Reverts:
    """Counts how often each key is reverted within `DISPUTE_WINDOW` seconds."""

    def __init__(self) -> None:
        self._times: dict[bytes, list[float]] = {}

    def too_many(self, key: bytes, now: float) -> bool:
        """Count a revert of ``key``; returns whether there were more than `TOLERATED_REVERTS`."""
        since, known = now - DISPUTE_WINDOW, self._times
        times = [at for at in known.pop(key, []) if at > since] + [now]
        while known and known[oldest := next(iter(known))][-1] <= since:
            del known[oldest]
        # Keep the first keys, not the latest: if more keys than fit are reverted in turn, each would be
        # forgotten before its next revert.
        if len(known) < MAX_TRACKED:
            known[key] = times
        return len(times) > TOLERATED_REVERTS

    def clear(self) -> None:
        self._times.clear()


class HeldDeletes:
    """Mass deletions awaiting confirmation."""

    def __init__(self, owner: str) -> None:
        self.keys: frozenset[bytes] = frozenset()
        """Keys whose deletion is held."""
        self._mark = f'"owner":"{owner}"'.encode()
        self._asked: frozenset[bytes] = frozenset()
        """Those of `keys` that were held when the second listing was requested, so it can confirm them."""
        self._confirmed: frozenset[bytes] = frozenset()
        """Keys whose deletion a second listing has confirmed, and which are not deleted yet."""
        self._doubted: frozenset[bytes] = frozenset()
        """Those of `keys` found with an empty list since that request: they need a listing of their own."""
        self._since: dict[str, int] = {}
        """Number of lists per kind when that listing was requested."""
        self._relist_at: list[float] = []
        """When to request another listing (clock), the earliest first."""

    def hold(
        self,
        plan: Plan,
        entries: Mapping[bytes, bytes],
        listings: Mapping[str, int],
        empty: bool,
        now: float,
    ) -> Plan:
        """``plan`` without the suspect deletions that no second listing has confirmed yet.

        ``entries``: what etcd holds; ``listings``: number of lists per kind; ``empty``: a kind that had
        objects, or was never listed, was listed empty.  An API server that has not loaded its data yet
        answers like this; in a small cluster that removes few names, so then every deletion is held.

        A confirmed deletion that is not made yet (a standby leaves it to the leader, etcd may be unavailable)
        stays confirmed, or each turn would request another listing.
        """
        deletes = plan.deletes
        self._confirmed = frozenset() if empty else self._confirmed & deletes
        waiting = self.keys
        if self._asked and all(listings[kind] > count for kind, count in self._since.items()):
            # Only what was held when the listing was requested: deletions that first appear with the
            # second listing are not confirmed by it.
            confirmed, self._asked, waiting = self._asked & deletes, frozenset(), self._doubted
            if confirmed:
                log.warning("deletions confirmed by a second listing: %d keys", len(confirmed))
            self._confirmed |= confirmed
        deletes -= self._confirmed
        suspect = to_hold(plan, entries, self._mark, self._confirmed) | waiting & deletes
        if empty:
            suspect |= deletes
            self._doubted |= deletes
        self.keys = suspect
        self._asked &= suspect
        self._doubted &= suspect
        if suspect and not self._asked:
            why = "an empty list" if empty else "many at once"
            log.warning("deletions held until a second listing agrees: %d keys, %s", len(suspect), why)
            self._since, self._asked, self._doubted = dict(listings), suspect, frozenset()
            self._relist_at = [now, *(now + pause for pause in RELIST_AFTER)]
        return plan.without(suspect) if suspect else plan

    def relist_due(self, now: float) -> bool:
        """Whether another listing is due at ``now`` (clock); true once per due time."""
        due = bool(self.keys and self._relist_at) and now >= self._relist_at[0]
        if due:
            self._relist_at.pop(0)
        return due


class Disputes:
    """Keys that another writer with our owner id also writes.

    While there are any, nothing is deleted and disputed keys keep the other writer's value.  If both bridges
    do so, they converge, and the names of both stay in etcd.
    """

    def __init__(self, owner: str) -> None:
        self.keys: set[bytes] = set()
        """Keys that we would write or delete, but leave to the other writer, and the one being probed."""
        self._owner = owner
        self._reverts = _Reverts()
        self.disputed: set[bytes] = set()
        """Keys that another writer with our owner id, presumed alive, keeps reverting."""
        # When to probe next (clock), and probes so far in this dispute.
        self._probe_at, self._probes = 0.0, 0
        self._probe: tuple[bytes, float] | None = None
        """The key being probed, and since when (clock)."""

    def withhold(
        self, plan: Plan, changed: Container[bytes], differing: Container[bytes], now: float
    ) -> Plan:
        """``plan`` without changes that would only revert the other writer's.

        ``changed``: keys that other writers changed since the last turn; ``differing``: keys that are not as
        desired in etcd; ``now``: on the clock.
        """
        for change in plan.changes:
            if (
                isinstance(change, Create)
                or change.key not in changed
                or owner_of(change.before) != self._owner
            ):
                continue
            # While any key is disputed, one revert is enough.
            if self._reverts.too_many(change.key, now) or self.disputed:
                self._dispute(change.key, now)
        if not self.disputed:
            return plan
        if self._probe is not None and now >= self._probe[1] + PROBE_LASTS:
            if self._probe[0] not in differing:
                log.warning("etcd: the other writer with owner id %s is gone", self._owner)
                self._reset()
                return plan
            self._probe = None  # etcd did not take it: probe again
        kinds = (Update, Delete) if len(self.disputed) >= MAX_TRACKED else Delete
        held = {one.key for one in plan.changes if one.key in self.disputed or isinstance(one, kinds)}
        if self._probe is None and held and now >= self._probe_at:
            # Preferably a deletion, which a live writer reverts at once.  It may not revert an Update: in a
            # dispute it leaves our values alone, as we leave its.
            self._probe = min(held & plan.deletes or held), now
            held.discard(self._probe[0])
        elif self._probe is None and not held and now >= self._probe_at:
            self._reset()  # disputed keys hold our value
        self.keys = held | ({self._probe[0]} if self._probe is not None else set())
        return plan.without(frozenset(held))

    def _dispute(self, key: bytes, now: float) -> None:
        """Add a key; the first, or one reverted during a probe, also puts off the next probe."""
        if not self.disputed:
            log.error(
                "etcd: another writer with owner id %s reverts our changes, such as %s: nothing is deleted"
                " until it is gone; give each bridge and webhook on one etcd its own --owner-id",
                self._owner,
                key.decode(errors="replace"),
            )
        if not self.disputed or self._probe is not None:
            self._probe_at = now + PROBE_AFTER[min(self._probes, len(PROBE_AFTER) - 1)]
            self._probes, self._probe = self._probes + 1, None
        if len(self.disputed) < MAX_TRACKED:
            self.disputed.add(key)

    def _reset(self) -> None:
        self._reverts.clear()
        self.disputed.clear()
        self.keys = set()
        self._probes, self._probe = 0, None


class Rivals:
    """Keys that a writer with another owner id keeps reverting; the one whose id sorts first keeps them.

    Clusters with one etcd share the reverse zones, and may have the same addresses.  A value that is merely
    left over from another owner is repaired, as any other.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._reverts = _Reverts()
        self._yielded: dict[bytes, tuple[float, float]] = {}
        """Per key: until when (clock) it is left to the rival, and for how many seconds."""

    def yield_to(self, plan: Plan, changed: Container[bytes], now: float) -> Plan:
        """``plan`` with the keys that a rival keeps as contested, instead of their Updates.

        ``changed``: keys that other writers changed since the last turn; ``now``: on the clock.
        """
        contested: set[bytes] = set()
        if len(self._yielded) >= MAX_TRACKED:
            self._yielded = {key: one for key, one in self._yielded.items() if now < one[0] + MAX_YIELD}
        for change in plan.changes:
            key = change.key
            if not isinstance(change, Update) or (key not in changed and key not in self._yielded):
                continue
            if not sorts_first(change.before, self._owner):
                continue
            if key not in self._yielded and len(self._yielded) >= MAX_TRACKED:
                contested.add(key)
                continue
            until, lasted = self._yielded.get(key, (0.0, 0.0))
            if key in changed and now >= until and (self._reverts.too_many(key, now) or lasted):
                lasted = min(lasted * 2, MAX_YIELD) or YIELD_FOR
                until = now + lasted
                self._yielded[key] = until, lasted
            if now < until:
                contested.add(key)
        if not contested:
            return plan
        return msgspec.structs.replace(plan.without(contested), contested=plan.contested | contested)
