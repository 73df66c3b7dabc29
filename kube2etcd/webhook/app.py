"""The webhook as a part of the bridge, for `kube2etcd webhook` and `kube2etcd run --webhook`.

Threads: one for repairs, and the listener's workers.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from kube2etcd.app import build
from kube2etcd.app.corefile import CorefileWriter
from kube2etcd.errors import SettingsError
from kube2etcd.etcd import open_store
from kube2etcd.etcd.changes import Delete
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.external import managed
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import Changed, DnsEndpoint, Event, Listed
from kube2etcd.metrics import Metrics, Status
from kube2etcd.settings import HostPort, Settings, state_prefix_fault
from kube2etcd.sync.events import EventQueue, Rezoned
from kube2etcd.webhook.api import Api, Listener
from kube2etcd.webhook.hosts import HostsFile
from kube2etcd.webhook.provider import Conditions, Effective, Options, Provider, Publication
from kube2etcd.webhook.state import REQUEST_TIMEOUT, NotStored, StateStore
from kube2etcd.webhook.state_etcd import EtcdState
from kube2etcd.webhook.state_file import FileState
from kube2etcd.webhook.state_objects import ObjectsState
from skydns_compat.message import owner_of

log = logging.getLogger(__name__)

#: Kind of the webhook's objects in the store, one per name; those of the API server are "dnsendpoints".
KIND: Final = "webhook"
#: Seconds between repairs; the documentation promises ten.
REPAIR: Final = 5.0
#: Seconds between repairs while there is a fault.
RETRY: Final = 1.0


class Feed:
    """Sends names to the reconciler as events of the kind `KIND`, and the zones of the domains."""

    def __init__(self, settings: Settings, queue: EventQueue) -> None:
        self._settings, self._queue = settings, queue
        # With --dns-endpoints, names in state objects come from the API server, as in every other bridge.
        reflected = settings.webhook.state_objects is not None and settings.dns_endpoints
        self.kinds: tuple[str, ...] = () if reflected else (KIND,)
        """Kinds of the events; the reconciler waits for a list of each."""
        self.late = () if self.kinds else (KIND,)
        """Kinds without which nothing is deleted, since the state has domains that the settings lack."""
        self._zoned = (settings.domains, settings.webhook.cluster_ip)
        """Domains and cluster addresses of the reconciler's external zones."""

    def __call__(self, current: Effective, names: Mapping[str, DnsEndpoint | None], relist: bool) -> None:
        """Send the object of each name, None if it is gone; with ``relist`` these are all names."""
        if self._zoned != (current.domains, current.cluster):
            self._zoned = (current.domains, current.cluster)
            if self._settings.corefile.file is None:  # its writer says this too
                for remark in build.served(self._settings, current.domains)[1]:
                    log.warning("%s", remark)
            self._queue.put(Rezoned(tuple(build.external_zones(self._settings, *self._zoned))))
        if relist:
            objects = [one for _, one in sorted(names.items()) if one is not None]
            self._queue.put(Listed(KIND, objects if self.kinds else ()))
        if relist or not self.kinds:
            return
        for name, found in sorted(names.items()):
            what = "DELETED" if found is None else "MODIFIED"
            self._queue.put(Changed(KIND, Event(what, found, "", name)))


class Webhook:
    """Provider, listener, and the repair thread."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        metrics: Metrics,
        queue: EventQueue,
        status: Status,
        corefile: CorefileWriter | None = None,
    ) -> None:
        """``queue`` and ``status`` are the reconciler's; without etcd there is none, and the webhook reports
        its own status.  ``corefile`` is kept up to date with the domains.

        :raises SettingsError: the address of the API cannot be bound.
        """
        self._settings, webhook = settings, settings.webhook
        self._status, self._corefile = status, corefile
        self._feed = Feed(settings, queue) if settings.etcd.servers else None
        self.kinds, self.late = (self._feed.kinds, self._feed.late) if self._feed is not None else ((), ())
        self._stopped, self._wake, self._start_lock = False, threading.Event(), threading.Lock()
        publish = self._publish if self._feed is not None or corefile is not None else None
        self.provider = Provider(store, options(settings), hosts_file(settings), publish, metrics)
        status.add(lambda: (self.provider.conditions(), ()))
        status.beat("webhook")
        api = Api(self.provider, metrics)
        self._listener = Listener(api, HostPort(webhook.bind, webhook.port), webhook.allow)
        self._repairs = threading.Thread(target=self._repair, name="webhook-repair", daemon=True)

    def start(self) -> None:
        """Start the repair thread; it reads the state, then opens the API."""
        webhook = self._settings.webhook
        loopback = webhook.bind in ("localhost", "::1") or webhook.bind.startswith("127.")
        if not loopback and not webhook.allow:
            address = HostPort(webhook.bind, webhook.port)
            log.warning("any client that reaches %s may change names; limit it with --allow", address)
        if not self._settings.domains:
            log.info("no --domains: only names in domains from POST /domains are accepted")
        self._repairs.start()

    def stop(self) -> None:
        """Close the API after the requests in progress."""
        with self._start_lock:
            self._stopped = True
        self._wake.set()
        self._listener.stop()

    def relist(self, reason: str = "") -> None:
        """Send all names again, soon; returns at once.  ``reason`` is ignored."""
        self.provider.relist()
        self._wake.set()

    def _repair(self) -> None:
        self._repair_once()
        with self._start_lock:
            if not self._stopped:
                self._listener.start()
        while not self._stopped:
            self._wake.wait(RETRY if self.provider.conditions() else REPAIR)
            self._wake.clear()
            self._repair_once()

    def _repair_once(self) -> None:
        self.provider.repair()
        self._status.beat("webhook")
        if self._feed is None:
            self._status.report(True)

    def _publish(self, current: Effective, names: Mapping[str, DnsEndpoint | None], relist: bool) -> None:
        if self._corefile is not None:
            self._corefile.serve(current.domains)
        if self._feed is not None:
            self._feed(current, names, relist)


class Stored:
    """The names that a webhook has stored, for a single pass."""

    def __init__(self, settings: Settings, queue: EventQueue) -> None:
        self._settings, self._feed = settings, Feed(settings, queue)
        self.kinds = self._feed.kinds

    def relist(self, reason: str = "") -> None:
        """Read the state and send it as events.

        :raises NotStored: it cannot be read.
        """
        with state_store(self._settings) as store:
            current = options(self._settings).applied(store.load())
        publication = Publication(None, self._feed, "", Conditions())
        publication.update(current)
        publication.publish()


# --- kube2etcd webhook --------------------------------------------------------------------------------


def alone(settings: Settings, *, with_etcd: bool) -> Settings:
    """The settings of `kube2etcd webhook`, without those that only the other commands use."""
    return replace(
        settings,
        dns_endpoints=False,
        events=False,
        leader_elect=False,
        listen_page=None,
        etcd=settings.etcd if with_etcd else replace(settings.etcd, servers=()),
        webhook=replace(settings.webhook, alone=True, inside=True),
    )


def check(settings: Settings) -> None:
    """Raise `SettingsError` with all settings that `kube2etcd webhook` cannot work with (see `alone`)."""
    webhook, with_etcd = settings.webhook, bool(settings.etcd.servers)
    faults = []
    if not with_etcd and webhook.hosts_file is None and webhook.state_objects is None:
        faults.append(
            "nowhere to publish: write --etcd-server URL, --hosts-file PATH, or both; or --state-objects"
            " NAMESPACE, for bridges with --dns-endpoints to publish"
        )
    if with_etcd and settings.etcd.api != "v3":
        faults.append("--etcd-api v2 is for the bridge; the webhook needs v3")
    if with_etcd and (fault := state_prefix_fault(settings)):
        faults.append(fault)
    if faults:
        raise SettingsError(*faults)


def cleanup(settings: Settings) -> None:
    """Delete what `kube2etcd webhook` left: its block in the hosts file, its keys in etcd, and its state.

    :raises SettingsError: as `check`, or none of the three is set.
    :raises Kube2EtcdError: one of them cannot be read or written; those before it are deleted.
    """
    with_etcd = bool(settings.etcd.servers)
    if not with_etcd and settings.webhook.hosts_file is None and settings.webhook.state_objects is None:
        raise SettingsError(
            "there is nothing to clean up: write the --etcd-server URL, --hosts-file PATH or"
            " --state-objects NAMESPACE that the webhook had"
        )
    check(settings)
    with state_store(settings) as store:
        hosts = hosts_file(settings)
        if hosts is not None:
            # In a block without its END line, only names in our domains are known to be ours.
            domains = [*settings.domains]
            with contextlib.suppress(NotStored):  # an unreadable state is deleted too
                domains += store.load().domains
            hosts.write([], lambda name: managed(domains, name))
        if with_etcd:
            connection, keys = open_store(settings.etcd)
            with connection:
                entries, owner = keys.snapshot().entries.items(), build.layout(settings).owner
                ours = [Delete(key) for key, value in entries if owner_of(value) == owner]
                keys.apply([[tuple(ours[at : at + 100]) for at in range(0, len(ours), 100)]])
        store.clear()


def options(settings: Settings) -> Options:
    """The provider's options."""
    unservable = partial(build.unservable, settings)
    return Options(settings.domains, settings.webhook.cluster_ip, socket.gethostname(), unservable)


@contextlib.contextmanager
def state_store(settings: Settings, api: ApiConnection | None = None) -> Iterator[StateStore]:
    """The store of the state: objects of the API server if configured, else etcd or a file.

    ``api`` is used if given, and left open.
    """
    webhook = settings.webhook
    if webhook.state_objects is not None:
        with contextlib.ExitStack() as ending:
            if api is None:
                api = ending.enter_context(contextlib.closing(ApiConnection(settings.cluster)))
            yield ObjectsState(api, webhook.state_objects)
    elif settings.etcd.servers:
        # Not the reconciler's connection, whose timeout is too long for a request of ExternalDNS.
        with EtcdConnection(settings.etcd, REQUEST_TIMEOUT) as connection:
            yield EtcdState(connection, webhook.state_prefix)
    else:
        yield FileState(Path(webhook.state_file))


def hosts_file(settings: Settings) -> HostsFile | None:
    """The hosts file of the settings; None without one."""
    path = settings.webhook.hosts_file
    return HostsFile(Path(path), settings.owner_id) if path is not None else None
