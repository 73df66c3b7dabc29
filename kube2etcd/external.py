"""ExternalDNS's data model: endpoints, managed domains, the cluster address.

An `Endpoint` holds what was posted, valid or not, because it must be returned unchanged;
`kube2etcd.zones.targets` decides what is usable.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from skydns_compat.names import (
    MAX_NAME,
    REVERSE,
    Address,
    InvalidAddress,
    InvalidName,
    Name,
    parse_address,
    servable,
    version,
)

_T = TypeVar("_T")

#: The largest TTL in DNS (RFC 2181 section 8).
MAX_TTL: Final = 2**31 - 1
#: Levels of lists and objects in an unknown field.
MAX_DEPTH: Final = 32


class InvalidDomain(ValueError):
    """The text is not a valid domain; the message says why and what to write."""


class InvalidEndpoint(ValueError):
    """The value does not have the shape of an endpoint; the message says where."""


class EndpointKey(NamedTuple):
    """Identity of an endpoint."""

    name: str
    """As returned by `plain_name`."""
    record_type: str
    set_identifier: str = ""


class Property(msgspec.Struct, frozen=True):
    """One provider-specific setting of an endpoint."""

    name: str = ""
    value: str = ""


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One record set in ExternalDNS's form, all texts as posted.

    ``more`` holds unknown fields: a client that misses one in the response would post the endpoint forever.
    One nested deeper than `MAX_DEPTH` is dropped, since encoding or decoding it later might fail.
    """

    dns_name: str
    targets: tuple[str, ...]
    record_type: str
    set_identifier: str = ""
    ttl: int = msgspec.field(default=0, name="recordTTL")
    """Seconds; 0: not set."""
    labels: dict[str, str] = {}
    provider_specific: tuple[Property, ...] = ()
    more: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The DNS name in normal form (`plain_name`)."""
        return plain_name(self.dns_name)

    @property
    def key(self) -> EndpointKey:
        """Its identity."""
        return EndpointKey(self.name, self.record_type, self.set_identifier)

    def encode(self) -> bytes:
        """JSON as ExternalDNS writes it: omits empty fields, except name, type and targets."""
        if not self.more:
            return msgspec.json.encode(self)
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return msgspec.json.encode(fields | fields.pop("more"))

    @classmethod
    def from_json(cls, value: object) -> Endpoint:
        """Build an endpoint from decoded JSON.

        As in Go, keys are case-insensitive and null is empty.

        :raises InvalidEndpoint: a field has the wrong type.
        """
        if not isinstance(value, dict):
            raise InvalidEndpoint(f"an endpoint is an object, not {_shown(value)}")
        fields: dict[str, Any] = {"dnsName": "", "targets": (), "recordType": "", "more": {}}
        for key, found in value.items():
            known = _FIELDS.get(key.lower())
            if known is None:
                if _is_flat(found):
                    fields["more"][key] = found
            elif found is not None:
                fields[known] = found
        labels, properties = fields.get("labels"), fields.get("providerSpecific")
        if isinstance(labels, dict):
            fields["labels"] = {name: "" if text is None else text for name, text in labels.items()}
        if isinstance(properties, list):
            fields["providerSpecific"] = list(map(_folded, properties))
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError as error:
            raise InvalidEndpoint(f"an endpoint has a field of the wrong type: {error}") from None


_FIELDS: Mapping[str, str] = {
    field.encode_name.lower(): field.encode_name
    for field in msgspec.structs.fields(Endpoint)
    if field.name != "more"
}


def _folded(value: Any) -> Any:
    """An object with lower-case keys and without nulls; anything else unchanged."""
    if not isinstance(value, dict):
        return value
    return {key.lower(): found for key, found in value.items() if found is not None}


def _is_flat(value: object, levels: int = MAX_DEPTH) -> bool:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return within is None or (levels > 0 and all(_is_flat(one, levels - 1) for one in within))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def plain_name(text: str) -> str:
    """A DNS name in normal form, for comparison: lower case, A-labels, no final dot.

    A label without an A-label (RFC 5891), or one that maps to plain ASCII (the Kelvin sign to the letter k),
    stays in Unicode and is refused later, so that no look-alike becomes another owner's name.  So does an
    overlong text.
    """
    plain = text.isascii() or len(text) > MAX_NAME + 1
    return (text.lower() if plain else _a_labels(text)).removesuffix(".")


@lru_cache(maxsize=4096)
def _a_labels(text: str) -> str:
    return ".".join(label.lower() if label.isascii() else _a_label(label) for label in text.split("."))


def _a_label(label: str) -> str:
    import idna  # its tables are large, and such names are rare

    try:
        found = idna.encode(label, uts46=True).decode("ascii")
    except idna.IDNAError:
        return label
    return found if found.startswith("xn--") and "." not in found else label


class Domain(msgspec.Struct, frozen=True, order=True):
    """A managed domain: the name and everything below it; with ``only_below``, not the name itself."""

    name: Name
    only_below: bool = False

    def __str__(self) -> str:
        return f".{self.name}" if self.only_below else str(self.name)

    @classmethod
    def parse(cls, text: str) -> Domain:
        """Parse ``a.b`` or ``.a.b``; raises `InvalidDomain`."""
        plain = text.strip()
        only_below = plain.startswith(".")
        try:
            name = servable(Name.parse(plain_name(plain.removeprefix("."))))
        except InvalidName as error:
            raise InvalidDomain(
                f"{_shown(text)} is no domain ({error}): write dtk.io, or .dtk.io for only what is below"
            ) from None
        if any(reverse.below(name) for reverse in REVERSE):
            raise InvalidDomain(f"{_shown(text)} has all reverse names: write a part such as 10.in-addr.arpa")
        return cls(name, only_below)

    def has(self, name: str) -> bool:
        """Whether ``name`` (from `plain_name`) is in this domain."""
        own = str(self.name)
        return name.endswith(f".{own}") or (name == own and not self.only_below)


def managed(domains: Iterable[Domain], name: str) -> bool:
    """Whether ``name``, in any spelling, is in one of ``domains``."""
    plain = plain_name(name)
    return any(domain.has(plain) for domain in domains)


def parse_cluster_address(text: str) -> tuple[Address, ...]:
    """One IPv4 and/or one IPv6 address, separated by commas or blanks, in the order given.

    :raises InvalidAddress: the text is anything else.
    """
    hint = "write one IPv4 and/or one IPv6 address, such as 192.168.122.167"
    try:
        found = tuple(parse_address(part) for part in re.split(r"[\s,]+", text) if part)
    except InvalidAddress as error:
        raise InvalidAddress(f"{error}; {hint}") from None
    if not found:
        raise InvalidAddress(f"the text has no address; {hint}")
    if len(set(map(version, found))) < len(found):
        raise InvalidAddress(f"{_shown(text)} has two addresses of one family; {hint}")
    return found


def is_heritage(target: str) -> bool:
    """Whether a TXT target is an ownership text of ExternalDNS's registry."""
    return target.strip().strip('"').startswith("heritage=")


def is_ownership(endpoint: Endpoint) -> bool:
    """Whether it belongs to ExternalDNS's registry: stored and returned, never published."""
    if endpoint.record_type != "TXT":
        return False
    if "ownedRecord" in endpoint.labels:
        return True
    return bool(endpoint.targets) and all(map(is_heritage, endpoint.targets))


#: Identifies an object that holds endpoints.
Holder = TypeVar("Holder", bound=Hashable)

#: Types that decide where a name leads: a CNAME does, unless the name has addresses.
_DECIDING = frozenset({"A", "AAAA", "CNAME"})
#: Type, targets and TTL, which decide whether an endpoint is usable.
_Said: TypeAlias = tuple[str, tuple[str, ...], int]


class NameIndex(Generic[Holder]):
    """The endpoints of each name, across all holders, and the aliases that lead to it.

    A change of where a name leads (`_route`) also affects the names that lead to it.
    """

    def __init__(self) -> None:
        self._names: dict[str, dict[Holder, tuple[Endpoint, ...]]] = {}
        self._leading_to: dict[str, set[str]] = {}

    def names(self) -> Iterable[str]:
        """Every name that has an endpoint."""
        return self._names.keys()

    def of(self, name: str) -> dict[Holder, tuple[Endpoint, ...]]:
        """The endpoints of a name, by holder."""
        return self._names.get(name, {})

    def put(
        self, holder: Holder, before: Iterable[Endpoint], after: Iterable[Endpoint], again: bool = False
    ) -> set[str]:
        """Replace a holder's endpoints ``before`` by ``after``; returns the names to publish again.

        ``again``: includes all of its names, since its rank among the holders may have changed.
        """
        old, new = _by_name(before), _by_name(after)
        touched = {name for name in old.keys() | new.keys() if again or old.get(name) != new.get(name)}
        turned = [name for name in touched if self._set(holder, name, new.get(name)) or again]
        return touched | self.followers(turned)

    def _set(self, holder: Holder, name: str, endpoints: tuple[Endpoint, ...] | None) -> bool:
        """Set a holder's endpoints of a name; returns whether that changed where the name leads."""
        before = self._route(name)
        there = self._names.setdefault(name, {})
        if endpoints is None:
            there.pop(holder, None)
            if not there:
                del self._names[name]
        else:
            there[holder] = endpoints
        after = self._route(name)
        for target in before[1] - after[1]:
            leading = self._leading_to[target]
            leading.discard(name)
            if not leading:
                del self._leading_to[target]
        for target in after[1] - before[1]:
            self._leading_to.setdefault(target, set()).add(name)
        return before != after

    def _route(self, name: str) -> tuple[frozenset[_Said], frozenset[str], bool]:
        """The data that decide where a name leads, the targets of its aliases, and whether it has endpoints.

        Addresses count only beside aliases, and as posted, since the zone decides which are usable.
        """
        all_ = [one for endpoints in self.of(name).values() for one in endpoints]
        aliases = [one for one in all_ if one.record_type == "CNAME"]
        deciding = [one for one in all_ if one.record_type in _DECIDING] if aliases else []
        return (
            frozenset((one.record_type, one.targets, one.ttl) for one in deciding),
            frozenset(plain_name(to) for one in aliases for to in one.targets),
            bool(all_),
        )

    def followers(self, names: Iterable[str]) -> set[str]:
        """The names that lead to ``names`` through any number of aliases."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            more = self._leading_to.get(todo.pop(), set()) - found
            found |= more
            todo += more
        return found


def _by_name(endpoints: Iterable[Endpoint]) -> dict[str, tuple[Endpoint, ...]]:
    found: dict[str, list[Endpoint]] = {}
    for one in endpoints:
        found.setdefault(one.name, []).append(one)
    return {name: tuple(some) for name, some in found.items()}
