"""The webhook's state: which posted endpoints are accepted, the encoding, and what a store of it does.  Pure.

A state is a value: a change makes another one, so a call that cannot be stored or published leaves
everything as it was.  A refused endpoint is skipped and the call still succeeds: ExternalDNS ends on any
other answer, and one bad Ingress must not take all other names with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import msgspec

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import (
    MAX_TTL,
    NOWHERE,
    ClusterAddress,
    Domain,
    Endpoint,
    EndpointKey,
    InvalidClusterAddress,
    InvalidDomain,
    InvalidEndpoint,
    is_heritage,
    is_ownership,
    managed,
    plain_name,
)
from kube2etcd.zones.targets import TYPES, brief, parse_targets
from skydns_compat.names import MAX_NAME
from skydns_compat.records import Host

#: Of the encoding.  A reader refuses a newer one, lest it lose a part of it.
VERSION: Final = 1
#: Refused names that are remembered, for `explain`.
MAX_REFUSED: Final = 100
#: Seconds for one request of a store: so long after its deadline it is done at the latest.
REQUEST: Final = 1.5

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}\Z")
# The asterisk of a wildcard's ownership text stands within a label: a-*.wild.dtk.io
_TEXT_LABEL: Final = re.compile(r"[a-z0-9_*-]{1,63}\Z")
#: Types whose targets end in a host name.
_NAMING: Final = frozenset({"CNAME", "SRV", "MX", "PTR", "NS"})


@dataclass(frozen=True, slots=True)
class Changes:
    """One call's changes; what an update replaces follows from its key."""

    create: tuple[Endpoint, ...] = ()
    update: tuple[Endpoint, ...] = ()
    delete: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """Endpoints as posted, with the domains and the cluster address that came by REST."""

    endpoints: Mapping[EndpointKey, Endpoint] = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()
    cluster: ClusterAddress = NOWHERE
    refused: Mapping[str, str] = field(default_factory=dict)
    """The names in our domains that were refused last, with the reason, at most `MAX_REFUSED`."""

    def apply(self, changes: Changes, domains: Iterable[Domain]) -> tuple[State, list[Refusal]]:
        """The state after ``changes``, and a refusal for each endpoint that was skipped, or taken in part.

        Deletes go first: a change of type is a create and a delete of one name in one call.  Creating
        what exists and deleting what does not are no errors: a client repeats a call whose answer it
        has missed.  An ownership text is skipped with its record.
        """
        known = tuple(domains)
        after = dict(self.endpoints)
        refused = dict(self.refused)
        unowned = Refused()
        refusals = []
        for endpoint in changes.delete:
            after.pop(endpoint.key, None)
            refused.pop(endpoint.name, None)
        # Ownership texts last: whether one is accepted depends on its record.
        for endpoint in sorted(changes.update + changes.create, key=is_ownership):
            why = refusal(endpoint, known)
            if why is None and is_ownership(endpoint) and unowned.without_record(endpoint, after):
                why = Refusal("record", "its record was refused")
            elif why is not None and why.reason:
                unowned.add(endpoint.key)
            if why is not None:
                verb = "is skipped" if why.reason else "is taken in part"
                refusals.append(Refusal(why.reason, f"{described(endpoint)} {verb}: {why.text}"))
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
    """Why an endpoint, or a part of it, cannot be used."""

    reason: str
    """In one word, for counting: type, name, domain, ttl, targets, record.  Empty: accepted in part."""
    text: str
    """A sentence in printable ASCII."""


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

    ExternalDNS posts a record and its text as two endpoints.  From a text without its record, a later run
    would conclude that it owns the name, and delete the record that another cluster has there by then.
    """

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], set[str]] = {}

    def add(self, key: EndpointKey) -> None:
        """The record ``key`` was refused."""
        self._types.setdefault((key.name, key.set_identifier), set()).add(key.record_type)

    def without_record(self, text: Endpoint, kept: Collection[EndpointKey]) -> bool:
        """Whether ``text`` is the ownership text of refused records only; ``kept`` are accepted so far."""
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
    """An endpoint for the log, in printable ASCII."""
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
                    endpoint, dns_name=endpoint.name, targets=(address,), record_type=Host(address).rtype
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


# --- encoding


class UnreadableState(ValueError):
    """The stored bytes are not a state; the message says why."""


def encode_head(state: State) -> dict[str, Any]:
    """Everything but the endpoints, as a JSON object."""
    head: dict[str, Any] = {
        "version": VERSION,
        "domains": [str(domain) for domain in state.domains],
        "clusterIP": str(state.cluster),
    }
    return head | ({"refused": dict(sorted(state.refused.items()))} if state.refused else {})


def decode_head(value: Any) -> State:
    """The state of `encode_head`, without endpoints.

    :raises UnreadableState: it is not ours, or of a newer version.
    """
    if type(value) is not dict or type(version := value.get("version")) is not int:
        raise UnreadableState("it is no state of kube2etcd webhook")
    if version != VERSION:
        raise UnreadableState(f"its version is {version}, and this program knows {VERSION}: upgrade it")
    cluster = value.get("clusterIP", "")
    try:
        return State(
            {},
            tuple(Domain.parse(text) for text in value.get("domains", [])),
            ClusterAddress.parse(cluster) if cluster else NOWHERE,
            {str(name): str(why) for name, why in value.get("refused", {}).items()},
        )
    except (InvalidDomain, InvalidClusterAddress, TypeError, AttributeError) as error:
        raise UnreadableState(str(error)) from None


def encode_endpoints(endpoints: Iterable[Endpoint]) -> bytes:
    """A JSON list of endpoints, in this order."""
    # One by one: a hundred thousand objects alive at once cost repeated garbage collections.
    return b"[%b]" % b",".join(endpoint.encode() for endpoint in endpoints)


def encode_sorted(endpoints: Iterable[Endpoint]) -> bytes:
    """A JSON list in the order of the keys, so that equal endpoints are equal bytes."""
    return encode_endpoints(sorted(endpoints, key=lambda endpoint: endpoint.key))


def decode_endpoints(value: Any) -> dict[EndpointKey, Endpoint]:
    """Endpoints by key, from decoded JSON; `UnreadableState`: they are no endpoints."""
    if type(value) is not list:
        raise UnreadableState("its endpoints are no list")
    try:
        found = [Endpoint.from_json(one) for one in value]
    except InvalidEndpoint as error:
        raise UnreadableState(str(error)) from None
    return {endpoint.key: endpoint for endpoint in found}


def encode(state: State) -> bytes:
    """The whole state."""
    return msgspec.json.encode(
        {**encode_head(state), "endpoints": msgspec.Raw(encode_sorted(state.endpoints.values()))}
    )


def decode(data: bytes) -> State:
    """The state of `encode`; `UnreadableState`: it is anything else."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableState(f"it is not JSON: {error}") from None
    head = decode_head(value)
    return replace(head, endpoints=decode_endpoints(value.get("endpoints")))


# --- stores


class NotStored(Kube2EtcdError):
    """The state could not be read or written at present; the message says why and where."""


class Overtaken(NotStored):
    """Another writer was there first: `StateStore.check` gives its state; then try again."""


class StateStore(Protocol):
    """Stores one state, so that it outlives the process.  Used by one thread at a time.

    ``deadline`` is a reading of `time.monotonic` after which nothing new is begun nor tried again, be it
    one of many parts.  The store's own work on a large state comes on top.
    """

    def load(self) -> State:
        """The stored state, or an empty one; `NotStored`."""
        ...

    def save(self, state: State, deadline: float) -> None:
        """Store ``state``; `NotStored`: it may be stored, in part or not at all.

        :raises Overtaken: another writer has stored something since.
        """
        ...

    def check(self, state: State, deadline: float) -> State:
        """Store ``state`` again where it was lost or damaged; `NotStored`.

        Returns another state where another writer has stored one.
        """
        ...

    def clear(self) -> None:
        """Leave nothing behind; `NotStored`."""
        ...
