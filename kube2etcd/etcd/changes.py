"""Values that a key store takes and returns: changes, snapshots, watch events, server health.

Shared by both of etcd's APIs.  Keys and values are bytes as stored in etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write this value unconditionally."""

    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete this key; a missing key is no error."""

    key: bytes


Change: TypeAlias = Put | Delete

# One transaction: at most as many changes as the server takes, and no key twice.
Batch: TypeAlias = tuple[Change, ...]


TakePage: TypeAlias = Callable[[Iterable[tuple[bytes, bytes]]], object]
"""Takes some keys with their values."""
Begin: TypeAlias = Callable[[], TakePage]
"""Begins a reading, once more after each attempt that failed, and says what takes its pages."""


class Snapshot(msgspec.Struct, frozen=True):
    """Every key under the store's prefixes, all at one revision."""

    revision: int
    entries: dict[bytes, bytes]


class ApplyResult(msgspec.Struct, frozen=True):
    """The outcome of the changes given to a store."""

    revision: int = 0
    """The highest revision in the responses; 0 when nothing was sent."""
    own_revisions: frozenset[int] = frozenset()
    """Revisions created by these transactions, to recognise their echo in the watch."""
    written: int = 0
    """Changes that were accepted."""
    refused: tuple[tuple[Change, str], ...] = ()
    """Changes that etcd rejected for good, with its reason."""


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """A key after a change; ``value`` is None after a delete."""

    key: bytes
    value: bytes | None
    mod_revision: int


class WatchBatch(msgspec.Struct, frozen=True):
    """All events up to ``revision``; resume from ``revision + 1``.  Without events: progress."""

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
