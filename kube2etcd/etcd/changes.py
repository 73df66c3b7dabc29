"""The interface of a key store, with its arguments and results, for both of etcd's APIs.

Keys and values are bytes as stored in etcd.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

import msgspec


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write this value unconditionally."""

    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete this key; a missing key is no error."""

    key: bytes
    before: bytes = b""
    """Its value when this was planned, to be shown; not a condition."""


Change: TypeAlias = Put | Delete

# One transaction: at most as many changes as the server accepts, each key once.
Batch: TypeAlias = tuple[Change, ...]


TakePage: TypeAlias = Callable[[Iterable[tuple[bytes, bytes]]], object]
"""Receives a page of keys with their values."""
Begin: TypeAlias = Callable[[], TakePage]
"""Called when a read begins, and again after each failed attempt; returns the receiver of its pages."""


class Snapshot(msgspec.Struct, frozen=True):
    """Every key under the store's prefix, all at one revision."""

    revision: int
    entries: dict[bytes, bytes]


class ApplyResult(msgspec.Struct, frozen=True):
    """The result of `KeyStore.apply`."""

    revision: int = 0
    """The highest revision in the responses; 0 when nothing was sent."""
    own_revisions: frozenset[int] = frozenset()
    """Revisions created by these transactions, to recognize their echo in the watch."""
    written: int = 0
    """Changes that were accepted."""
    refused: tuple[tuple[Change, str], ...] = ()
    """Changes that etcd rejected for good, with its reason."""
    skipped: bool = False
    """Whether the watch skips everything up to `revision`, also what others changed."""


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """A key after a change; ``value`` is None after a delete."""

    key: bytes
    value: bytes | None
    mod_revision: int


class WatchBatch(msgspec.Struct, frozen=True):
    """All events up to ``revision``; resume from ``revision + 1``.  Without events: progress only."""

    revision: int
    events: tuple[WatchEvent, ...] = ()


class ServerHealth(msgspec.Struct, frozen=True):
    """A server's own status; sizes in bytes."""

    version: str
    size: int
    quota: int
    """Size at which it rejects writes; 0 where not reported (before 3.6)."""
    leader: bool
    """Whether the cluster has a leader; without one nothing can be written."""
    alarms: tuple[str, ...] = ()


class KeyStore(Protocol):
    """The keys under a prefix.  One thread reads and writes, another may watch, any may probe."""

    def read(self, begin: Begin) -> int:
        """Read all keys, page by page; returns the revision at which they are complete."""

    def apply(
        self, generations: Iterable[Iterable[Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        """Write batches; ``progress`` is called with the number of changes written so far.

        Batches of one generation are independent and sent concurrently; a generation begins when the previous
        one is done.  The result lists changes that etcd will never accept as refused.

        :raises EtcdUnavailable: some of it may be written; no request is in flight any more, but a server
            that hung may still execute what it has received, so take a new snapshot and watch.
        :raises EtcdDeposed: the same, and another bridge writes now.
        """

    def watch(self, start_revision: int, stop: threading.Event) -> Iterator[WatchBatch]:
        """Changes from ``start_revision`` on, until ``stop`` is set or an error ends it.

        The first batch is empty: the watch is established.

        :raises EtcdCompacted: start over with a new snapshot.
        :raises EtcdUnavailable: likewise, or watch again from after the last batch.
        """

    def probe(self) -> None:
        """One cheap request.

        :raises EtcdUnavailable: etcd is away, or has lost its data since it was last read or written.
        """

    def may_write(self, key: bytes) -> None:
        """Check that ``key`` could be written and deleted; changes nothing.

        :raises EtcdError: it could not; the message says why.
        """

    def snapshot(self) -> Snapshot:
        """All keys, and the revision at which they are complete."""
        entries: dict[bytes, bytes] = {}

        def begin() -> TakePage:
            entries.clear()
            return entries.update

        return Snapshot(self.read(begin), entries)
