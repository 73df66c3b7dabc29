"""The webhook within the bridge's process: `kube2etcd run --webhook`.

The same door, provider and keeper as `kube2etcd webhook`; its names go to the bridge's own loop as one
more kind of objects, so there is one writer of keys.  Builds parts, decides nothing about names.
Threads: the repairing one, the door's.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping

from kube2etcd.app import build
from kube2etcd.app.corefile import CorefileWriter
from kube2etcd.external import Domain, Endpoint
from kube2etcd.metrics import Metrics, Snapshot, Status
from kube2etcd.settings import Settings
from kube2etcd.sync.events import Inbox, Rezoned
from kube2etcd.webhook import wiring
from kube2etcd.webhook.adjust import ClusterAddress
from kube2etcd.webhook.feed import KIND, Feed
from kube2etcd.webhook.keep import Keeper
from kube2etcd.webhook.published import published


class WithinRun:
    """The webhook's half of the process, and what the bridge's half needs of it."""

    #: The kinds of its objects, which the loop waits for like any other.
    kinds: tuple[str, ...]

    def __init__(
        self,
        settings: Settings,
        keep: Keeper,
        inbox: Inbox,
        loop: Status,
        metrics: Metrics,
        corefile: CorefileWriter | None = None,
    ) -> None:
        webhook = settings.webhook
        self._settings, self._inbox, self._loop, self._corefile = settings, inbox, loop, corefile
        # Names that are kept as objects of the API server come from there, to us as to everybody.
        self._feed = Feed(inbox) if webhook.state_objects is None else None
        self.kinds = (KIND,) if self._feed is not None else ()
        self._zoned: tuple[tuple[Domain, ...], ClusterAddress] = (
            settings.domains,
            ClusterAddress(webhook.cluster_ip),
        )
        self._stop = threading.Event()
        self._provider = wiring.provider(settings, keep, self._publish, metrics)
        self._listener = wiring.listener(settings, self._provider, metrics)
        self._repairs = wiring.Repairs(self._provider, self._stop)

    def start(self) -> None:
        """Read the state and open the door; the bridge's own names wait for neither."""
        self._repairs.start()
        self._listener.start()

    def stop(self) -> None:
        """Close the door after the request in hand."""
        self._stop.set()
        self._listener.stop()

    def relist(self, reason: str = "") -> None:
        """Tell the loop all names again."""
        if self._feed is not None:
            self._feed.relist(reason)

    def snapshot(self) -> Snapshot:
        """The loop's health and the provider's as one (`kube2etcd.http.server.HasSnapshot`)."""
        loop, troubles = self._loop.snapshot(), self._provider.troubles()
        reasons = tuple(dict.fromkeys((*troubles, *loop.reasons)))
        return dataclasses.replace(loop, ready=loop.ready and not troubles, reasons=reasons)

    def _publish(
        self,
        names: Mapping[str, tuple[Endpoint, ...]],
        domains: tuple[Domain, ...],
        cluster: ClusterAddress,
    ) -> None:
        if self._zoned != (domains, cluster):
            self._zoned = (domains, cluster)
            zones = build.external_zones(self._settings, domains, cluster.addresses)
            self._inbox.put(Rezoned(tuple(zones)))
            if self._corefile is not None:
                self._corefile.serve(domains)
        if self._feed is not None:
            self._feed.update(names)


class Told:
    """What the webhook of a bridge was told, for a pass without one: read where its state is kept."""

    kinds: tuple[str, ...]

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self._settings, self._inbox = settings, inbox
        self.kinds = (KIND,) if settings.webhook.state_objects is None else ()

    def relist(self, reason: str = "") -> None:
        """Read it, and put it as news; `NotKept` where it cannot be read."""
        if not self.kinds:
            return
        with wiring.keeper(self._settings, with_etcd=True) as keep:
            state = keep.load()
        domains = tuple(dict.fromkeys([*self._settings.domains, *state.domains]))
        cluster = ClusterAddress(self._settings.webhook.cluster_ip) or state.cluster
        zones = build.external_zones(self._settings, domains, cluster.addresses)
        self._inbox.put(Rezoned(tuple(zones)))
        Feed(self._inbox).update(published(state, domains, cluster).names)
