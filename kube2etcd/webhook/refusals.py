"""Which endpoints we can use, and why not the others.  Pure.

What is refused is skipped and the call still succeeds: ExternalDNS ends on any other answer, and one
bad Ingress must not take all names with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kube2etcd.external import Domain, Endpoint, managed, plain_name
from skydns_compat.names import MAX_NAME, Address, InvalidAddress, parse_address

#: The types that we keep; what of them is published is for others to say.
TYPES: Final = frozenset({"A", "AAAA", "CNAME", "TXT", "SRV", "MX", "PTR", "NS"})
#: The largest TTL that DNS knows (RFC 2181 section 8).
MAX_TTL: Final = 2**31 - 1
#: Octets of a text: the data of one record (RFC 1035 section 3.2.1).
MAX_TEXT: Final = 65535

_REMEMBERED: Final = 2**18
_LABEL = re.compile(r"[a-z0-9_-]{1,63}\Z")
# The asterisk of a wildcard's ownership text stands within a label: a-*.wild.dtk.io
_TEXT_LABEL = re.compile(r"[a-z0-9_*-]{1,63}\Z")
_VERSION: Final = {"A": 4, "AAAA": 6}
_NUMBERS_BEFORE: Final = {"MX": 1, "SRV": 3}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint cannot be used."""

    reason: str
    """In one word, for counting: type, name, domain, ttl, targets."""
    text: str
    """In a sentence."""

    def __str__(self) -> str:
        return self.text


def refusal(endpoint: Endpoint, domains: Iterable[Domain]) -> Refusal | None:
    """Why an endpoint cannot be used, or nothing where it can."""
    if endpoint.record_type not in TYPES:
        return Refusal("type", f"the type {_brief(endpoint.record_type)} is not known")
    fault = name_fault(endpoint.name, texts=endpoint.record_type == "TXT")
    if fault:
        return Refusal("name", fault)
    owned = endpoint.labels.get("ownedRecord", "") if endpoint.record_type == "TXT" else ""
    # The apex's ownership text is named outside of the zone: a-dtk.io for dtk.io.
    if not managed(domains, endpoint.name) and not (owned and managed(domains, owned)):
        return Refusal("domain", "it is in none of the managed domains")
    if not 0 <= endpoint.ttl <= MAX_TTL:
        return Refusal("ttl", f"the TTL {_brief(str(endpoint.ttl))} is not from 0 to {MAX_TTL}")
    if not endpoint.targets:
        return Refusal("targets", "it has no targets")
    unusable = unusable_targets(endpoint)
    if len(unusable) == len(endpoint.targets):
        return Refusal("targets", f"{_brief(unusable[0])} is no target for {endpoint.record_type}")
    return None


# The same names and addresses are looked at with every call.
@lru_cache(maxsize=_REMEMBERED)
def name_fault(name: str, *, texts: bool = False) -> str:
    """Why ``name`` (lower case, no last dot) is no name of a record; ``texts``: of a TXT record."""
    labels = name.split(".")
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters; {MAX_NAME} are allowed"
    if texts:
        bad = [label for label in labels if not _TEXT_LABEL.match(label)]
    else:
        bad = [label for label in (labels[1:] if labels[0] == "*" else labels) if not _LABEL.match(label)]
    return f"{_brief(bad[0])} is no label of a name" if bad else ""


def is_wildcard(name: str) -> bool:
    """Whether it stands for other names."""
    return "*" in name


def unusable_targets(endpoint: Endpoint) -> list[str]:
    """The targets that its type cannot have."""
    return [target for target in endpoint.targets if not _usable(endpoint.record_type, target)]


def addresses(endpoint: Endpoint) -> list[Address]:
    """The usable addresses of an A or AAAA endpoint, in order."""
    version = _VERSION.get(endpoint.record_type, 0)
    return [address for target in endpoint.targets if (address := _address(target, version)) is not None]


def _usable(record_type: str, target: str) -> bool:
    if record_type in _VERSION:
        return _address(target, _VERSION[record_type]) is not None
    if record_type == "TXT":
        return len(target.encode(errors="replace")) <= MAX_TEXT
    *numbers, host = target.split(" ")
    wanted = _NUMBERS_BEFORE.get(record_type, 0)
    return (
        len(numbers) == wanted
        and all(re.fullmatch("[0-9]{1,5}", number) and int(number) <= 65535 for number in numbers)
        and not name_fault(plain_name(host))
        and not is_wildcard(host)
    )


@lru_cache(maxsize=_REMEMBERED)
def _address(target: str, version: int) -> Address | None:
    try:
        address = parse_address(target)
    except InvalidAddress:
        return None
    return address if address.version == version else None


def _brief(text: str) -> str:
    """For a message of one line, whatever was posted."""
    return ascii(text) if len(text) <= 80 else ascii(text[:80]) + "..."
