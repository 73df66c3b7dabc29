"""What `kube2etcd webhook` and `kube2etcd run --webhook` are built of alike, from settings.

The keeper, the provider with its hosts file, its door, and the thread that compares without a call.
Builds parts, decides nothing about names; how they are started and ended is for the two commands to say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from kube2etcd.app import build
from kube2etcd.etcd.client import connect as connect_etcd
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.client import connect as connect_api
from kube2etcd.metrics import Metrics
from kube2etcd.settings import HostPort, Settings
from kube2etcd.webhook.adjust import ClusterAddress
from kube2etcd.webhook.door import application
from kube2etcd.webhook.hosts_file import HostsFile
from kube2etcd.webhook.keep import REQUEST, Keeper
from kube2etcd.webhook.keep_etcd import EtcdKeeper
from kube2etcd.webhook.keep_file import FileKeeper
from kube2etcd.webhook.keep_objects import ObjectsKeeper
from kube2etcd.webhook.listener import Listener
from kube2etcd.webhook.provider import Options, Provider
from kube2etcd.webhook.publication import Publish

#: Seconds between two comparisons without a call; ten are promised.
REPAIR = 5.0
#: Seconds between them while something is wrong.
RETRY = 1.0


@contextlib.contextmanager
def keeper(settings: Settings, *, with_etcd: bool, api: ApiConnection | None = None) -> Iterator[Keeper]:
    """Where the state is kept: as objects of the API server where that is asked for, else in etcd or a file.

    ``api``: a connection that is there already and stays open; else one is made where it is needed.
    """
    webhook = settings.webhook
    if webhook.state_objects is not None:
        # Bridges that read these objects publish them; a hosts file may have them as well.
        with contextlib.ExitStack() as ending:
            if api is None:
                api = ending.enter_context(contextlib.closing(connect_api(build.cluster(settings))))
            yield ObjectsKeeper(api, webhook.state_objects)
    elif with_etcd:
        # A connection of its own: calls wait for it, and must not wait as long as the loop may.
        patience = dataclasses.replace(build.etcd(settings), timeout=REQUEST)
        with connect_etcd(patience) as connection:
            yield EtcdKeeper(connection, webhook.state_prefix)
    else:
        yield FileKeeper(Path(webhook.state_file))


def hosts_file(settings: Settings) -> HostsFile | None:
    """The hosts file, where names go into one."""
    path = settings.webhook.hosts_file
    return HostsFile(Path(path)) if path is not None else None


def provider(settings: Settings, keep: Keeper, publish: Publish | None, metrics: Metrics) -> Provider:
    """The single writer of the state; it tells ``publish`` what is to become keys."""
    cluster = ClusterAddress(settings.webhook.cluster_ip)
    options = Options(settings.domains, cluster, socket.gethostname())
    return Provider(keep, options, hosts_file(settings), publish, metrics)


def listener(settings: Settings, answering: Provider, metrics: Metrics) -> Listener:
    """The door for ExternalDNS: bound from here on, open once it is started."""
    webhook = settings.webhook
    answers = application(answering, webhook.allow, metrics)
    return Listener(answers, HostPort(webhook.bind, webhook.port), metrics, webhook.allow)


class Repairs:
    """Compares without a call, in a thread that nobody waits for: it may hang in a request."""

    def __init__(
        self, answering: Provider, stop: threading.Event, turned: Callable[[], None] = lambda: None
    ) -> None:
        """``turned`` is called after each comparison."""
        self._provider, self._stop, self._turned = answering, stop, turned
        self._once = threading.Event()
        self._thread = threading.Thread(target=self._run, name="repairs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> None:
        """Return when the state was read, or could not be, so that the door opens with answers."""
        while not (self._stop.is_set() or self._once.wait(0.05)):
            pass

    def _run(self) -> None:
        while not self._stop.is_set():
            self._provider.repair()
            self._turned()
            self._once.set()
            self._stop.wait(RETRY if self._provider.troubles() else REPAIR)
