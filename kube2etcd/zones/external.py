"""External domains: what ExternalDNS and DNSEndpoint objects say of a name, to records.

The endpoints of one name come together, whoever holds them.  Addresses win over an alias, an alias
over everything else; ownership texts are bookkeeping and no names; what the server cannot express is
left out with a reason, and harms nobody else.  No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kube2etcd.external import Domain, Endpoint, is_ownership, managed
from kube2etcd.zones.published import Published
from skydns_compat.names import Address, InvalidAddress, InvalidName, Name, parse_address
from skydns_compat.nested import MAX_QUESTION, fits, target_fits
from skydns_compat.records import Alias, Data, Exists, Host, Mail, Pointer, Record, Srv, Text

#: Octets of a text that surely come in one answer.
MAX_TEXT: Final = 16000
MAX_TTL: Final = 2**31 - 1
#: Aliases that are followed one after the other; the server gives up before that.
MAX_ALIASES: Final = 32
_VERSIONS: Final = {"A": 4, "AAAA": 6}

#: The endpoints of a name in plain form, for those who follow an alias.
Known = Callable[[str], Iterable[Endpoint]]


@dataclass(frozen=True, slots=True)
class ExternalZone:
    """One external zone: what is served as ``zone``, and which of ``domains`` its names may be in.

    ``cluster_ips`` stand for aliases that lead to themselves.  ``service_zones`` are the other zones
    of this server: names in a longer one of them are not ours, and no alias may lead into any, since
    zones that lead to each other keep the server busy for ever.  ``ttl`` in seconds.
    """

    zone: Name
    domains: tuple[Domain, ...]
    ttl: int = 30
    cluster_ips: tuple[Address, ...] = ()
    service_zones: tuple[Name, ...] = ()
    all_domains: tuple[Domain, ...] = ()
    """Of all external zones: an alias from one to another is followed by asking the server anew, so it
    must not lead to what we do not know, where it might lead back."""

    def elsewhere(self, name: Name) -> Name | None:
        """The zone of Services that answers a name which would be ours."""
        holding = [one for one in self.service_zones if name.below(one)]
        found = max(holding, key=lambda one: len(one.labels), default=None)
        return found if found is not None and len(found.labels) >= len(self.zone.labels) else None


class _Unusable(ValueError):
    """A target that cannot become a record; the message says why."""


@dataclass(slots=True)
class _Reading:
    """What the endpoints of one name say, by type, with the TTL that each type has."""

    found: dict[str, dict[Data, None]] = field(default_factory=dict)
    ttls: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def of(self, *types: str) -> list[Data]:
        return [data for rtype in types for data in self.found.get(rtype, ())]

    def records(self, name: Name, data: Iterable[Data]) -> list[Record]:
        return [Record(name, one, self.ttls[one.rtype]) for one in data]


def zones_of(domains: Iterable[Domain]) -> dict[Name, tuple[Domain, ...]]:
    """The zones to serve for ``domains``: the outermost of them, each with the domains that are in it."""
    found: dict[Name, tuple[Domain, ...]] = {}
    for domain in sorted(set(domains), key=lambda one: (len(one.name.labels), one)):
        zone = next((zone for zone in found if domain.name.below(zone)), domain.name)
        found[zone] = (*found.get(zone, ()), domain)
    return found


def external_zone_records(zone: ExternalZone) -> Published:
    """The apex exists, whatever data it has."""
    return Published(steps=[Record(zone.zone, Exists(), zone.ttl)])


def external_records(text: str, known: Known, zone: ExternalZone) -> Published:
    """The records of the name ``text`` (lower case, no last dot); nothing when it is not for ``zone``."""
    published = Published()
    endpoints = [one for one in known(text) if not is_ownership(one)]
    if not endpoints or not Domain(zone.zone).has(text) or not managed(zone.domains, text):
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
        published.left_out.append(f"{name} is in the zone {other}, which has names of its own")
        return published
    reading = _read(endpoints, name, zone.ttl)
    published.left_out += reading.left_out
    published.records += reading.records(name, _chosen(name, reading, known, zone, published))
    if published.records:
        published.steps += [
            Record(Name(name.labels[cut:]), Exists(), zone.ttl)
            for cut in range(1, len(name.relative(zone.zone)))
        ]
    return published


def _chosen(
    name: Name, reading: _Reading, known: Known, zone: ExternalZone, published: Published
) -> list[Data]:
    """Of all that was said of a name, what it can have together."""
    addresses, aliases = reading.of("A", "AAAA"), reading.of("CNAME")
    others = reading.of("TXT", "SRV", "MX")
    pointers = reading.of("PTR")
    left_out = published.left_out
    if len(pointers) > 1:
        left_out.append(f"{name} can have one PTR record: {pointers[0]} it is")
    if not aliases:
        return [*addresses, *others, *pointers[:1]]
    if addresses:
        left_out += [f"{name} has addresses, so it is no alias of {one}" for one in aliases]
        return [*addresses, *others, *pointers[:1]]
    left_out += [f"{name} is an alias already, so not of {one}" for one in aliases[1:]]
    target = aliases[0].target if isinstance(aliases[0], Alias) else name
    leads_back = _leads_back(name, target, known)
    if leads_back is None:
        left_out.append(f"{name} leads through more than {MAX_ALIASES} aliases")
        return [*others, *pointers[:1]]
    if leads_back:
        at_cluster = [Host(address) for address in zone.cluster_ips]
        for one in at_cluster:
            reading.ttls.setdefault(one.rtype, reading.ttls["CNAME"])
        if not at_cluster:
            left_out.append(f"{name} leads to itself, and no cluster address stands for it")
        return [*at_cluster, *others, *pointers[:1]]
    inner = next((one for one in zone.service_zones if target.below(one)), None)
    if inner is not None:
        left_out.append(f"{target} leads into {inner}, another zone of this server")
        return [*others, *pointers[:1]]
    if target.below(zone.zone) and not fits(target):
        left_out.append(f"{target} cannot be asked for, so nothing leads there")
        return [*others, *pointers[:1]]
    if not target.below(zone.zone) and managed(zone.all_domains, str(target)) and not [*known(str(target))]:
        left_out.append(f"{target} is in another external domain, and not known here")
        return [*others, *pointers[:1]]
    left_out += [f"{name} is an alias, which has no {one.rtype} of its own" for one in others + pointers]
    return aliases[:1]


def _leads_back(name: Name, target: Name, known: Known) -> bool | None:
    """Whether ``name`` comes to itself when it leads to ``target``; None where that is too far to see."""
    seen: set[Name] = set()
    while target != name:
        if len(seen) >= MAX_ALIASES:
            return None
        onward = _read(known(str(target)), target, 0)
        aliases = onward.of("CNAME")
        if target in seen or not aliases or onward.of("A", "AAAA"):
            return False
        seen.add(target)
        target = aliases[0].target if isinstance(aliases[0], Alias) else name
    return True


def _read(endpoints: Iterable[Endpoint], name: Name, ttl: int) -> _Reading:
    """The data of all endpoints, each once and in an order that does not depend on who said it."""
    reading = _Reading()
    said: dict[str, set[tuple[str, Data]]] = {}
    for one in endpoints:
        if is_ownership(one):
            continue
        rtype = one.record_type
        if rtype not in _READERS:
            reading.left_out.append(f"{name} {rtype[:20]}: {_NOT_EXPRESSED.get(rtype, 'an unknown type')}")
            continue
        if not 0 <= one.ttl <= MAX_TTL:
            reading.left_out.append(f"{name} {rtype}: its TTL of {one.ttl} is not from 0 to {MAX_TTL}")
            continue
        own = one.ttl or ttl
        # RFC 2181, section 5.2: records of a type have one TTL, and the least is right for all.
        reading.ttls[rtype] = min(own, reading.ttls.get(rtype, own))
        for target in one.targets:
            try:
                data = _READERS[rtype](target, rtype, name)
            except (_Unusable, InvalidName, InvalidAddress) as error:
                reading.left_out.append(f"{name} {rtype} {target[:80]!a}: {error}")
            else:
                said.setdefault(rtype, set()).add((str(data), data))
        if not one.targets:
            reading.left_out.append(f"{name} {rtype}: it has no targets")
    for rtype, pairs in said.items():
        reading.found[rtype] = dict.fromkeys(data for _, data in sorted(pairs, key=lambda pair: pair[0]))
    return reading


def _host(target: str, rtype: str, _name: Name) -> Data:
    address = parse_address(target)
    if address.version != _VERSIONS[rtype]:
        raise _Unusable(f"no address of {rtype}")
    return Host(address)


def _alias(target: str, _rtype: str, _name: Name) -> Data:
    return Alias(Name.parse(target))


def _pointer(target: str, _rtype: str, _name: Name) -> Data:
    return Pointer(Name.parse(target))


def _text(target: str, _rtype: str, _name: Name) -> Data:
    plain = target.strip()
    if len(plain) > 1 and plain[0] == plain[-1] == '"':
        plain = plain[1:-1].replace('" "', "")
    if not plain:
        raise _Unusable("an empty text is no answer")
    if len(plain.encode(errors="replace")) > MAX_TEXT:
        raise _Unusable(f"longer than {MAX_TEXT} octets")
    if "\\" in plain or not plain.isprintable():
        raise _Unusable("a backslash or a character that cannot be printed, which the server loses")
    return Text(plain)


def _srv(target: str, _rtype: str, name: Name) -> Data:
    (priority, weight, port), host = _numbered(target, 3, "PRIORITY WEIGHT PORT NAME")
    return Srv(priority, weight, port, _room_for(host, name))


def _mail(target: str, _rtype: str, name: Name) -> Data:
    (preference,), host = _numbered(target, 1, "PREFERENCE NAME")
    return Mail(preference, _room_for(host, name))


def _numbered(target: str, count: int, form: str) -> tuple[list[int], Name]:
    """Numbers of 16 bits and a name behind them."""
    *texts, host = target.split() or [""]
    if len(texts) != count or not all(text.isascii() and text.isdigit() for text in texts):
        raise _Unusable(f"not of the form {form}")
    numbers = [int(text[:6]) for text in texts]
    if max(numbers) > 65535:
        raise _Unusable("a number above 65535")
    return numbers, Name.parse(host)


def _room_for(target: Name, name: Name) -> Name:
    if not target_fits(target, name):
        raise _Unusable("too long beside its name for this server")
    return target


_READERS: Final[dict[str, Callable[[str, str, Name], Data]]] = {
    "A": _host,
    "AAAA": _host,
    "CNAME": _alias,
    "TXT": _text,
    "SRV": _srv,
    "MX": _mail,
    "PTR": _pointer,
}
_NOT_EXPRESSED: Final = {"NS": "the server has no name servers but the zone's own"}
