"""The single writer: takes a call, keeps what it says, then publishes it.

Nothing is answered for before it is kept.  What cannot be kept or written into the hosts file is not
taken over, so `records` says what it said before and the client may try again.  `repair` compares
everything again without a call.  Knows its keeper, hosts file and listener by what they can do; must
never speak HTTP or write a key.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kube2etcd.external import Domain, Endpoint
from kube2etcd.metrics import Metrics
from kube2etcd.webhook.adjust import NOWHERE, ClusterAddress, adjust
from kube2etcd.webhook.keep import REQUEST, Keeper, NotKept, Overtaken
from kube2etcd.webhook.messages import Changes
from kube2etcd.webhook.publication import HostsWriter, Known, Publication, Publish
from kube2etcd.webhook.state import Remark, State
from kube2etcd.webhook.troubles import NotNow, Troubles

log = logging.getLogger(__name__)

#: Seconds from a call to its answer, at most, while something is away: the client gives up at 15, and a
#: probe earlier.  The last `REQUEST` of them are for what was begun before.
ANSWER_WITHIN = 4.5


@dataclass(frozen=True, slots=True)
class Options:
    """What was said at the start."""

    domains: tuple[Domain, ...] = ()
    cluster: ClusterAddress = NOWHERE
    own_name: str = ""
    """The name of this machine, which is never taken."""


class Provider:
    """State, kept and published.  Safe between threads."""

    def __init__(
        self,
        keeper: Keeper,
        options: Options,
        hosts: HostsWriter | None = None,
        publish: Publish | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._keeper, self._options = keeper, options
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._unread = "the state has not been read yet"
        self._troubles = Troubles()
        self._publication = Publication(hosts, publish, options.own_name, self._troubles)

    # --- what is known, without waiting -------------------------------------------------------------

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The managed domains: those of the options, then those that came by REST; `NotNow`."""
        return self._need().domains

    @property
    def cluster(self) -> ClusterAddress:
        """The address for names that lead to themselves; `NotNow`."""
        return self._need().cluster

    @property
    def records(self) -> bytes:
        """All endpoints as posted, as JSON; `NotNow`."""
        return self._need().records

    def adjusted(self, endpoints: Iterable[Endpoint]) -> Iterator[Endpoint]:
        """What ExternalDNS wants as we would keep it; changes nothing; `NotNow`."""
        known = self._need()
        return adjust(endpoints, known.domains, known.cluster)

    @property
    def is_read(self) -> bool:
        """Whether the state has been read."""
        return self._known is not None

    def troubles(self) -> list[str]:
        """Why it is not ready, in sentences; none when it is."""
        if self._known is None:
            return [self._unread]
        return [*self._troubles]

    # --- calls ----------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Take over changes of endpoints; `NotNow`: none of them."""
        remarks: list[Remark] = []

        def change(known: Known) -> Known:
            nonlocal remarks
            after, remarks = known.state.apply(changes, known.domains)
            return self._make(after, known.cluster)

        self._change(change)
        for remark in remarks:
            log.warning("%s", remark.text)
            if remark.skipped:
                self._metrics.skipped(remark.skipped)

    def add_domains(self, domains: Iterable[Domain]) -> None:
        """Manage these too, from now on and after a restart; `NotNow`."""
        # One of the options too: the next start may come without it.
        more = tuple(domains)
        self._change(lambda known: self._make(known.state.with_domains(more), known.cluster))

    def set_cluster(self, cluster: ClusterAddress) -> None:
        """Let this be the cluster address, from now on and after a restart without the option; `NotNow`."""
        self._change(lambda known: self._make(known.state.with_cluster(cluster), cluster))

    def repair(self) -> None:
        """Compare keeper, hosts file and keys with the state again, and put right what differs.

        Whatever goes wrong is a trouble, and the next time is another chance.
        """
        try:
            self._repair()
        except Exception as error:
            log.exception("comparing failed")
            self._unread = f"this is a defect of kube2etcd ({type(error).__name__}); its log has more"
            self._troubles.note("repair", self._unread)
        else:
            self._troubles.note("repair", "")

    def _repair(self) -> None:
        with self._lock:
            try:
                if self._known is None:
                    state = self._keeper.load()
                    self._know(self._make(state, self._options.cluster or state.cluster))
                # After reading, too: what cannot be written is to be known before anybody asks for it.
                self._take_over(self._need(), time.monotonic() + ANSWER_WITHIN - REQUEST)
            except NotKept as error:
                self._troubles.note("state", str(error))
                self._unread = str(error)
            else:
                self._troubles.note("state", "")
            if self._known is not None:
                # What is known is answered for: one place that cannot be written does not hold up another.
                view = self._publication.look_at(self._known)
                self._publication.hand_on(view)
                with contextlib.suppress(NotNow):
                    self._publication.write_hosts(view)

    # --- inside ---------------------------------------------------------------------------------------

    def _need(self) -> Known:
        known = self._known
        if known is None:
            raise NotNow(self._unread)
        return known

    def _make(self, state: State, cluster: ClusterAddress) -> Known:
        return Known(state, tuple(dict.fromkeys([*self._options.domains, *state.domains])), cluster)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Known, float]]:
        """What is known, for one writer, and the seconds that its keeper may be waited for."""
        began = time.monotonic()
        self._need()
        if not self._lock.acquire(timeout=ANSWER_WITHIN - 2 * REQUEST):
            raise NotNow(next(iter(self._troubles), "other calls are being worked on"))
        try:
            yield self._need(), ANSWER_WITHIN - REQUEST - (time.monotonic() - began)
        finally:
            self._lock.release()

    def _change(self, change: Callable[[Known], Known]) -> None:
        """Make a change of what is known, and where another writer was there first, of what that one left."""
        with self._writing() as (known, patience):
            after = change(known)
            # From here on: a large call takes its time before, and that is no fault of the keeper's.
            deadline = time.monotonic() + patience
            try:
                self._take(known, after, deadline)
            except Overtaken:
                try:
                    known = self._take_over(known, deadline)
                    self._take(known, change(known), deadline)
                except NotKept as error:
                    self._troubles.note("state", str(error))
                    raise NotNow(str(error)) from None

    def _take_over(self, known: Known, deadline: float) -> Known:
        """What is known after a look at what others have written; `NotKept`."""
        state = self._keeper.check(known.state, deadline)
        if state is not known.state:
            log.warning("another webhook has changed the state: it is taken over")
            # What was set here since the start stays, unless it is what the other one has changed.
            same = state.cluster == known.state.cluster
            cluster = known.cluster if same else self._options.cluster or state.cluster
            known = self._make(state, cluster)
            self._know(known)
        return known

    def _take(self, before: Known, after: Known, deadline: float) -> None:
        """Keep, then publish; on failure everything is as it was.  `NotNow`, or `Overtaken`."""
        changed = after.state != before.state
        if changed or "state" in self._troubles:
            try:
                self._keeper.save(after.state, deadline)
            except Overtaken:
                raise
            except NotKept as error:
                self._troubles.note("state", str(error))
                raise NotNow(str(error)) from None
            self._troubles.note("state", "")
        view = self._publication.look_at(after)
        try:
            self._publication.write_hosts(view)
        except NotNow:
            if changed:
                self._take_back(before, deadline)
            raise
        self._know(after)
        self._publication.hand_on(view)

    def _take_back(self, before: Known, deadline: float) -> None:
        try:
            self._keeper.save(before.state, deadline)
        except NotKept as error:
            # `repair` tries it again: to it, what is kept differs from what is known.
            self._troubles.note("state", str(error))

    def _know(self, known: Known) -> None:
        self._known = known
        self._metrics.kept(len(known.state.endpoints), len(known.domains))
