"""The webhook's state: which endpoints are accepted, how it is encoded, and the interface of its stores.

A state is immutable, so a call that cannot be stored or published changes nothing.  A refused endpoint is
skipped and the call still succeeds: ExternalDNS exits on any other answer, and one bad Ingress must not
affect other names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import msgspec

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import (
    MAX_TTL,
    Domain,
    Endpoint,
    EndpointKey,
    is_heritage,
    is_ownership,
    managed,
    parse_cluster_address,
    plain_name,
)
from kube2etcd.zones.targets import PARSERS, brief, parse_targets
from skydns_compat.names import MAX_NAME, Address
from skydns_compat.records import Host

#: Version of the encoding.  A reader refuses any other, so as not to lose a part of it.
VERSION: Final = 1
#: Refused names that are remembered, for `explain`.
MAX_REFUSED: Final = 100
#: Timeout in seconds of one request to a store; a call ends no later than that after its deadline.
REQUEST_TIMEOUT: Final = 1.5

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}\Z")
# In the ownership text of a wildcard, the asterisk is within a label: a-*.wild.dtk.io
_TEXT_LABEL: Final = re.compile(r"[a-z0-9_*-]{1,63}\Z")
#: Types whose targets end in a host name, which may need A-labels (RFC 5890).
_NAMING: Final = frozenset({"CNAME", "SRV", "MX", "PTR", "NS"})


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of one call; an update replaces the endpoint with its key."""

    create: tuple[Endpoint, ...] = ()
    update: tuple[Endpoint, ...] = ()
    delete: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Endpoints as posted, with the domains and the cluster address that came by REST."""

    endpoints: Mapping[EndpointKey, Endpoint] = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()
    cluster: tuple[Address, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """The names in our domains that were refused last, with the reason, at most `MAX_REFUSED`."""

    def apply(self, changes: Changes, domains: Iterable[Domain]) -> tuple[State, list[Refusal]]:
        """The state after ``changes``, and a refusal for each endpoint that was skipped, or accepted in part.

        Deletes go first: a change of type is a create and a delete of one name.  Creating what exists and
        deleting what does not are fine, since a client repeats a call whose answer is lost.  An ownership
        text (ExternalDNS's TXT record that marks a name as its own) is skipped with its record.
        """
        known = tuple(domains)
        after, refused = dict(self.endpoints), dict(self.refused)
        lost: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        refusals = []
        for endpoint in changes.delete:
            after.pop(endpoint.key, None)
            refused.pop(endpoint.name, None)
        # Ownership texts last: whether one is accepted depends on its record.
        for endpoint in sorted(changes.update + changes.create, key=is_ownership):
            why = refusal(endpoint, known)
            if why is None and is_ownership(endpoint) and _without_record(endpoint, lost, after):
                why = Refusal("record", "its record was refused")
            elif why is not None and why.reason:
                lost[endpoint.name, endpoint.set_identifier].add(endpoint.record_type)
            if why is not None:
                verb = "is skipped" if why.reason else "is taken in part"
                said = f"{endpoint.dns_name[:260]!a} {ascii(endpoint.record_type[:20])[1:-1]}"
                refusals.append(Refusal(why.reason, f"{said} {verb}: {why.text}"))
            if why is None or not why.reason:
                after[endpoint.key] = endpoint
                refused.pop(endpoint.name, None)
            elif not is_ownership(endpoint) and why.reason != "domain":
                refused.pop(endpoint.name[:253], None)
                refused[endpoint.name[:253]] = f"{endpoint.record_type[:20]}: {why.text}"
        for name in list(refused)[: max(0, len(refused) - MAX_REFUSED)]:
            del refused[name]
        return replace(self, endpoints=after, refused=refused), refusals


# --- what is accepted


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint, or part of it, is unusable."""

    reason: str
    """In one word, for counting: type, name, domain, ttl, targets, record.  Empty: accepted in part."""
    text: str
    """A sentence, in printable ASCII."""


def refusal(endpoint: Endpoint, domains: Iterable[Domain]) -> Refusal | None:
    """Why ``endpoint``, or which of its targets, is refused; None if all of it is accepted."""
    rtype = endpoint.record_type
    if rtype not in PARSERS:
        return Refusal("type", f"the type {brief(rtype)} is not supported")
    fault = _name_fault(endpoint.name, text=rtype == "TXT")
    if fault:
        return Refusal("name", fault)
    owned = endpoint.labels.get("ownedRecord", "") if rtype == "TXT" else ""
    # The name of the apex's ownership text is outside of the zone: a-dtk.io for dtk.io.
    if not managed(domains, endpoint.name) and not (owned and managed(domains, owned)):
        return Refusal("domain", "it is in none of the managed domains")
    if not 0 <= endpoint.ttl <= MAX_TTL:
        return Refusal("ttl", f"the TTL {brief(str(endpoint.ttl))} is not from 0 to {MAX_TTL}")
    targets = parse_targets(rtype, endpoint.targets)
    if targets.faults:
        whole = not (targets.data or any(map(is_heritage, endpoint.targets)))
        return Refusal("targets" if whole else "", "; ".join(targets.faults[:3]))
    return None


def _name_fault(name: str, *, text: bool = False) -> str:
    """Why ``name`` (from `plain_name`) is no owner name; ``text`` if it is one of a TXT record."""
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters; {MAX_NAME} are allowed"
    labels = name.split(".")
    pattern = _TEXT_LABEL if text else _LABEL
    if labels[0] == "*":
        labels = labels[1:]
    bad = next((label for label in labels if not pattern.match(label)), None)
    return f"{brief(bad)} is no label of a name" if bad is not None else ""


def _without_record(
    text: Endpoint, refused: Mapping[tuple[str, str], Collection[str]], kept: Collection[EndpointKey]
) -> bool:
    """Whether ``text`` is the ownership text of records that were all refused.

    ``refused`` has their types by name and set identifier, ``kept`` the endpoints accepted so far.
    ExternalDNS posts a record and its text as two endpoints.  With the text alone it would own the name, and
    later delete a record that another cluster has created there.
    """
    for name in _owned_names(text) if refused else ():
        gone = refused.get((name, text.set_identifier))
        if gone:
            there = {rtype for rtype in PARSERS if EndpointKey(name, rtype, text.set_identifier) in kept}
            # The name of the text contains the type, wherever --txt-prefix or --txt-suffix put it.
            words = Counter(_words(text.name)) - Counter(_words(name))
            named = {rtype for rtype in {*gone, *there} if rtype.lower() in words}
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


def adjust(
    endpoints: Iterable[Endpoint], domains: Iterable[Domain], cluster: tuple[Address, ...]
) -> Iterator[Endpoint]:
    """The endpoints in the form in which they would be stored, in order; outside of ``domains`` unchanged.

    ExternalDNS compares the answer with `GET /records`.  Names are in normal form, Unicode targets become
    A-labels, and a CNAME to itself becomes the cluster's addresses.
    """
    known = tuple(domains)
    for endpoint in endpoints:
        if not managed(known, endpoint.dns_name):
            yield endpoint
        elif (
            cluster
            and endpoint.record_type == "CNAME"
            and set(map(plain_name, endpoint.targets)) == {endpoint.name}
        ):
            for address in cluster:
                yield msgspec.structs.replace(
                    endpoint, dns_name=endpoint.name, targets=(address,), record_type=Host(address).rtype
                )
        else:
            targets = tuple(_in_ascii(endpoint.record_type, one) for one in endpoint.targets)
            yield msgspec.structs.replace(endpoint, dns_name=endpoint.name, targets=targets)


def _in_ascii(rtype: str, target: str) -> str:
    if target.isascii() or rtype not in _NAMING:
        return target
    numbers, blank, host = target.rpartition(" ")
    final = "." if host.endswith(".") else ""
    return f"{numbers}{blank}{plain_name(host)}{final}"


# --- encoding


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stored form of everything but the endpoints."""

    version: int
    domains: tuple[str, ...]
    cluster_ip: str = msgspec.field(name="clusterIP")
    refused: dict[str, str] = {}
    generation: int = 0
    """In etcd: incremented by each write."""
    writer: str = ""
    """In etcd: random id of the process that wrote it."""

    @classmethod
    def of(cls, state: State) -> Head:
        """The head of ``state``."""
        return cls(
            version=VERSION,
            domains=tuple(map(str, state.domains)),
            cluster_ip=",".join(state.cluster),
            refused=dict(state.refused),
        )

    def state(self, endpoints: Mapping[EndpointKey, Endpoint]) -> State:
        """The state with these endpoints; ``ValueError`` if a domain or address is invalid."""
        return State(
            endpoints,
            tuple(map(Domain.parse, self.domains)),
            parse_cluster_address(self.cluster_ip) if self.cluster_ip else (),
            self.refused,
        )


class _File(Head, frozen=True, kw_only=True):
    endpoints: list[Any]


class _Version(msgspec.Struct):
    version: int


_H = TypeVar("_H", bound=Head)


def decode_head(data: bytes | str, type: type[_H]) -> _H:
    """Decode a head; ``ValueError`` if it is invalid, or of another version."""
    try:
        version = msgspec.json.decode(data, type=_Version).version  # first: the rest may have another form
        if version != VERSION:
            raise ValueError(f"its version is {version}, and this program knows {VERSION}: upgrade it")
        return msgspec.json.decode(data, type=type)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"it is no state of kube2etcd webhook: {error}") from None


#: Equal values are equal bytes.
encode_head: Final = msgspec.json.Encoder(order="deterministic").encode


def encode_endpoints(endpoints: Iterable[Endpoint]) -> bytes:
    """A JSON list of endpoints, in this order."""
    # One by one: a hundred thousand live objects would cause repeated garbage collections.
    return b"[%b]" % b",".join(endpoint.encode() for endpoint in endpoints)


def encode_sorted(endpoints: Iterable[Endpoint]) -> bytes:
    """A JSON list sorted by key, so that equal endpoints are equal bytes."""
    return encode_endpoints(sorted(endpoints, key=lambda endpoint: endpoint.key))


def decode_endpoints(values: Iterable[Any]) -> dict[EndpointKey, Endpoint]:
    """Endpoints by key, from decoded JSON; ``ValueError`` if one is invalid."""
    return {endpoint.key: endpoint for endpoint in map(Endpoint.from_json, values)}


def encode(state: State) -> bytes:
    """The whole state."""
    endpoints = encode_sorted(state.endpoints.values())
    return b'%b,"endpoints":%b}' % (encode_head(Head.of(state))[:-1], endpoints)


def decode(data: bytes) -> State:
    """Inverse of `encode`; ``ValueError`` for anything else."""
    found = decode_head(data, _File)
    return found.state(decode_endpoints(found.endpoints))


# --- stores


class NotStored(Kube2EtcdError):
    """The state cannot be read or written at present; the message says why and where."""


class Overtaken(NotStored):
    """Another writer wrote first: get its state from `StateStore.check`, then retry."""


class StateStore(Protocol):
    """Persistent storage of one state.  Used by one thread at a time.

    ``deadline`` is a reading of `time.monotonic` after which no request is begun or retried.  The store's own
    work on a large state is not counted.
    """

    def load(self) -> State:
        """The stored state, or an empty one; `NotStored` if it cannot be read."""
        ...

    def save(self, state: State, deadline: float) -> None:
        """Store ``state``; after `NotStored` it may be stored whole, in part or not at all.

        :raises Overtaken: another writer has stored something meanwhile.
        """
        ...

    def check(self, state: State, deadline: float) -> State:
        """Store ``state`` where it was lost; returns it, or what another writer stored; `NotStored`."""
        ...

    def clear(self) -> None:
        """Delete everything stored; after `NotStored` something may be left."""
        ...
