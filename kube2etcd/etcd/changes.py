"""What is read from a store of keys, and what is to be done to it: plain values.

The planner makes them, every store (etcd's v3 API, its v2 API, one that only pretends) takes
and returns them, so they live below both.  This module does no I/O and imports nothing of ours.
Keys and values are bytes as they stand in etcd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Put:
    """Write this value, whatever is there."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
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


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One key as it is after a change; ``value`` is None when it was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Everything up to ``revision`` has been told; watch again from ``revision + 1``.

    No events: only time has passed.
    """

    revision: int
    events: tuple[WatchEvent, ...] = ()
