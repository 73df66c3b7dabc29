"""What we were told and answered for: endpoints by key, and what was set at run time.  Pure.

A state is a value: a change makes another one, so that whoever fails to keep or publish it still has
the one before.  Its encoding has a version and is byte-stable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from kube2etcd.external import Domain, Endpoint, EndpointKey, InvalidDomain, InvalidEndpoint
from kube2etcd.webhook import messages
from kube2etcd.webhook.adjust import NOWHERE, ClusterAddress, InvalidClusterAddress
from kube2etcd.webhook.messages import Changes
from kube2etcd.webhook.refusals import refusal, unusable_targets

#: Of the encoding.  A reader refuses what is newer than itself rather than lose a part of it.
VERSION: Final = 1


class UnreadableState(ValueError):
    """What was kept cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about an endpoint that was not taken as it is."""

    text: str
    skipped: str = ""
    """Why it was not taken at all, in one word (`Refusal.reason`); empty: it was, in part."""


@dataclass(frozen=True, slots=True)
class State:
    """Endpoints as posted, by key, with the domains and the cluster address that came by REST."""

    endpoints: Mapping[EndpointKey, Endpoint] = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()
    cluster: ClusterAddress = NOWHERE

    def apply(self, changes: Changes, domains: Iterable[Domain]) -> tuple[State, list[Remark]]:
        """The state after ``changes``, and a remark for each endpoint that was skipped, or taken in part.

        Deletes go first: a change of type is a create and a delete of one name in one call.  Nothing
        is refused for what is there already or is not there: a client repeats a call whose answer it
        has not heard.
        """
        known = tuple(domains)
        after = dict(self.endpoints)
        remarks = []
        for endpoint in changes.delete:
            after.pop(endpoint.key, None)
        for endpoint in changes.update + changes.create:
            why = refusal(endpoint, known)
            if why:
                remarks.append(Remark(f"{described(endpoint)} is skipped: {why}", why.reason))
                continue
            unusable = unusable_targets(endpoint)
            if unusable:
                remarks.append(Remark(f"{described(endpoint)}: {len(unusable)} targets cannot be used"))
            after[endpoint.key] = endpoint
        return replace(self, endpoints=after), remarks

    def with_domains(self, domains: Iterable[Domain]) -> State:
        """With more domains; one that is there already changes nothing."""
        return replace(self, domains=tuple(dict.fromkeys([*self.domains, *domains])))

    def with_cluster(self, cluster: ClusterAddress) -> State:
        """With this cluster address."""
        return replace(self, cluster=cluster)


def described(endpoint: Endpoint) -> str:
    """An endpoint in one line of a log, whatever was posted."""
    name = endpoint.dns_name if len(endpoint.dns_name) <= 260 else endpoint.dns_name[:260] + "..."
    return f"{name!a} {ascii(endpoint.record_type[:20])[1:-1]}"


def encode_head(state: State) -> dict[str, Any]:
    """What is kept beside the endpoints."""
    return {
        "version": VERSION,
        "domains": [str(domain) for domain in state.domains],
        "clusterIP": str(state.cluster),
    }


def decode_head(value: Any) -> State:
    """The state without its endpoints; `UnreadableState` when it is not ours or newer than we are."""
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
        )
    except (InvalidDomain, InvalidClusterAddress, TypeError, AttributeError) as error:
        raise UnreadableState(str(error)) from None


def encode_endpoints(endpoints: Iterable[Endpoint]) -> bytes:
    """Endpoints in the order of their keys: the same endpoints are the same bytes."""
    return messages.encode_endpoints(sorted(endpoints, key=lambda endpoint: endpoint.key))


def decode_endpoints(value: Any) -> dict[EndpointKey, Endpoint]:
    """Endpoints by key, of decoded JSON."""
    if type(value) is not list:
        raise UnreadableState("its endpoints are no list")
    try:
        found = [Endpoint.from_json(one) for one in value]
    except InvalidEndpoint as error:
        raise UnreadableState(str(error)) from None
    return {endpoint.key: endpoint for endpoint in found}


def encode(state: State) -> bytes:
    """The whole state."""
    head = msgspec.json.encode(encode_head(state)).removesuffix(b"}")
    return head + b',"endpoints":' + encode_endpoints(state.endpoints.values()) + b"}"


def decode(data: bytes) -> State:
    """A state from `encode`; `UnreadableState` for anything else."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableState(f"it is not JSON: {error}") from None
    head = decode_head(value)
    return replace(head, endpoints=decode_endpoints(value.get("endpoints")))
