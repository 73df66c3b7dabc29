"""Keeps the hosts file and the reconciler's events equal to the state, at a cost of what changed.

Also holds the conditions that make the webhook unready.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Final, Protocol

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import (
    ClusterAddress,
    Domain,
    Endpoint,
    EndpointKey,
    NameIndex,
    is_ownership,
    managed,
    plain_name,
)
from kube2etcd.webhook.messages import encode_endpoints
from kube2etcd.webhook.state import State
from kube2etcd.zones.targets import MAX_ALIASES, name_data, resolve
from skydns_compat.names import Address, version

log = logging.getLogger(__name__)

#: Names of this machine.
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})


class Unavailable(Kube2EtcdError):
    """The call cannot be carried out at present, and nothing of it was: try again."""


class Conditions:
    """Why the webhook is not ready: one sentence for each thing.  One thread writes at a time, any reads."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __contains__(self, what: str) -> bool:
        return what in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.values())

    def set(self, what: str, why: str) -> None:
        """``why`` about ``what``, logged once when it changes; empty: it is fine."""
        before = self._found.get(what, "")
        if why == before:
            return
        if why:
            log.warning("%s", why)
        else:
            log.info("recovered: %s", before)
        # Replaced as a whole: readers hold no lock.
        found = {key: value for key, value in self._found.items() if key != what}
        self._found = found | ({what: why} if why else {})


class HostsWriter(Protocol):
    """A hosts file."""

    def write(self, wanted: Sequence[tuple[str, str]], ours: Callable[[str], bool]) -> bool:
        """Make our block hold these (name, address); an error of ours where it cannot be."""
        ...

    def fault(self) -> str:
        """Why a change could not be written; empty: it could."""
        ...


#: Called with the endpoints of each name that changed (none: the name is gone), the domains and the cluster
#: address; the first time with all names.
Publish = Callable[[Mapping[str, tuple[Endpoint, ...]], tuple[Domain, ...], ClusterAddress], None]


@dataclass(frozen=True, eq=False)
class Known:
    """The state, with the options applied."""

    state: State
    domains: tuple[Domain, ...]
    cluster: ClusterAddress

    @cached_property
    def records(self) -> bytes:
        """All endpoints as posted, as JSON; encoded when first asked for."""
        return encode_endpoints(self.state.endpoints.values())


class Names:
    """The endpoints that name something, by name."""

    def __init__(self) -> None:
        self._endpoints: Mapping[EndpointKey, Endpoint] = {}
        self._index: NameIndex[EndpointKey] = NameIndex()

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.names())

    def update(self, endpoints: Mapping[EndpointKey, Endpoint]) -> set[str]:
        """Let ``endpoints`` be all there are; the names that changed, and the aliases that lead to them."""
        before, self._endpoints = self._endpoints, endpoints
        changed = [key for key, one in endpoints.items() if before.get(key) is not one]
        changed += [key for key in before if key not in endpoints]
        touched: set[str] = set()
        for key in changed:
            touched |= self._index.put(key, _naming(before.get(key)), _naming(endpoints.get(key)))
        return touched | self._index.followers(touched)

    def of(self, name: str) -> tuple[Endpoint, ...]:
        """The endpoints of ``name``, in the order of their keys."""
        return tuple(one for _, some in sorted(self._index.of(name).items()) for one in some)


def _naming(endpoint: Endpoint | None) -> tuple[Endpoint, ...]:
    return () if endpoint is None or is_ownership(endpoint) else (endpoint,)


def host_addresses(
    name: str, known: Callable[[str], Collection[Endpoint]], cluster: ClusterAddress, own: str = ""
) -> tuple[tuple[Address, ...], str]:
    """The addresses of ``name`` in a hosts file, or why it has none; neither: it is nothing for the file.

    ``own`` is the name of this machine.  An alias has the addresses that its target has here, else the
    cluster's.
    """
    data = name_data(known(name), name)
    found = {one.address for one in data.addresses}
    if data.alias is not None:
        end = resolve(name, data.alias, known)
        if end.too_long:
            return (), f"it leads through more than {MAX_ALIASES} aliases"
        found = set(end.addresses or cluster.addresses)
        if not found:
            return (), "the address of its target is not known, and there is no cluster address"
    if not found:
        return (), ""
    if "*" in name:
        return (), "a hosts file takes no wildcards"
    if name in _LOCAL or name == plain_name(own):
        return (), "it is this machine"
    return tuple(sorted(found, key=lambda one: (version(one), ip_address(one).packed))), ""


class Publication:
    """What is published of the last state that it was given."""

    def __init__(
        self, hosts: HostsWriter | None, publish: Publish | None, own_name: str, conditions: Conditions
    ) -> None:
        self._hosts, self._publish, self._own_name = hosts, publish, own_name
        self._conditions = conditions
        self._known: Known | None = None
        self._names = Names()
        self._lines: dict[str, tuple[str, ...]] = {}
        self._wanted: list[tuple[str, str]] | None = None
        self._reasons: dict[str, str] = {}
        self._unpublished: set[str] = set()
        """Names that may differ from what was published last."""

    def update(self, known: Known) -> None:
        """Let ``known`` be what is published from now on; writes nothing."""
        before, self._known = self._known, known
        if before is known:
            return
        touched = self._names.update(known.state.endpoints)
        self._unpublished |= touched
        if self._hosts is None:
            return
        if before is None or (before.domains, before.cluster) != (known.domains, known.cluster):
            touched = {*self._names, *self._lines, *self._reasons}
        for name in sorted(touched):
            found, reason = host_addresses(name, self._of, known.cluster, self._own_name)
            addresses = tuple(map(str, found))
            if addresses != self._lines.pop(name, ()):
                self._wanted = None
            if addresses:
                self._lines[name] = addresses
            self._warn(name, reason)

    def write_hosts(self) -> None:
        """Make the hosts file equal.

        :raises Unavailable: it cannot be written.
        """
        if self._hosts is None:
            return
        if self._wanted is None:
            self._wanted = [(name, address) for name in sorted(self._lines) for address in self._lines[name]]
        try:
            self._hosts.write(self._wanted, self._ours)
        except Kube2EtcdError as error:
            self._conditions.set("hosts", str(error))
            raise Unavailable(str(error)) from None
        # Perhaps nothing had to be written: that it could not be must show before it must.
        self._conditions.set("hosts", self._hosts.fault())

    def publish(self) -> None:
        """Tell the reconciler what changed since the last call."""
        known = self._known
        if known is None or self._publish is None:
            return
        changed = {name: self._names.of(name) for name in self._unpublished}
        self._unpublished = set()
        self._publish(changed, known.domains, known.cluster)

    def _ours(self, name: str) -> bool:
        return self._known is not None and managed(self._known.domains, name)

    def _of(self, name: str) -> tuple[Endpoint, ...]:
        return self._names.of(name) if self._ours(name) else ()

    def _warn(self, name: str, reason: str) -> None:
        if reason and reason != self._reasons.get(name):
            log.warning("%s is not in the hosts file: %s", name, reason)
        self._reasons.pop(name, None)
        if reason:
            self._reasons[name] = reason
