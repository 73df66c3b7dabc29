"""What etcd should hold: the desired entries, kept up to date unit by unit.

A unit is derived as a whole, but only keys whose value changed are returned, so the cost follows the change.
Several units may claim one key (the PTR of a shared address, a pod name on the host's network).  A PTR record
goes to a Service first, since the API server assigned its address, and to a machine last, since its guest
chooses the address; then the shorter name wins, a hostname before a dashed address, then the older object,
then namespace and name.  A Service's or machine's name inside a longer zone is left out, since the server
looks it up in that zone.  Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from typing import TypeAlias

from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.sync.claims import Claims, ExclusiveNames, FormerGroups, Groups, Rank, Seniority
from kube2etcd.zones.base import Expected, Published, Taken, Zone, sort_of
from kube2etcd.zones.cluster import ClusterZone, dashed
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from skydns_compat.layout import Layout
from skydns_compat.message import decode
from skydns_compat.names import Name, address_of
from skydns_compat.records import Alias, Pointer, Record

_ByZone: TypeAlias = list[tuple[Zone, Published]]

#: Precedence of PTR records by kind of object; the lowest wins.
_PTR_PRECEDENCE = {"services": 0, "virtualmachineinstances": 2}
#: Rank of an empty non-terminal; any data wins.
_NON_TERMINAL = 3


class Publisher:
    """Desired entries of a store, under one layout."""

    def __init__(
        self, store: Store, layout: Layout, zone: ClusterZone | None, others: Sequence[Zone] = ()
    ) -> None:
        self.store = store
        self.layout = layout
        self._set_zones((zone, *others) if zone is not None else tuple(others))
        self.desired = Claims(self.groups, self._rank)
        self._changed: FormerGroups = {}
        self._non_terminals: dict[Unit, frozenset[bytes]] = {}
        self._selecting: dict[str, frozenset[Name]] = {}  # Namespace -> zones that its labels select it for
        self._reverse = f"{layout.prefix}/arpa/".encode()
        self._left_out: dict[Unit, tuple[str, ...]] = {}
        self.left_out_counts: Counter[str] = Counter()
        """Count of records left out, by sort of the reason."""
        self._exclusive = ExclusiveNames()
        self._unexpected: list[tuple[Unit, str]] = []
        self.refresh(self._zone_units)

    def rezone(self, external: Iterable[Zone]) -> set[Unit]:
        """Replace the external zones; returns the units to `refresh`, former zones included."""
        before = set(self._zone_units)
        kept = [one for one in self.zones if not isinstance(one, ExternalZone)]
        self._set_zones((*kept, *external))
        for group, former in self.desired.regroup(self.groups).items():
            self._changed[group] = former | self._changed.get(group, {})
        return before | set(self.units())

    def _set_zones(self, zones: tuple[Zone, ...]) -> None:
        """Index the zones: by kind of object, by nesting, and those that select Namespaces by label."""
        self.zones: tuple[Zone, ...] = zones
        self._zone_units = {Unit("zones", "", str(one.name)): one for one in zones}
        self._external = [one.name for one in zones if isinstance(one, ExternalZone)]
        self._within = {
            outer.name: [one.name for one in zones if one.name != outer.name and one.name.below(outer.name)]
            for outer in zones
        }
        self._by_kind: dict[str, list[Zone]] = {}
        for one in zones:
            for kind in one.kinds:
                self._by_kind.setdefault(kind, []).append(one)
        self._divided = bool(self._external) or any(self._within.values())
        self.groups = Groups(self.layout, zones)
        self._selective = [one for one in zones if isinstance(one, ServicesZone) and one.follows_namespaces()]

    @property
    def cluster(self) -> ClusterZone | None:
        """The cluster zone, if configured."""
        return next((one for one in self.zones if isinstance(one, ClusterZone)), None)

    def refresh(self, units: Iterable[Unit]) -> FormerGroups:
        """Derive these units again; returns the keys whose desired value changed, with the former one.

        If a Namespace is among them, so must be the Services that depend on its labels
        (`with_affected_services`).  After a unit raised an error, the next call also returns what had changed
        before.
        """
        exclusive, changed = self._exclusive, self._changed
        for unit in units:
            found = self._derive(unit)
            wanted: dict[Name, Seniority] = {}
            for _, published in found:
                name = published.exclusive_name
                # A unit without records there does not want the name.
                if name is not None and any(record.name.below(name) for record in published.records):
                    wanted[name] = self.seniority(unit)
            if wanted or unit in exclusive.wanted:
                exclusive.want(unit, wanted)
            if unit not in exclusive.changed:
                self.desired.put(unit, self._claim(unit, found), changed)
        # Only now are the holders of exclusive names final.
        for unit in sorted(exclusive.changed):
            exclusive.changed.discard(unit)
            self.desired.put(unit, self._claim(unit, self.by_zone(unit)), changed)
        self._changed = {}
        return changed

    def published(self, unit: Unit) -> Published:
        """The records of one unit in all zones, with the reasons for records left out."""
        whole = Published()
        rejected = self.store.rejected(unit)
        if rejected is not None:
            whole.left_out.append(rejected.reason)
            return whole
        for _, one in self.by_zone(unit):
            whole.records += one.records
            whole.pointers += one.pointers
            whole.non_terminals += one.non_terminals
            whole.left_out += one.left_out
        return whole

    def by_zone(self, unit: Unit) -> _ByZone:
        """The records of a unit per zone, without those at a name that another unit holds."""
        found = self._derive(unit)
        for _, published in found:
            name = published.exclusive_name
            holder = self._exclusive.holder(name) if name is not None else None
            if holder not in (None, unit):
                published.records.clear()
                published.left_out.append(
                    Taken(f"{name} is {holder}'s, which is older, or as old and first by namespace")
                )
        return found

    def _derive(self, unit: Unit) -> _ByZone:
        """The records of a unit per zone, before exclusive names are given out."""
        rejected = self.store.rejected(unit)
        if rejected is not None:
            return [(zone, Published(left_out=[rejected.reason])) for zone in self.zones]
        if unit in self._zone_units:
            zone = self._zone_units[unit]
            return [(zone, zone.own())]
        found = [(zone, zone.publish(unit, self.store)) for zone in self._by_kind.get(unit.kind, ())]
        if unit.kind != NAMES:
            for zone, published in found:
                if self._divided:
                    self._leave_to_others(zone, published)
                records = published.records
                if records and isinstance(records[0].data, Alias):
                    self._limit_alias(zone, published, records[0].name, records[0].data.target)
        return found

    def _leave_to_others(self, zone: Zone, published: Published) -> None:
        """Leave out names that the server looks up in another zone."""
        within = self._within[zone.name]
        for records in (published.records, published.non_terminals):
            records[:] = [one for one in records if not self._leave_out_if_in(one.name, within, published)]
        published.pointers = [
            one
            for one in published.pointers
            # A PTR must point to a name that exists, so not to one left out above.
            if not (isinstance(one.data, Pointer) and any(map(one.data.target.below, within)))
            and not self._leave_out_if_in(one.name, self._external, published)
        ]

    def _limit_alias(self, zone: Zone, published: Published, name: Name, target: Name) -> None:
        """Keep an alias to a name of its own zone from answering with entries below that name."""
        if not self.layout.can_follow(target):
            published.left_out.append(
                f"{target} cannot be followed: the server would read the keys of others"
            )
        if not target.below(zone.name):
            return
        answering = self.zone_of(target)
        if answering is not None and not answering.can_follow(target):
            published.records[0] = Record(name, Alias(target, follow=False), published.records[0].ttl)
            published.left_out.append(Expected(f"{target} has no addresses that an alias can lead to"))

    def _leave_out_if_in(self, name: Name, zones: Iterable[Name], published: Published) -> bool:
        """Whether ``name`` is in one of ``zones``; if so, adds that as a reason."""
        other = next(filter(name.below, zones), None)
        if other is not None:
            what = "external domain" if other in self._external else "zone"
            published.left_out.append(Taken(f"{name} is in the {what} {other}"))
        return other is not None

    def key(self, name: Name) -> bytes:
        """The key that is in etcd exactly if the name exists."""
        zone = self.zone_of(name)
        return zone.key(self.layout, name) if zone is not None else self.layout.key(name)

    def zone_of(self, name: Name) -> Zone | None:
        """The zone that answers for the name, the longest that contains it; None if none does."""
        holding = [zone for zone in self.zones if name.below(zone.name)]
        return max(holding, key=lambda zone: len(zone.name.labels), default=None)

    def units(self) -> Iterator[Unit]:
        """The zones themselves and every unit of the store."""
        yield from self._zone_units
        yield from self.store.units()

    def losers(self, name: Name) -> list[Unit]:
        """The units that want the exclusive ``name`` but do not hold it, the next in line first."""
        return self._exclusive.losers(name)

    def left_out_units(self) -> KeysView[Unit]:
        """The units with records left out; `published` says which and why."""
        return self._left_out.keys()

    def take_reasons(self) -> list[tuple[Unit, str]]:
        """Pairs of a unit and a reason why a record was left out since the last call.

        Without `Expected` reasons, and without rejected objects, which are logged as they arrive.
        """
        reasons, self._unexpected = list(dict.fromkeys(self._unexpected)), []
        return reasons

    def with_affected_services(self, units: set[Unit]) -> set[Unit]:
        """``units``, plus the Services of those Namespaces that a zone has started or ceased to select."""
        namespaces = [unit.name for unit in units if unit.kind == "namespaces"]
        changed = [one for one in namespaces if self._selection_changed(one)]
        return units.union(*(self.store.within("services", one) for one in changed))

    def _selection_changed(self, namespace: str) -> bool:
        selecting = frozenset(one.name for one in self._selective if one.selects(namespace, self.store))
        before = self._selecting.pop(namespace, frozenset())
        if selecting:
            self._selecting[namespace] = selecting
        return selecting != before

    def seniority(self, unit: Unit) -> Seniority:
        """creationTimestamp, namespace, name: the order in which units are given exclusive names."""
        return (self.store.age(unit), unit.namespace, unit.name)

    def _claim(self, unit: Unit, found: _ByZone) -> Mapping[bytes, bytes]:
        """The keys and values of a unit; counts and records what is left out."""
        claims: dict[bytes, bytes] = {}
        non_terminals: dict[bytes, bytes] = {}
        left_out: list[str] = []
        for zone, published in found:
            left_out += published.left_out
            if published.records:
                entries = zone.entries(self.layout, published.records)
                claims = claims | entries if claims else entries
            if published.non_terminals:
                non_terminals |= zone.entries(self.layout, published.non_terminals)
            if published.pointers:
                claims = self.layout.entries(published.pointers, zone.name) | claims
        self._non_terminals.pop(unit, None)
        if non_terminals:
            self._non_terminals[unit] = frozenset(non_terminals.keys() - claims.keys())
            claims = non_terminals | claims
        if unit in self._left_out:
            self.left_out_counts.subtract(self._left_out.pop(unit))
        rejected = self.store.rejected(unit) is not None
        if rejected or left_out:
            sorts = ("unreadable",) if rejected else tuple(map(sort_of, left_out))
            self._left_out[unit] = sorts
            self.left_out_counts.update(sorts)
        if left_out and not rejected:
            self._unexpected += [(unit, reason) for reason in left_out if not isinstance(reason, Expected)]
        return claims

    def exists(self, unit: Unit) -> bool:
        """Whether the unit has an object, readable or not."""
        if unit.kind == NAMES:
            return bool(self.store.holders(unit.name))
        return unit in self._zone_units or self.store.knows(unit)

    def _rank(self, unit: Unit, key: bytes, value: bytes) -> Rank:
        """The rank of a unit among the claimants of a key; called only where there are several.

        For a PTR record, ``length`` is twice the number of the target's labels, plus 1 for a dashed address,
        which yields to a hostname among names of equal length.
        """
        if key in self._non_terminals.get(unit, ()):
            # The zone's own apex comes before non-terminals of units in it.
            return (_NON_TERMINAL, unit not in self._zone_units, "", "", "")
        precedence = length = 0
        if key.startswith(self._reverse):
            precedence = _PTR_PRECEDENCE.get(unit.kind, 1)
            target = decode(value).host.split(".")
            name = self.layout.name(key)
            address = address_of(name) if name is not None else None
            length = 2 * len(target) + (address is not None and target[0] == dashed(address))
        return (precedence, length, *self.seniority(unit))
