"""The keys under one prefix of etcd's v2 API, as a store: read all, change some, be told of changes.

The same face as `kube2etcd.etcd.store`, over an API without transactions.  So: additions before
deletions, every change a comparison with what was read (``prevIndex``, ``prevExist``), and
directories that have become empty are removed, since an empty one is a name that still exists.

Knows keys and values as bytes; must never look into a value, decide what is written, or touch a key
that a change does not name, but for its own notes of hidden directories.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from kube2etcd.changes import ApplyResult, Batch, Change, Delete, Put, Snapshot, WatchBatch
from kube2etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import v2_failures, v2_watcher
from kube2etcd.etcd.v2_http import IN_FLIGHT, Answer, Pending, V2Connection
from kube2etcd.etcd.v2_nodes import Tree

log = logging.getLogger(__name__)

# A key that others write at the same time is tried so many times.
_TRIES = 5
# No index is negative.
_NOT_OURS = -1
# So many refused and nothing ever accepted: it is not the changes.
_HOPELESS = 64

_GONE = v2_failures.NOT_FOUND
_T = TypeVar("_T")


class V2Store:
    """Keys in etcd.  One thread reads and writes, another may watch."""

    def __init__(self, connection: V2Connection, prefixes: Sequence[bytes]) -> None:
        if len(prefixes) != 1 or not prefixes[0].strip(b"/"):
            raise ValueError("a store of v2 keys has one prefix, which is not the root")
        self._connection = connection
        self._tree = Tree(prefixes[0].decode())
        # Where each key was changed last, as far as we have read or written it.
        self._known: dict[bytes, int] = {}
        self._noted: set[str] = set()
        # Directories that may be empty, and those that we removed: the watch tells them as well.
        self._untidy: set[str] = set()
        self._leftover: set[str] = set()
        self._removed: dict[str, int | None] = {}
        self._seen = 0

    def snapshot(self) -> Snapshot:
        """All keys under the prefix; the listed ones at one index, the hidden ones as they are then."""
        self._tidy()
        known: dict[bytes, int] = {}
        entries: dict[bytes, bytes] = {}
        # With a quorum: a member that is behind must not say what there is.
        answer = self._connection.get(self._tree.prefix, recursive="true", quorum="true")
        self._take(answer, entries, known)
        notes = self._connection.get(self._tree.notes, recursive="true")
        self._noted.clear()
        if notes.reply.node is not None:
            self._noted = {self._tree.noted(note.key) for note in notes.reply.node.files()}

        def read(directory: str) -> Callable[[], Answer]:
            return lambda: self._connection.get(directory, recursive="true")

        for directory, found in self._together((one, read(one)) for one in sorted(self._noted)):
            if isinstance(found, EtcdRefused):
                raise found  # an error is never an empty directory
            assert isinstance(found, Answer)
            if not self._take(found, entries, known):
                # Somebody was stopped while tidying up.  Reading must not write, so that is for later.
                self._leftover.add(directory)
        self._known = known
        self._seen = answer.index
        # Whoever watches from here on is not told of them any more.
        self._removed.clear()
        return Snapshot(answer.index, entries)

    def apply(
        self, generations: Iterable[Sequence[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """Write: of each generation first what is put, then what is deleted, key by key.

        What etcd will never accept is in the result.  EtcdUnavailable: some of it may be written; a key
        that was changed by others since it was read is not deleted, and ends with this error as well.
        """
        writing = _Writing(progress)
        self._untidy |= self._leftover
        self._leftover.clear()
        try:
            for generation in generations:
                changes = [change for batch in generation for change in batch]
                puts = [change for change in changes if isinstance(change, Put)]
                deletes = [change for change in changes if isinstance(change, Delete)]
                self._write(puts, writing)
                self._write(deletes, writing)
                writing.revisions(self._tidy())
        finally:
            self._seen = max(self._seen, writing.revision)
        if writing.conflicts:
            raise EtcdUnavailable(
                f"{len(writing.conflicts)} keys in etcd were changed by others while they were to be deleted,"
                f" first {writing.conflicts[0].decode(errors='replace')}: read it anew"
            )
        for change, reason in writing.refused[:1]:
            log.warning("etcd refused %d changes, first %r: %s", len(writing.refused), change.key, reason)
        return writing.result()

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """Changes of listed keys from ``start_revision`` on, until ``stop`` is set or an error ends it.

        EtcdCompacted: begin with a new snapshot; EtcdUnavailable: the same, since much may have changed.
        """
        return v2_watcher.watch(self._connection, self._tree, start_revision, stop, self._is_own)

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

    def _write(self, changes: Sequence[Change], writing: _Writing) -> None:
        seen = max(self._seen, writing.revision)

        def work(change: Change) -> Callable[[], int]:
            return lambda: self._one(change, seen)

        done = 0
        for change, found in self._together((change, work(change)) for change in changes):
            writing.settle(change, found)
            done += 1
            if writing.hopeless:
                break
        else:
            return
        reason = writing.refused[-1][1]
        writing.refused += [(change, reason) for change in changes[done:]]

    def _one(self, change: Change, seen: int) -> int:
        """Carry out one change; the index it got, 0 where nothing was to be done."""
        path = self._tree.path(change.key)
        if path is None:
            raise EtcdRefused("the v2 API cannot hold such a key where it can be listed")
        if isinstance(change, Put):
            return self._put(change, path, seen)
        return self._delete(change, path, seen)

    def _put(self, change: Put, path: str, seen: int) -> int:
        self._note(path)
        for _ in range(_TRIES):
            index = self._known.get(change.key)
            given = {"prevExist": "false"} if index is None else {"prevIndex": str(index)}
            answer = self._checked(self._connection.put(path, change.value, **given), seen)
            node = answer.reply.node
            if not answer.code and node is not None:
                self._known[change.key] = node.modified
                return node.modified
            if answer.code not in (_GONE, v2_failures.COMPARE_FAILED, v2_failures.EXISTS):
                raise _refused(answer)
            # Wanted is wanted, whatever stands there: look what that is, and replace it.
            if self._look(change.key, path) is _There.DIRECTORY:
                raise EtcdRefused(f"{path} is a directory, which cannot hold a value")
        raise EtcdUnavailable(f"{path} is written by others all the time: who else writes there?")

    def _delete(self, change: Delete, path: str, seen: int) -> int:
        if change.key not in self._known:
            # Learned from the watch, or gone: nothing is deleted that was not read.
            if self._look(change.key, path) is not _There.NOTHING:
                raise _ChangedError(path)
        else:
            given = {"prevIndex": str(self._known[change.key])}
            answer = self._checked(self._connection.delete(path, **given), seen)
            if answer.code not in (0, _GONE):
                raise _ChangedError(path)
            self._known.pop(change.key, None)
            self._leave_behind(path)
            if not answer.code and answer.reply.node is not None:
                return answer.reply.node.modified
        self._leave_behind(path)
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

    def _note(self, path: str) -> None:
        """Note a hidden directory before anything is in it."""
        directory = self._tree.hidden(path)
        if directory is not None and directory not in self._noted:
            answer = self._connection.put(self._tree.note(directory), b"")
            if answer.code:
                raise _refused(answer)
            self._noted.add(directory)

    def _checked(self, answer: Answer, seen: int) -> Answer:
        if answer.index < seen:
            raise EtcdUnavailable(
                f"etcd's index went back from {seen} to {answer.index}: it lost its data; read it anew"
            )
        return answer

    # -- directories ------------------------------------------------------------------------------

    def _leave_behind(self, path: str) -> None:
        directory = self._tree.above(path)
        if directory is not None:
            self._untidy.add(directory)

    def _tidy(self) -> list[int]:
        """Remove directories that have become empty, the deepest first; the indices that made."""
        made: list[int] = []
        while self._untidy:
            depth = max(directory.count("/") for directory in self._untidy)
            level = sorted(one for one in self._untidy if one.count("/") == depth)

            def work(directory: str) -> Callable[[], int]:
                return lambda: self._rmdir(directory)

            for directory, found in self._together((one, work(one)) for one in level):
                if isinstance(found, EtcdRefused):
                    log.info("the empty directory %s stays: %s", directory, found)
                elif isinstance(found, int) and found:
                    made.append(found)
                self._untidy.discard(directory)
        return made

    def _rmdir(self, directory: str) -> int:
        """Remove a directory if it is empty, and have the one above looked at; 0 where it stays."""
        hidden = self._tree.hidden(f"{directory}/.") is not None
        # Before it is sent: the watch may tell it before we are answered.
        self._removed[directory] = None
        answer = self._connection.delete(directory, dir="true")
        node = answer.reply.node
        index = node.modified if node is not None and not answer.code else 0
        if not index:
            self._removed.pop(directory, None)
        else:
            self._removed[directory] = index
        if index or answer.code == _GONE:
            self._leave_behind(directory)
            if hidden and directory in self._noted:
                self._connection.delete(self._tree.note(directory))
                self._noted.discard(directory)
        return index

    def _is_own(self, directory: str, index: int) -> bool:
        """Whether the removal of a directory was ours."""
        # Asked by the watch's thread, while the other one may be about to tell how it went.
        removed = self._removed.get(directory, _NOT_OURS)
        if removed == index:
            self._removed.pop(directory, None)
        return removed in (None, index)

    # -- several requests at once -------------------------------------------------------------------

    def _together(
        self, work: Iterable[tuple[_T, Callable[[], Answer | int]]]
    ) -> Iterator[tuple[_T, Answer | int | EtcdRefused]]:
        """Do all of it, several at once; what came of each, in order.

        The first error that is not about the request itself is raised, when nothing is on its way any more.
        """
        window: deque[tuple[_T, Pending]] = deque()
        try:
            for thing, what in work:
                if len(window) >= IN_FLIGHT:
                    yield _settled(*window.popleft())
                window.append((thing, self._connection.start(what)))
            while window:
                yield _settled(*window.popleft())
        finally:
            while window:
                with contextlib.suppress(EtcdError):
                    window.popleft()[1].result()


def _settled(thing: _T, pending: Pending) -> tuple[_T, Answer | int | EtcdRefused]:
    try:
        return thing, pending.result()
    except EtcdRefused as error:
        return thing, error


def _refused(answer: Answer) -> EtcdError:
    reply = answer.reply
    return v2_failures.meaning("its server", "PUT", 400, reply.code, reply.message, reply.cause)


class _There(enum.Enum):
    """What stands at a path."""

    NOTHING = enum.auto()
    VALUE = enum.auto()
    DIRECTORY = enum.auto()


class _ChangedError(EtcdRefused):
    """What was to be deleted is no longer what was read."""


class _Writing:
    """What has come of one call of `V2Store.apply` so far."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        self.revision = 0
        self.conflicts: list[bytes] = []
        self.refused: list[tuple[Change, str]] = []
        self._progress = progress
        self._own: set[int] = set()
        self._written = 0

    @property
    def hopeless(self) -> bool:
        """Whether it is not the changes that are refused, but we."""
        return self._written == 0 and len(self.refused) >= _HOPELESS

    def settle(self, change: Change, found: Answer | int | EtcdRefused) -> None:
        """Account for one change."""
        if isinstance(found, _ChangedError):
            self.conflicts.append(change.key)
        elif isinstance(found, EtcdRefused):
            self.refused.append((change, str(found)))
        else:
            self._written += 1
            if isinstance(found, int) and found:
                self.revisions([found])
            if self._progress is not None:
                self._progress(self._written)

    def revisions(self, made: Sequence[int]) -> None:
        """Indices that we made."""
        self._own.update(made)
        self.revision = max([self.revision, *made])

    def result(self) -> ApplyResult:
        """For the caller."""
        return ApplyResult(self.revision, frozenset(self._own), self._written, tuple(self.refused))
