"""A store of keys on etcd's v2 API, which has directories and no transactions.

Additions go before deletions, and every change compares with what was read (``prevIndex``, ``prevExist``).
A directory is a name that exists: it comes with the first key that a listing of it shows, and is removed
right after the last.

A node whose name begins with ``_`` is in no listing of the directories above it and in no open watch;
whoever has its path can read it.  So each hidden directory is noted in a visible key before anything is in
it.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from msgspec import structs

from kube2etcd.errors import EtcdCompacted, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import (
    ApplyResult,
    Batch,
    Change,
    Delete,
    Put,
    ServerHealth,
    Snapshot,
    WatchBatch,
    WatchEvent,
)
from kube2etcd.etcd.settings import EtcdSettings
from kube2etcd.etcd.v2_client import COMPARE_FAILED, EXISTS, NOT_FOUND, Node, Reply, V2Connection

log = logging.getLogger(__name__)

# Attempts at a key that others write at the same time.
_TRIES = 5
# After so many refusals and nothing accepted it is not the changes (a missing right, say); the rest is not
# tried.
_HOPELESS = 64
# Seconds between looks whether the watch is to stop.
_TICK = 0.1
# A later index than etcd can ever have.
_NEVER = 2**62


class Tree:
    """The paths below one prefix such as ``/skydns``."""

    #: Below the prefix: where hidden directories are noted.  Hidden itself, so that no reader meets it.
    NOTES = "_kube2etcd/hidden"
    #: Stands for the slash in the name of a note; no DNS name has it.
    SLASH = "|"

    def __init__(self, prefix: str) -> None:
        self.prefix = "/" + prefix.strip("/")
        self.notes = f"{self.prefix}/{self.NOTES}"

    def path(self, key: bytes) -> str | None:
        """The path of ``key``; None where the tree cannot hold it, or no listing could show it."""
        try:
            path = key.decode()
        except UnicodeDecodeError:
            return None
        segments = path.split("/")[1:]
        odd = any(segment in ("", ".", "..") or self.SLASH in segment for segment in segments)
        if odd or segments[-1].startswith("_") or not path.startswith(self.prefix + "/"):
            return None
        return None if path.startswith(self.notes + "/") else path

    def is_hidden(self, path: str) -> bool:
        """Whether no listing and no open watch shows ``path``."""
        return "/_" in path[len(self.prefix) :]

    def hidden_directory(self, path: str) -> str | None:
        """The directory that ``path`` is in, where that is hidden."""
        directory = path.rpartition("/")[0]
        return directory if self.is_hidden(directory) else None

    def note(self, directory: str) -> str:
        """The path of the note about a hidden directory."""
        # It begins with a slash's stand-in, since a first segment with `_` would hide the note itself.
        return f"{self.notes}/{directory[len(self.prefix) :].replace('/', self.SLASH)}"

    def noted(self, note: str) -> str:
        """The directory that a note is about."""
        return self.prefix + note.rpartition("/")[2].replace(self.SLASH, "/")

    def above(self, path: str) -> list[str]:
        """The directories that ``path`` is in, the nearest first, without the prefix, which stays."""
        found = []
        while len(path := path.rpartition("/")[0]) > len(self.prefix):
            found.append(path)
        return found


class _ChangedError(EtcdRefused):
    """What was to be deleted is no longer what was read."""


@dataclass(slots=True)
class _Tally:
    """What became of the changes so far."""

    progress: Callable[[int], None] | None = None
    own: set[int] = field(default_factory=set)
    written: int = 0
    refused: list[tuple[Change, str]] = field(default_factory=list)
    conflicts: list[bytes] = field(default_factory=list)

    def add(self, change: Change, outcome: int | EtcdRefused) -> None:
        """``outcome``: the change's index, 0 where there was nothing to do."""
        if isinstance(outcome, _ChangedError):
            self.conflicts.append(change.key)
        elif isinstance(outcome, EtcdRefused):
            self.refused.append((change, str(outcome)))
        else:
            self.written += 1
            self.own |= {outcome} - {0}
            if self.progress is not None:
                self.progress(self.written)


class V2Store:
    """Keys in etcd.  One thread reads and writes, another may watch."""

    def __init__(self, connection: V2Connection, prefixes: Sequence[bytes]) -> None:
        if len(prefixes) != 1 or not prefixes[0].strip(b"/"):
            raise ValueError("a store of v2 keys has one prefix, which is not the root")
        self._connection = connection
        self._tree = Tree(prefixes[0].decode())
        # modifiedIndex of each key, as far as we have read or written it.
        self._known: dict[bytes, int] = {}
        # Hidden directories that are noted; directories that may be empty; hidden ones that were found empty.
        self._noted: set[str] = set()
        self._untidy: set[str] = set()
        self._found_empty: set[str] = set()
        self._seen = 0

    def snapshot(self) -> Snapshot:
        """All keys under the prefix: the listed ones at one index, the hidden ones then or later."""
        self._delete_all((), self._seen, _Tally())
        known: dict[bytes, int] = {}
        entries: dict[bytes, bytes] = {}

        def take(reply: Reply) -> bool:
            before = len(known)
            for node in reply.node.files() if reply.node is not None else ():
                key = node.key.encode()
                entries[key], known[key] = node.value.encode(), node.modified
            return len(known) > before

        # A quorum read: a member that lags must not say what there is.
        listed = self._connection.get(self._tree.prefix, recursive="true", quorum="true")
        take(listed)
        read = functools.partial(self._connection.get_since, listed.index)
        notes = read(self._tree.notes).node
        self._noted = {self._tree.noted(note.key) for note in notes.files()} if notes is not None else set()
        jobs = ((one, functools.partial(read, one)) for one in sorted(self._noted))
        for directory, found in self._connection.together(jobs):
            if isinstance(found, EtcdRefused):
                raise found  # an error is never an empty directory
            if not take(found):
                # A bridge was stopped while it tidied up.  Reading must not write, so the next `apply` does.
                self._found_empty.add(directory)
        self._known, self._seen = known, listed.index
        return Snapshot(listed.index, entries)

    def apply(
        self, generations: Iterable[Iterable[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """Write key by key: in each generation first all puts, of these first what a listing shows.

        What etcd will never accept is in the result.  EtcdUnavailable: some of it may be written; also where
        others changed a key that was to be deleted, which then stays.
        """
        self._untidy |= self._found_empty
        self._found_empty.clear()
        seen, tally = self._seen, _Tally(progress)
        try:
            for generation in generations:
                batches = tuple(generation)  # it may come as it is made
                puts = [change for batch in batches for change in batch if isinstance(change, Put)]
                self._put_all([one for one in puts if b"/_" not in one.key], seen, tally)
                self._put_all([one for one in puts if b"/_" in one.key], seen, tally)
                for batch in batches:
                    self._delete_all([one for one in batch if isinstance(one, Delete)], seen, tally)
        finally:
            self._seen = max(self._seen, *tally.own, 0)
        own, conflicts, refused = tally.own, tally.conflicts, tally.refused
        if conflicts:
            raise EtcdUnavailable(
                f"{len(conflicts)} keys in etcd were changed by others while they were to be deleted,"
                f" first {conflicts[0].decode(errors='replace')}: reading etcd again"
            )
        for change, reason in refused[:1]:
            log.warning("etcd refused %d changes, first %r: %s", len(refused), change.key, reason)
        return ApplyResult(max(own, default=0), frozenset(own), tally.written, tuple(refused))

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """Changes of listed keys from ``start_revision`` on, until ``stop`` is set or an error ends it.

        The first batch is empty: the watch stands.  EtcdCompacted, EtcdUnavailable: begin with a new
        snapshot; so it is also where others changed something hidden or removed a directory.
        """
        connection, following = self._connection, start_revision
        _not_lost(following, connection.get(self._tree.prefix).index)
        yield WatchBatch(following - 1)
        while not stop.is_set():
            first, events = connection.own.since(following)
            if events:
                yield WatchBatch(first - 1, tuple(events))
            polled = connection.submit(functools.partial(connection.poll, self._tree.prefix, first))
            while not connection.done(polled, _TICK):
                if stop.is_set():
                    return
            reply = polled.result()
            _not_lost(first, reply.index)
            following, event = max(first, reply.index + 1), None
            # A poll looks through etcd's memory of a thousand events first, hidden ones included; what comes
            # later passes hidden ones over.  So a later event only says that it is time to look through the
            # memory again.
            if reply.node is not None and reply.node.modified <= following:
                following = max(first, reply.node.modified + 1)
                event = self._event(reply, reply.node)
            yield WatchBatch(following - 1, (event,) if event is not None else ())

    def probe(self) -> None:
        """One cheap request, from any thread.

        EtcdUnavailable: etcd is away, or has lost its data since it was last read or written.
        """
        seen = self._seen
        self._connection.get(self._tree.prefix, quorum="true").not_older_than(seen)

    def may_write(self, key: bytes) -> None:
        """Whether ``key`` could be written and deleted; changes nothing.

        :raises EtcdError: it could not; the message names the reason.
        """
        path, never = key.decode(), str(_NEVER)
        for reply in (
            self._connection.put(path, b"", prevIndex=never),
            self._connection.delete(path, prevIndex=never),
        ):
            if reply.code not in (NOT_FOUND, COMPARE_FAILED):
                raise EtcdRefused(f"it answers {reply.message or 'as if it had been done'} ({path})")

    def _event(self, reply: Reply, node: Node) -> WatchEvent | None:
        index, key = node.modified, node.key.encode()
        removed = reply.action in ("delete", "expire", "compareAndDelete")
        hidden = self._tree.is_hidden(node.key)
        if not hidden and not node.dir:
            return WatchEvent(key, None if removed else node.value.encode(), index)
        if (hidden or removed) and not self._connection.own.made(index, self._connection.settings.timeout):
            # Of a directory there is one event for all that was in it.
            what = (
                f"{node.key}, which is hidden, was changed by others"
                if hidden
                else f"the directory {node.key} was removed from etcd"
            )
            raise EtcdUnavailable(f"{what}: reading etcd again")
        if not hidden and reply.before is not None and not reply.before.dir:
            # A directory in the place of a key.
            return WatchEvent(key, None, index)
        return None

    # -- writing

    def _path(self, change: Change) -> str:
        path = self._tree.path(change.key)
        if path is None:
            raise EtcdRefused("the v2 API cannot hold such a key where it can be listed")
        return path

    def _put_all(self, puts: Sequence[Put], seen: int, tally: _Tally) -> None:
        jobs = ((one, functools.partial(self._put, one, seen)) for one in puts)
        for number, (change, outcome) in enumerate(self._connection.together(jobs), 1):
            tally.add(change, outcome)
            if len(tally.refused) >= _HOPELESS and not tally.written:
                tally.refused += [(one, str(outcome)) for one in puts[number:]]
                break

    def _delete_all(self, deletes: Sequence[Delete], seen: int, tally: _Tally) -> None:
        """Delete keys, what is hidden first, and each directory as soon as nothing is left in it."""
        nodes: dict[str, Delete | None] = {}
        for change in deletes:
            try:
                path = self._path(change)
            except EtcdRefused as error:
                tally.add(change, error)
            else:
                nodes[path] = change
                self._untidy.update(self._tree.above(path)[:1])
        for directory in self._untidy:
            nodes |= dict.fromkeys((directory, *self._tree.above(directory)))
        gone: dict[str, Future[bool]] = {path: Future() for path in nodes}
        inside: dict[str, list[Future[bool]]] = {}
        for path, future in gone.items():
            inside.setdefault(path.rpartition("/")[0], []).append(future)

        def work(path: str) -> int:
            index, left = 0, True
            try:
                key = nodes[path]
                if key is not None:
                    index, left = self._delete(key, path, seen), False
                # What is inside has its turn before, so it is under way or done.
                elif sum(one.result() for one in inside.get(path, ())) or path in self._untidy:
                    index, left = self._remove_if_empty(path)
                return index
            finally:
                gone[path].set_result(not left)

        inmost_first = sorted(nodes, key=lambda path: path.split("/"), reverse=True)
        for hidden in (True, False):
            jobs = [
                (one, functools.partial(work, one))
                for one in inmost_first
                if self._tree.is_hidden(one) == hidden
            ]
            for path, outcome in self._connection.together(jobs):
                if (deleted := nodes[path]) is not None:
                    tally.add(deleted, outcome)
                    continue
                if isinstance(outcome, EtcdRefused):
                    log.info("the empty directory %s stays: %s", path, outcome)
                else:
                    tally.own |= {outcome} - {0}
                self._untidy.discard(path)

    def _put(self, change: Put, seen: int) -> int:
        path = self._path(change)
        self._note(path)
        event = None if self._tree.is_hidden(path) else WatchEvent(change.key, change.value, 0)
        for _ in range(_TRIES):
            index = self._known.get(change.key)
            condition = {"prevExist": "false"} if index is None else {"prevIndex": str(index)}
            reply = self._connection.put(path, change.value, event, **condition)
            reply.not_older_than(seen)
            if reply.made:
                self._known[change.key] = reply.made
                return reply.made
            if reply.code not in (NOT_FOUND, COMPARE_FAILED, EXISTS):
                raise reply.refusal()
            # It is wanted, whatever stands there now: read that and replace it.
            node = self._read(change.key, path)
            if node is not None and node.dir:
                raise EtcdRefused(f"{path} is a directory, which cannot hold a value")
        raise EtcdUnavailable(f"{path} is written by others all the time: who else writes there?")

    def _delete(self, change: Delete, path: str, seen: int) -> int:
        if change.key not in self._known:
            # Known from the watch only, or gone: nothing is deleted that was not read.
            if self._read(change.key, path) is not None:
                raise _ChangedError(path)
            return 0
        event = None if self._tree.is_hidden(path) else WatchEvent(change.key, None, 0)
        reply = self._connection.delete(path, event, prevIndex=str(self._known[change.key]))
        reply.not_older_than(seen)
        if reply.code not in (0, NOT_FOUND):
            raise _ChangedError(path)
        self._known.pop(change.key, None)
        return reply.made

    def _read(self, key: bytes, path: str) -> Node | None:
        """Read one key again."""
        node = self._connection.get(path, quorum="true").node
        self._known.pop(key, None)
        if node is not None and not node.dir:
            self._known[key] = node.modified
        return node

    # -- directories

    def _note(self, path: str) -> None:
        """Note the directory of ``path``, where it is hidden, before anything is in it."""
        directory = self._tree.hidden_directory(path)
        if directory is not None and directory not in self._noted:
            reply = self._connection.put(self._tree.note(directory), b"")
            if reply.code:
                raise reply.refusal()
            self._noted.add(directory)

    def _remove_if_empty(self, directory: str) -> tuple[int, bool]:
        """The index of the removal, 0 for none, and whether the directory is still there."""
        reply = self._connection.delete(directory, dir="true")  # etcd refuses where anything is in it
        if reply.code not in (0, NOT_FOUND):
            return 0, True
        if directory in self._noted:
            self._connection.delete(self._tree.note(directory))
            self._noted.discard(directory)
        return reply.made, False


def _not_lost(following: int, at: int) -> None:
    """EtcdCompacted where etcd, at index ``at``, has not got as far as we have: it would wait in silence."""
    if at < following - 1:
        raise EtcdCompacted(
            f"etcd's index went back from {following - 1} to {at}, its data is lost: read a new snapshot"
        )


def health(settings: EtcdSettings, server: str) -> ServerHealth:
    """Ask one of the servers, and no other; the v2 API tells no sizes and knows no alarms.

    :raises EtcdError: it was not reached, does not accept us, or has no leader.
    """
    with V2Connection(structs.replace(settings, servers=(server,))) as connection:
        connection.get("/", quorum="true")
        return ServerHealth(connection.version(), 0, 0, True)
