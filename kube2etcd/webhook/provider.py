"""The single writer of the state: takes a call, stores what it changes, publishes it.

Nothing is acknowledged before it is stored.  What cannot be stored, or written to the hosts file, is not
taken over, so `records` stays as it was and the client may try again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kube2etcd.external import NOWHERE, ClusterAddress, Domain, Endpoint, InvalidDomain
from kube2etcd.metrics import Metrics
from kube2etcd.webhook.endpoints import Refusal, adjust
from kube2etcd.webhook.messages import Changes
from kube2etcd.webhook.publication import Conditions, HostsWriter, Known, Publication, Publish, Unavailable
from kube2etcd.webhook.state import REQUEST, NotStored, Overtaken, State, StateStore
from skydns_compat.names import Name

log = logging.getLogger(__name__)

#: Seconds from a call to its answer, at most, while something is away: the client gives up at 15, and a
#: probe earlier.  The last `REQUEST` of them are for what was begun before.
ANSWER_WITHIN = 4.5


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    domains: tuple[Domain, ...] = ()
    cluster: ClusterAddress = NOWHERE
    own_name: str = ""
    """The name of this machine, which is never taken."""
    taken: tuple[Name, ...] = ()
    """Where the cluster's zone has its names: no domain can be there."""


class Provider:
    """State, stored and published.  Safe between threads."""

    def __init__(
        self,
        store: StateStore,
        options: Options,
        hosts: HostsWriter | None = None,
        publish: Publish | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._store, self._options = store, options
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._unread = "the state has not been read yet"
        self._conditions = Conditions()
        self._publication = Publication(hosts, publish, options.own_name, self._conditions)

    # --- reading, without waiting -----------------------------------------------------------------

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The managed domains: those of the options, then those that came by REST; `Unavailable`."""
        return self._need().domains

    @property
    def cluster(self) -> ClusterAddress:
        """The address for names that lead to themselves; `Unavailable`."""
        return self._need().cluster

    @property
    def records(self) -> bytes:
        """All endpoints as posted, as JSON; `Unavailable`."""
        return self._need().records

    def adjusted(self, endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
        """The endpoints as they would be kept; changes nothing; `Unavailable`."""
        known = self._need()
        return adjust(endpoints, known.domains, known.cluster)

    def conditions(self) -> list[str]:
        """Why it is not ready, in sentences; none when it is."""
        if self._known is None:
            return [self._unread]
        return [*self._conditions]

    # --- calls --------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Carry out changes of endpoints; `Unavailable`: none of them."""
        refusals: list[Refusal] = []

        def change(known: Known) -> Known:
            nonlocal refusals
            after, refusals = known.state.apply(changes, known.domains)
            return self._make(after, known.cluster)

        self._change(change)
        for refusal in refusals:
            log.warning("%s", refusal.text)
            if refusal.reason:
                self._metrics.skipped(refusal.reason)

    def add_domains(self, domains: Iterable[Domain]) -> None:
        """Manage these too, also after a restart; `Unavailable`, `InvalidDomain`."""
        # Stored even if the options have them: the next start may come without.
        more = tuple(domains)
        for domain in more:
            if any(map(domain.name.below, self._options.taken)):
                raise InvalidDomain(f"{domain} has names of the cluster; take another")
        self._change(lambda known: self._make(known.state.with_domains(more), known.cluster))

    def remove_domains(self, domains: Iterable[Domain]) -> tuple[Domain, ...]:
        """Forget domains that came by REST; those that stay, since an option names them; `Unavailable`."""
        gone = tuple(domains)
        self._change(lambda known: self._make(known.state.without_domains(gone), known.cluster))
        return tuple(one for one in gone if one in self._options.domains)

    def set_cluster(self, cluster: ClusterAddress) -> None:
        """Use this cluster address, also after a restart without the option; `Unavailable`.

        `NOWHERE` takes back the one that came by REST: the option's counts again.
        """
        self._change(
            lambda known: self._make(known.state.with_cluster(cluster), cluster or self._options.cluster)
        )

    def repair(self) -> None:
        """Compare store, hosts file and keys with the state, and repair what differs.

        Failures become conditions; the next call tries again.
        """
        try:
            self._repair()
        except Exception as error:
            log.exception("comparison failed")
            self._unread = f"this is a defect of kube2etcd ({type(error).__name__}); its log has more"
            self._conditions.set("repair", self._unread)
        else:
            self._conditions.set("repair", "")

    def _repair(self) -> None:
        with self._lock:
            try:
                if self._known is None:
                    state = self._store.load()
                    self._know(self._make(state, self._options.cluster or state.cluster))
                # Also right after reading: whether the store can be written must show before it must.
                deadline = time.monotonic() + ANSWER_WITHIN - REQUEST
                try:
                    self._merge(self._need(), deadline)
                except Overtaken:
                    # Another webhook was first, such as one that starts at the same time.
                    self._merge(self._need(), deadline)
            except NotStored as error:
                self._conditions.set("state", str(error))
                self._unread = str(error)
            else:
                self._conditions.set("state", "")
            if self._known is not None:
                # The state in memory is acknowledged: one place that is away does not hold up another.
                self._publication.update(self._known)
                self._publication.publish()
                with contextlib.suppress(Unavailable):
                    self._publication.write_hosts()

    # --- inside -------------------------------------------------------------------------------------

    def _need(self) -> Known:
        known = self._known
        if known is None:
            raise Unavailable(self._unread)
        return known

    def _make(self, state: State, cluster: ClusterAddress) -> Known:
        return Known(state, tuple(dict.fromkeys([*self._options.domains, *state.domains])), cluster)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Known, float]]:
        """The state for one writer, and the seconds that its store may take."""
        began = time.monotonic()
        self._need()
        if not self._lock.acquire(timeout=ANSWER_WITHIN - 2 * REQUEST):
            raise Unavailable(next(iter(self._conditions), "other calls are being worked on"))
        try:
            yield self._need(), ANSWER_WITHIN - REQUEST - (time.monotonic() - began)
        finally:
            self._lock.release()

    def _change(self, change: Callable[[Known], Known]) -> None:
        """Make a change; where another writer was there first, make it of what that one left."""
        with self._writing() as (known, patience):
            after = change(known)
            # From here on: a large call takes its time before, which is not the store's fault.
            deadline = time.monotonic() + patience
            try:
                self._take(known, after, deadline)
            except Overtaken:
                try:
                    known = self._merge(known, deadline)
                    self._take(known, change(known), deadline)
                except NotStored as error:
                    self._conditions.set("state", str(error))
                    raise Unavailable(str(error)) from None

    def _merge(self, known: Known, deadline: float) -> Known:
        """The state after a look at what other writers have stored; `NotStored`."""
        state = self._store.check(known.state, deadline)
        if state is not known.state:
            log.warning("another webhook has changed the state: it is taken over")
            # What was set here since the start stays, unless it is what the other one has changed.
            same = state.cluster == known.state.cluster
            cluster = known.cluster if same else self._options.cluster or state.cluster
            known = self._make(state, cluster)
            self._know(known)
        return known

    def _take(self, before: Known, after: Known, deadline: float) -> None:
        """Store, then publish; on failure everything is as it was.  `Unavailable`, or `Overtaken`."""
        changed = after.state != before.state
        if changed or "state" in self._conditions:
            try:
                self._store.save(after.state, deadline)
            except Overtaken:
                raise
            except NotStored as error:
                self._conditions.set("state", str(error))
                raise Unavailable(str(error)) from None
            self._conditions.set("state", "")
        self._publication.update(after)
        try:
            self._publication.write_hosts()
        except Unavailable:
            self._publication.update(before)
            if changed:
                self._take_back(before, deadline)
            raise
        self._know(after)
        self._publication.publish()

    def _take_back(self, before: Known, deadline: float) -> None:
        try:
            self._store.save(before.state, deadline)
        except NotStored as error:
            # `repair` tries again: to it, the store differs from the state in memory.
            self._conditions.set("state", str(error))

    def _know(self, known: Known) -> None:
        self._known = known
        self._metrics.kept(len(known.state.endpoints), len(known.domains))
