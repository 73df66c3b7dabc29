"""The keys under some prefixes, as a store: read all, change some, be told of changes.

The one face of etcd's v3 API to the rest of the program.  Knows keys and values as bytes; must never
look into a value, decide what is written, or touch a key that a change does not name.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from kube2etcd.errors import (
    EtcdCompacted,
    EtcdDeposed,
    EtcdNoSpace,
    EtcdSilent,
    EtcdUnauthenticated,
    EtcdUnavailable,
)
from kube2etcd.etcd import watch, writer
from kube2etcd.etcd.changes import ApplyResult, Batch, Delete, Put, Snapshot, WatchBatch, WatchEvent
from kube2etcd.etcd.connection import EtcdConnection, Pending
from kube2etcd.etcd.election import Election
from kube2etcd.etcd.ranges import PAGE, Page, Patience, Splits, distinct, successor, walk
from kube2etcd.etcd.wire import rpc

__all__ = [
    "ApplyResult",
    "Batch",
    "Delete",
    "EtcdStore",
    "Put",
    "Snapshot",
    "WatchBatch",
    "WatchEvent",
]

log = logging.getLogger(__name__)

# A snapshot whose revision was compacted away under it is begun anew so many times.
_SNAPSHOT_TRIES = 3

_Walk = Generator[tuple[bytes, bytes], Page, None]


class EtcdStore:
    """Keys in etcd.  One thread reads and writes, another may watch."""

    def __init__(
        self,
        connection: EtcdConnection,
        prefixes: Sequence[bytes],
        max_txn_ops: int = 128,
        in_flight: int = 8,
        page: int = PAGE,
        election: Election | None = None,
    ) -> None:
        """With an ``election`` it writes only as long as that is won."""
        if not prefixes or not all(prefix.strip(b"\xff") for prefix in prefixes):
            raise ValueError("a store needs prefixes, and none of them may be empty")
        self._connection = connection
        self._prefixes = distinct(prefixes)
        self._max_txn_ops = max_txn_ops
        self._in_flight = in_flight
        self._election = election
        self._patience = Patience(page, in_flight, connection.settings.timeout)
        self._splits = Splits(page)
        # The highest revision known; an answer to something sent later cannot be below it.
        self._seen = 0

    def snapshot(self) -> Snapshot:
        """All keys under the prefixes at one revision."""
        tries = _SNAPSHOT_TRIES
        others = len(self._connection.endpoints) - 1
        while True:
            try:
                snapshot = self._read_all()
            except EtcdCompacted:
                tries -= 1
                if not tries:
                    raise
            except (EtcdUnauthenticated, EtcdNoSpace):
                raise
            except EtcdUnavailable as error:
                if isinstance(error, EtcdSilent):
                    self._patience.lost()
                others -= 1
                if others < 0:
                    raise
                log.info("%s", error)
            else:
                self._seen = snapshot.revision
                return snapshot

    def apply(
        self, generations: Iterable[Sequence[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """Write batches, one transaction each.

        Batches of one generation are independent and on their way together; a generation begins when
        the one before is done.  A batch that etcd refuses is cut until only the culprits are left;
        they are in the result.  EtcdUnavailable: some of it may be written; nothing is on its way any
        more, but a server that hung may still carry out what it has received, so read it anew, and watch.
        EtcdDeposed: the same, and another one writes now.
        """
        guard = None if self._election is None else self._election.guard()
        try:
            result = writer.apply(
                self._connection, generations, self._max_txn_ops, self._in_flight, progress, self._seen, guard
            )
        except EtcdDeposed:
            if self._election is not None:
                self._election.deposed()
            raise
        self._seen = max(self._seen, result.revision)
        return result

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """Changes from ``start_revision`` on, until ``stop`` is set or an error ends it.

        The first batch is empty and says that the watch stands.  EtcdCompacted: begin with a new
        snapshot; EtcdUnavailable: watch again from behind the last batch.
        """
        return watch.watch(self._connection, self._prefixes, start_revision, stop)

    def probe(self) -> None:
        """One cheap question, from any thread.

        EtcdUnavailable: etcd is away, or has lost its data since it was last read or written.
        """
        seen = self._seen
        request = rpc.RangeRequest(key=self._prefixes[0], count_only=True)
        writer.not_back(seen, self._connection.call("Range", request).header.revision)

    def _read_all(self) -> Snapshot:
        patience = self._patience
        slowest = 0.0
        entries: dict[bytes, bytes] = {}
        pages: list[Page] = []
        revision = 0
        waiting: deque[tuple[_Walk, tuple[bytes, bytes]]] = deque()
        for prefix in self._prefixes:
            for low, high in self._splits.pieces(prefix, successor(prefix)):
                steps = walk(low, high, patience.page)
                waiting.append((steps, next(steps)))
        window: deque[tuple[_Walk, Pending, float]] = deque()
        # The first answer says the revision at which all others are read.
        allowed = 1
        while waiting or window:
            while waiting and len(window) < allowed:
                steps, (low, high) = waiting.popleft()
                window.append((steps, self._ask(low, high, revision), time.monotonic()))
            steps, pending, asked = window.popleft()
            answer = pending.result()
            slowest = max(slowest, time.monotonic() - asked)
            revision = revision or answer.header.revision
            allowed = patience.in_flight
            keys = answer.kvs
            page = Page(b"", b"", 0, False)
            if keys:
                page = Page(keys[0].key, keys[-1].key, len(keys), answer.more)
            # The next question first, so that the server works while we unpack.
            with contextlib.suppress(StopIteration):
                low, high = steps.send(page)
                window.append((steps, self._ask(low, high, revision), time.monotonic()))
            if page.count:
                pages.append(page)
                entries.update((kv.key, kv.value) for kv in keys)
        self._splits.remember(pages)
        patience.came(slowest)
        return Snapshot(revision, entries)

    def _ask(self, low: bytes, high: bytes, revision: int) -> Pending:
        page = self._patience.page
        request = rpc.RangeRequest(key=low, range_end=high, limit=page, revision=revision)
        return self._connection.start("Range", request)
