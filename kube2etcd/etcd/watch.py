"""A watch on a range of keys: complete and in order, or ended by an error that says why.

etcd3's own watcher loses watches silently and spins while etcd is away, so this uses the stream directly.
It does not resume, since the consumer knows the last revision it handled.  A silent server is asked for
progress, and the stream ends as EtcdUnavailable if it does not answer.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from kube2etcd.errors import EtcdCompacted, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import WatchBatch, WatchEvent
from kube2etcd.etcd.client import RPC_ERRORS, EtcdConnection
from kube2etcd.etcd.failures import is_stale_token
from kube2etcd.etcd.ranges import successor
from kube2etcd.etcd.wire import Message, rpc

# Seconds between checks of the stream.
_TICK = 0.1


class _Stream:
    """A stream, with a thread that ends it on ``stop`` or when the server is silent."""

    def __init__(self, connection: EtcdConnection, create: Message, stop: threading.Event) -> None:
        self._connection, self._stop = connection, stop
        self._closed = self._silent = False
        # When the consumer began to wait; infinite while it is busy, since the server is not silent then.
        self._waits_since = self._opened = time.monotonic()
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._requests.put(create)
        self._channel = connection.current()
        self._token = self._channel.token
        try:
            self._call = self._channel.stream(iter(self._requests.get, None))
        except ValueError as error:  # another thread has just closed this channel
            raise connection.failed(self._channel, "Watch", error) from error
        threading.Thread(target=self._guard, name="etcd-watch", daemon=True).start()

    def __iter__(self) -> Iterator[Message]:
        """The server's responses, until ``stop`` is set."""
        where = f"etcd at {self._channel.endpoint}"
        try:
            for answer in self._call:
                self._waits_since = math.inf
                yield answer
                self._waits_since = time.monotonic()
        except RPC_ERRORS as error:
            if self._silent:
                timeout = self._connection.timeout
                raise EtcdUnavailable(f"{where} is silent for {timeout:g} s (Watch): watch again") from None
            if not self._stop.is_set():
                raise self._connection.failed(self._channel, "Watch", error) from error
        if not self._stop.is_set():
            raise EtcdUnavailable(f"{where} ended the watch: watch again")

    def renew(self) -> bool:
        """Replace the stale token with which the stream was opened."""
        return self._connection.renew(self._channel, self._token)

    def close(self) -> None:
        """End the stream; its thread ends soon after."""
        self._closed = True
        self._call.cancel()

    def _guard(self) -> None:
        asked = self._opened  # creating the watch is a request too
        try:
            while not self._stop.wait(_TICK) and not self._closed:
                now, since = time.monotonic(), self._waits_since
                if now - max(since, asked) <= self._connection.timeout:
                    continue
                if asked >= since:
                    self._silent = True
                    self._connection.leave(self._channel)
                    return
                asked = now
                self._requests.put(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
        finally:
            self._requests.put(None)
            self._call.cancel()


def watch(
    connection: EtcdConnection, prefix: bytes, start_revision: int, stop: threading.Event
) -> Iterator[WatchBatch]:
    """Every change of the keys under ``prefix`` from ``start_revision`` on.

    The first batch has no events: the watch is established.  Ends within 0.2 s of ``stop``, except while
    connecting.
    """
    create = rpc.WatchRequest()
    create.create_request.key = prefix
    create.create_request.range_end = successor(prefix)
    # Starts one revision early, filtered out below: since 3.5.8 etcd reports no progress for a watch that
    # begins in the future, as at the revision after the last known one.
    create.create_request.start_revision = max(1, start_revision - 1)
    create.create_request.progress_notify = True
    renewed = False
    while not stop.is_set():
        with closing(_Stream(connection, create, stop)) as stream:
            for answer in stream:
                if answer.canceled and not answer.compact_revision:
                    # Older servers report a stale token as "permission denied".
                    reason = answer.cancel_reason
                    stale = "permission denied" in reason or is_stale_token(reason)
                    if stale and not renewed and stream.renew():
                        renewed = True
                        break
                    raise EtcdRefused(f"etcd refuses the watch ({reason}): check the etcd user's role")
                batch = _batch(answer, start_revision)
                if batch is not None:
                    yield batch
            else:
                return


def _batch(answer: Message, start_revision: int) -> WatchBatch | None:
    """The batch in a response, if any."""
    revision: int = answer.header.revision
    if answer.compact_revision:
        raise EtcdCompacted(
            f"etcd is compacted up to revision {answer.compact_revision}, the watch was to begin at"
            f" {start_revision}: read a new snapshot"
        )
    if answer.created:
        if revision < start_revision - 1:
            # etcd would wait silently until it reaches that revision.
            raise EtcdCompacted(
                f"etcd's revision went back from {start_revision - 1} to {revision}, its data is lost: read"
                " a new snapshot"
            )
        return WatchBatch(start_revision - 1)
    if answer.watch_id < 0:
        # The progress that we requested.  Its revision is unreliable: before 3.4.25 and 3.5.8 it may run
        # ahead of events still to come.
        return None
    last = answer.events[-1].kv.mod_revision if answer.events else revision
    if last < start_revision:
        return None
    events = tuple(
        WatchEvent(event.kv.key, None if event.type else event.kv.value, event.kv.mod_revision)
        for event in answer.events
        if event.kv.mod_revision >= start_revision
    )
    # A response never ends within a revision, but its header may be ahead of its events.
    return WatchBatch(last, events)
