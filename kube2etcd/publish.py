"""What etcd should hold: the desired entries, kept up to date unit by unit.

A unit is looked at again as a whole; the keys whose desired value may have changed come back, and
nothing else is touched, so cost follows the change.  Several units may claim one key (a PTR of a
shared address, a pod name on the host's network).  Of PTR records a Service's wins over all others,
whose addresses the API server did not give, and a machine's, whose guest chooses them, loses to all;
then the shorter name wins, then the older object, then namespace and name.  No state decides, so a
restart decides alike.  Two machines that share a name (interface ``my`` of ``vm``, and ``my.vm``)
have different keys and answer both.  A name of a Service or machine that lies in a longer zone is left
out, since the server asks that zone, and what it answers there is for that zone to say.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from kube2etcd.cluster.objects import ApiObject
from kube2etcd.cluster.store import NAMES, Store, Unit
from kube2etcd.reasons import Reasons
from kube2etcd.sources.cluster import ClusterZone
from kube2etcd.sources.published import Published
from kube2etcd.zones import InCluster, OfExternal, Zone
from skydns_compat.layout import OWN, Layout
from skydns_compat.names import Name
from skydns_compat.records import Pointer, Record

#: Order among those who claim one key; the smallest has it.
Rank: TypeAlias = tuple[int, int, str, str, str]
_Claims: TypeAlias = dict[bytes, tuple[Rank, bytes]]

#: An object that does not say when it was made comes after all that do.
_NO_AGE = "~"
#: Whose PTR record comes before, by kind: the later, the less the claim to an address is worth.
_CLAIM_TO_ADDRESSES = {"services": 0, "virtualmachineinstances": 2}
_OWN = f"/{OWN}".encode()
#: What everybody's data come before who only says that a name is above others.
_A_STEP_ONLY = 3


class Publisher:
    """Desired entries of a store, under one layout."""

    def __init__(
        self, store: Store, layout: Layout, zone: ClusterZone | None, others: Sequence[Zone] = ()
    ) -> None:
        self.store = store
        self.layout = layout
        self.zones: tuple[Zone, ...] = ()
        self.desired: dict[bytes, bytes] = {}
        self._claims: dict[Unit, _Claims] = {}
        self._claimants: dict[bytes, Unit | set[Unit]] = {}
        self._refused: dict[Unit, int] = {}
        self.told = Reasons()
        self._untold: list[tuple[Unit, str]] = []
        self._take((InCluster(zone), *others) if zone is not None else tuple(others))
        self.refresh(self._zone_units)

    def rezone(self, external: Iterable[Zone]) -> set[Unit]:
        """Let ``external`` stand for the external zones; the units to look at again."""
        before = set(self._zone_units)
        kept = [one for one in self.zones if not isinstance(one, OfExternal)]
        self._take((*kept, *external))
        return before | set(self.units())

    def _take(self, zones: tuple[Zone, ...]) -> None:
        self.zones = zones
        self._zone_units = {Unit("zones", "", str(one.name)): one for one in zones}
        self._external = [one.name for one in zones if isinstance(one, OfExternal)]
        self._within = {
            outer.name: [one.name for one in zones if one.name != outer.name and one.name.below(outer.name)]
            for outer in zones
        }
        self._below = [(self.layout.zone_range(one.name), len(one.name.labels) + one.depth) for one in zones]
        self._follows_namespaces = any(one.follows_namespaces() for one in zones)

    @property
    def cluster(self) -> ClusterZone | None:
        """The cluster's zone, where there is one."""
        return next((one.settings for one in self.zones if isinstance(one, InCluster)), None)

    def refresh(self, units: Iterable[Unit]) -> set[bytes]:
        """Look at these units again; the keys whose desired value may differ now."""
        changed: set[bytes] = set()
        for unit in self._with_followers(units):
            before = self._claims.pop(unit, {})
            after = self._claim(unit)
            if after:
                self._claims[unit] = after
            for key in before.keys() - after.keys():
                self._withdraw(key, unit)
            for key in after.keys() - before.keys():
                self._enter(key, unit)
            changed.update(before.keys() - after.keys())
            changed.update(key for key, claim in after.items() if before.get(key) != claim)
        for key in changed:
            self._settle(key)
        return changed

    def published(self, unit: Unit) -> Published:
        """The records of one unit in all zones, and what it leaves out."""
        whole = Published()
        for _, one in self.by_zone(unit):
            whole.records += one.records
            whole.pointers += one.pointers
            whole.steps += one.steps
            whole.left_out += one.left_out
        return whole

    def by_zone(self, unit: Unit) -> Iterator[tuple[Zone, Published]]:
        """What a unit has in each zone."""
        rejected = self.store.rejected(unit)
        if rejected is not None:
            yield self.zones[0], Published(left_out=[rejected.reason])
        elif unit in self._zone_units:
            zone = self._zone_units[unit]
            yield zone, zone.itself()
        else:
            for zone in self.zones:
                published = zone.publish(unit, self.store)
                if not isinstance(zone, OfExternal):
                    self._leave_to_others(zone, published)
                yield zone, published

    def _leave_to_others(self, zone: Zone, published: Published) -> None:
        """Take out what the server would not ask for here."""
        within = self._within[zone.name]
        if within:
            published.records = [
                one for one in published.records if not self._elsewhere(one.name, within, published)
            ]
            # An address leads back to names that exist: to none of those that were taken out.
            published.pointers = [
                one for one in published.pointers if not any(map(_target(one).below, within))
            ]
        if self._external:
            published.pointers = [
                one for one in published.pointers if not self._elsewhere(one.name, self._external, published)
            ]

    def _elsewhere(self, name: Name, zones: Iterable[Name], published: Published) -> bool:
        other = next(filter(name.below, zones), None)
        if other is not None:
            what = "external domain" if other in self._external else "zone"
            published.left_out.append(f"{name} is in the {what} {other}")
        return other is not None

    def key(self, name: Name) -> bytes:
        """The one key that a name has if it exists."""
        zone = self.zone_of(name)
        return zone.key(self.layout, name) if zone is not None else self.layout.key(name)

    def zone_of(self, name: Name) -> Zone | None:
        """The zone that answers for the name: the longest of those that it is in."""
        holding = [zone for zone in self.zones if name.below(zone.name)]
        return max(holding, key=lambda zone: len(zone.name.labels), default=None)

    def units(self) -> Iterator[Unit]:
        """The zones themselves and every unit of the store."""
        yield from self._zone_units
        yield from self.store.units()

    def holder(self, key: bytes) -> Unit | None:
        """The unit whose value stands at ``key``."""
        claimants = self._claimants.get(key)
        if isinstance(claimants, set):
            # A set has no order: units of one rank are told apart by what they are.
            return min(claimants, key=lambda unit: (self._claims[unit][key][0], unit))
        return claimants

    def left_out(self) -> int:
        """How many records were asked for and could not be made."""
        return sum(self._refused.values())

    def untold(self) -> list[tuple[Unit, str]]:
        """What was left out for an odd reason since the last call; each reason once for each object."""
        untold, self._untold = self._untold, []
        return untold

    def group(self, key: bytes) -> bytes:
        """What changes in one transaction with ``key``: its object's subtree, or the key alone."""
        head, own, _ = key.partition(_OWN)
        if own:
            return head + own
        for below, deep in self._below:
            if key.startswith(below):
                depth = self.layout.prefix.count("/") + deep + 1
                return b"/".join(key.split(b"/", depth)[:depth])
        return key

    def _with_followers(self, units: Iterable[Unit]) -> Iterable[Unit]:
        """The units, and the Services that a namespace's labels decide about."""
        if not self._follows_namespaces:
            return units
        chosen = set(units)
        namespaces = {unit.name for unit in chosen if unit.kind == "namespaces"}
        if namespaces:
            chosen |= {
                unit
                for unit in self.store.units()
                if unit.kind == "services" and unit.namespace in namespaces
            }
        return chosen

    def _claim(self, unit: Unit) -> _Claims:
        age = _age(self.store.get(unit))
        claims: _Claims = {}
        left_out = 0
        odd: list[str] = []
        for zone, published in self.by_zone(unit):
            left_out += len(published.left_out)
            odd += published.odd()
            rank = (0, 0, age, unit.namespace, unit.name)
            for key, value in zone.entries(self.layout, published.records).items():
                claims[key] = (rank, value)
            # A zone's own word that its apex exists comes before that of any name in it.
            rank = (_A_STEP_ONLY, unit not in self._zone_units, "", "", "")
            for key, value in zone.entries(self.layout, published.steps).items():
                claims.setdefault(key, (rank, value))
            for record in published.pointers:
                worth = _CLAIM_TO_ADDRESSES.get(unit.kind, 1)
                rank = (worth, len(_target(record).labels), age, unit.namespace, unit.name)
                for key, value in self.layout.entries([record], zone.name).items():
                    claims.setdefault(key, (rank, value))
        self._count(unit, left_out)
        if self.store.rejected(unit) is None:
            if age or unit in self._zone_units or (unit.kind == NAMES and self.store.holders(unit.name)):
                self._untold += [(unit, reason) for reason in self.told.fresh(unit, odd)]
            else:
                self.told.forget(unit)
        return claims

    def _enter(self, key: bytes, unit: Unit) -> None:
        present = self._claimants.get(key)
        if present is None:
            self._claimants[key] = unit
        elif isinstance(present, set):
            present.add(unit)
        else:
            self._claimants[key] = {present, unit}

    def _withdraw(self, key: bytes, unit: Unit) -> None:
        present = self._claimants[key]
        if isinstance(present, set):
            present.discard(unit)
            if len(present) == 1:
                self._claimants[key] = present.pop()
        else:
            del self._claimants[key]

    def _settle(self, key: bytes) -> None:
        holder = self.holder(key)
        if holder is None:
            self.desired.pop(key, None)
        else:
            self.desired[key] = self._claims[holder][key][1]

    def _count(self, unit: Unit, left_out: int) -> None:
        if left_out:
            self._refused[unit] = left_out
        else:
            self._refused.pop(unit, None)


def _target(record: Record) -> Name:
    return record.data.target if isinstance(record.data, Pointer) else record.name


def _age(one: ApiObject | None) -> str:
    return (one.metadata.creation_timestamp or _NO_AGE) if one is not None else ""
