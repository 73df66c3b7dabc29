"""The webhook by itself: `kube2etcd webhook`.

Builds the parts from settings, starts their threads, and sees that they end.  Decides nothing about
names.  Threads: one that compares and repairs, the provider's door and its few workers, the door for
probes; with etcd also the keys' loop and a watch.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from kube2etcd.app import build
from kube2etcd.app.corefile import CorefileWriter, webhook_only
from kube2etcd.app.stopping import impatient, signals
from kube2etcd.errors import SettingsError
from kube2etcd.etcd import changes
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.client import connect as connect_etcd
from kube2etcd.etcd.store import EtcdStore
from kube2etcd.external import Domain, Endpoint, managed
from kube2etcd.http.server import Door, HasSnapshot
from kube2etcd.metrics import Metrics, Snapshot, Status
from kube2etcd.settings import HostPort, Settings
from kube2etcd.sync.events import Inbox
from kube2etcd.sync.follower import EtcdFollower
from kube2etcd.threads import watched
from kube2etcd.webhook import wiring
from kube2etcd.webhook.adjust import ClusterAddress
from kube2etcd.webhook.hosts_file import no_folder
from kube2etcd.webhook.keep import Keeper, NotKept
from kube2etcd.webhook.keys import Keys
from kube2etcd.webhook.provider import Provider
from kube2etcd.webhook.publication import Publish
from skydns_compat.layout import Layout
from skydns_compat.message import owner_of

log = logging.getLogger(__name__)

#: What is added to the owner id, so that a bridge on the same etcd leaves our keys alone.
OWNER = "/webhook"


def check(settings: Settings, *, with_etcd: bool) -> None:
    """Refuse settings that the webhook cannot work with, every fault at once."""
    webhook = settings.webhook
    faults = []
    if not with_etcd and webhook.hosts_file is None and webhook.state_objects is None:
        faults.append(
            "nowhere to publish: write --etcd-server URL, --hosts-file PATH, or both; or --state-objects"
            " NAMESPACE, for bridges with --dns-endpoints to publish"
        )
    if with_etcd and settings.etcd.api != "v3":
        faults.append("--etcd-api v2 is for the bridge; the webhook needs v3")
    served, kept = f"{settings.etcd.prefix}/", f"{webhook.state_prefix}/"
    if with_etcd and (served.startswith(kept) or kept.startswith(served)):
        faults.append(f"--state-prefix {webhook.state_prefix}: it would lie among the keys of {served[:-1]}")
    if faults:
        raise SettingsError(*faults)


def check_places(settings: Settings) -> None:
    """Refuse a hosts file in a folder that is not there: one that cannot be written yet is waited for."""
    path = settings.webhook.hosts_file
    if path is not None and (missing := no_folder(Path(path))):
        raise SettingsError(f"--hosts-file {path}: {missing}")


def owner(settings: Settings) -> str:
    """The mark in the webhook's values."""
    return f"{settings.owner_id}{OWNER}"


class _Health:
    """The provider's troubles and the loop's status as one."""

    def __init__(self, provider: Provider, beat: Status, keys: Status | None) -> None:
        self._provider, self._beat, self._keys = provider, beat, keys

    def snapshot(self) -> Snapshot:
        """As `kube2etcd.http.server.HasSnapshot` says."""
        now = self._beat.snapshot()
        troubles = self._provider.troubles()
        loop = self._keys.snapshot() if self._keys is not None and self._provider.is_read else None
        deaths = now.reasons if now.dead else ()
        reasons = (*deaths, *troubles, *(loop.reasons if loop is not None else ()))
        ready = not troubles and (loop is None or loop.ready)
        return Snapshot(ready, tuple(dict.fromkeys(reasons)), now.heartbeat_age, dead=now.dead)


def serve(settings: Settings, *, with_etcd: bool, stop: threading.Event | None = None) -> None:
    """Answer ExternalDNS and publish its names until ``stop`` is set, or SIGTERM or SIGINT comes."""
    check(settings, with_etcd=with_etcd)
    check_places(settings)
    stop = stop or threading.Event()
    corefile = CorefileWriter(webhook_only(settings)) if settings.corefile.file is not None else None
    inbox, metrics, beat = Inbox(), Metrics(), Status()
    with watched(metrics, beat), contextlib.ExitStack() as ending:
        keys, keys_status = None, None
        if with_etcd:
            keys_status = Status()
            connection = connect_etcd(build.etcd(settings))
            ending.enter_context(signals(stop, inbox))
            ending.enter_context(impatient(stop, connection))
            ending.callback(connection.close)
            keys = _keys(settings, connection, inbox, metrics, keys_status, ending)
        else:
            ending.enter_context(signals(stop, inbox))
        keep = ending.enter_context(wiring.keeper(settings, with_etcd=with_etcd))
        publish: Publish | None = keys.publish if keys is not None else None
        if corefile is not None:
            publish = _serving(corefile, publish)
            corefile.start()
            ending.callback(corefile.stop)
        provider = wiring.provider(settings, keep, publish, metrics)
        health: HasSnapshot = _Health(provider, beat, keys_status)
        door = Door(settings.listen, corefile.snapshots(health) if corefile else health, metrics, "webhook")
        listener = wiring.listener(settings, provider, metrics)
        _remark(settings)
        repairs = wiring.Repairs(provider, stop, beat.beat)
        repairs.start()
        repairs.wait()
        door.start()
        ending.callback(door.stop)
        if keys is not None:
            keys.start()
        listener.start()
        ending.callback(listener.stop)
        stop.wait()
        log.info("stopping")


def _serving(corefile: CorefileWriter, publish: Publish | None) -> Publish:
    """``publish``, with a Corefile that serves the domains."""

    def both(
        names: Mapping[str, tuple[Endpoint, ...]], domains: tuple[Domain, ...], cluster: ClusterAddress
    ) -> None:
        if publish is not None:
            publish(names, domains, cluster)
        corefile.serve(domains)

    return both


def cleanup(settings: Settings, *, with_etcd: bool) -> None:
    """Take out the block, the keys and the state."""
    if not with_etcd and settings.webhook.hosts_file is None and settings.webhook.state_objects is None:
        raise SettingsError(
            "nothing is named to take names out of: write --etcd-server URL, --hosts-file PATH or"
            " --state-objects NAMESPACE, as the webhook was given them"
        )
    check(settings, with_etcd=with_etcd)
    with wiring.keeper(settings, with_etcd=with_etcd) as keep:
        hosts = wiring.hosts_file(settings)
        if hosts is not None:
            # Of a block whose end is torn off, only names of our domains are known to be ours.
            domains = [*settings.domains, *_kept_domains(keep)]
            hosts.write([], lambda name: managed(domains, name))
        if with_etcd:
            with connect_etcd(build.etcd(settings)) as connection:
                store = EtcdStore(connection, build.etcd_prefixes(settings))
                ours = [
                    changes.Delete(key)
                    for key, value in store.snapshot().entries.items()
                    if owner_of(value) == owner(settings)
                ]
                store.apply([[tuple(ours[at : at + 100]) for at in range(0, len(ours), 100)]])
        keep.clear()


def _kept_domains(keep: Keeper) -> tuple[Domain, ...]:
    """Those that came by REST; none where the state cannot be read, which is no hindrance to its end."""
    try:
        return keep.load().domains
    except NotKept:
        return ()


def _keys(
    settings: Settings,
    connection: EtcdConnection,
    inbox: Inbox,
    metrics: Metrics,
    status: Status,
    ending: contextlib.ExitStack,
) -> Keys:
    store = EtcdStore(connection, build.etcd_prefixes(settings))
    follower = EtcdFollower(store, inbox)
    follower.start()
    ending.callback(follower.stop)
    keys = Keys(
        inbox,
        store,
        Layout(settings.etcd.prefix, owner(settings)),
        lambda domains, cluster_ips: build.external_zones(settings, domains, cluster_ips),
        follow=follower.follow,
        metrics=metrics,
        status=status,
        resync_period=settings.resync_period,
    )
    ending.callback(keys.stop)
    return keys


def _remark(settings: Settings) -> None:
    webhook = settings.webhook
    loopback = webhook.bind in ("localhost", "::1") or webhook.bind.startswith("127.")
    if not loopback and not webhook.allow:
        log.warning(
            "whoever reaches %s may change names: limit it with --allow", HostPort(webhook.bind, webhook.port)
        )
    if not settings.domains:
        log.info("no --domains: only names in domains that come by POST /domains are taken")
