"""What etcd holds, as far as we know: a snapshot, our own writes, and the watch since.

Our own writes stand at once; their echo in the watch is no news.  A change by somebody else is, and
is told so that it can be repaired.  Only a put has an echo for certain: deleting what is not there
is no event, so nobody waits for it, and the echo of a deletion counts like anybody's.  Pure: it is
told everything and asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kube2etcd.etcd import changes


class Mirror:
    """Keys and values of etcd at `revision`, or nothing at all while it is `lost`."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.revision = 0
        self.lost = True
        self._echoes: Counter[bytes] = Counter()
        self._own: set[int] = set()

    def load(self, snapshot: changes.Snapshot) -> set[bytes]:
        """Begin anew from ``snapshot``; the keys that are not as they were known until now."""
        known, now = self.entries, snapshot.entries
        # One by one: a set of all keys, for a moment, would be the most that the process ever holds.
        unlike = {key for key, value in now.items() if known.get(key) != value}
        unlike.update(key for key in known if key not in now)
        self.entries = now
        self.revision = snapshot.revision
        self.lost = False
        self._echoes.clear()
        self._own.clear()
        return unlike

    def lose(self) -> None:
        """What we know may be wrong; only a snapshot helps."""
        self.lost = True

    def caught_up(self, revision: int) -> None:
        """`entries` holds everything up to ``revision``; its events may come or not."""
        self.revision = revision
        self._echoes.clear()
        self._own.clear()

    def wrote(self, done: Iterable[changes.Change], result: changes.ApplyResult) -> None:
        """Our own changes were accepted."""
        self._own |= result.own_revisions
        refused = {change.key for change, _ in result.refused}
        for change in done:
            if change.key in refused:
                continue
            if isinstance(change, changes.Put):
                self._echoes[change.key] += 1
                self.entries[change.key] = change.value
            else:
                self.entries.pop(change.key, None)

    def take(self, batch: changes.WatchBatch) -> set[bytes]:
        """Take in what the watch tells; the keys that others changed."""
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
                # Older than our own write, whose echo is still to come.
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
