"""The webhook's state: accepted endpoints by key, and what was set at run time; and what stores one.

A state is a value: a change makes another one, so a call that cannot be stored or published leaves
everything as it was.  The encoding carries a version and is byte-stable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import msgspec

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import (
    NOWHERE,
    ClusterAddress,
    Domain,
    Endpoint,
    EndpointKey,
    InvalidClusterAddress,
    InvalidDomain,
    InvalidEndpoint,
    is_ownership,
)
from kube2etcd.webhook import messages
from kube2etcd.webhook.endpoints import Refusal, Refused, described, refusal
from kube2etcd.webhook.messages import Changes

#: Of the encoding.  A reader refuses a newer one, lest it lose a part of it.
VERSION: Final = 1
#: Refused names that are remembered, for `explain`.
MAX_REFUSED: Final = 100
#: Seconds for one request of a store: so long after its deadline it is done at the latest.
REQUEST: Final = 1.5


class UnreadableState(ValueError):
    """The stored bytes are not a state; the message says why."""


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
        # Texts last: whether a text is accepted depends on its record, wherever in the call that stands.
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

    def with_domains(self, domains: Iterable[Domain]) -> State:
        """With more domains; one that is there already changes nothing."""
        return replace(self, domains=tuple(dict.fromkeys([*self.domains, *domains])))

    def without_domains(self, domains: Iterable[Domain]) -> State:
        """Without these domains; their endpoints stay, unpublished, until ExternalDNS deletes them."""
        gone = set(domains)
        return replace(self, domains=tuple(one for one in self.domains if one not in gone))

    def with_cluster(self, cluster: ClusterAddress) -> State:
        """With this cluster address; `NOWHERE` for none."""
        return replace(self, cluster=cluster)


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
    """Endpoints in the order of their keys, so that equal endpoints are equal bytes."""
    return messages.encode_endpoints(sorted(endpoints, key=lambda endpoint: endpoint.key))


def decode_endpoints(value: Any) -> dict[EndpointKey, Endpoint]:
    """Endpoints by key, from decoded JSON.

    :raises UnreadableState: they are no endpoints.
    """
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
    """The state of `encode`.

    :raises UnreadableState: it is anything else.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableState(f"it is not JSON: {error}") from None
    head = decode_head(value)
    return replace(head, endpoints=decode_endpoints(value.get("endpoints")))


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
        """The state that was stored last, empty when there is none; `NotStored`."""
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
