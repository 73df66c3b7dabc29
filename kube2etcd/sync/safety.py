"""Holds mass deletions (guarantee G3), and yields to a second writer with our owner id (guarantee G13).

A plan that deletes many of our names, or any after an empty list, may stem from a wrong answer of the API
server: its deletions are held until a second listing confirms them.  A key that keeps being reverted under
our owner id is written by a second bridge: we stop writing it, and report that.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Final

from kube2etcd.sync.plan import Create, Delete, Plan, Update, to_hold
from skydns_compat.message import owner_of

log = logging.getLogger(__name__)

RELIST_AFTER: Final = (5.0, 10.0, 20.0)
"""Seconds after the first request for a second listing until it is repeated."""

TOLERATED_REVERTS: Final = 2
"""Reverts of one key within `DISPUTE_WINDOW` seconds; one more makes it disputed."""

DISPUTE_WINDOW: Final = 30.0
"""Seconds; two writers revert each other within milliseconds."""

PROBE_AFTER: Final = (15.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds until one disputed key is written again, to probe whether the other writer is gone; the last
repeats."""

PROBE_LASTS: Final = 3.0
"""Seconds for which the probed key must keep our value before the other writer counts as gone."""

MAX_TRACKED: Final = 10_000
"""Limit of keys whose reverts are counted, and of keys remembered as disputed; with so many disputed, every
Update and Delete is withheld."""


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
            why = "a list came empty" if empty else "so many at once"
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
        """Keys that we would write or delete, but leave to the other writer."""
        self._owner = owner
        self._reverts: dict[bytes, list[float]] = {}
        self.disputed: set[bytes] = set()
        """Keys that another writer with our owner id, presumed alive, keeps reverting."""
        # When to probe next (clock), and probes so far in this dispute.
        self._probe_at, self._probes = 0.0, 0
        self._probe: tuple[bytes, float] | None = None
        """The key being probed, and since when (clock)."""

    def withhold(self, plan: Plan, changed: Container[bytes], now: float) -> Plan:
        """``plan`` without changes that would only revert the other writer's.

        ``changed``: keys that other writers changed since the last turn; ``now``: on the clock.
        """
        for change in plan.changes:
            if (
                isinstance(change, Create)
                or change.key not in changed
                or owner_of(change.before) != self._owner
            ):
                continue
            if self._reverted_too_often(change.key, now):
                self._dispute(change.key, now)
        if not self.disputed:
            return plan
        if self._probe is not None and now >= self._probe[1] + PROBE_LASTS:
            log.warning("etcd: the other writer with owner id %s is gone", self._owner)
            self._reset()
            return plan
        kinds = (Update, Delete) if len(self.disputed) >= MAX_TRACKED else Delete
        held = {one.key for one in plan.changes if one.key in self.disputed or isinstance(one, kinds)}
        if self._probe is None and held and now >= self._probe_at:
            # Preferably a deletion, which a live writer reverts at once.  It may not revert an Update: in a
            # dispute it leaves our values alone, as we leave its.
            self._probe = min(held & plan.deletes or held), now
            held.discard(self._probe[0])
        elif self._probe is None and not held and now >= self._probe_at:
            self._reset()  # disputed keys hold our value
        self.keys = held
        return plan.without(frozenset(held))

    def _reverted_too_often(self, key: bytes, now: float) -> bool:
        """Count a revert of ``key``; returns whether it is disputed: one is enough while any key is."""
        times = [at for at in self._reverts.pop(key, []) if at > now - DISPUTE_WINDOW] + [now]
        while (
            self._reverts and self._reverts[oldest := next(iter(self._reverts))][-1] <= now - DISPUTE_WINDOW
        ):
            del self._reverts[oldest]
        # Keep the first keys, not the latest: if more keys than fit are reverted in turn, each would be
        # forgotten before its next revert.
        if len(self._reverts) < MAX_TRACKED:
            self._reverts[key] = times
        return len(times) > TOLERATED_REVERTS or bool(self.disputed)

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
