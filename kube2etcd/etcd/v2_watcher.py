"""A watch on a tree of etcd's v2 keys: told completely and in order, or ended with an error.

etcd remembers a thousand events, of all its keys together.  What has happened already is asked for one
by one; then a stream stays open while it tells something, and after a quiet moment the watch begins
anew, as far up as etcd has told everything: that is the sign of life as well.  Hidden keys are told
only where they come out of that memory; what a watch does not tell is found by reading.

Knows events; must never keep the consumer waiting when asked to stop, never skip an index, and never
write.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator

from kube2etcd.changes import WatchBatch, WatchEvent
from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdUnavailable
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.v2_channel import Stream
from kube2etcd.etcd.v2_http import V2Connection
from kube2etcd.etcd.v2_nodes import Reply, Tree

log = logging.getLogger(__name__)

# How often a waiting consumer looks whether it is to stop.
_TICK = 0.1
# Batches held while the consumer is busy; then the stream itself is held back.
_HELD = 256

#: Told the path and the index of a directory's removal; whether that was our own tidying up.
Own = Callable[[str, int], bool]


class _Reader:
    """The thread that reads, so that the consumer may wait with a limit.

    It ends by itself, a timeout after the consumer left at the latest.
    """

    def __init__(self, connection: V2Connection, tree: Tree, start: int, own: Own) -> None:
        self._connection = connection
        self._tree = tree
        self._next = start
        self._own = own
        self._told: queue.Queue[WatchBatch | EtcdError] = queue.Queue(_HELD)
        self.done = threading.Event()
        threading.Thread(target=self._run, name="etcd-v2-watch", daemon=True).start()

    def get(self) -> WatchBatch | None:
        """The next batch, or None when there was none in time."""
        try:
            told = self._told.get(timeout=_TICK)
        except queue.Empty:
            return None
        if isinstance(told, EtcdError):
            raise told
        return told

    def _run(self) -> None:
        try:
            while not self.done.is_set():
                params = {"wait": "true", "recursive": "true", "stream": "true", "waitIndex": str(self._next)}
                with self._connection.stream(self._tree.prefix, params) as stream:
                    self._follow(stream)
        except EtcdError as error:
            self._hand_over(error)
        except Exception as error:
            # Whatever it was: a thread that ends without a word would be taken for quiet, for ever.
            log.exception("the watch on etcd failed")
            self._hand_over(
                EtcdUnavailable(f"the watch on etcd failed ({type(error).__name__}): read it anew")
            )

    def _follow(self, stream: Stream) -> None:
        """Tell what this stream tells, until it is quiet."""
        if stream.index < self._next - 1:
            # etcd would wait in silence until it gets there.
            raise EtcdCompacted(
                f"etcd's index went back from {self._next - 1} to {stream.index}, its data is lost: read a"
                " new snapshot"
            )
        if not self._hand_over(WatchBatch(self._next - 1)):
            return
        for reply in stream.replies():
            if self.done.is_set():
                return
            event, index = self._event(reply, stream.server)
            if index < self._next:
                continue
            self._next = index + 1
            if not self._hand_over(WatchBatch(index, (event,) if event else ())):
                return
            if index <= stream.index:
                # Out of etcd's memory: such a stream tells this one event and then nothing, for ever.
                return
        # Had there been anything up to here, it would have been told.
        self._next = max(self._next, stream.index + 1)

    def _event(self, reply: Reply, server: str) -> tuple[WatchEvent | None, int]:
        node = reply.node
        if reply.code or node is None:
            raise v2_failures.meaning(server, "Watch", 200, reply.code, reply.message, reply.cause)
        removed = reply.action in ("delete", "expire", "compareAndDelete")
        if not node.dir:
            if node.key.startswith(self._tree.notes + "/"):
                return None, node.modified
            value = None if removed else node.value.encode()
            return WatchEvent(node.key.encode(), value, node.modified), node.modified
        if removed and not self._own(node.key, node.modified):
            # One event for all that was in it, which only reading shows.
            raise EtcdUnavailable(f"the directory {node.key} was removed from etcd: read it anew")
        if reply.before is not None and not reply.before.dir:
            # A directory in the place of a key.
            return WatchEvent(node.key.encode(), None, node.modified), node.modified
        return None, node.modified

    def _hand_over(self, told: WatchBatch | EtcdError) -> bool:
        while not self.done.is_set():
            with contextlib.suppress(queue.Full):
                self._told.put(told, timeout=_TICK)
                return True
        return False


def watch(
    connection: V2Connection, tree: Tree, start: int, stop: threading.Event, own: Own
) -> Iterator[WatchBatch]:
    """Every change of listed keys from the index ``start`` on; ends within 0.2 s of ``stop``.

    The first batch has no events: it says that the watch stands.
    """
    reader = _Reader(connection, tree, start, own)
    try:
        while not stop.is_set():
            batch = reader.get()
            if batch is not None:
                yield batch
    finally:
        reader.done.set()
