"""A key store on etcd's v2 API, which has directories and no transactions.

Additions come before deletions, and a key is deleted only if it is as it was read (``prevIndex``).  A
directory makes its name exist: its visible keys are written before the hidden ones and deleted after them,
and it is removed as soon as it is empty.

A node whose name begins with ``_`` is hidden: parents do not list it and an open watch does not report it,
but it can be read by its path.  So each hidden directory is noted in a visible key before it is filled.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from kube2etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import (
    ApplyResult,
    Batch,
    Begin,
    Change,
    Delete,
    KeyStore,
    Put,
    WatchBatch,
    WatchEvent,
)
from kube2etcd.etcd.v2_client import COMPARE_FAILED, NOT_FOUND, Node, Reply, V2Connection

log = logging.getLogger(__name__)

# An index that etcd can never reach.
_NEVER = 2**62
# What etcd answers when it has deleted something, and when there is nothing to delete.
_GONE = (0, NOT_FOUND)


class Tree:
    """The paths below one prefix such as ``/skydns``."""

    #: Where hidden directories are noted, below the prefix.  Hidden itself, so that no DNS server sees it.
    NOTES = "_kube2etcd/hidden"
    #: Replaces the slash in the name of a note; it occurs in no DNS name.
    SLASH = "|"

    def __init__(self, prefix: str) -> None:
        self.prefix = "/" + prefix.strip("/")
        self.notes = f"{self.prefix}/{self.NOTES}"
        segment = r"(?!\.\.?(?:/|$))[^/|\ufffd]+"
        self._listed = re.compile(rf"{re.escape(self.prefix)}/(?!{self.NOTES}/)(?:{segment}/)*(?!_){segment}")

    def path(self, key: bytes) -> str:
        """The path of ``key``; EtcdRefused if the tree cannot hold it, or no listing could show it."""
        path = key.decode(errors="replace")
        if not self._listed.fullmatch(path):
            raise EtcdRefused("the v2 API cannot hold such a key where it can be listed")
        return path

    def is_hidden(self, path: str) -> bool:
        """Whether no listing and no open watch shows ``path``."""
        return "/_" in path[len(self.prefix) :]

    def note(self, directory: str) -> str:
        """The path of the note about a hidden directory."""
        # The name begins with the slash's replacement, since a leading `_` would hide the note itself.
        return f"{self.notes}/{directory[len(self.prefix) :].replace('/', self.SLASH)}"

    def noted(self, note: str) -> str:
        """The directory that a note stands for."""
        return self.prefix + note.rpartition("/")[2].replace(self.SLASH, "/")


def parent(path: str) -> str:
    """The directory of ``path``."""
    return path.rpartition("/")[0]


_Outcome: TypeAlias = tuple[Change, EtcdError | None]
"""A change, and why it was not made: etcd refuses it, or others changed the key that it deletes."""


class V2Store(KeyStore):
    """Keys in etcd's v2 API."""

    def __init__(self, connection: V2Connection, prefix: bytes) -> None:
        self._connection = connection
        self._tree = Tree(prefix.decode())
        # etcd's index at the last read or write: what happened until then was read, or is in an ApplyResult.
        self._seen = 0
        # modifiedIndex of each key read or written.
        self._known: dict[bytes, int] = {}
        # Hidden directories that have a note.
        self._noted: set[str] = set()
        # Directories that may be empty.
        self._untidy: set[str] = set()
        # The indices of the writes of one `apply`, and the lock that it holds.
        self._made: set[int] = set()
        self._writing = threading.Lock()

    def read(self, begin: Begin) -> int:
        """See `KeyStore`; one page, with listed keys at one index, and hidden ones at that or a later one."""
        get = self._connection.get
        # A quorum read, since a lagging member must not decide which keys exist.
        listed = get(self._tree.prefix, recursive="true", quorum="true")

        def hidden(directory: str) -> list[Node]:
            # Not a quorum read, since each adds an entry to etcd's log.
            return list(get(directory, recursive="true").since(listed.index).files())

        noted = {self._tree.noted(note.key) for note in hidden(self._tree.notes)}
        nodes = [*listed.files(), *chain.from_iterable(self._connection.together(hidden, noted))]
        # A bridge was stopped while it tidied up.  A read must not write, so the next `apply` finishes it.
        filled = {path for node in nodes for path in (node.key, parent(node.key))}
        self._untidy = (self._untidy | noted) - filled
        self._known = {node.key.encode(): node.modified for node in nodes}
        self._noted, self._seen = noted, listed.index
        take = begin()
        if nodes:
            take([(node.key.encode(), node.value.encode()) for node in nodes])
        return listed.index

    def apply(
        self, generations: Iterable[Iterable[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """See `KeyStore`, but key by key.

        Raises EtcdUnavailable also if others changed a key that was to be deleted; the key then stays.
        """
        written = 0
        refused: list[tuple[Change, str]] = []
        changed: EtcdError | None = None
        with self._writing:
            self._made.clear()
            try:
                for change, fault in self._outcomes(generations):
                    if fault is None:
                        written += 1
                        if progress is not None:
                            progress(written)
                    elif isinstance(fault, EtcdRefused):
                        refused.append((change, str(fault)))
                    else:
                        changed = fault
            finally:
                self._seen = max(self._seen, *self._made, 0)
        if changed is not None:
            raise changed
        made = frozenset(self._made)
        return ApplyResult(max(made, default=0), made, written, tuple(refused), skipped=bool(made))

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """See `KeyStore`; hidden keys are reported within the timeout of a request, others at once.

        Waits while we write and then skips everything up to our last write, since a bulk load is more than
        etcd's history of a thousand events.
        Raises EtcdUnavailable also if others removed a directory, which is one event for all its contents.
        """
        batch = WatchBatch(start_revision - 1)
        self._connection.get(self._tree.prefix).since(batch.revision)
        while not stop.is_set():
            yield batch
            with self._writing:
                known = max(batch.revision, self._seen)
            reply = self._connection.poll(self._tree.prefix, known + 1, stop)
            if reply is None:
                return
            # An etcd that lost its data would wait silently until it reaches that index.
            reply.since(known)
            with self._writing:
                batch = self._batch(max(known, reply.index), reply)

    def probe(self) -> None:
        """See `KeyStore`."""
        seen = self._seen
        self._connection.get(self._tree.prefix, quorum="true").since(seen)

    def may_write(self, key: bytes) -> None:
        """See `KeyStore`."""
        path = key.decode()
        for method in ("PUT", "DELETE"):
            reply = self._connection.request(method, path, prevIndex=str(_NEVER))
            if reply.code not in (NOT_FOUND, COMPARE_FAILED):
                raise EtcdRefused(f"it answers {reply.message or 'as if it had been done'} ({path})")

    def _batch(self, searched: int, reply: Reply) -> WatchBatch:
        """What a poll tells that began when etcd's index was ``searched``."""
        node = reply.node
        # A poll first searches etcd's history of a thousand events, hidden ones included, but then skips
        # hidden ones.  So an event that arrives later only means that the history must be searched again.
        if node is None or node.modified > searched + 1:
            return WatchBatch(max(searched, self._seen))
        if node.modified <= self._seen:
            return WatchBatch(self._seen)
        removed = reply.action in ("delete", "expire", "compareAndDelete")
        if node.dir and removed:
            raise EtcdUnavailable(f"the directory {node.key} was removed from etcd: reading etcd again")
        # A directory may have replaced a key.
        was_key = not node.dir or (reply.before is not None and not reply.before.dir)
        if not was_key or node.key.startswith(self._tree.notes + "/"):
            return WatchBatch(node.modified)
        value = None if removed or node.dir else node.value.encode()
        return WatchBatch(node.modified, (WatchEvent(node.key.encode(), value, node.modified),))

    # -- writing

    def _outcomes(self, generations: Iterable[Iterable[Batch]]) -> Iterator[_Outcome]:
        """Execute each generation: visible puts, hidden puts, hidden deletions, visible deletions."""
        together = self._connection.together
        for generation in generations:
            puts: dict[bool, list[Change]] = {False: [], True: []}
            inside: dict[str, list[Change]] = defaultdict(list, {path: [] for path in self._untidy})
            for change in chain.from_iterable(generation):  # it may come as it is made
                directory = parent(change.key.decode(errors="replace"))
                if isinstance(change, Put):
                    puts[self._tree.is_hidden(directory)].append(change)
                else:
                    inside[directory].append(change)
            for hidden in (False, True):
                yield from together(self._outcome, puts[hidden])
            self._untidy.update(inside)
            for hidden in (True, False):
                some = [one for one in inside.items() if self._tree.is_hidden(one[0]) == hidden]
                for outcomes in together(self._clear, some):
                    yield from outcomes
            self._untidy.clear()

    def _outcome(self, change: Change) -> _Outcome:
        try:
            path = self._tree.path(change.key)
            if isinstance(change, Delete):
                # A key that was not read is not deleted: it is gone, or the watch will report it.
                known = str(self._known.get(change.key, _NEVER))
                if self._write("DELETE", path, prevIndex=known).code not in _GONE:
                    why = f"{path} was changed by others while it was to be deleted: reading etcd again"
                    return change, EtcdUnavailable(why)
                self._known.pop(change.key, None)
            else:
                directory = parent(path)
                if self._tree.is_hidden(directory) and directory not in self._noted:
                    self._write("PUT", self._tree.note(directory), value=b"")
                    self._noted.add(directory)
                self._known[change.key] = self._write("PUT", path, value=change.value).made
        except EtcdRefused as error:
            return change, error
        return change, None

    def _clear(self, inside: tuple[str, Sequence[Change]]) -> list[_Outcome]:
        """Delete keys in a directory, then the directory and its ancestors while they are empty."""
        path, deletes = inside
        outcomes = [self._outcome(change) for change in deletes]
        # After a fault it is not empty; removing a value that replaced it would delete that.
        if any(fault for _, fault in outcomes):
            return outcomes
        try:
            # etcd refuses to remove a directory that is not empty
            while path != self._tree.prefix and self._write("DELETE", path, dir="true").code in _GONE:
                if path in self._noted:
                    self._write("DELETE", self._tree.note(path))
                    self._noted.discard(path)
                path = parent(path)
        except EtcdRefused as error:
            log.info("the empty directory %s stays: %s", path, error)
        return outcomes

    def _write(self, method: str, path: str, **fields: str | bytes) -> Reply:
        """One write, whose index is recorded; EtcdUnavailable also if etcd has lost its data."""
        reply = self._connection.request(method, path, **fields).since(self._seen)
        if reply.made:
            self._made.add(reply.made)
        return reply
