"""Which posted endpoints are accepted, and what `POST /adjustendpoints` makes of them.  Pure.

A refused endpoint is skipped and the call still succeeds: ExternalDNS ends on any other answer, and one
bad Ingress must not take all other names with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from kube2etcd.external import (
    MAX_TTL,
    ClusterAddress,
    Domain,
    Endpoint,
    EndpointKey,
    is_heritage,
    managed,
    plain_name,
)
from kube2etcd.zones.targets import TYPES, brief, parse_targets
from skydns_compat.names import MAX_NAME
from skydns_compat.records import Host

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}\Z")
# The asterisk of a wildcard's ownership text stands within a label: a-*.wild.dtk.io
_TEXT_LABEL: Final = re.compile(r"[a-z0-9_*-]{1,63}\Z")
#: Types whose targets end in a host name.
_NAMING: Final = frozenset({"CNAME", "SRV", "MX", "PTR", "NS"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint, or a part of it, cannot be used."""

    reason: str
    """In one word, for counting: type, name, domain, ttl, targets, record.  Empty: accepted in part."""
    text: str
    """In a sentence, in printable ASCII whatever was posted."""


def refusal(endpoint: Endpoint, domains: Iterable[Domain]) -> Refusal | None:
    """Why ``endpoint`` is refused, or which of its targets are; None where all of it is accepted."""
    rtype = endpoint.record_type
    if rtype not in TYPES:
        return Refusal("type", f"the type {brief(rtype)} is not supported")
    fault = name_fault(endpoint.name, text=rtype == "TXT")
    if fault:
        return Refusal("name", fault)
    owned = endpoint.labels.get("ownedRecord", "") if rtype == "TXT" else ""
    # The apex's ownership text is named outside of the zone: a-dtk.io for dtk.io.
    if not managed(domains, endpoint.name) and not (owned and managed(domains, owned)):
        return Refusal("domain", "it is in none of the managed domains")
    if not 0 <= endpoint.ttl <= MAX_TTL:
        return Refusal("ttl", f"the TTL {brief(str(endpoint.ttl))} is not from 0 to {MAX_TTL}")
    targets = parse_targets(rtype, endpoint.targets)
    if targets.faults:
        whole = not (targets.data or any(map(is_heritage, endpoint.targets)))
        return Refusal("targets" if whole else "", "; ".join(targets.faults[:3]))
    return None


def name_fault(name: str, *, text: bool = False) -> str:
    """Why ``name`` (as `plain_name` gives it) is no owner name; ``text``: of a TXT record."""
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters; {MAX_NAME} are allowed"
    labels = name.split(".")
    pattern = _TEXT_LABEL if text else _LABEL
    if labels[0] == "*":
        labels = labels[1:]
    bad = next((label for label in labels if not pattern.match(label)), None)
    return f"{brief(bad)} is no label of a name" if bad is not None else ""


class Refused:
    """The records that one call asked for in vain, to find their ownership texts.

    ExternalDNS posts a record and its text as two endpoints.  A text without its record would tell a later
    run that it owns the name, and it would delete the record that another cluster has there by then.
    """

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], set[str]] = {}

    def add(self, key: EndpointKey) -> None:
        """The record ``key`` was refused."""
        self._types.setdefault((key.name, key.set_identifier), set()).add(key.record_type)

    def without_record(self, text: Endpoint, kept: Collection[EndpointKey]) -> bool:
        """Whether ``text`` is the ownership of refused records only; ``kept`` are those accepted so far."""
        if not self._types:
            return False
        for name in _owned_names(text):
            refused = self._types.get((name, text.set_identifier))
            if not refused:
                continue
            there = {rtype for rtype in TYPES if EndpointKey(name, rtype, text.set_identifier) in kept}
            # The name of the text says the type, in the way --txt-prefix and --txt-suffix write it.
            words = Counter(_words(text.name)) - Counter(_words(name))
            named = {rtype for rtype in refused | there if rtype.lower() in words}
            return not (named & there if named else there)
        return False


def _owned_names(text: Endpoint) -> Iterator[str]:
    owned = text.labels.get("ownedRecord", "")
    if owned:
        yield plain_name(owned)
    elif any(map(is_heritage, text.targets)):
        yield text.name
        yield text.name.partition("-")[2]


def _words(name: str) -> list[str]:
    return re.split(r"[.-]", name)


def described(endpoint: Endpoint) -> str:
    """An endpoint in one line of a log, whatever was posted."""
    name = endpoint.dns_name if len(endpoint.dns_name) <= 260 else endpoint.dns_name[:260] + "..."
    return f"{name!a} {ascii(endpoint.record_type[:20])[1:-1]}"


def adjust(
    endpoints: Iterable[Endpoint], domains: Iterable[Domain], cluster: ClusterAddress
) -> Iterator[Endpoint]:
    """The endpoints as they would be kept, in order; those outside of ``domains`` as they came.

    ExternalDNS compares the answer with `GET /records`.  Names come back in the form that is compared,
    targets in Unicode as A-labels, and a CNAME to itself as the cluster's address.
    """
    known = tuple(domains)
    for endpoint in endpoints:
        if not managed(known, endpoint.dns_name):
            yield endpoint
        elif cluster and _points_to_itself(endpoint):
            for address in cluster.addresses:
                yield msgspec.structs.replace(
                    endpoint,
                    dns_name=endpoint.name,
                    targets=(address,),
                    record_type=Host(address).rtype,
                )
        else:
            targets = tuple(_in_ascii(endpoint.record_type, one) for one in endpoint.targets)
            yield msgspec.structs.replace(endpoint, dns_name=endpoint.name, targets=targets)


def _points_to_itself(endpoint: Endpoint) -> bool:
    """Whether it is a CNAME whose every target is its own name."""
    return (
        endpoint.record_type == "CNAME"
        and bool(endpoint.targets)
        and all(plain_name(target) == endpoint.name for target in endpoint.targets)
    )


def _in_ascii(rtype: str, target: str) -> str:
    if target.isascii() or rtype not in _NAMING:
        return target
    numbers, blank, host = target.rpartition(" ")
    final = "." if host.endswith(".") else ""
    return f"{numbers}{blank}{plain_name(host)}{final}"
