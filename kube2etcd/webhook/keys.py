"""The webhook's names as keys in etcd: a reconciler of its own, whose cluster is the webhook's state.

The same store, publisher, plan and writer as the bridge's.  Domains and cluster address may change at
run time; the loop then begins anew with zones for them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kube2etcd.external import Domain, Endpoint
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.events import Inbox, Wake
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reconciler import Parts, Reconciler
from kube2etcd.sync.target import EntryStore
from kube2etcd.webhook.adjust import NOWHERE, ClusterAddress
from kube2etcd.webhook.feed import KIND, Feed
from kube2etcd.zones.base import Zone
from skydns_compat.layout import Layout
from skydns_compat.names import Address

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Zones:
    domains: tuple[Domain, ...] = ()
    cluster: ClusterAddress = NOWHERE


#: The zones for domains, with the addresses of the cluster.
MakeZones = Callable[[tuple[Domain, ...], tuple[Address, ...]], Sequence[Zone]]


class Keys:
    """Keeps etcd equal to what it was last told, in a thread of its own."""

    def __init__(
        self,
        inbox: Inbox,
        entries: EntryStore,
        layout: Layout,
        make_zones: MakeZones,
        *,
        follow: Callable[[int], int],
        metrics: Metrics,
        status: Status,
        resync_period: float,
    ) -> None:
        self._inbox, self._entries, self._layout, self._make_zones = inbox, entries, layout, make_zones
        self._follow, self._metrics, self._status = follow, metrics, status
        self._resync_period = resync_period
        self._feed = Feed(inbox)
        self._lock = threading.Lock()
        self._zones: _Zones | None = None
        self._told = threading.Event()
        self._ended = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def publish(
        self,
        names: Mapping[str, tuple[Endpoint, ...]],
        domains: tuple[Domain, ...],
        cluster: ClusterAddress,
    ) -> None:
        """These are the names now; from any thread."""
        self._feed.update(names)
        zones = _Zones(domains, cluster)
        with self._lock:
            if zones != self._zones:
                self._zones = zones
                self._ended.set()
                self._told.set()
                self._inbox.put(Wake())

    def start(self) -> None:
        """Begin; nothing is written before the first names are told."""
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction in hand."""
        with self._lock:
            self._stop = True
            self._ended.set()
            self._told.set()
            self._inbox.put(Wake())
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        self._told.wait()
        while True:
            with self._lock:
                zones, ended = self._zones, threading.Event()
                if self._stop or zones is None:
                    return
                self._ended = ended
            made = self._make_zones(zones.domains, zones.cluster.addresses)
            reconciler = Reconciler(
                Parts(
                    publisher=Publisher(Store(), self._layout, None, made),
                    etcd=self._entries,
                    inbox=self._inbox,
                    kinds=[KIND],
                    relist=self._feed.relist,
                    follow=self._follow,
                    metrics=self._metrics,
                    status=self._status,
                    resync_period=self._resync_period,
                    progress=lambda _done, _total: self._status.beat(),
                )
            )
            self._feed.relist()
            reconciler.run(ended)
