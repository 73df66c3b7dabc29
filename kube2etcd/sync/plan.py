"""The changes from existing to desired entries, in a safe order.  Pure.

    existing \\ desired |  absent                       | same value | other value
    -------------------+-------------------------------+------------+--------------
    absent             |  -                            |  Create    |  Create
    ours               |  Delete (stale)               |  -         |  Update
    of another or none |  - (foreign: kept, counted)   |  -         |  Update (repair)

The owner mark in the value says who owns a key.  Where names nest, several writers may share a name: the one
whose owner id sorts first keeps the key, so they never overwrite each other.  Creates and Updates come before
Deletes, except that one group changes in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice

import msgspec

from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import Delete as Delete
from kube2etcd.sync.claims import OWN_PART, Groups
from skydns_compat.layout import Layout
from skydns_compat.message import owner_of
from skydns_compat.names import REVERSE, Name

#: Deletions are held if they remove more than this share of our names ...
HELD_SHARE = 0.3
#: ... and at least this many names: small clusters change by large shares.
HELD_FROM = 10


class Create(changes.Put, frozen=True, gc=False):
    """The key is missing."""


class Update(changes.Put, frozen=True, gc=False):
    """The key holds another value."""

    before: bytes


Change = Create | Update | Delete


class Plan(msgspec.Struct, frozen=True):
    """Changes sorted by key, and the foreign keys found, which are kept."""

    changes: tuple[Change, ...] = ()
    foreign: frozenset[bytes] = frozenset()
    malformed: frozenset[bytes] = frozenset()
    """Those of `foreign` whose value cannot be decoded."""
    contested: frozenset[bytes] = frozenset()
    """Keys that we want but another writer keeps, since its owner id sorts first."""

    @property
    def deletes(self) -> frozenset[bytes]:
        """The keys to delete."""
        return frozenset(change.key for change in self.changes if isinstance(change, Delete))

    def without(self, keys: Collection[bytes]) -> Plan:
        """The plan without the changes of ``keys``."""
        if not keys:
            return self
        return msgspec.structs.replace(
            self, changes=tuple(one for one in self.changes if one.key not in keys)
        )


class Outcome(msgspec.Struct, frozen=True):
    """What one pass did, or would do."""

    changes: tuple[Change, ...]
    """Sorted by key; includes pruned foreign keys and held deletions."""
    foreign: frozenset[bytes] = frozenset()
    """Keys of other writers, which are kept."""
    malformed: frozenset[bytes] = frozenset()
    """Those of `foreign` whose value cannot be decoded."""
    refused: tuple[tuple[bytes, str], ...] = ()
    """Keys whose change etcd rejected, each with its reason."""
    held: frozenset[bytes] = frozenset()
    """Deletions in `changes` that await confirmation by a second listing."""
    pruned: frozenset[bytes] = frozenset()
    """Deletions in `changes` of foreign keys."""
    existing: Mapping[bytes, bytes] = {}
    """What etcd held before."""

    @property
    def checksum(self) -> str:
        """16 hexadecimal digits that identify the changes, with the values before and after."""
        digest = hashlib.sha256()
        for one in self.changes:
            before = b"" if isinstance(one, Create) else one.before
            after = b"" if isinstance(one, Delete) else one.value
            for part in (type(one).__name__.encode(), one.key, before, after):
                digest.update(b"%d:%s" % (len(part), part))
        return digest.hexdigest()[:16]

    @property
    def after(self) -> dict[bytes, bytes]:
        """What etcd holds after all changes that it does not refuse."""
        refused = {key for key, _ in self.refused}
        return applied(self.existing, [one for one in self.changes if one.key not in refused])


def applied(entries: Mapping[bytes, bytes], made: Collection[Change]) -> dict[bytes, bytes]:
    """The entries after these changes."""
    gone = {one.key for one in made if isinstance(one, Delete)}
    after = {key: value for key, value in entries.items() if key not in gone}
    after.update((one.key, one.value) for one in made if not isinstance(one, Delete))
    return after


def sorts_first(value: bytes, owner: str) -> bool:
    """Whether ``value`` has an owner id that sorts before ours: of two writers, that one keeps a key."""
    return "" < (owner_of(value) or "") < owner


def diff(
    existing: Mapping[bytes, bytes],
    desired: Mapping[bytes, bytes],
    owner: str,
    keys: Iterable[bytes] | None = None,
) -> Plan:
    """The changes that make ``existing`` equal to ``desired``; for all keys, unless ``keys`` are given.

    ``owner`` is our owner id; an unwanted key with another owner, or none, is foreign.
    """
    found: list[Change] = []
    foreign: set[bytes] = set()
    malformed: set[bytes] = set()
    contested: set[bytes] = set()
    if keys is None:
        # Filtered before they are sorted: few of all keys differ.
        keys, in_both = [], 0
        for key, value in desired.items():
            there = existing.get(key)
            in_both += there is not None
            if there != value:
                keys.append(key)
        if in_both < len(existing):  # looking up a desired key costs more than iterating
            keys += [key for key in existing if key not in desired]
    for key in sorted(set(keys)):
        before, wanted = existing.get(key), desired.get(key)
        if wanted is None:
            if before is None:
                continue
            theirs = owner_of(before)
            if theirs == owner:
                found.append(Delete(key, before))
            else:
                foreign.add(key)
                if theirs is None:
                    malformed.add(key)
        elif before is None:
            found.append(Create(key, wanted))
        elif before != wanted:
            # A name that several writers may share: the owner id that sorts first keeps it.
            if OWN_PART in key and sorts_first(before, owner):
                contested.add(key)
            else:
                found.append(Update(key, wanted, before))
    return Plan(tuple(found), frozenset(foreign), frozenset(malformed), frozenset(contested))


def prune(
    foreign: Iterable[bytes], existing: Mapping[bytes, bytes], layout: Layout, zones: Iterable[Name]
) -> tuple[Delete, ...]:
    """Deletes for the ``foreign`` keys in our ``zones``, and for those without an owner in the reverse zones.

    Only on explicit request: their writers may still want them.  Other owners' PTR records stay, since
    clusters share the reverse zones, and so do the keys of sub-owners (``OWNER/...``).
    """
    ranges = tuple(layout.zone_range(zone) for zone in zones)
    reverse = tuple(layout.zone_range(zone) for zone in REVERSE)
    ours = f"{layout.owner}/"
    deletes = []
    for key in sorted(foreign):
        owner = owner_of(existing[key]) or ""
        within = (key + b"/").startswith(ranges) and not owner.startswith(ours)
        if within or (key.startswith(reverse) and not owner):
            deletes.append(Delete(key, existing[key]))
    return tuple(deletes)


def to_hold(
    plan: Plan,
    existing: Mapping[bytes, bytes],
    owner_mark: bytes,
    confirmed: Set[bytes] = frozenset(),
) -> frozenset[bytes]:
    """The keys whose deletion must be confirmed: all that the plan deletes, or none if it is harmless.

    Counts names, not keys: an endpoint is one name however many records it has.  Only keys with
    ``owner_mark`` count as ours, and those whose deletion is ``confirmed`` as gone already.
    """
    deleted = plan.deletes - confirmed
    if len(deleted) < HELD_FROM:
        return frozenset()
    names_gone = set(map(_name_key, deleted))
    names_gone -= {_name_key(change.key) for change in plan.changes if not isinstance(change, Delete)}
    names_kept: set[bytes] = set()
    entries = iter(existing.items())
    while len(names_gone) >= HELD_FROM and len(names_gone) > HELD_SHARE * (len(names_gone) + len(names_kept)):
        if (entry := next(entries, None)) is None:
            return deleted
        if entry[0] not in deleted and entry[0] not in confirmed and owner_mark in entry[1]:
            names_kept.add(_name_key(entry[0]))
            names_gone.discard(_name_key(entry[0]))
    return frozenset()


def generations(
    plan: Plan, groups: Groups, max_ops: int
) -> tuple[tuple[changes.Batch, ...], tuple[changes.Batch, ...]]:
    """Batches of at most ``max_ops`` changes: first those with puts, then those with deletions only.

    The changes of one group share a transaction.  A group too large for one has its puts in the first
    generation and its deletions in the second, so no name is missing in between.
    """
    members_of: dict[bytes, list[changes.Change]] = {}
    rest = iter(plan.changes)
    for group, keys in groups.runs(change.key for change in plan.changes):
        members_of.setdefault(group, []).extend(islice(rest, len(keys)))
    adding: list[list[changes.Change]] = []
    removing: list[list[changes.Change]] = []
    deleting = bool(plan.deletes)
    for members in members_of.values():
        puts, deletes = members, list[changes.Change]()
        if deleting and (deletes := [one for one in members if isinstance(one, Delete)]):
            puts = [one for one in members if not isinstance(one, Delete)]
        if not puts:
            removing.append(deletes)
        elif len(members) <= max_ops:
            adding.append(puts + deletes if deletes else puts)
        else:
            adding.append(puts)
            if deletes:
                removing.append(deletes)
    return tuple(pack(adding, max_ops)), tuple(pack(removing, max_ops))


def pack(groups: Iterable[Sequence[changes.Change]], max_ops: int) -> Iterator[changes.Batch]:
    """Batches of at most ``max_ops`` changes; only a group longer than that is split."""
    batch: list[changes.Change] = []
    for members in groups:
        if batch and len(batch) + len(members) > max_ops:
            yield tuple(batch)
            batch = []
        batch += members
        while len(batch) > max_ops:
            yield tuple(batch[:max_ops])
            batch = batch[max_ops:]
    if batch:
        yield tuple(batch)


def _name_key(key: bytes) -> bytes:
    """The key of the name that ``key`` belongs to: only the leaf of a record has an upper-case letter."""
    head, _, leaf = key.rpartition(b"/")
    return key if leaf == leaf.lower() else head
