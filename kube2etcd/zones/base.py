"""The interface of a zone, and its result for one unit.  Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from kube2etcd.kube.store import Store, Unit
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from skydns_compat.records import Record


class Expected(str):
    """A reason why a record is left out that needs no attention: shown by ``explain``, not logged."""

    __slots__ = ()


class Taken(str):
    """A reason why a record is left out: another object or zone has the name."""

    __slots__ = ()


def sort_of(reason: str) -> str:
    """``pending``, ``taken`` or ``invalid``, as a metric's label."""
    return "pending" if isinstance(reason, Expected) else "taken" if isinstance(reason, Taken) else "invalid"


class Published(msgspec.Struct):
    """The records of one unit in one zone, and what was left out and why.

    PTR records are apart because several units may claim one address.
    """

    records: list[Record] = []
    pointers: list[Record] = []
    non_terminals: list[Record] = []
    """Empty non-terminals (RFC 8020) above the unit's names; data of another unit there wins."""
    left_out: list[str] = []
    exclusive_name: Name | None = None
    """A name that several units may want but only one can have, with everything below it."""


class Zone(ABC):
    """One zone: its settings, and the records of each unit in it."""

    __slots__ = ()

    name: Name
    ttl: int
    kinds: ClassVar[frozenset[str]]
    """The kinds of units with records in the zone."""
    empty_levels: ClassVar[int] = 0
    """Label levels below the apex that are empty non-terminals above whole trees (`Layout.entries`)."""
    depth: ClassVar[int] = 0
    """Number of labels below the apex of an object's name."""

    @abstractmethod
    def own(self) -> Published:
        """The zone's records that come from no object."""

    @abstractmethod
    def publish(self, unit: Unit, store: Store) -> Published:
        """The records of ``unit`` in this zone; empty if it is not selected or is gone."""

    @abstractmethod
    def can_follow(self, name: Name) -> bool:
        """Whether the keys at and below ``name`` are the data of ``name`` alone.

        The etcd plugin follows a CNAME within its zone by reading all keys below the target, without
        the Corefile's rules: above the objects' names, those keys belong to other units.
        """

    def entries(self, layout: Layout, records: Iterable[Record]) -> dict[bytes, bytes]:
        """Key to value for ``records``, all those of one unit."""
        return layout.entries(records, self.name, self.empty_levels)

    def key(self, layout: Layout, name: Name) -> bytes:
        """The key that is in etcd exactly if ``name`` exists."""
        return layout.key(name)


def longest(zones: Iterable[Name], name: Name) -> Name | None:
    """The zone that answers for ``name``, the longest that contains it; None if none does."""
    return max(filter(name.below, zones), key=lambda zone: len(zone.labels), default=None)
