"""External domains: names from ExternalDNS and DNSEndpoint objects to records.

The endpoints of one name are combined, whichever object or call they come from.  Ownership texts are never
published; what the server cannot express is left out with a reason and affects no other name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from kube2etcd.external import Domain, is_ownership, managed
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.zones.base import Published, Taken, Zone, longest
from kube2etcd.zones.targets import MAX_ALIASES, EndpointsOf, NameData, name_data, resolve
from skydns_compat.layout import Layout
from skydns_compat.layout_external import MAX_QUESTION, external_entries, fits, own_name, target_fits
from skydns_compat.names import Address, InvalidName, Name
from skydns_compat.records import Data, Exists, Host, Mail, Record, Srv, Text

#: Octets of a text that fit into one answer.
MAX_ANSWER_TEXT: Final = 16000


@dataclass(frozen=True, slots=True)
class ExternalZone(Zone):
    """One external zone, and the ``domains`` in it.

    ``cluster_ips`` replace an alias in a CNAME loop.  ``service_zones`` are the server's other
    zones: a name inside a longer one belongs to that zone, and no alias may point into any, since aliases
    that point back and forth between zones would keep the server busy forever.  ``ttl`` in seconds.
    """

    name: Name
    domains: tuple[Domain, ...]
    ttl: int = 30
    cluster_ips: tuple[Address, ...] = ()
    service_zones: tuple[Name, ...] = ()
    all_domains: tuple[Domain, ...] = ()
    """All external domains: the server follows an alias from one to another by querying itself, so it must
    not point to an unknown name, which might point back."""
    kinds = frozenset({NAMES})

    def own(self) -> Published:
        """The apex, as an empty non-terminal: a name in the domain may add data to it."""
        return Published(non_terminals=[Record(self.name, Exists(), self.ttl)])

    def publish(self, unit: Unit, store: Store) -> Published:
        """The records of a name from all objects that have it; empty if it is not in this zone."""
        published = Published()
        text, known = unit.name, store.endpoints
        if unit.kind != NAMES or not managed(self.domains, text):
            return published
        endpoints = [one for one in known(text) if not is_ownership(one)]
        if not endpoints:
            return published
        try:
            name = Name.parse(text)
        except InvalidName as error:
            why = "wildcards are not supported" if text.startswith("*.") else error
            published.left_out.append(f"{text} has no records: {why}")
            return published
        if not fits(name):
            published.left_out.append(
                f"{text} cannot be queried: at most {MAX_QUESTION} characters, and no label any, a wildcard"
            )
        elif other := self.elsewhere(name):
            if any(one.name.below(other) and one.has(text) for one in self.all_domains):
                return published  # by the zone of that domain
            published.left_out.append(Taken(f"{name} is in the zone {other}, which has names of its own"))
        else:
            data = name_data(endpoints, text, self.ttl)
            published.left_out += data.left_out
            answerable = self._answerable(name, data, known, published.left_out)
            published.records += [Record(name, one, data.ttls[one.rtype]) for one in answerable]
            if answerable:
                above = (Name(name.labels[cut:]) for cut in range(1, len(name.relative(self.name))))
                published.non_terminals += [Record(one, Exists(), self.ttl) for one in above]
        return published

    def _answerable(self, name: Name, data: NameData, known: EndpointsOf, left_out: list[str]) -> list[Data]:
        """The part of ``data`` that this server can answer; adds the reasons for the rest to ``left_out``."""
        others = []
        for one in data.others:
            if reason := _why_unanswerable(one, name):
                left_out.append(f"{name} {one.rtype} {str(one)[:80]}: {reason}")
            else:
                others.append(one)
        if data.alias is None:
            return [*data.addresses, *others]
        end = resolve(str(name), data.alias, known)
        if end.loop:
            at_cluster = [Host(address) for address in self.cluster_ips]
            data.ttls |= {one.rtype: data.ttls["CNAME"] for one in at_cluster}
            if not at_cluster:
                left_out.append(f"{name} is in a CNAME loop, and no cluster address is set to answer with")
            return [*at_cluster, *others]
        if end.too_long:
            reason = f"{name} has a CNAME chain of more than {MAX_ALIASES} aliases"
        else:
            reason = self._why_not_followed(data.alias.target, known)
        if reason:
            left_out.append(reason)
            return others
        left_out += [f"{name} is an alias, which has no {one.rtype} of its own" for one in others]
        return [data.alias]

    def _why_not_followed(self, target: Name, known: EndpointsOf) -> str:
        """Why the server must not follow an alias to ``target``; empty: it may."""
        if inner := self.elsewhere(target):
            return f"{target} is in {inner}, another zone of this server"
        if target.below(self.name):
            return "" if fits(target) else f"{target} is a name that cannot be queried"
        if managed(self.all_domains, str(target)) and not [*known(str(target))]:
            return f"{target} is in another external domain, and not known here"
        return ""

    def can_follow(self, name: Name) -> bool:
        """Never: below a name are also the keys of other names; only `own_name` has its data alone."""
        return False

    def entries(self, layout: Layout, records: Iterable[Record]) -> dict[bytes, bytes]:
        """Key to value for ``records``; names of any depth may have others below them."""
        return external_entries(layout, records, self.name)

    def key(self, layout: Layout, name: Name) -> bytes:
        """The key of the name's own data."""
        return layout.key(own_name(name))

    def elsewhere(self, name: Name) -> Name | None:
        """The other zone that answers ``name`` instead of this one."""
        found = longest((*self.service_zones, self.name), name)
        return found if found != self.name else None


def zones_of(
    domains: Iterable[Domain], service_zones: Collection[Name] = ()
) -> dict[Name, tuple[Domain, ...]]:
    """The zones to serve for ``domains``: the outermost ones, each with itself and the domains inside it.

    Inside one of the ``service_zones``, which the server asks instead of those around it, a domain is a zone.
    """
    found: dict[Name, tuple[Domain, ...]] = {}
    for domain in sorted(set(domains), key=lambda one: (len(one.name.labels), one)):
        around = longest((*service_zones, *found), domain.name)
        zone = around if around in found else domain.name
        found[zone] = (*found.get(zone, ()), domain)
    return found


def _why_unanswerable(data: Data, name: Name) -> str:
    """Why this server cannot answer ``data``; empty: it can."""
    match data:
        case Text(text) if len(text.encode(errors="replace")) > MAX_ANSWER_TEXT:
            return f"longer than {MAX_ANSWER_TEXT} octets"
        case Text(text) if "\\" in text or not text.isprintable():
            return "a backslash or an unprintable character, which the server would drop"
        case Srv(target=target) | Mail(target=target) if not target_fits(target, name):
            return "too long beside its name for this server"
    return ""
