"""Which unit holds each key and each exclusive name, and the values that units want.

Only the rank decides, never the order of arrival, so a restart gives the same result.  Most keys are kept for
a long time and rarely read, so they are compressed in groups: a group is an object's subtree or a single key,
and changes in one transaction.  Only a group that several units share is stored key by key.  Pure.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import insort
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from lz4 import block as lz4
from msgspec import Struct, field

from kube2etcd.kube.store import Unit
from kube2etcd.zones.base import Zone
from skydns_compat.layout import OWN, Layout
from skydns_compat.names import Name

#: Orders the units that claim one key; the smallest rank wins.
Rank: TypeAlias = tuple[int, int, str, str, str]
#: Keys with their former desired values; None: there was none.
Former: TypeAlias = dict[bytes, bytes | None]
#: The same by group; no group is empty.
FormerGroups: TypeAlias = dict[bytes, Former]
#: creationTimestamp, namespace, name; the smallest wins an exclusive name.
Seniority: TypeAlias = tuple[str, str, str]

#: In every key of an external domain: its names nest, so several writers may share one.
OWN_PART: Final = f"/{OWN}".encode()
#: A prefix of no key.
_NOTHING: Final = b"\n"
#: Compression dictionary: the text common to nearly all groups.
_DICTIONARY: Final = (
    b"/skydns/local/cluster/svc/_udp/_tcp/_http-P443-P80-H\0"
    b'{"host":"10.0.0.","port":80{"host":"192.168.","port":-1,"priority":65536,"ttl":30,"targetstrip":1,'
    b'"group":"a3","owner":"kube2etcd"}\0{"owner":"kube2etcd"}'
)
_NO_GROUP: Final[tuple[bytes, Mapping[bytes, bytes]]] = (b"", {})
#: Groups kept uncompressed for a while: most are read right after `put`, to be written to etcd.
FRESH: Final = 1024


class Groups:
    """Maps the keys of ``zones`` to their groups; a group is named by its topmost key."""

    def __init__(self, layout: Layout, zones: Iterable[Zone] = ()) -> None:
        above = layout.prefix.count("/") + 1
        nested_first = sorted(zones, key=lambda one: -len(one.name.labels))
        self._below = [
            (layout.zone_range(one.name), above + len(one.name.labels) + one.depth) for one in nested_first
        ]
        # A zone may lie below an object of another zone: those keys are not the object's.  So a prefix in
        # here is never an object's subtree.
        self._above_zones = {
            below[: cut + 1] for below, _ in self._below for cut, byte in enumerate(below) if byte == ord("/")
        }

    def of(self, key: bytes) -> bytes:
        """The group of ``key``."""
        return self._find(key)[0]

    def common(self, keys: Collection[bytes]) -> bytes | None:
        """The group that all ``keys`` share, if the first key tells; None if they may have several.

        A shortcut for most objects, whose first key is above all others.  ``keys`` are not empty, and none
        contains a line break.
        """
        group, below = self._find(next(iter(keys)))
        lines = b"\n".join(keys)
        return group if lines.count(b"\n" + below) == len(keys) - 1 and OWN_PART not in lines else None

    def runs(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Pairs of a group and the consecutive ``keys`` that share it, in their order."""
        group, below, own = b"", _NOTHING, False
        run: list[bytes] = []
        for key in keys:
            if (key.startswith(below) and (own or OWN_PART not in key)) or key == group:
                run.append(key)
                continue
            if run:
                yield group, run
            group, below = self._find(key)
            own, run = group.endswith(OWN_PART), [key]
        if run:
            yield group, run

    def _find(self, key: bytes) -> tuple[bytes, bytes]:
        """The group of ``key``, and the prefix of the group's other keys."""
        head, own, _ = key.partition(OWN_PART)
        if own:
            return head + own, head + own + b"/"
        for below, depth in self._below:
            if key.startswith(below):
                parts = key.split(b"/", depth)
                group = b"/".join(parts[:depth])
                further = group + b"/"
                return group, _NOTHING if len(parts) < depth or further in self._above_zones else further
        return key, _NOTHING


class EntryMap(Mapping[bytes, bytes]):
    """A mapping of keys to values that iterates over pairs without looking up each key."""

    @abstractmethod
    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value."""

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self.pairs())

    def items(self) -> ItemsView[bytes, bytes]:
        """The pairs, without looking up each key."""
        return _Items(self)


class _Items(ItemsView[bytes, bytes]):
    _mapping: EntryMap

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._mapping.pairs()


class _Sole(Struct, gc=False):
    """A group claimed by one unit: its entries, compressed later; or, if ``single``, one value."""

    unit: Unit
    data: bytes | dict[bytes, bytes]
    single: bool = False
    complete_in: int = 0
    """Number of the last `Comparison` that found every key of the group."""

    def entries(self, group: bytes) -> Mapping[bytes, bytes]:
        data = self.data
        if isinstance(data, dict):
            return data
        if self.single:
            return {group: data}
        parts = lz4.decompress(data, dict=_DICTIONARY).split(b"\0")
        half = len(parts) // 2
        keys = [group + part for part in parts[:half]]
        return dict(zip(keys, parts[half:], strict=True))

    def compress(self, group: bytes) -> None:
        data = self.entries(group)
        shared = len(group)  # every key of a group begins with its name
        parts = [*[key[shared:] for key in data], *data.values()]
        self.data = lz4.compress(b"\0".join(parts), dict=_DICTIONARY)


class _Shared(Struct, gc=True):
    """A group claimed by several units."""

    claims: dict[bytes, dict[Unit, bytes]] = field(default_factory=dict)
    """By key, the value that each unit wants."""
    holders: dict[bytes, Unit] = field(default_factory=dict)
    """By key, the unit with the smallest rank."""
    keys: dict[Unit, frozenset[bytes]] = field(default_factory=dict)
    complete_in: int = 0
    """As in `_Sole`."""

    def entries(self, _group: bytes) -> dict[bytes, bytes]:
        return {key: self.claims[key][holder] for key, holder in self.holders.items()}


class Claims(EntryMap):
    """The winning value of each key."""

    def __init__(self, groups: Groups, rank: Callable[[Unit, bytes, bytes], Rank]) -> None:
        """``rank(unit, key, value)`` orders the claimants of a key; its errors propagate from `put`."""
        self._grouping, self._rank = groups, rank
        self._blocks: dict[bytes, _Sole | _Shared] = {}
        self._fresh: list[tuple[bytes, _Sole]] = []
        self._groups: dict[Unit, bytes | tuple[bytes, ...]] = {}
        self._count = self._comparisons = 0  # of keys; of comparisons so far
        self._last = _NO_GROUP

    def put(
        self, unit: Unit, after: Mapping[bytes, bytes], changed: FormerGroups | None = None
    ) -> FormerGroups:
        """Replace all claims of ``unit`` with ``after``; adds the keys whose value changed to ``changed``.

        If the rank function raises, the next call for the unit completes the change.
        """
        changed = {} if changed is None else changed
        parts: dict[bytes, dict[bytes, bytes]] = {}
        if after and (whole := self._grouping.common(after)) is not None:
            parts[whole] = dict(after)
        else:
            for group, keys in self._grouping.runs(after):
                part = {key: after[key] for key in keys}
                parts[group] = parts[group] | part if group in parts else part
        self._last = _NO_GROUP
        before = _as_tuple(self._groups.pop(unit, ()))
        try:
            for group in before:
                if group not in parts:
                    self._replace(unit, group, {}, changed)
            for group, entries in parts.items():
                self._replace(unit, group, entries, changed)
        except Exception:
            self._groups[unit] = (*before, *(group for group in parts if group not in before))
            raise
        if parts:
            self._groups[unit] = tuple(parts) if len(parts) > 1 else next(iter(parts))
        return changed

    def regroup(self, groups: Groups) -> FormerGroups:
        """Switch to other groups; returns the keys whose value changed.

        Values may change because ranks, which depend on the zones, are computed anew.
        """
        shared = [block for block in self._blocks.values() if isinstance(block, _Shared)]
        before = {key: value for block in shared for key, value in block.entries(b"").items()}
        blocks, groups_of = self._blocks, self._groups
        self._grouping, self._blocks, self._groups, self._count = groups, {}, {}, 0
        for unit, held in groups_of.items():
            wanted: dict[bytes, bytes] = {}
            for group in _as_tuple(held):
                block = blocks.get(group)  # after a failure, a unit may list groups that it is not in
                if isinstance(block, _Shared):
                    claims = ((key, block.claims.get(key, {})) for key in block.keys.get(unit, ()))
                    wanted |= {key: claim[unit] for key, claim in claims if unit in claim}
                elif block is not None and block.unit == unit:
                    wanted |= block.entries(group)
            self.put(unit, wanted)
        former: FormerGroups = {}
        for key, value in before.items():
            if self[key] != value:
                former.setdefault(groups.of(key), {})[key] = value
        return former

    def holder(self, key: bytes) -> Unit | None:
        """The unit whose value ``key`` has; None if no unit claims it."""
        block = self._blocks.get(self._grouping.of(key))
        if isinstance(block, _Shared):
            return block.holders.get(key)
        return block.unit if block is not None and key in self else None

    def claimants(self, key: bytes) -> list[Unit]:
        """The units that claim ``key``, its holder first."""
        holder, block = self.holder(key), self._blocks.get(self._grouping.of(key))
        others = sorted(block.claims.get(key, {}).keys() - {holder}) if isinstance(block, _Shared) else []
        return others if holder is None else [holder, *others]

    def __getitem__(self, key: bytes) -> bytes:
        return self.within(self._grouping.of(key))[key]

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key with its value, group by group."""
        for group, block in self._blocks.items():
            yield from block.entries(group).items()

    def within(self, group: bytes) -> Mapping[bytes, bytes]:
        """The keys and values of a group."""
        if self._last[0] != group:
            block = self._blocks.get(group)
            self._last = (group, block.entries(group) if block is not None else {})
        return self._last[1]

    def groups(self) -> list[bytes]:
        """The groups that have keys."""
        return list(self._blocks)

    def compare(self) -> Comparison:
        """Start a comparison with everything that etcd holds."""
        self._comparisons += 1
        return Comparison(self.within, self._grouping.runs, self._blocks, self._comparisons)

    def _replace(self, unit: Unit, group: bytes, entries: dict[bytes, bytes], changed: FormerGroups) -> None:
        block = self._blocks.get(group)
        held: Mapping[bytes, bytes] = {}
        if block is not None:
            if isinstance(block, _Shared):
                self._share(unit, group, block, entries, changed)
                return
            held = block.entries(group)
            if block.unit != unit:
                shared = self._blocks[group] = _Shared(
                    {key: {block.unit: value} for key, value in held.items()},
                    dict.fromkeys(held, block.unit),
                    {block.unit: frozenset(held)},
                )
                self._share(unit, group, shared, entries, changed)
                return
        if entries == held:
            return
        former: Former = dict.fromkeys(entries)
        for key, value in held.items():
            if entries.get(key) == value:
                del former[key]
            else:
                former[key] = value
        changed[group] = former | changed[group] if group in changed else former
        self._count += len(entries) - len(held)
        if entries:
            self._blocks[group] = self._sole(unit, group, entries)
        else:
            del self._blocks[group]

    def _sole(self, unit: Unit, group: bytes, entries: dict[bytes, bytes]) -> _Sole:
        if len(entries) == 1 and group in entries:
            return _Sole(unit, entries[group], True)
        if len(self._fresh) >= FRESH:
            for name, one in self._fresh:
                one.compress(name)
            self._fresh.clear()
        block = _Sole(unit, entries)
        self._fresh.append((group, block))
        return block

    def _share(
        self, unit: Unit, group: bytes, block: _Shared, entries: dict[bytes, bytes], changed: FormerGroups
    ) -> None:
        claims, holders = block.claims, block.holders
        earlier = changed.get(group, {})
        # Former keys stay listed until the end: if the rank function raises, the next call visits them too.
        block.keys[unit] = block.keys.get(unit, frozenset()) | entries.keys()
        for key in block.keys[unit]:
            before = claims.get(key, {})
            wanted = {one: value for one, value in before.items() if one != unit}
            if key in entries:
                wanted[unit] = entries[key]
            former = before[holders[key]] if key in holders else None
            if wanted:
                holders[key] = self._winner(key, wanted)
                claims[key] = wanted
            else:
                claims.pop(key, None)
                holders.pop(key, None)
            if former != (wanted[holders[key]] if wanted else None):
                earlier.setdefault(key, former)
                changed[group] = earlier
            self._count += bool(wanted) - (former is not None)
        if entries:
            block.keys[unit] = frozenset(entries)
        else:
            del block.keys[unit]
        if not claims:
            del self._blocks[group]  # others may have failed before they claimed anything
        elif len(block.keys) == 1:
            self._blocks[group] = self._sole(next(iter(block.keys)), group, block.entries(group))

    def _winner(self, key: bytes, wanted: Mapping[Unit, bytes]) -> Unit:
        if len(wanted) == 1:
            return next(iter(wanted))
        return min(wanted, key=lambda unit: (self._rank(unit, key, wanted[unit]), unit))


def _as_tuple(groups: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The groups of a unit as a tuple; a single group is stored bare, to save memory."""
    return (groups,) if isinstance(groups, bytes) else groups


class Comparison(Struct):
    """One comparison of the claims with all keys of etcd, page by page; claims must not change meanwhile."""

    _within: Callable[[bytes], Mapping[bytes, bytes]]
    _runs: Callable[[Iterable[bytes]], Iterator[tuple[bytes, list[bytes]]]]
    _blocks: Mapping[bytes, _Sole | _Shared]
    _number: int
    _left: dict[bytes, set[bytes]] = field(default_factory=dict)

    def differing(self, found: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """The entries of a page whose value is not the desired one.  Each key may be in one page only."""
        differing: dict[bytes, bytes] = {}
        for group, keys in self._runs(found):
            wanted = self._within(group)
            for key in keys:
                if wanted.get(key) != found[key]:
                    differing[key] = found[key]
            if not wanted:
                continue
            left = self._left.pop(group, None) or set(wanted)
            left.difference_update(keys)
            if left:
                self._left[group] = left
            else:
                self._blocks[group].complete_in = self._number
        return differing

    def missing(self) -> Iterator[bytes]:
        """The claimed keys that were in no page."""
        for group, block in self._blocks.items():
            if block.complete_in != self._number:
                yield from self._left.get(group) or block.entries(group)


class ExclusiveNames:
    """The holder of each name that only one unit may have: the oldest, then by namespace and name.

    Two Services cannot share a name: a CNAME allows no other data, and SRV records of one would point to
    addresses of the other.
    """

    def __init__(self) -> None:
        self._wanting: dict[Name, list[tuple[Seniority, Unit]]] = {}
        self.wanted: dict[Unit, Mapping[Name, Seniority]] = {}
        self.changed: set[Unit] = set()
        """Units that gained or lost a name, or want one that another unit holds; the caller empties it."""

    def want(self, unit: Unit, names: Mapping[Name, Seniority]) -> None:
        """Replace all names that ``unit`` wants, each with the unit's seniority."""
        before = self.wanted.pop(unit, {})
        if names:
            self.wanted[unit] = names
        for name in before.keys() | names.keys():
            wanting = self._wanting.setdefault(name, [])
            holder = wanting[0][1] if wanting else None
            if name in before:
                wanting.remove((before[name], unit))
            if name in names:
                insort(wanting, (names[name], unit))
            heir = wanting[0][1] if wanting else None
            if not wanting:
                del self._wanting[name]
            if heir != holder:
                self.changed |= {one for one in (holder, heir) if one is not None and one != unit}
            if name in names and heir != unit:
                self.changed.add(unit)

    def holder(self, name: Name) -> Unit | None:
        """The unit that holds the name; None if no unit wants it."""
        wanting = self._wanting.get(name)
        return wanting[0][1] if wanting else None

    def losers(self, name: Name) -> list[Unit]:
        """The units that want the name but do not hold it, the next in line first."""
        return [unit for _, unit in self._wanting.get(name, [])[1:]]
