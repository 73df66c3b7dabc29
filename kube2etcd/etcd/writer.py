"""Changes -> transactions, several on their way at once.

One transaction of 128 changes after the other keeps etcd waiting for its disk; eight on their way let
it commit them together.  What must be ordered is put into generations by the caller: the next one
begins when the last transaction of the one before has been answered.

Knows transactions and their answers; must never read keys, never decide what is written, and never
leave a transaction on its way when it returns or raises.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import ApplyResult, Batch, Change, Put
from kube2etcd.etcd.connection import EtcdConnection, Pending
from kube2etcd.etcd.election import Guard
from kube2etcd.etcd.wire import Message, rpc

log = logging.getLogger(__name__)

# So many changes refused one by one and nothing ever accepted: it is not the changes (a role
# without rights, say), and the rest of them need not be tried one by one as well.
_HOPELESS = 64


def transaction(batch: Batch, guard: Guard | None = None) -> Message:
    """The request, to be carried out only under ``guard``.

    Fields are set in place, which is several times faster than making objects.
    """
    request = rpc.TxnRequest()
    if guard is not None:
        request.compare.extend(guard.conditions())
    operations = request.success
    for change in batch:
        if type(change) is Put:
            put = operations.add().request_put
            put.key = change.key
            put.value = change.value
        else:
            operations.add().request_delete_range.key = change.key
    return request


def changed_anything(batch: Batch, answer: Message) -> bool:
    """Whether the transaction made a revision: deleting what is not there makes none."""
    if any(type(change) is Put for change in batch):
        return True
    return any(response.response_delete_range.deleted for response in answer.responses)


def not_back(seen: int, revision: int) -> None:
    """EtcdUnavailable where a request that was sent at revision ``seen`` was answered at an older one."""
    if revision < seen:
        raise EtcdUnavailable(
            f"etcd's revision went back from {seen} to {revision}: it lost its data; read it anew"
        )


class Writer:
    """One call of ``EtcdStore.apply``."""

    def __init__(
        self,
        connection: EtcdConnection,
        max_txn_ops: int,
        in_flight: int,
        progress: Callable[[int], None] | None,
        seen: int,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._connection = connection
        self._limit = max_txn_ops
        self._in_flight = in_flight
        self._progress = progress
        self._revision = 0
        self._own: set[int] = set()
        self._written = 0
        self._refused: list[tuple[Change, str]] = []
        self._seen = seen

    @property
    def result(self) -> ApplyResult:
        """What has been answered so far."""
        return ApplyResult(self._revision, frozenset(self._own), self._written, tuple(self._refused))

    def generation(self, batches: Iterable[Batch]) -> None:
        """Send independent batches and wait for all of them; EtcdUnavailable after the last answer."""
        window: deque[tuple[Batch, Pending, int]] = deque()
        try:
            for batch in batches:
                if not batch:
                    continue
                if len(batch) > self._limit:
                    self._in_parts(batch)
                    continue
                if len(window) >= self._in_flight:
                    self._settle(*window.popleft())
                window.append((batch, self._start(batch), self._seen))
            while window:
                self._settle(*window.popleft())
        finally:
            # After a failure: whatever is on its way is waited for, and comes to nothing for us.
            while window:
                with contextlib.suppress(EtcdError):
                    window.popleft()[1].result()

    def _start(self, batch: Batch) -> Pending:
        return self._connection.start("Txn", transaction(batch, self._guard))

    def _settle(self, batch: Batch, pending: Pending, seen: int) -> None:
        """Wait for one answer and account for it."""
        try:
            answer = pending.result()
        except EtcdRefused as error:
            self._turned_down(batch, error)
            return
        revision = answer.header.revision
        not_back(seen, revision)
        if not answer.succeeded:
            raise EtcdDeposed("another bridge leads by now: etcd has refused what we were about to write")
        self._seen = max(self._seen, revision)
        self._revision = max(self._revision, revision)
        if changed_anything(batch, answer):
            self._own.add(revision)
        self._written += len(batch)
        if self._progress is not None:
            self._progress(self._written)

    def _turned_down(self, batch: Batch, error: EtcdRefused) -> None:
        hopeless = self._written == 0 and len(self._refused) >= _HOPELESS
        if len(batch) == 1 or hopeless:
            self._refused.extend((change, str(error)) for change in batch)
            return
        if "too many operations" in str(error):
            # The server takes fewer than we were told; what is still to come is cut beforehand.
            self._limit = min(self._limit, max(1, len(batch) // 2))
        self._in_parts(batch)

    def _in_parts(self, batch: Batch) -> None:
        """Send the halves of a batch one after the other: what one half breaks, the other does not.

        A batch may replace one name by another, so its writes go before its deletions.
        """
        ordered = sorted(batch, key=lambda change: type(change) is not Put)
        middle = min(self._limit, (len(ordered) + 1) // 2)
        rest = tuple(ordered)
        while rest:
            part, rest = rest[:middle], rest[middle:]
            self._settle(part, self._start(part), self._seen)


def apply(
    connection: EtcdConnection,
    generations: Iterable[Sequence[Batch]],
    max_txn_ops: int,
    in_flight: int,
    progress: Callable[[int], None] | None,
    seen: int,
    guard: Guard | None = None,
) -> ApplyResult:
    """Write all generations, one after the other."""
    writer = Writer(connection, max_txn_ops, in_flight, progress, seen, guard)
    for generation in generations:
        writer.generation(generation)
    for change, reason in writer.result.refused[:1]:
        log.warning("etcd refused %d changes, first %r: %s", len(writer.result.refused), change.key, reason)
    return writer.result
