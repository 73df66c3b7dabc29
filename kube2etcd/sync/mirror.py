"""A copy of our range in etcd: a snapshot plus our own writes and the watch since.

Our writes apply at once and their echo in the watch is dropped; other writers' changes are returned for
repair.  Only a put is sure to have an echo: deleting a missing key makes no event, so deletions are not
waited for, and their events count like anybody's.  Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kube2etcd.etcd import changes


class Mirror:
    """Keys and values of etcd at `revision`; stale while `lost`."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.revision = 0
        self.lost = True
        self._echoes: Counter[bytes] = Counter()
        self._own: set[int] = set()

    def load(self, snapshot: changes.Snapshot) -> set[bytes]:
        """Replace everything with ``snapshot``; returns the keys whose value differs from before."""
        known, now = self.entries, snapshot.entries
        # Key by key: a set of all keys would be the peak of the process's memory.
        unlike = {key for key, value in now.items() if known.get(key) != value}
        unlike.update(key for key in known if key not in now)
        self.entries = now
        self.revision = snapshot.revision
        self.lost = False
        self._echoes.clear()
        self._own.clear()
        return unlike

    def share(self, desired: Mapping[bytes, bytes]) -> None:
        """Hold what is as ``desired`` as the same objects: a snapshot has brought its own copies of all."""
        for key, value in desired.items():
            held = self.entries.get(key)
            if held is not value and held == value:
                del self.entries[key]
                self.entries[key] = value

    def lose(self) -> None:
        """Mark the copy as stale until the next snapshot."""
        self.lost = True

    def wrote(self, done: Iterable[changes.Change], result: changes.ApplyResult) -> None:
        """Apply our own changes, without the refused ones of ``result``."""
        refused = {change.key for change, _ in result.refused}
        puts: dict[bytes, bytes] = {}
        for change in done:
            if change.key in refused:
                continue
            if isinstance(change, changes.Put):
                puts[change.key] = change.value
            else:
                self.entries.pop(change.key, None)
        self.entries.update(puts)
        if len(result.own_revisions) == result.revision - self.revision:
            # Nobody else wrote: `entries` holds all up to there, and events of it are skipped by revision.
            self.revision = result.revision
            self._echoes.clear()
            self._own.clear()
        else:
            self._own |= result.own_revisions
            self._echoes.update(puts.keys())

    def take(self, batch: changes.WatchBatch) -> set[bytes]:
        """Apply a watch batch; returns the keys that other writers changed."""
        touched: set[bytes] = set()
        for event in batch.events:
            if event.mod_revision <= self.revision:
                continue
            own = event.mod_revision in self._own
            if own and event.value is not None:
                self._echoes[event.key] -= 1
                if self._echoes[event.key] <= 0:
                    del self._echoes[event.key]
                continue
            if self._echoes.get(event.key):
                # Older than our own write, whose echo is still due.
                continue
            if own and event.key not in self.entries:
                continue
            if event.value is None:
                self.entries.pop(event.key, None)
            else:
                self.entries[event.key] = event.value
            touched.add(event.key)
        self._own = {revision for revision in self._own if revision > batch.revision}
        return touched
