"""The running bridge: starts and stops its parts and their threads.

The loop runs in the caller's thread; each kind's reflector, the etcd watch and each server have their own.
`kube2etcd webhook` is the same without reflectors, and without the loop if it has no etcd.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kube2etcd.app import build
from kube2etcd.app.corefile import CorefileWriter
from kube2etcd.app.process import Reload, impatient, signals
from kube2etcd.errors import SettingsError
from kube2etcd.etcd import open_store
from kube2etcd.etcd.client import EtcdConnection
from kube2etcd.etcd.election import LEASE, Election
from kube2etcd.http.server import Server, bind, probe_server
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


def check(settings: Settings, before: Settings | None = None) -> None:
    """Raise `SettingsError` if credentials, certificates or directories would keep a bridge from starting.

    If it is to replace this process, with the settings ``before``: also if an address cannot be bound.
    """
    webhook = settings.webhook
    if before is not None:
        ours = [address.port for address, _ in _addresses(before)]
        with contextlib.ExitStack() as bound:
            for address, option in _addresses(settings):
                free = address
                if address.port in ours:
                    # Only the host can be tried.
                    ours.remove(address.port)
                    free = HostPort(address.host, 0)
                bound.enter_context(bind(free, option))
    if webhook.inside:
        # A bridge without a webhook need not load its modules.
        from kube2etcd.webhook import app
        from kube2etcd.webhook.hosts import folder_fault

        if webhook.alone:
            app.check(settings)
        if webhook.hosts_file is not None and (missing := folder_fault(Path(webhook.hosts_file))):
            raise SettingsError(f"--hosts-file {webhook.hosts_file}: {missing}")
        with app.state_store(settings):
            pass
    if not webhook.alone:
        ApiConnection(settings.cluster).close()
    if settings.etcd.servers:
        open_store(settings.etcd)[0].close()
    if settings.leader_elect:
        build.election_key(settings)
    if settings.corefile.file is not None:
        CorefileWriter(settings)


def _addresses(settings: Settings) -> Iterator[tuple[HostPort, str]]:
    """The addresses that a bridge binds, each with its option."""
    yield settings.listen, "--listen"
    if (page := _page_address(settings)) is not None:
        yield page, "--listen-page"
    if settings.webhook.inside:
        yield HostPort(settings.webhook.bind, settings.webhook.port), "--bind, --port"


def _page_address(settings: Settings) -> HostPort | None:
    """Where the status page listens, on loopback unless a host is set; None without one."""
    listen = settings.listen_page if settings.etcd.servers else None
    return listen and HostPort(listen.host or "127.0.0.1", listen.port)


class _Part(Protocol):
    def start(self) -> object: ...
    def stop(self) -> None: ...


def bridge(settings: Settings, reload: Reload) -> bool:
    """Keep etcd equal to the cluster until ``reload`` ends it, or SIGTERM or SIGINT arrives.

    Returns whether a signal arrived, even if only during the shutdown.

    :raises SettingsError: as `check`, or an address cannot be bound.
    """
    stop = reload.ending
    objects, queue, metrics, status = Store(), EventQueue(), Metrics(), Status()
    with watched(metrics, status), contextlib.ExitStack() as cleanup:
        api, reflectors, recorder = None, list[Reflector](), None
        if not settings.webhook.alone:
            api = cleanup.enter_context(contextlib.closing(ApiConnection(settings.cluster)))
            of_kinds = build.kinds(settings)
            reflectors = [Reflector(kind, api, queue.deliver, known=objects.known) for kind in of_kinds]
            recorder = EventRecorder(api) if settings.events else None
        metrics.received = lambda: {one.kind.name: one.bytes_read for one in reflectors}
        corefile = webhook = None
        if settings.corefile.file is not None:
            corefile = CorefileWriter(settings, whole=not settings.webhook.inside)
            status.add(corefile.check)
        status.add(reload.check)
        if settings.webhook.inside:
            from kube2etcd.webhook.app import Webhook, state_store

            state = cleanup.enter_context(state_store(settings, api))
            webhook = Webhook(settings, state, metrics, queue, status, corefile)
        # Not earlier: reading credentials may run an exec plugin; only an unhandled signal interrupts that.
        signalled = cleanup.enter_context(signals(stop, queue))
        listers: list[Reflector | Webhook] = [*reflectors, *([webhook] if webhook else [])]
        title = "webhook" if settings.webhook.alone else str(settings.domain)
        parts: list[_Part | None] = [corefile, reload, probe_server(settings.listen, status, metrics, title)]

        def relist(reason: str) -> None:
            for lister in listers:
                lister.relist(reason)

        reconciler: Reconciler | None = None
        if settings.etcd.servers:

            def blind_for() -> float:
                return reconciler.listings.blind_for() if reconciler is not None else 0.0

            election = _election(settings, queue, blind_for)
            connection, store = open_store(settings.etcd, election)
            cleanup.enter_context(impatient(stop, connection))
            cleanup.callback(connection.close)
            follower = EtcdFollower(store, queue)
            reconciler = Reconciler(
                Parts(
                    publisher=build.publisher(settings, objects),
                    etcd=store,
                    queue=queue,
                    kinds=[*(one.kind.name for one in reflectors), *(webhook.kinds if webhook else ())],
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
            if (page := _page_address(settings)) is not None:
                parts.append(_status_page(settings, page, reconciler, status))
            parts += [election, follower]
            log.info(
                "publishing %s to etcd at %s, from %s",
                ", ".join(str(zone.name) for zone in reconciler.publisher.zones) or "no zone yet",
                ", ".join(settings.etcd.servers),
                api.server if api is not None else "what ExternalDNS posts",
            )
        for part in filter(None, [*parts, recorder, webhook]):
            part.start()
            cleanup.callback(part.stop)
        cleanup.callback(stop_all, reflectors)
        for reflector in reflectors:
            reflector.start()
        gc.freeze()  # exempt everything imported and built so far from garbage collection
        if reconciler is not None:
            reconciler.run()
        stop.wait()
        log.info("stopping")
    return bool(signalled)


def _status_page(settings: Settings, listen: HostPort, reconciler: Reconciler, status: Status) -> Server:
    """The status page; its modules are imported only if needed."""
    from kube2etcd.inspect.live import explain_live, look
    from kube2etcd.inspect.page import status_page

    delays = reconciler.parts.metrics.delays

    def explain(name: str, rtype: str) -> list[Explanation]:
        reader = build.reader(settings, reconciler.publisher)
        return explain_live(reconciler, reader, name, rtype, ASK_TIMEOUT)

    return status_page(listen, lambda: look(reconciler, ASK_TIMEOUT), status, explain, lambda: tuple(delays))


def _election(settings: Settings, queue: EventQueue, blind_for: Callable[[], float]) -> Election | None:
    """The election among bridges that share an etcd; None without `--leader-elect`."""
    if not settings.leader_elect:
        return None
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    # A third of the lease, so that after one silent server there is time to renew it at another.
    connection = EtcdConnection(settings.etcd, LEASE / 3)
    key = build.election_key(settings)
    return Election(connection, key, name, changed=lambda: queue.put(Wake()), blind_for=blind_for)
