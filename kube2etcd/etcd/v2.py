"""A key store on etcd's v2 API, which has directories and no transactions.

Additions come before deletions, and a key is deleted only if it is as it was read (``prevIndex``).  A
directory makes its name exist: its visible keys are written before the hidden ones and deleted after them,
and it is removed as soon as it is empty.

A node whose name begins with ``_`` is hidden: parents do not list it and an open watch does not report it,
but it can be read by its path.  So each hidden directory is noted in a visible key before it is filled.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from kube2etcd.errors import EtcdRefused, EtcdUnavailable
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

_C = TypeVar("_C", Put, Delete)

# More than the thousand events in etcd's history.
_OWN_WRITES = 4000
# An index that etcd can never reach.
_NEVER = 2**62


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


class _ChangedError(EtcdRefused):
    """A key to be deleted has changed since it was read."""


_Outcome: TypeAlias = tuple[Change, EtcdRefused | None]
"""A change, and why it was refused; None if it was made."""


class V2Store(KeyStore):
    """Keys in etcd's v2 API."""

    def __init__(self, connection: V2Connection, prefix: bytes) -> None:
        self._connection = connection
        self._tree = Tree(prefix.decode())
        # etcd's index at the last read or write.
        self._seen = 0
        # modifiedIndex of each key read or written.
        self._known: dict[bytes, int] = {}
        # Hidden directories that have a note.
        self._noted: set[str] = set()
        # Directories that may be empty or are being removed; hidden ones that were empty when read.
        self._untidy: set[str] = set()
        self._found_empty: set[str] = set()
        # The indices of our latest writes, with their watch events; those of the current `apply`.
        self._own: dict[int, WatchEvent | None] = {}
        self._made: set[int] = set()
        self._lock = threading.Lock()

    def read(self, begin: Begin) -> int:
        """See `KeyStore`; one page, with listed keys at one index, and hidden ones at that or a later one."""
        # Tidying up must not fail because etcd lost its data, or no read would succeed again.
        self._seen = 0
        for _ in self._delete(()):
            pass
        get = self._connection.get
        # A quorum read, since a lagging member must not decide which keys exist.
        listed = get(self._tree.prefix, recursive="true", quorum="true")

        def hidden(directory: str) -> Reply:
            reply = get(directory, recursive="true")
            if reply.index < listed.index:
                # Another member, which lags.  Not a quorum read, since each adds an entry to etcd's log.
                reply = get(directory, recursive="true", quorum="true")
            return reply.since(listed.index)

        noted = [self._tree.noted(note.key) for note in hidden(self._tree.notes).files()]
        found = [list(reply.files()) for reply in self._connection.together(hidden, noted)]
        nodes = [*listed.files(), *itertools.chain.from_iterable(found)]
        # A bridge was stopped while tidying up.  A read must not write, so the next `apply` finishes it.
        self._found_empty = {directory for directory, inside in zip(noted, found, strict=True) if not inside}
        self._known = {node.key.encode(): node.modified for node in nodes}
        self._noted, self._seen = set(noted), listed.index
        with self._lock:
            # Later writes were lost with etcd's data, and their indices will be reused.
            self._own = {index: event for index, event in self._own.items() if index <= listed.index}
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
        self._untidy |= self._found_empty
        self._found_empty = set()
        self._made.clear()
        written = 0
        refused: list[tuple[Change, str]] = []
        changed: list[_ChangedError] = []
        try:
            for change, fault in self._outcomes(generations):
                if fault is None:
                    written += 1
                    if progress is not None:
                        progress(written)
                elif isinstance(fault, _ChangedError):
                    changed.append(fault)
                else:
                    refused.append((change, str(fault)))
        finally:
            self._seen = max(self._seen, *self._made, 0)
        if changed:
            raise EtcdUnavailable(
                f"{len(changed)} keys in etcd were changed by others while they were to be deleted, first"
                f" {changed[0]}: reading etcd again"
            )
        return ApplyResult(max(self._made, default=0), frozenset(self._made), written, tuple(refused))

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """See `KeyStore`; hidden keys are reported within the timeout of a request, others at once.

        Raises EtcdUnavailable also if others removed a directory, which is one event for all its contents.
        """
        connection, following = self._connection, start_revision
        connection.get(self._tree.prefix).since(following - 1)
        yield WatchBatch(following - 1)
        while not stop.is_set():
            first, events = self._own_since(following)
            if events:
                yield WatchBatch(first - 1, events)
            polling = {"wait": "true", "recursive": "true", "waitIndex": str(first)}
            polled = connection.submit(connection.request, "GET", self._tree.prefix, **polling)
            while not connection.done(polled):
                if stop.is_set():
                    return
            # An etcd that lost its data would wait silently until it reaches that index.
            reply = polled.result().since(first - 1)
            following, events = max(first, reply.index + 1), ()
            # A poll first searches etcd's history of a thousand events, hidden ones included, but then skips
            # hidden ones.  So an event that arrives later only means that the history must be searched again.
            if reply.node is not None and reply.node.modified <= following:
                following = max(first, reply.node.modified + 1)
                events = self._events(reply, reply.node)
            yield WatchBatch(following - 1, events)

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

    # -- watching

    def _own_since(self, index: int) -> tuple[int, tuple[WatchEvent, ...]]:
        """The first index from ``index`` on that is not our own write, and our events before it."""
        events: list[WatchEvent | None] = []
        with self._lock:
            while index in self._own:
                events.append(self._own[index])
                index += 1
        return index, tuple(event for event in events if event is not None)

    def _events(self, reply: Reply, node: Node) -> tuple[WatchEvent, ...]:
        removed = reply.action in ("delete", "expire", "compareAndDelete")
        if node.dir and removed and node.key not in self._untidy and node.modified not in self._own:
            raise EtcdUnavailable(f"the directory {node.key} was removed from etcd: reading etcd again")
        # A directory may have replaced a key.
        was_key = not node.dir or (reply.before is not None and not reply.before.dir)
        if not was_key or node.key.startswith(self._tree.notes + "/"):
            return ()
        value = None if removed or node.dir else node.value.encode()
        return (WatchEvent(node.key.encode(), value, node.modified),)

    # -- writing

    def _outcomes(self, generations: Iterable[Iterable[Batch]]) -> Iterator[_Outcome]:
        """Execute each generation: first all puts, visible keys before hidden ones, then the deletions."""
        for generation in generations:
            batches = tuple(generation)  # it may come as it is made
            puts = [change for batch in batches for change in batch if isinstance(change, Put)]
            for hidden in (False, True):
                some = [one for one in puts if (b"/_" in one.key) == hidden]
                yield from self._connection.together(partial(_outcome, self._put), some)
            for batch in batches:
                yield from self._delete(one for one in batch if isinstance(one, Delete))

    def _put(self, change: Put) -> None:
        path = self._tree.path(change.key)
        directory = parent(path)
        if self._tree.is_hidden(directory) and directory not in self._noted:
            self._write("PUT", self._tree.note(directory), b"")
            self._noted.add(directory)
        self._known[change.key] = self._write("PUT", path, change.value).made

    def _delete(self, deletes: Iterable[Delete]) -> Iterator[_Outcome]:
        """Delete keys, hidden ones first, and each directory as soon as it is empty."""
        inside: dict[str, list[Delete]] = defaultdict(list, {directory: [] for directory in self._untidy})
        for change in deletes:
            inside[parent(change.key.decode(errors="replace"))].append(change)
        for hidden in (True, False):
            some = [one for one in inside.items() if self._tree.is_hidden(one[0]) == hidden]
            for outcomes in self._connection.together(self._clear, some):
                yield from outcomes

    def _clear(self, inside: tuple[str, Sequence[Delete]]) -> list[_Outcome]:
        """Delete keys in a directory, then the directory and its ancestors while they are empty."""
        directory, deletes = inside
        path = directory
        self._untidy.add(directory)
        outcomes = [_outcome(self._delete_key, change) for change in deletes]
        # Otherwise the directory is not empty; removing a value that replaced it would delete that.
        if not any(fault for _, fault in outcomes):
            try:
                while path != self._tree.prefix and self._remove_if_empty(path):
                    path = parent(path)
            except EtcdRefused as error:
                log.info("the empty directory %s stays: %s", path, error)
        self._untidy -= {directory, path}
        return outcomes

    def _delete_key(self, change: Delete) -> None:
        path = self._tree.path(change.key)
        # A key that was not read is not deleted: it is gone, or the watch will report it.
        known = self._known.get(change.key, _NEVER)
        if self._write("DELETE", path, prevIndex=str(known)).code not in (0, NOT_FOUND):
            raise _ChangedError(path)
        self._known.pop(change.key, None)

    def _remove_if_empty(self, directory: str) -> bool:
        """Whether ``directory`` is gone; etcd refuses to remove one that is not empty."""
        self._untidy.add(directory)  # the watch may report the removal before it is answered
        gone = self._write("DELETE", directory, dir="true").code in (0, NOT_FOUND)
        if gone and directory in self._noted:
            self._noted.discard(directory)
            self._write("DELETE", self._tree.note(directory))
        self._untidy.discard(directory)
        return gone

    def _write(self, method: str, path: str, value: bytes | None = None, **params: str) -> Reply:
        """One write, whose watch event is recorded; EtcdUnavailable also if etcd has lost its data."""
        fields = params if value is None else {"value": value}
        reply = self._connection.request(method, path, **fields).since(self._seen)
        if index := reply.made:
            is_key = "dir" not in params and not path.startswith(self._tree.notes + "/")
            with self._lock:
                self._made.add(index)
                self._own[index] = WatchEvent(path.encode(), value, index) if is_key else None
                if len(self._own) > _OWN_WRITES:
                    del self._own[next(iter(self._own))]
        return reply


def _outcome(work: Callable[[_C], None], change: _C) -> _Outcome:
    try:
        work(change)
    except EtcdRefused as error:
        return change, error
    return change, None
