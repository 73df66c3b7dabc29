"""What our range in etcd holds: a full read plus our own writes and watch events since.

Nearly all of it is as desired, so only differences are stored.  Our writes apply at once and their echo in
the watch is dropped; other writers' changes are returned for repair.  Only a put is sure to have an echo:
deleting a missing key causes no event, so no echo of a deletion is awaited, and its event counts as foreign.
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from kube2etcd.etcd import changes
from kube2etcd.sync.claims import Claims, EntryMap, Former, FormerGroups


class Mirror(EntryMap):
    """Keys and values of etcd at `revision`; stale while `lost`, until the next full read."""

    def __init__(self, desired: Claims) -> None:
        self.differing: Former = dict.fromkeys(desired)
        """Keys whose value in etcd is not the desired one, with that value; None: etcd lacks the key."""
        self.revision = 0
        self.lost = True
        self._desired = desired
        self._count = 0
        self._echoes: Counter[bytes] = Counter()
        """Number of our puts per key whose echo is still due."""
        self._own: set[int] = set()
        """Revisions of our writes that the watch has not passed yet."""

    def __getitem__(self, key: bytes) -> bytes:
        value = self.differing[key] if key in self.differing else self._desired[key]
        if value is None:
            raise KeyError(key)
        return value

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value."""
        differing = self.differing
        yield from ((key, value) for key, value in self._desired.pairs() if key not in differing)
        yield from ((key, value) for key, value in differing.items() if value is not None)

    def load(self, read: Callable[[changes.Begin], int], ready: Callable[[], object] = tuple) -> set[bytes]:
        """Compare all of etcd with the desired entries; returns the keys whose value differs from before.

        ``read`` is `KeyStore.read`, whose errors propagate.  ``ready`` is called before the first key is
        compared, if there is any.
        """
        differing: Former = {}
        comparison, count = self._desired.compare(), 0

        def begin() -> changes.TakePage:
            nonlocal comparison, count
            differing.clear()
            comparison, count = self._desired.compare(), 0
            return page

        def page(pairs: Iterable[tuple[bytes, bytes]]) -> None:
            nonlocal count
            if not count:
                ready()
            found = dict(pairs)
            count += len(found)
            differing.update(comparison.differing(found))

        revision = read(begin)
        differing.update(dict.fromkeys(comparison.missing()))
        before, self.differing = self.differing, differing
        self._count, self.lost = count, False
        self.caught_up(revision)
        return {
            key
            for key in before.keys() | differing.keys()
            if _value(key, before, self._desired) != _value(key, differing, self._desired)
        }

    def desire(self, former: FormerGroups) -> None:
        """The desired values of these keys are no longer the ``former`` ones; etcd has not changed."""
        if not self.revision:
            return  # the first read compares everything
        for keys in former.values():
            for key, before in keys.items():
                self._record(key, self.differing.pop(key, before))

    def caught_up(self, revision: int) -> None:
        """Everything up to ``revision`` is included; events up to it may still arrive and are skipped."""
        self.revision = revision
        self._echoes.clear()
        self._own.clear()

    def wrote(self, done: Iterable[changes.Change], result: changes.ApplyResult) -> None:
        """Apply our own changes, except those that ``result`` lists as refused."""
        refused = {change.key for change, _ in result.refused}
        # Every revision since is ours, so all echoes can be skipped by revision.
        sole_writer = len(result.own_revisions) == result.revision - self.revision
        for change in done:
            if change.key in refused:
                continue
            self._set(change.key, change.value if isinstance(change, changes.Put) else None)
            if isinstance(change, changes.Put) and not sole_writer:
                self._echoes[change.key] += 1
        if sole_writer:
            self.caught_up(result.revision)
        elif result.skipped:
            self.lost = True
        else:
            self._own |= result.own_revisions

    def filled(self, result: changes.ApplyResult) -> None:
        """An empty etcd was filled with the desired entries, except refused keys and those in `differing`."""
        self._count += result.written
        self.differing.update((change.key, None) for change, _ in result.refused)
        if not result.written:
            return
        if len(result.own_revisions) == result.revision - self.revision:
            self.caught_up(result.revision)
        else:
            self.lost = True  # another writer wrote meanwhile

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
            if own and event.key not in self:
                continue  # our own delete, which `wrote` has applied
            self._set(event.key, event.value)
            touched.add(event.key)
        self._own = {revision for revision in self._own if revision > batch.revision}
        if not self._own:
            self.caught_up(max(self.revision, batch.revision))
        return touched

    def _set(self, key: bytes, value: bytes | None) -> None:
        self._count += (value is not None) - (key in self)
        self._record(key, value)

    def _record(self, key: bytes, value: bytes | None) -> None:
        if value == self._desired.get(key):
            self.differing.pop(key, None)
        else:
            self.differing[key] = value


def _value(key: bytes, differing: Former, desired: Mapping[bytes, bytes]) -> bytes | None:
    return differing[key] if key in differing else desired.get(key)
