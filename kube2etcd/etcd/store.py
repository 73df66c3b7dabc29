"""A key store on etcd's v3 API: a snapshot at one revision, concurrent transactions, a watch."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

import msgspec

from kube2etcd.errors import EtcdCompacted, EtcdDeposed, EtcdError, EtcdRefused, EtcdSilent
from kube2etcd.etcd import watch
from kube2etcd.etcd.changes import (
    ApplyResult,
    Batch,
    Begin,
    Change,
    Delete,
    KeyStore,
    Put,
    TakePage,
    WatchBatch,
)
from kube2etcd.etcd.client import EtcdConnection, Pending
from kube2etcd.etcd.election import Election, Guard
from kube2etcd.etcd.failures import went_back
from kube2etcd.etcd.ranges import PAGE, Patience, RangePage, Splits, successor, walk
from kube2etcd.etcd.servers import try_each
from kube2etcd.etcd.wire import Message, rpc

log = logging.getLogger(__name__)

#: Transactions in flight: enough to keep etcd busy while the next batch of units is derived.
IN_FLIGHT: Final = 32
# Attempts to read a snapshot whose revision is compacted meanwhile.
_SNAPSHOT_TRIES = 3
# After this many single refusals and no success, stop dividing batches: the cause is then a missing
# permission, not single changes.
_GIVE_UP_AFTER = 64
# Parts in which a refused batch is sent again, to find the changes at fault.
_PARTS = 16
# Changes written in one call after which the read buffer of an etcd before 3.5 is reset, and the seconds to
# wait before that, for other writes to end.
_BULK = 2000
_QUIET = 0.5
# A version that no key can ever reach.
_NEVER = 2**62

_Walk = Generator[tuple[bytes, bytes], RangePage, None]


class EtcdStore(KeyStore):
    """Keys in etcd's v3 API."""

    def __init__(
        self,
        connection: EtcdConnection,
        prefix: bytes,
        max_txn_ops: int = 128,
        in_flight: int = IN_FLIGHT,
        page: int = PAGE,
        election: Election | None = None,
    ) -> None:
        """At most ``max_txn_ops`` changes per transaction, ``in_flight`` at once, ``page`` keys per read.

        With an ``election``, it writes only while leading.
        """
        self._connection = connection
        self._prefix = prefix
        self._max_txn_ops = max_txn_ops
        self._in_flight = in_flight
        self._election = election
        self._patience = Patience(page, 2, connection.timeout)
        self._splits = Splits(page)
        # The highest revision seen; the response to a later request cannot be below it.
        self._seen = 0

    def read(self, begin: Begin) -> int:
        """See `KeyStore`; at one revision."""
        self._seen = try_each(len(self._connection.endpoints), lambda: self._read_uncompacted(begin))
        return self._seen

    def apply(
        self, generations: Iterable[Iterable[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """See `KeyStore`; one transaction per batch.

        A batch that etcd refuses is divided until only the offending changes are refused.
        """
        guard = None if self._election is None else self._election.guard()
        writer = _Writer(self._connection, self._max_txn_ops, self._in_flight, progress, self._seen, guard)
        try:
            for generation in generations:
                writer.generation(generation)
                writer.retry_given_up()
        except EtcdDeposed:
            if self._election is not None:
                self._election.deposed()
            raise
        result = ApplyResult(writer.revision, frozenset(writer.own), writer.written, tuple(writer.refused))
        self._seen = max(self._seen, result.revision)
        if result.written >= _BULK:
            timer = threading.Timer(_QUIET, _reset_read_buffer, (self._connection,))
            timer.name, timer.daemon = "etcd-nudge", True
            timer.start()
        return result

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """See `KeyStore`."""
        return watch.watch(self._connection, self._prefix, start_revision, stop)

    def probe(self) -> None:
        """See `KeyStore`."""
        seen = self._seen
        request = rpc.RangeRequest(key=self._prefix, count_only=True)
        revision = self._connection.call("Range", request).header.revision
        if revision < seen:
            raise went_back(seen, revision)

    def may_write(self, key: bytes) -> None:
        """See `KeyStore`; for any key.

        etcd checks the permissions of both branches of a transaction before its condition, which no key can
        meet here.
        """
        for change in (Put(key, b""), Delete(key)):
            request = transaction((change,))
            request.compare.add(result="EQUAL", target="VERSION", key=key, version=_NEVER)
            self._connection.call("Txn", request)

    # -- reading

    def _read_uncompacted(self, begin: Begin) -> int:
        for _ in range(_SNAPSHOT_TRIES - 1):
            with contextlib.suppress(EtcdCompacted):
                return self._read_all(begin())
        return self._read_all(begin())

    def _read_all(self, take: TakePage) -> int:
        patience = self._patience
        slowest = 0.0
        pages: list[RangePage] = []
        pieces = self._splits.pieces(self._prefix, successor(self._prefix))
        walks = deque(walk(low, high, patience.page) for low, high in pieces)
        window: deque[tuple[_Walk, Pending, float]] = deque()
        # The first response gives the revision at which all others are read, so it is awaited alone.
        revision, allowed = 0, 1

        def ask(steps: _Walk, read: RangePage | None) -> None:
            """Pass ``read`` to a walk and send its next request, if any."""
            with contextlib.suppress(StopIteration):
                low, high = next(steps) if read is None else steps.send(read)
                request = rpc.RangeRequest(key=low, range_end=high, limit=patience.page, revision=revision)
                window.append((steps, self._connection.start("Range", request), time.monotonic()))

        while walks or window:
            while walks and len(window) < allowed:
                ask(walks.popleft(), None)
            steps, pending, asked = window.popleft()
            try:
                answer = pending.result()
            except EtcdSilent:
                patience.lost()
                raise
            slowest = max(slowest, time.monotonic() - asked)
            revision, allowed = revision or answer.header.revision, patience.in_flight
            keys = answer.kvs
            page = RangePage(b"", b"", 0, False)
            if keys:
                page = RangePage(keys[0].key, keys[-1].key, len(keys), answer.more)
            # Send the next request first, so that the server works while we unpack.
            ask(steps, page)
            if keys:
                pages.append(page)
                take((kv.key, kv.value) for kv in keys)
        self._splits.remember(pages)
        patience.came(slowest)
        return revision


class _Writer(msgspec.Struct):
    """One call of `EtcdStore.apply`."""

    connection: EtcdConnection
    max_ops: int
    """Changes per transaction; lowered to the server's limit when it refuses more."""
    in_flight: int
    progress: Callable[[int], None] | None
    seen: int
    """The highest revision in any response so far: a lower one means that etcd has lost data."""
    guard: Guard | None
    revision: int = 0
    own: set[int] = set()
    """Revisions that these transactions created."""
    written: int = 0
    """Number of changes accepted."""
    refused: list[tuple[Change, str]] = []
    given_up: list[tuple[Batch, EtcdRefused]] = []
    """Refused batches that were not divided, since every change so far was refused."""

    def generation(self, batches: Iterable[Batch]) -> None:
        """Send independent batches, `in_flight` at once.

        Each commit waits for etcd's disk, and batches come in bursts.
        """
        window: deque[tuple[Batch, Pending, int]] = deque()
        try:
            for batch in batches:
                if not batch:
                    continue
                if len(batch) > self.max_ops:
                    self._send_in_parts(batch, self.max_ops)
                    continue
                if len(window) >= self.in_flight:
                    self._settle(*window.popleft())
                request = transaction(batch, self.guard)
                window.append((batch, self.connection.start("Txn", request), self.seen))
            while window:
                self._settle(*window.popleft())
        finally:
            # After a failure, leave nothing in flight.
            while window:
                with contextlib.suppress(EtcdError):
                    window.popleft()[1].result()

    def _settle(self, batch: Batch, pending: Pending, seen: int) -> None:
        """Wait for the response to ``batch``, sent when ``seen`` was the highest revision, and count it.

        :raises EtcdDeposed: the guard did not hold.
        """
        try:
            answer = pending.result()
        except EtcdRefused as error:
            self._on_refused(batch, error)
            return
        revision = answer.header.revision
        if revision < seen:
            raise went_back(seen, revision)
        if not answer.succeeded:
            raise EtcdDeposed("another bridge leads now, so etcd rejected our write")
        self.seen = max(self.seen, revision)
        self.revision = max(self.revision, revision)
        deleted = (response.response_delete_range.deleted for response in answer.responses)
        if any(isinstance(change, Put) for change in batch) or any(deleted):
            self.own.add(revision)  # deleting only missing keys creates no revision
        self.written += len(batch)
        self._report_progress()

    def _report_progress(self) -> None:
        if self.progress is not None:
            self.progress(self.written)

    def _on_refused(self, batch: Batch, error: EtcdRefused) -> None:
        """Record a single refused change; send a larger batch again in parts, to find the culprits."""
        if len(batch) == 1:
            self._refuse(batch, error)
        elif self.written == 0 and len(self.refused) >= _GIVE_UP_AFTER:
            self.given_up.append((batch, error))
        elif "too many operations" in str(error):
            # The server's limit is lower than ours: split later batches in advance.
            self.max_ops = min(self.max_ops, max(1, len(batch) // 2))
            self._send_in_parts(batch, self.max_ops)
        else:
            self._send_in_parts(batch, max(1, len(batch) // _PARTS))

    def retry_given_up(self) -> None:
        """Retry the batches given up, change by change; if nothing was written since, only one at random.

        A permission may cover just a few of the keys.
        """
        random.shuffle(self.given_up)
        for number, (batch, error) in enumerate(self.given_up):
            if number == 0 or self.written:
                self._send_in_parts(batch, 1)
            else:
                self._refuse(batch, error)
        self.given_up.clear()

    def _refuse(self, batch: Batch, error: EtcdRefused) -> None:
        self.refused.extend((change, str(error)) for change in batch)
        self._report_progress()

    def _send_in_parts(self, batch: Batch, size: int) -> None:
        """Send a batch in parts of at most ``size`` changes, concurrently: many keys may be refused.

        A batch may replace one name by another, so its puts go before its deletes.
        """
        for kind in (Put, Delete):
            some = [change for change in batch if isinstance(change, kind)]
            self.generation(tuple(some[at : at + size]) for at in range(0, len(some), size))


def transaction(batch: Batch, guard: Guard | None = None) -> Message:
    """The TxnRequest that executes ``batch`` if ``guard`` holds, in the order of the batch.

    Sets fields in place, which is several times faster than building objects.
    """
    request = rpc.TxnRequest()
    if guard is not None:
        request.compare.extend(guard.conditions())
    add = request.success.add
    for change in batch:
        if isinstance(change, Put):
            put = add().request_put
            put.key = change.key
            put.value = change.value
        else:
            add().request_delete_range.key = change.key
    return request


def _reset_read_buffer(connection: EtcdConnection) -> None:
    """Make an etcd before 3.5 drop its buffer of recent writes.

    For every read it copies that buffer, which never shrinks: after a bulk load DNS would be five to ten
    times slower until etcd restarts (etcd-io/etcd#12529).  Hashing the backend resets the buffer.
    """
    try:
        version = connection.call("Status", rpc.StatusRequest()).version
        if re.match(r"3\.[0-4]\.", version):
            connection.call("Hash", rpc.HashRequest())
            log.debug("etcd %s: dropped its buffer of recent writes", version)
    except EtcdError as error:
        log.debug("etcd keeps its buffer of recent writes: %s", error)
