"""External domains: what ExternalDNS and DNSEndpoint objects say of a name, as records.

The endpoints of one name are combined, whichever object or call they come from.  Ownership texts are
never published; what the server cannot express is left out with a reason, at no other name's cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kube2etcd.external import Domain, is_ownership, managed
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.zones.base import Published, Taken, Zone, longest
from kube2etcd.zones.targets import MAX_ALIASES, Known, NameData, name_data, resolve
from skydns_compat.layout import Layout
from skydns_compat.layout_external import MAX_QUESTION, external_entries, fits, own_name, target_fits
from skydns_compat.names import Address, InvalidName, Name
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Record, Srv, Text

#: Octets of a text that fit into one answer.
MAX_TEXT: Final = 16000


@dataclass(frozen=True, slots=True)
class ExternalZone(Zone):
    """One external zone, and the ``domains`` in it.

    ``cluster_ips`` replace an alias that leads to itself.  ``service_zones`` are the server's other
    zones: a name in a longer one of them belongs to that, and no alias may lead into any, since zones
    that lead to each other keep the server busy for ever.  ``ttl`` in seconds.
    """

    name: Name
    domains: tuple[Domain, ...]
    ttl: int = 30
    cluster_ips: tuple[Address, ...] = ()
    service_zones: tuple[Name, ...] = ()
    all_domains: tuple[Domain, ...] = ()
    """Of all external zones: the server follows an alias from one to another by asking itself, so it
    must not lead to an unknown name, which might lead back."""
    kinds = frozenset({NAMES})

    def own(self) -> Published:
        """The apex."""
        return external_zone_records(self)

    def publish(self, unit: Unit, store: Store) -> Published:
        """Names, from whichever objects they stand in."""
        return external_records(unit.name, store.endpoints, self) if unit.kind == NAMES else Published()

    def can_follow(self, name: Name) -> bool:
        """Nothing: the data of a name are below `own_name`, and those of other names beside it."""
        return False

    def entries(self, layout: Layout, records: Iterable[Record]) -> dict[bytes, bytes]:
        """Keys of any depth."""
        return external_entries(layout, records, self.name)

    def key(self, layout: Layout, name: Name) -> bytes:
        """Where the name's own data are."""
        return layout.key(own_name(name))

    def elsewhere(self, name: Name) -> Name | None:
        """The zone of Services that answers ``name`` instead of this one."""
        found = longest((*self.service_zones, self.name), name)
        return found if found != self.name or found in self.service_zones else None


def zones_of(domains: Iterable[Domain]) -> dict[Name, tuple[Domain, ...]]:
    """The zones to serve for ``domains``: the outermost of them, each with the domains in it."""
    found: dict[Name, tuple[Domain, ...]] = {}
    for domain in sorted(set(domains), key=lambda one: (len(one.name.labels), one)):
        zone = next((zone for zone in found if domain.name.below(zone)), domain.name)
        found[zone] = (*found.get(zone, ()), domain)
    return found


def external_zone_records(zone: ExternalZone) -> Published:
    """The apex exists, with or without data."""
    return Published(non_terminals=[Record(zone.name, Exists(), zone.ttl)])


def external_records(text: str, known: Known, zone: ExternalZone) -> Published:
    """The records of the name ``text`` (as `plain_name` gives it); nothing when ``zone`` does not have it."""
    published = Published()
    endpoints = [one for one in known(text) if not is_ownership(one)]
    if not endpoints or not Domain(zone.name).has(text) or not managed(zone.domains, text):
        return published
    try:
        name = Name.parse(text)
    except InvalidName as error:
        why = "a wildcard names nothing here" if text.startswith("*.") else str(error)
        published.left_out.append(f"{text} has no records: {why}")
        return published
    if not fits(name):
        published.left_out.append(
            f"{text} cannot be asked for: {MAX_QUESTION} characters are allowed, and no label any, a wildcard"
        )
        return published
    other = zone.elsewhere(name)
    if other is not None:
        published.left_out.append(Taken(f"{name} is in the zone {other}, which has names of its own"))
        return published
    data = name_data(endpoints, text, zone.ttl)
    published.left_out += data.left_out
    published.records += [
        Record(name, one, data.ttls[one.rtype]) for one in _records(name, data, known, zone, published)
    ]
    if published.records:
        published.non_terminals += [
            Record(Name(name.labels[cut:]), Exists(), zone.ttl)
            for cut in range(1, len(name.relative(zone.name)))
        ]
    return published


def _records(
    name: Name, data: NameData, known: Known, zone: ExternalZone, published: Published
) -> list[Data]:
    """What of ``data`` this server can express."""
    left_out = published.left_out
    others = []
    for one in data.others:
        reason = _not_expressed(one, name)
        if reason:
            left_out.append(f"{name} {one.rtype} {str(one)[:80]}: {reason}")
        else:
            others.append(one)
    if data.alias is None:
        return [*data.addresses, *others]
    end = resolve(str(name), data.alias, known)
    if end.ring:
        at_cluster = [Host(address) for address in zone.cluster_ips]
        data.ttls |= {one.rtype: data.ttls["CNAME"] for one in at_cluster}
        if not at_cluster:
            left_out.append(f"{name} leads to itself, and no cluster address stands for it")
        return [*at_cluster, *others]
    if end.too_long:
        reason = f"{name} leads through more than {MAX_ALIASES} aliases"
    else:
        reason = _not_followed(data.alias, known, zone)
    if reason:
        left_out.append(reason)
        return others
    left_out += [f"{name} is an alias, which has no {one.rtype} of its own" for one in others]
    return [data.alias]


def _not_followed(alias: Alias, known: Known, zone: ExternalZone) -> str:
    """Why the server must not follow ``alias``; empty: it may."""
    target = alias.target
    inner = zone.elsewhere(target)
    if inner is not None:
        return f"{target} leads into {inner}, another zone of this server"
    if target.below(zone.name):
        return "" if fits(target) else f"{target} cannot be asked for, so nothing leads there"
    if managed(zone.all_domains, str(target)) and not [*known(str(target))]:
        return f"{target} is in another external domain, and not known here"
    return ""


def _not_expressed(data: Data, name: Name) -> str:
    """Why this server cannot answer ``data``; empty: it can."""
    match data:
        case Text(text) if len(text.encode(errors="replace")) > MAX_TEXT:
            return f"longer than {MAX_TEXT} octets"
        case Text(text) if "\\" in text or not text.isprintable():
            return "a backslash or a character that cannot be printed, which the server loses"
        case Srv(target=target) | Mail(target=target) if not target_fits(target, name):
            return "too long beside its name for this server"
    return ""
