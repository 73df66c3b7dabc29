"""The single writer of the state: applies a call, stores the result and publishes it.

Nothing is acknowledged before it is stored.  A change that cannot be stored, or written to the hosts file, is
not applied, so the client can retry it.  The cost of publishing follows the change.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from kube2etcd.errors import Kube2EtcdError
from kube2etcd.external import (
    Domain,
    Endpoint,
    EndpointKey,
    InvalidDomain,
    NameIndex,
    is_ownership,
    managed,
    plain_name,
)
from kube2etcd.kube.objects import DnsEndpoint, Metadata
from kube2etcd.metrics import Metrics
from kube2etcd.webhook.hosts import HostsFile
from kube2etcd.webhook.state import (
    REQUEST_TIMEOUT,
    Changes,
    NotStored,
    Overtaken,
    Refusal,
    State,
    StateStore,
)
from kube2etcd.zones.targets import MAX_ALIASES, EndpointsOf, name_data, resolve
from skydns_compat.names import Address, version

log = logging.getLogger(__name__)

#: Upper bound in seconds of a call while a store is unavailable: ExternalDNS gives up after 15, a probe
#: earlier.  No request to the store starts in the last `REQUEST_TIMEOUT` of them.
ANSWER_WITHIN = 4.5
#: Names of this machine.
_LOCAL: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})


class Unavailable(Kube2EtcdError):
    """The call cannot be executed now; nothing of it was applied, so it may be retried."""


class Conditions:
    """Why the webhook is not ready: a sentence per topic.  One writer at a time, any number of readers."""

    def __init__(self) -> None:
        # Topics are never added or removed, so readers need no lock.
        self._found = dict.fromkeys(("state", "hosts", "repair"), "")

    def __contains__(self, what: str) -> bool:
        return bool(self._found[what])

    def __iter__(self) -> Iterator[str]:
        return filter(None, self._found.values())

    def set(self, what: str, why: str) -> None:
        """Set the sentence ``why`` of the topic ``what``, empty if there is no fault; logs each change."""
        before, self._found[what] = self._found[what], why
        if why and why != before:
            log.warning("%s", why)
        elif before and not why:
            log.info("resolved: %s", before)


@dataclass(frozen=True, slots=True, eq=False)
class Effective:
    """The state, with the options applied."""

    state: State
    domains: tuple[Domain, ...]
    cluster: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """The webhook's options."""

    domains: tuple[Domain, ...] = ()
    cluster: tuple[Address, ...] = ()
    own_name: str = ""
    """The name of this machine, which never goes into the hosts file."""
    unservable: Callable[[Domain], str] = lambda _: ""
    """Why a domain cannot be served; empty if it can."""

    def applied(self, state: State, cluster: tuple[Address, ...] | None = None) -> Effective:
        """The state with the options applied; ``cluster``, if given, overrides the cluster addresses."""
        domains = tuple(dict.fromkeys([*self.domains, *state.domains]))
        return Effective(state, domains, (self.cluster or state.cluster) if cluster is None else cluster)


#: Called with the object of each name, None if it is gone, and whether these are all names.
Publish = Callable[[Effective, Mapping[str, DnsEndpoint | None], bool], None]


def host_addresses(
    name: str, known: EndpointsOf, cluster_ips: tuple[Address, ...], own: str = ""
) -> tuple[tuple[Address, ...], str]:
    """The addresses of ``name`` in a hosts file, or why it has none; neither if it has no address.

    ``own`` is the name of this machine.  An alias has its target's addresses if they are known, else the
    cluster's.
    """
    data = name_data(known(name), name)
    found = {one.address for one in data.addresses}
    if data.alias is not None:
        end = resolve(name, data.alias, known)
        if end.too_long:
            return (), f"its CNAME chain has more than {MAX_ALIASES} aliases"
        found = set(end.addresses or cluster_ips)
        if not found:
            return (), "its target's address is unknown, and no cluster address is set"
    if not found:
        return (), ""
    if "*" in name:
        return (), "hosts files have no wildcards"
    if name in _LOCAL or name == plain_name(own):
        return (), "it is this machine's own name"
    return tuple(sorted(found, key=lambda one: (version(one), ip_address(one).packed))), ""


class Publication:
    """Publishes a state to the hosts file and the reconciler."""

    def __init__(
        self, hosts: HostsFile | None, publish: Publish | None, own_name: str, conditions: Conditions
    ) -> None:
        self._hosts, self._publish, self._own_name = hosts, publish, own_name
        self._conditions = conditions
        self._current: Effective | None = None
        self._index: NameIndex[EndpointKey] = NameIndex()
        """All endpoints but ownership texts."""
        self._lines: dict[str, tuple[Address, ...]] = {}
        self._reasons: dict[str, str] = {}
        self._unpublished: set[str] = set()
        """Names that may have changed since the last `publish`."""
        self.relist = threading.Event()
        """Set by any thread to publish all names next time."""
        self.relist.set()

    def update(self, current: Effective) -> None:
        """Make ``current`` the state to publish; writes nothing yet."""
        before, self._current = self._current, current
        if before is current:
            return
        old, new = before.state if before is not None else State(), current.state
        changed = [key for key, one in new.endpoints.items() if old.endpoints.get(key) is not one]
        changed += [key for key in old.endpoints if key not in new.endpoints]
        touched: set[str] = set()
        for key in changed:
            was, now = (_to_publish(state.endpoints.get(key)) for state in (old, new))
            touched |= self._index.put(key, was, now)
        touched |= self._index.followers(touched)
        self._unpublished |= touched | {name for name, _ in old.refused.items() ^ new.refused.items()}
        if self._hosts is None:
            return
        if before is None or (before.domains, before.cluster) != (current.domains, current.cluster):
            touched = {*self._index.names(), *self._lines, *self._reasons}
        for name in sorted(touched):
            addresses, reason = host_addresses(name, self._managed_endpoints, current.cluster, self._own_name)
            self._lines.pop(name, None)
            if addresses:
                self._lines[name] = addresses
            before_reason = self._reasons.pop(name, "")
            if reason:
                self._reasons[name] = reason
                if reason != before_reason:
                    log.warning("%s is not in the hosts file: %s", name, reason)

    def write_hosts(self) -> None:
        """Make our block of the hosts file equal to the state.

        :raises Unavailable: it cannot be written.
        """
        if self._hosts is None:
            return
        wanted = [(name, address) for name in sorted(self._lines) for address in self._lines[name]]
        try:
            self._hosts.write(wanted, self._ours)
        except Kube2EtcdError as error:
            self._conditions.set("hosts", str(error))
            raise Unavailable(str(error)) from None
        # Even if nothing had to be written, a fault must show before the next write.
        self._conditions.set("hosts", self._hosts.fault())

    def publish(self) -> None:
        """Send the reconciler the names that changed since the last call, or all of them."""
        current = self._current
        if current is None or self._publish is None:
            return
        relist, names = self.relist.is_set(), self._unpublished
        if relist:
            self.relist.clear()
            names = {*self._index.names(), *current.state.refused}
        self._unpublished = set()
        try:
            self._publish(current, {name: self._object(name, current.state) for name in names}, relist)
        except Exception:
            self.relist.set()  # nobody knows how much was sent
            raise

    def _object(self, name: str, state: State) -> DnsEndpoint | None:
        endpoints, why = self._endpoints(name), state.refused.get(name)
        if not endpoints and why is None:
            return None
        return DnsEndpoint(Metadata("", name), endpoints, {} if why is None else {name: why})

    def _endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """The endpoints of ``name``, in the order of their keys."""
        return tuple(one for _, some in sorted(self._index.of(name).items()) for one in some)

    def _ours(self, name: str) -> bool:
        return self._current is not None and managed(self._current.domains, name)

    def _managed_endpoints(self, name: str) -> tuple[Endpoint, ...]:
        return self._endpoints(name) if self._ours(name) else ()


def _to_publish(endpoint: Endpoint | None) -> tuple[Endpoint, ...]:
    """The endpoint to publish, if any: ownership texts are only for ExternalDNS."""
    return () if endpoint is None or is_ownership(endpoint) else (endpoint,)


class Provider:
    """Applies calls to the state, stores and publishes it.  Thread-safe."""

    def __init__(
        self,
        store: StateStore,
        options: Options,
        hosts: HostsFile | None,
        publish: Publish | None,
        metrics: Metrics,
    ) -> None:
        self._store, self._options, self._metrics = store, options, metrics
        self._lock = threading.Lock()
        self._current: Effective | None = None
        self._unread = "the state has not been read yet"
        self._conditions = Conditions()
        self._publication = Publication(hosts, publish, options.own_name, self._conditions)

    def relist(self) -> None:
        """Make the next `repair` publish all names again."""
        self._publication.relist.set()

    # --- reading, without waiting -----------------------------------------------------------------

    @property
    def current(self) -> Effective:
        """The state.

        :raises Unavailable: it has not been read yet.
        """
        if self._current is None:
            raise Unavailable(self._unread)
        return self._current

    def conditions(self) -> list[str]:
        """Why the webhook is not ready, in sentences; empty if it is."""
        if self._current is None:
            return [self._unread]
        return [*self._conditions]

    # --- calls --------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Apply changes of endpoints; those refused are logged and counted, the others applied together.

        :raises Unavailable: none was applied.
        """
        refusals: list[Refusal] = []

        def change(state: State) -> State:
            nonlocal refusals
            after, refusals = state.apply(changes, self._options.applied(state).domains)
            return after

        self._change(change)
        for refusal in refusals:
            log.warning("%s", refusal.text)
            if refusal.reason:
                self._metrics.skipped.labels(refusal.reason).inc()

    def add_domains(self, domains: Sequence[Domain]) -> None:
        """Manage these domains too, also after a restart.

        :raises InvalidDomain: one cannot be served; none was added.
        :raises Unavailable: none was added.
        """
        for domain in domains:
            if why := self._options.unservable(domain):
                raise InvalidDomain(why)
        # Stored even if an option names them, which may be gone at the next start.
        self._change(lambda state: replace(state, domains=tuple(dict.fromkeys([*state.domains, *domains]))))

    def remove_domains(self, domains: Sequence[Domain]) -> tuple[Domain, ...]:
        """Remove domains that were added at run time; returns those that an option keeps.

        Their endpoints stay stored, unpublished, until ExternalDNS deletes them.

        :raises Unavailable: none was removed.
        """
        self._change(
            lambda state: replace(state, domains=tuple(one for one in state.domains if one not in domains))
        )
        return tuple(one for one in domains if one in self._options.domains)

    def set_cluster(self, cluster: tuple[Address, ...]) -> None:
        """Use this cluster address; after a restart, the option overrides it.

        An empty one reverts to the option.

        :raises Unavailable: it was not set.
        """
        self._change(lambda state: replace(state, cluster=cluster), cluster or self._options.cluster)

    def repair(self) -> None:
        """Compare store, hosts file and keys with the state, and repair differences.

        Failures become conditions; the next call retries.
        """
        fault = ""
        try:
            with self._lock:
                self._repair()
        except Exception as error:
            log.exception("repair failed")
            fault = self._unread = f"internal error ({type(error).__name__}); see the log of kube2etcd"
        self._conditions.set("repair", fault)

    def _repair(self) -> None:
        try:
            if self._current is None:
                state = self._store.load()
                self._adopt(self._options.applied(state))
            # Also right after reading, so that a read-only store shows before the first call.
            deadline = time.monotonic() + ANSWER_WITHIN - REQUEST_TIMEOUT
            try:
                self._check(self.current, deadline)
            except Overtaken:
                # Another webhook wrote first, such as one that starts at the same time.
                self._check(self.current, deadline)
        except NotStored as error:
            self._conditions.set("state", str(error))
            self._unread = str(error)
        else:
            self._conditions.set("state", "")
        if self._current is not None:
            # The state in memory was acknowledged, so publish it wherever possible.
            self._publication.update(self._current)
            self._publication.publish()
            with contextlib.suppress(Unavailable):
                self._publication.write_hosts()

    # --- inside -------------------------------------------------------------------------------------

    def _change(self, change: Callable[[State], State], cluster: tuple[Address, ...] | None = None) -> None:
        """Change the state, on top of what another writer has stored; ``cluster``: a new cluster address."""

        def changed(current: Effective) -> Effective:
            return self._options.applied(
                change(current.state), current.cluster if cluster is None else cluster
            )

        began = time.monotonic()
        _ = self.current  # raises before we wait for the lock
        if not self._lock.acquire(timeout=ANSWER_WITHIN - 2 * REQUEST_TIMEOUT):
            raise Unavailable(next(iter(self._conditions), "busy with other calls"))
        try:
            waited = time.monotonic() - began
            current = self.current
            after = changed(current)
            # Measured from here: our own work on a large call does not count.
            deadline = time.monotonic() + ANSWER_WITHIN - REQUEST_TIMEOUT - waited
            try:
                self._commit(current, after, deadline)
            except Overtaken:
                current = self._check(current, deadline)
                self._commit(current, changed(current), deadline)
        except NotStored as error:
            self._conditions.set("state", str(error))
            raise Unavailable(str(error)) from None
        finally:
            self._lock.release()

    def _check(self, current: Effective, deadline: float) -> Effective:
        """``current``, or what another writer has stored meanwhile; raises `NotStored`."""
        state = self._store.check(current.state, deadline)
        if state is not current.state:
            log.warning("another webhook changed the state: using its version")
            # A cluster address set here since the start stays, unless the other webhook changed it.
            same = state.cluster == current.state.cluster
            current = self._options.applied(state, current.cluster if same else None)
            self._adopt(current)
        return current

    def _commit(self, before: Effective, after: Effective, deadline: float) -> None:
        """Store, then publish; raises `NotStored` or `Unavailable`, and then ``before`` still applies."""
        changed = after.state != before.state
        if changed or "state" in self._conditions:
            self._store.save(after.state, deadline)
            self._conditions.set("state", "")
        self._publication.update(after)
        try:
            self._publication.write_hosts()
        except Unavailable:
            if changed:
                try:
                    self._store.save(before.state, deadline)
                except NotStored as error:
                    # `repair` retries, since the store differs from the state in memory.
                    self._conditions.set("state", str(error))
            raise
        self._adopt(after)
        self._publication.publish()

    def _adopt(self, current: Effective) -> None:
        self._current = current
        self._metrics.endpoints.set(len(current.state.endpoints))
        self._metrics.domains.set(len(current.domains))
