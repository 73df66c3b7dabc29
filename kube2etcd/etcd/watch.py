"""A watch on a range of keys: complete and in order, or ended by an error that says why.

etcd3's own watcher loses watches silently and spins while etcd is away, so this uses the stream itself.
It does not resume: the consumer knows the last revision that it handled.  A silent server is asked for
progress, and the stream ends as EtcdUnavailable when it does not answer.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd.changes import WatchBatch, WatchEvent
from kube2etcd.etcd.client import EtcdConnection, Stream
from kube2etcd.etcd.failures import is_stale_token
from kube2etcd.etcd.ranges import successor
from kube2etcd.etcd.wire import Message, rpc

# Seconds between a waiting consumer's checks of ``stop``.
_TICK = 0.1
# Answers queued while the consumer is busy; beyond that the stream is throttled.
_HELD = 64


class _WatchReader:
    """A stream and its reader thread, so the consumer can wait with a timeout."""

    def __init__(self, connection: EtcdConnection, create: Message) -> None:
        self._connection = connection
        self._answers: queue.Queue[Message | EtcdError] = queue.Queue(_HELD)
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._requests.put(create)
        self._done = threading.Event()
        self.stream: Stream | None = None
        threading.Thread(target=self._run, name="etcd-watch", daemon=True).start()

    def get(self, timeout: float) -> Message | None:
        """The next response, or None on timeout."""
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(answer, EtcdError):
            raise answer
        return answer

    def ask_progress(self) -> None:
        """Request a progress notification from the server."""
        self._requests.put(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def close(self) -> None:
        """End both threads' work without joining them."""
        self._done.set()
        self._requests.put(None)
        if self.stream is not None:
            self.stream.cancel()

    def give_up(self) -> None:
        """Leave the silent server; the next request goes to another one."""
        if self.stream is not None:
            self.stream.give_up()

    def _run(self) -> None:
        try:
            # Here and not in the constructor: connecting and logging in may take the whole timeout.
            self.stream = self._connection.stream(iter(self._requests.get, None))
            if self._done.is_set():
                self.stream.cancel()
            for answer in self.stream:
                if not self._hand_over(answer):
                    return
            self._hand_over(EtcdUnavailable(f"etcd at {self.stream.server} ended the watch: watch again"))
        except EtcdError as error:
            self._hand_over(error)

    def _hand_over(self, answer: Message | EtcdError) -> bool:
        while not self._done.is_set():
            with contextlib.suppress(queue.Full):
                self._answers.put(answer, timeout=_TICK)
                return True
        return False


def watch(
    connection: EtcdConnection, prefixes: Sequence[bytes], start_revision: int, stop: threading.Event
) -> Iterator[WatchBatch]:
    """Every change of the keys under the prefixes (sorted, distinct) from ``start_revision`` on.

    The first batch has no events: the watch is established.  Ends within 0.2 s of ``stop``.
    """
    # One watch from the first prefix to the last, not one for each: with several, a stream that breaks
    # between two answers of the same revision could not be resumed.
    create = rpc.WatchRequest()
    create.create_request.key = prefixes[0]
    create.create_request.range_end = successor(prefixes[-1])
    # A revision early, filtered out below: since 3.5.8 etcd reports no progress for a watch that begins in
    # the future, as the revision after the last known one does.
    create.create_request.start_revision = max(1, start_revision - 1)
    create.create_request.progress_notify = True
    renewed = False
    while not stop.is_set():
        reader = _WatchReader(connection, create)
        try:
            for answer in _answers(reader, connection.settings.timeout, stop):
                if answer.canceled and not answer.compact_revision:
                    # Older servers report a stale token as "permission denied".
                    reason = answer.cancel_reason
                    token = "permission denied" in reason or is_stale_token(reason)
                    if token and not renewed and reader.stream is not None and reader.stream.renew():
                        renewed = True
                        break
                    raise EtcdRefused(f"etcd refuses the watch ({reason}): check the etcd user's role")
                batch = _batch(answer, prefixes, start_revision)
                if batch is not None:
                    yield batch
            else:
                return
        finally:
            reader.close()


def _answers(reader: _WatchReader, timeout: float, stop: threading.Event) -> Iterator[Message]:
    """Responses until ``stop``; EtcdUnavailable when the server stays silent."""
    heard = time.monotonic()
    asked = True  # creating the watch is a request as well
    while not stop.is_set():
        answer = reader.get(_TICK)
        now = time.monotonic()
        if answer is not None:
            yield answer
            # Now, not before: the consumer's work is no silence of the server.
            heard, asked = time.monotonic(), False
        elif now - heard > timeout:
            if asked:
                server = reader.stream.server if reader.stream is not None else "its address"
                reader.give_up()
                raise EtcdUnavailable(f"etcd at {server} is silent for {timeout:g} s (Watch): watch again")
            reader.ask_progress()
            heard, asked = now, True


def _batch(answer: Message, prefixes: Sequence[bytes], start_revision: int) -> WatchBatch | None:
    """The batch in an answer, if any."""
    revision: int = answer.header.revision
    if answer.compact_revision:
        raise EtcdCompacted(
            f"etcd is compacted up to revision {answer.compact_revision}, the watch was to begin at"
            f" {start_revision}: read a new snapshot"
        )
    if answer.created:
        if revision < start_revision - 1:
            # etcd would wait in silence until it gets there.
            raise EtcdCompacted(
                f"etcd's revision went back from {start_revision - 1} to {revision}, its data is lost: read"
                " a new snapshot"
            )
        return WatchBatch(start_revision - 1)
    if answer.watch_id < 0:
        # The progress that we asked for.  Its revision promises nothing: before 3.4.25 and 3.5.8 it may run
        # ahead of events still to come.
        return None
    starts = tuple(prefixes)
    last = answer.events[-1].kv.mod_revision if answer.events else revision
    if last < start_revision:
        return None
    events = tuple(
        WatchEvent(event.kv.key, None if event.type else event.kv.value, event.kv.mod_revision)
        for event in answer.events
        if event.kv.mod_revision >= start_revision and event.kv.key.startswith(starts)
    )
    # An answer never ends within a revision, but its header may be ahead of its events.
    return WatchBatch(last, events)
