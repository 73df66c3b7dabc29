"""The running bridge: starts and stops its parts and their threads.

The loop runs in the caller's thread; each kind's reflector, the etcd watch and each server have their own.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import secrets
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from kube2etcd.app import build
from kube2etcd.app.corefile import CorefileWriter
from kube2etcd.app.process import impatient, signals
from kube2etcd.etcd import open_store
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.election import LEASE, Election
from kube2etcd.http.server import Server, probe_server
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.recorder import EventRecorder
from kube2etcd.kube.reflector import Reflector, stop_all
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status, watched
from kube2etcd.settings import HostPort, Settings
from kube2etcd.sync.events import EventQueue, Wake
from kube2etcd.sync.follower import EtcdFollower
from kube2etcd.sync.reconciler import Parts, Reconciler

if TYPE_CHECKING:
    from kube2etcd.inspect.explain import Explanation
    from kube2etcd.webhook.app import Webhook

log = logging.getLogger(__name__)

#: Seconds that the status page waits for the loop's answer.
ASK_TIMEOUT = 5.0
#: Random variation of the resync period.
JITTER = 0.1


def check(settings: Settings) -> None:
    """Raise `SettingsError` if these credentials, certificates or folders do not let a bridge start."""
    ApiConnection(settings.cluster).close()
    open_store(settings.etcd)[0].close()
    if settings.leader_elect:
        build.election_key(settings)
    if settings.corefile.file is not None:
        CorefileWriter(settings)


def bridge(settings: Settings, stop: threading.Event | None = None, changed: Callable[[], str] = str) -> bool:
    """Keep etcd equal to the cluster until ``stop`` is set, or SIGTERM or SIGINT arrives.

    ``changed`` is called every few seconds if a Corefile is maintained (`CorefileWriter`).  Returns whether a
    signal arrived, if only while it stopped.
    """
    stop = stop or threading.Event()
    objects, queue, metrics, status = Store(), EventQueue(), Metrics(), Status()
    api = ApiConnection(settings.cluster)
    election = _election(settings, queue)
    connection, store = open_store(settings.etcd, election)
    follower = EtcdFollower(store, queue)
    recorder = EventRecorder(api) if settings.events else None
    reflectors = [Reflector(kind, api, queue.deliver, known=objects.known) for kind in build.kinds(settings)]
    metrics.received = lambda: {one.kind.name: one.bytes_read for one in reflectors}
    within = contextlib.ExitStack()
    corefile = None
    if settings.corefile.file is not None:
        corefile = CorefileWriter(settings, changed, whole=not settings.webhook.inside)
    webhook = None
    if settings.webhook.inside:
        # Imported only where it is wanted.
        from kube2etcd.webhook.app import Webhook, state_store

        state = within.enter_context(state_store(settings, with_etcd=True, api=api))
        webhook = Webhook(settings, state, metrics, queue, status, corefile)
    listers: list[Reflector | Webhook] = [*reflectors, *([webhook] if webhook else [])]
    if corefile is not None:
        status.add(corefile.check)
    probes = probe_server(settings.listen, status, metrics, str(settings.domain))

    def relist(reason: str) -> None:
        for lister in listers:
            lister.relist(reason)

    reconciler = Reconciler(
        Parts(
            publisher=build.publisher(settings, objects),
            etcd=store,
            queue=queue,
            kinds=[*(reflector.kind.name for reflector in reflectors), *(webhook.kinds if webhook else ())],
            late=webhook.late if webhook is not None else (),
            relist=relist,
            follow=follower.follow,
            metrics=metrics,
            status=status,
            resync_period=settings.resync_period * random.uniform(1 - JITTER, 1 + JITTER),
            stop=stop,
            left_out=recorder.record if recorder is not None else lambda _: None,
            other_leader=election.standing_by if election is not None else str,
        )
    )
    log.info(
        "keeping %s in etcd at %s equal to %s",
        ", ".join(str(zone.name) for zone in reconciler.publisher.zones),
        ", ".join(settings.etcd.servers),
        api.server,
    )
    with (
        signals(stop, queue) as asked,
        impatient(stop, connection),
        watched(metrics, status),
        contextlib.ExitStack() as ending,
    ):
        ending.callback(api.close)
        ending.callback(connection.close)
        ending.push(within)
        if corefile is not None:
            corefile.start()
            ending.callback(corefile.stop)
        probes.start()
        ending.callback(probes.stop)
        if settings.listen_page is not None:
            page = _status_page(settings, settings.listen_page, reconciler, status)
            ending.callback(page.start().stop)
        if election is not None:
            election.start()
            ending.callback(election.stop)
        follower.start()
        ending.callback(follower.stop)
        if recorder is not None:
            recorder.start()
            ending.callback(recorder.stop)
        ending.callback(stop_all, reflectors)
        for reflector in reflectors:
            reflector.start()
        if webhook is not None:
            webhook.start()
            ending.callback(webhook.stop)
        gc.freeze()  # exempt everything imported and built so far from garbage collection
        reconciler.run()
        log.info("stopping")
    return bool(asked)


def _status_page(settings: Settings, listen: HostPort, reconciler: Reconciler, status: Status) -> Server:
    """The status page; its modules are imported only if needed."""
    from kube2etcd.inspect.live import explain_live, look
    from kube2etcd.inspect.page import status_page

    delays = reconciler.parts.metrics.delays

    def explain(name: str, rtype: str) -> list[Explanation]:
        reader = build.reader(settings, reconciler.publisher)
        return explain_live(reconciler, reader, name, rtype, ASK_TIMEOUT)

    return status_page(listen, lambda: look(reconciler, ASK_TIMEOUT), status, explain, lambda: tuple(delays))


def _election(settings: Settings, queue: EventQueue) -> Election | None:
    """The election among bridges that share an etcd; None without `--leader-elect`."""
    if not settings.leader_elect:
        return None
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    # A server that is silent must not cost the lease: there is time for two attempts.
    connection = EtcdConnection(settings.etcd, LEASE / 3)
    return Election(connection, build.election_key(settings), name, changed=lambda: queue.put(Wake()))
