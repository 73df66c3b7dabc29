"""A watch on a tree of etcd's v2 keys: told completely and in order, or ended with an error.

etcd remembers a thousand events, of all its keys together.  What has happened already is asked for one
by one; then a stream stays open while it tells something, and after a quiet moment the watch begins
anew, as far up as etcd has told everything: that is the sign of life as well.  Hidden keys are told
only where they come out of that memory: so what a stream passed over is looked at there a while later
(`kube2etcd.etcd.v2_untold`), and where others changed something hidden the watch ends, to be read anew.

Knows events; must never keep the consumer waiting when asked to stop, never skip an index, and never
write.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

from kube2etcd.errors import EtcdCompacted, EtcdError, EtcdUnavailable
from kube2etcd.etcd import v2_failures
from kube2etcd.etcd.changes import WatchBatch, WatchEvent
from kube2etcd.etcd.v2_channel import Stream
from kube2etcd.etcd.v2_http import V2Connection
from kube2etcd.etcd.v2_nodes import Node, Reply, Tree
from kube2etcd.etcd.v2_untold import Untold

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
        self._untold = Untold(connection.made, connection.settings.timeout, time.monotonic)
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
                due = self._untold.due()
                start = self._next if due is None else due
                params = {"wait": "true", "recursive": "true", "stream": "true", "waitIndex": str(start)}
                try:
                    with self._connection.stream(self._tree.prefix, params) as stream:
                        self._follow(stream, start)
                except EtcdCompacted:
                    if due is None:
                        raise
                    # etcd has forgotten what was passed over: then only reading shows it, when that is due.
                    self._untold.looked_at(start, self._next - 1)
        except EtcdError as error:
            self._hand_over(error)
        except Exception as error:
            # Whatever it was: a thread that ends without a word would be taken for quiet, for ever.
            log.exception("the watch on etcd failed")
            self._hand_over(
                EtcdUnavailable(f"the watch on etcd failed ({type(error).__name__}): read it anew")
            )

    def _follow(self, stream: Stream, start: int) -> None:
        """Tell what this stream tells, until it is quiet."""
        if stream.index < self._next - 1:
            # etcd would wait in silence until it gets there.
            raise EtcdCompacted(
                f"etcd's index went back from {self._next - 1} to {stream.index}, its data is lost: read a"
                " new snapshot"
            )
        if not self._hand_over(WatchBatch(self._next - 1)):
            return
        looked = False
        for reply in stream.replies():
            if self.done.is_set():
                return
            node = _node(reply, stream.server)
            index = node.modified
            if index < start:
                continue
            # What comes out of etcd's memory has nothing before it, what a stream tells may have.
            if not looked:
                looked = True
                self._nothing_in(start, min(index - 1, stream.index))
            if index < self._next:
                self._look_back(node)
            elif not self._tell(reply, node):
                return
            if index <= stream.index or self._untold.due() is not None:
                # The first: a stream out of etcd's memory tells this one event and then nothing, for ever.
                return
        if not looked:
            self._nothing_in(start, stream.index)

    def _nothing_in(self, first: int, last: int) -> None:
        """Had there been anything from ``first`` to ``last``, it would have been told."""
        self._untold.looked_at(first, last)
        self._next = max(self._next, last + 1)

    def _look_back(self, node: Node) -> None:
        """At something that we passed over, or were told before."""
        if self._untold.others(node.modified):
            raise EtcdUnavailable(f"{node.key}, which is hidden, was changed by others: read it anew")

    def _tell(self, reply: Reply, node: Node) -> bool:
        """Tell the consumer; False when it left."""
        index = node.modified
        self._untold.passed(self._next, index - 1)
        self._next = index + 1
        if self._tree.is_hidden(node.key):
            # Ours, or somebody's?  That is known in a while.
            self._untold.passed(index, index)
            return self._hand_over(WatchBatch(index))
        event = self._event(reply, node)
        return self._hand_over(WatchBatch(index, (event,) if event else ()))

    def _event(self, reply: Reply, node: Node) -> WatchEvent | None:
        removed = reply.action in ("delete", "expire", "compareAndDelete")
        if not node.dir:
            value = None if removed else node.value.encode()
            return WatchEvent(node.key.encode(), value, node.modified)
        if removed and not self._own(node.key, node.modified):
            # One event for all that was in it, which only reading shows.
            raise EtcdUnavailable(f"the directory {node.key} was removed from etcd: read it anew")
        if reply.before is not None and not reply.before.dir:
            # A directory in the place of a key.
            return WatchEvent(node.key.encode(), None, node.modified)
        return None

    def _hand_over(self, told: WatchBatch | EtcdError) -> bool:
        while not self.done.is_set():
            with contextlib.suppress(queue.Full):
                self._told.put(told, timeout=_TICK)
                return True
        return False


def _node(reply: Reply, server: str) -> Node:
    if reply.code or reply.node is None:
        raise v2_failures.meaning(server, "Watch", 200, reply.code, reply.message, reply.cause)
    return reply.node


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
