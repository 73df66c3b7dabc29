"""The keys under one prefix of etcd's v2 API, as a store: read all, change some, be told of changes.

The same face as `kube2etcd.etcd.store`, over an API without transactions.  So: additions before
deletions, every change a comparison with what was read (``prevIndex``, ``prevExist``), and
directories that have become empty are removed, since an empty one is a name that still exists.

Knows keys and values as bytes; must never look into a value, decide what is written, or touch a key
that a change does not name, but for its own notes of hidden directories.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from kube2etcd.errors import EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import v2_failures, v2_watcher
from kube2etcd.etcd.changes import ApplyResult, Batch, Change, Delete, Put, Snapshot, WatchBatch
from kube2etcd.etcd.v2_account import Account, ChangedError
from kube2etcd.etcd.v2_directories import Directories
from kube2etcd.etcd.v2_http import Answer, V2Connection
from kube2etcd.etcd.v2_nodes import Tree

log = logging.getLogger(__name__)

# A key that others write at the same time is tried so many times.
_TRIES = 5

_GONE = v2_failures.NOT_FOUND


class V2Store:
    """Keys in etcd.  One thread reads and writes, another may watch."""

    def __init__(self, connection: V2Connection, prefixes: Sequence[bytes]) -> None:
        if len(prefixes) != 1 or not prefixes[0].strip(b"/"):
            raise ValueError("a store of v2 keys has one prefix, which is not the root")
        self._connection = connection
        self._tree = Tree(prefixes[0].decode())
        # Where each key was changed last, as far as we have read or written it.
        self._known: dict[bytes, int] = {}
        self._directories = Directories(connection, self._tree)
        self._seen = 0

    def snapshot(self) -> Snapshot:
        """All keys under the prefix: the listed ones at one index, the hidden ones then or later."""
        self._directories.tidy()
        known: dict[bytes, int] = {}
        entries: dict[bytes, bytes] = {}
        # With a quorum: a member that is behind must not say what there is.
        answer = self._connection.get(self._tree.prefix, recursive="true", quorum="true")
        self._take(answer, entries, known)
        hidden = self._directories.read(answer.index)

        def read(directory: str) -> Callable[[], Answer]:
            return lambda: self._connection.get_since(answer.index, directory)

        for directory, found in self._connection.workers.together((one, read(one)) for one in hidden):
            if isinstance(found, EtcdRefused):
                raise found  # an error is never an empty directory
            if not self._take(found, entries, known):
                # Somebody was stopped while tidying up.
                self._directories.left_over(directory)
        self._known = known
        self._seen = answer.index
        self._directories.forget_removed()
        return Snapshot(answer.index, entries)

    def apply(
        self, generations: Iterable[Sequence[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """Write: of each generation first what is put, then what is deleted, key by key.

        What etcd will never accept is in the result.  EtcdUnavailable: some of it may be written; a key
        that was changed by others since it was read is not deleted, and ends with this error as well.
        """
        account = Account(progress)
        self._directories.look_at_left_over()
        try:
            for generation in generations:
                changes = [change for batch in generation for change in batch]
                puts = [change for change in changes if isinstance(change, Put)]
                deletes = [change for change in changes if isinstance(change, Delete)]
                self._write(puts, account)
                self._write(deletes, account)
                account.revisions(self._directories.tidy())
        finally:
            self._seen = max(self._seen, account.revision)
        result = account.result()
        for change, reason in account.refused[:1]:
            log.warning("etcd refused %d changes, first %r: %s", len(account.refused), change.key, reason)
        return result

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """Changes of listed keys from ``start_revision`` on, until ``stop`` is set or an error ends it.

        EtcdCompacted: begin with a new snapshot; EtcdUnavailable: the same, since much may have changed.
        """
        return v2_watcher.watch(self._connection, self._tree, start_revision, stop, self._directories.is_own)

    def probe(self) -> None:
        """One cheap question, from any thread.

        EtcdUnavailable: etcd is away, or has lost its data since it was last read or written.
        """
        seen = self._seen
        self._connection.get(self._tree.prefix, quorum="true").not_back(seen)

    # -- reading ----------------------------------------------------------------------------------

    def _take(self, answer: Answer, entries: dict[bytes, bytes], known: dict[bytes, int]) -> bool:
        """Take in what an answer lists; whether that is anything."""
        before = len(known)
        if answer.reply.node is not None:
            for node in answer.reply.node.files():
                key = node.key.encode()
                entries[key] = node.value.encode()
                known[key] = node.modified
        return len(known) > before

    # -- writing ----------------------------------------------------------------------------------

    def _write(self, changes: Sequence[Change], account: Account) -> None:
        seen = max(self._seen, account.revision)

        def work(change: Change) -> Callable[[], int]:
            return lambda: self._one(change, seen)

        done = 0
        for change, found in self._connection.workers.together((change, work(change)) for change in changes):
            account.settle(change, found)
            done += 1
            if account.hopeless:
                break
        else:
            return
        reason = account.refused[-1][1]
        account.refused += [(change, reason) for change in changes[done:]]

    def _one(self, change: Change, seen: int) -> int:
        """Carry out one change; the index it got, 0 where nothing was to be done."""
        path = self._tree.path(change.key)
        if path is None:
            raise EtcdRefused("the v2 API cannot hold such a key where it can be listed")
        if isinstance(change, Put):
            return self._put(change, path, seen)
        return self._delete(change, path, seen)

    def _put(self, change: Put, path: str, seen: int) -> int:
        self._directories.note(path)
        for _ in range(_TRIES):
            index = self._known.get(change.key)
            given = {"prevExist": "false"} if index is None else {"prevIndex": str(index)}
            answer = self._checked(self._connection.put(path, change.value, **given), seen)
            node = answer.reply.node
            if not answer.code and node is not None:
                self._known[change.key] = node.modified
                return node.modified
            if answer.code not in (_GONE, v2_failures.COMPARE_FAILED, v2_failures.EXISTS):
                raise answer.refusal()
            # Wanted is wanted, whatever stands there: look what that is, and replace it.
            if self._look(change.key, path) is _There.DIRECTORY:
                raise EtcdRefused(f"{path} is a directory, which cannot hold a value")
        raise EtcdUnavailable(f"{path} is written by others all the time: who else writes there?")

    def _delete(self, change: Delete, path: str, seen: int) -> int:
        if change.key not in self._known:
            # Learned from the watch, or gone: nothing is deleted that was not read.
            if self._look(change.key, path) is not _There.NOTHING:
                raise ChangedError(path)
        else:
            given = {"prevIndex": str(self._known[change.key])}
            answer = self._checked(self._connection.delete(path, **given), seen)
            if answer.code not in (0, _GONE):
                raise ChangedError(path)
            self._known.pop(change.key, None)
            self._directories.leave_behind(path)
            if not answer.code and answer.reply.node is not None:
                return answer.reply.node.modified
        self._directories.leave_behind(path)
        return 0

    def _look(self, key: bytes, path: str) -> _There:
        """Read one key anew."""
        node = self._connection.get(path, quorum="true").reply.node
        self._known.pop(key, None)
        if node is None:
            return _There.NOTHING
        if node.dir:
            return _There.DIRECTORY
        self._known[key] = node.modified
        return _There.VALUE

    def _checked(self, answer: Answer, seen: int) -> Answer:
        answer.not_back(seen)
        return answer


class _There(enum.Enum):
    """What stands at a path."""

    NOTHING = enum.auto()
    VALUE = enum.auto()
    DIRECTORY = enum.auto()
