"""The webhook within the bridge's process: `kube2etcd run --webhook`.

The same door, provider and keeper as `kube2etcd webhook`; its names go to the bridge's own loop as one
more kind of objects, so there is one writer of keys.  Builds parts, decides nothing about names.
Threads: the repairing one, the door's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from kube2etcd import parts
from kube2etcd.cluster.connection import ApiConnection
from kube2etcd.etcd.connection import connect as connect_etcd
from kube2etcd.external import Domain, Endpoint
from kube2etcd.inbox import Inbox, Rezoned
from kube2etcd.metrics import Snapshot, Status
from kube2etcd.settings import HostPort, Settings
from kube2etcd.webhook.adjust import ClusterAddress
from kube2etcd.webhook.door import application
from kube2etcd.webhook.feed import KIND, Feed
from kube2etcd.webhook.hosts_file import HostsFile
from kube2etcd.webhook.keep import Keeper
from kube2etcd.webhook.keep_etcd import EtcdKeeper
from kube2etcd.webhook.keep_objects import ObjectsKeeper
from kube2etcd.webhook.listener import Listener
from kube2etcd.webhook.provider import REQUEST, Options, Provider
from kube2etcd.webhook.published import published

log = logging.getLogger(__name__)

#: Seconds between two comparisons without a call, and while something is wrong.
REPAIR, RETRY = 5.0, 1.0


@contextlib.contextmanager
def keeper(settings: Settings, api: ApiConnection | None) -> Iterator[Keeper]:
    """Where the state is kept: as objects of the API server where that is asked for, else in etcd."""
    if settings.webhook.state_objects is not None and api is not None:
        yield ObjectsKeeper(api, settings.webhook.state_objects)
        return
    # A connection of its own: calls wait for it, and must not wait as long as the loop may.
    patience = dataclasses.replace(parts.etcd(settings), timeout=REQUEST)
    with connect_etcd(patience) as connection:
        yield EtcdKeeper(connection, settings.webhook.state_prefix)


class Inside:
    """The webhook's half of the process, and what the bridge's half needs of it."""

    #: The kinds of its objects, which the loop waits for like any other.
    kinds: tuple[str, ...]

    def __init__(self, settings: Settings, keep: Keeper, inbox: Inbox, loop: Status) -> None:
        webhook = settings.webhook
        self._settings, self._inbox, self._loop = settings, inbox, loop
        # Names that are kept as objects of the API server come from there, to us as to everybody.
        self._feed = Feed(inbox) if webhook.state_objects is None else None
        self.kinds = (KIND,) if self._feed is not None else ()
        self._zoned: tuple[tuple[Domain, ...], ClusterAddress] = (
            settings.domains,
            ClusterAddress(webhook.cluster_ip),
        )
        hosts = HostsFile(Path(webhook.hosts_file)) if webhook.hosts_file is not None else None
        options = Options(*self._zoned, socket.gethostname())
        self._provider = Provider(keep, options, hosts, self._publish)
        # An empty host is both families, which is what :: means to people.
        where = HostPort("" if webhook.bind == "::" else webhook.bind, webhook.port)
        self._listener = Listener(application(self._provider, webhook.allow), where)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._repair, name="webhook", daemon=True)

    def start(self) -> None:
        """Read the state and open the door."""
        self._thread.start()
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
        """The loop's health and the provider's as one (`kube2etcd.server.HasSnapshot`)."""
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
            zones = parts.external_zones(self._settings, domains, cluster.addresses)
            self._inbox.put(Rezoned(tuple(zones)))
        if self._feed is not None:
            self._feed.update(names)

    def _repair(self) -> None:
        while True:
            self._provider.repair()
            if self._stop.wait(RETRY if self._provider.troubles() else REPAIR):
                return


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
        with keeper(self._settings, None) as keep:
            state = keep.load()
        domains = tuple(dict.fromkeys([*self._settings.domains, *state.domains]))
        cluster = ClusterAddress(self._settings.webhook.cluster_ip) or state.cluster
        zones = parts.external_zones(self._settings, domains, cluster.addresses)
        self._inbox.put(Rezoned(tuple(zones)))
        Feed(self._inbox).update(published(state, domains, cluster).names)
