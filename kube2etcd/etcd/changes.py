"""Values that a store of keys takes and returns: changes, snapshots, watch events, the health of a server.

Both of etcd's APIs share them.  Keys and values are bytes as they stand in etcd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write this value, whatever is there."""

    key: bytes
    value: bytes


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Take this one key out; that it is not there is no fault."""

    key: bytes


Change: TypeAlias = Put | Delete

# One transaction: at most as many changes as the server takes, and no key twice.
Batch: TypeAlias = tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every key under the store's prefixes, all at one revision."""

    revision: int
    entries: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of the changes that were given to a store."""

    revision: int = 0
    """The highest revision that an answer named; 0 when nothing was sent."""
    own_revisions: frozenset[int] = frozenset()
    """Revisions that these transactions made: the watch shows them, and they are no news."""
    written: int = 0
    """Changes that were accepted."""
    refused: tuple[tuple[Change, str], ...] = ()
    """Changes that etcd will never accept, with its reason."""


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """One key as it is after a change; ``value`` is None when it was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Everything up to ``revision``; watch again from ``revision + 1``.  No events: only time has passed."""

    revision: int
    events: tuple[WatchEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One server, as it sees itself; sizes in bytes."""

    version: str
    size: int
    quota: int
    """Size at which it takes no more writes; 0 where it does not tell (before 3.6)."""
    leader: bool
    """Whether there is one: without it nothing can be written."""
    alarms: tuple[str, ...] = ()
