"""Wiring of what touches the world: the bridge that runs, one full pass, a look at the cluster.

Builds the parts from settings, starts their threads, and sees that they end.  Decides nothing about
names.  Threads: the loop in the caller's, one reflector a kind, one watch on etcd, the HTTP door.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from kube2etcd import changes, parts
from kube2etcd.cluster.connection import ApiConnection
from kube2etcd.cluster.connection import connect as connect_api
from kube2etcd.cluster.objects import Kind
from kube2etcd.cluster.reflector import Reflector
from kube2etcd.cluster.store import Store
from kube2etcd.errors import ApiError, ApiNotFound, EtcdError
from kube2etcd.etcd.api import Connection, KeyStore, open_store
from kube2etcd.etcd.connection import connect as connect_etcd
from kube2etcd.etcd.election import LEASE, Election
from kube2etcd.inbox import EtcdChanged, EtcdLost, Inbox, Listed, News, Wake
from kube2etcd.metrics import Metrics, Status
from kube2etcd.plan import Change, Plan, diff, to_hold
from kube2etcd.publish import Publisher
from kube2etcd.reconciler import Reconciler
from kube2etcd.server import Door
from kube2etcd.settings import Settings

if TYPE_CHECKING:
    from kube2etcd.inside import Inside

log = logging.getLogger(__name__)

#: Seconds after a stop was asked for until a request to etcd that hangs is cut off.
STOP_PATIENCE = 0.2
#: The resync period is shortened or lengthened by up to this share.
JITTER = 0.1

#: Told what is going on: a sentence, with an ellipsis.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody sees."""


# --- run --------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """Asked to stop between two transactions."""


class EtcdFollower:
    """One thread that watches etcd from the revision it was last told, into the inbox."""

    def __init__(self, store: KeyStore, inbox: Inbox) -> None:
        self._store = store
        self._inbox = inbox
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._from = 0
        self._number = 0
        self._thread = threading.Thread(target=self._run, name="etcd-watch", daemon=True)

    def start(self) -> None:
        """Be ready to follow."""
        self._thread.start()

    def follow(self, revision: int) -> int:
        """Watch from ``revision`` on, and no longer from where it was.

        The number that is returned marks what this watch tells: the former one may be about to put
        something into the inbox, and after etcd has lost its data that means nothing any more.
        """
        with self._lock:
            self._from = revision
            self._number += 1
            self._ended.set()
            self._wake.set()
            return self._number

    def stop(self) -> None:
        """End, within half a second."""
        with self._lock:
            self._stop.set()
            self._ended.set()
            self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.5)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            with self._lock:
                if self._stop.is_set():
                    return
                self._wake.clear()
                revision, number, ended = self._from, self._number, threading.Event()
                self._ended = ended
            self._watch(revision, number, ended)

    def _watch(self, revision: int, number: int, ended: threading.Event) -> None:
        why = "the watch on etcd ended"
        try:
            for batch in self._store.watch(revision, ended):
                if ended.is_set():
                    return
                self._inbox.put(EtcdChanged(batch, number))
        except EtcdError as error:
            why = str(error)
        except Exception as error:
            # Whatever it was, we no longer know what etcd holds; reading it anew is always right.
            log.exception("the watch on etcd failed")
            why = f"the watch on etcd failed: {error}"
        if not ended.is_set():
            self._inbox.put(EtcdLost(why, number))


def bridge(settings: Settings, stop: threading.Event | None = None) -> None:
    """Keep etcd equal to the cluster until ``stop`` is set, or SIGTERM or SIGINT comes."""
    parts.check_available(settings)
    stop = stop or threading.Event()
    inbox, metrics, status = Inbox(), Metrics(), Status()
    api = connect_api(parts.cluster(settings))
    election = _election(settings, inbox)
    connection, store = _open(settings, election)
    follower = EtcdFollower(store, inbox)
    reflectors = [Reflector(kind, api, inbox) for kind in parts.kinds(settings)]
    within = contextlib.ExitStack()
    webhook = _webhook(settings, api, inbox, status, within) if settings.webhook.inside else None
    door = Door(settings.listen, webhook or status, metrics, str(settings.domain))

    def progress(_done: int, _total: int) -> None:
        status.beat()
        if stop.is_set():
            raise _Stopped

    reconciler = Reconciler(
        parts.publisher(settings, Store()),
        store,
        inbox,
        [*(reflector.kind.name for reflector in reflectors), *(webhook.kinds if webhook else ())],
        relist=_relist_all([*reflectors, *([webhook] if webhook else [])]),
        follow=follower.follow,
        metrics=metrics,
        status=status,
        resync_period=settings.resync_period * random.uniform(1 - JITTER, 1 + JITTER),
        progress=progress,
        standing_by=election.standing_by if election is not None else str,
    )
    log.info(
        "keeping %s in etcd at %s equal to %s", settings.domain, ", ".join(settings.etcd.servers), api.server
    )
    with signals(stop, inbox), impatient(stop, connection), contextlib.ExitStack() as ending:
        ending.callback(api.close)
        ending.callback(connection.close)
        ending.push(within)
        door.start()
        ending.callback(door.stop)
        if election is not None:
            election.start()
            ending.callback(election.stop)
        follower.start()
        ending.callback(follower.stop)
        for reflector in reflectors:
            reflector.start()
            ending.callback(reflector.stop)
        if webhook is not None:
            webhook.start()
            ending.callback(webhook.stop)
        with contextlib.suppress(_Stopped):
            reconciler.run(stop)
        log.info("stopping")


def _webhook(
    settings: Settings, api: ApiConnection, inbox: Inbox, status: Status, ending: contextlib.ExitStack
) -> Inside:
    """The door for ExternalDNS in this process; its modules are read only where it is wanted."""
    from kube2etcd.inside import Inside, keeper

    return Inside(settings, ending.enter_context(keeper(settings, api)), inbox, status)


class _Lister(Protocol):
    """What can tell everything again."""

    def relist(self, reason: str) -> None:
        """Tell it."""
        ...


def _election(settings: Settings, inbox: Inbox) -> Election | None:
    """Who writes, where several bridges share an etcd; None where we are alone."""
    if not settings.leader_elect:
        return None
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    # A server that is silent must not cost the lease: there is time for two attempts.
    patient = dataclasses.replace(parts.etcd(settings), timeout=LEASE / 3)
    return Election(
        connect_etcd(patient), parts.election_key(settings), name, changed=lambda: inbox.put(Wake())
    )


def _open(settings: Settings, election: Election | None = None) -> tuple[Connection, KeyStore]:
    """etcd's keys, by the API that the settings name."""
    return open_store(parts.etcd(settings), settings.etcd.api, parts.etcd_prefixes(settings), election)


def _relist_all(listers: Sequence[_Lister]) -> Callable[[str], None]:
    def relist(reason: str) -> None:
        for lister in listers:
            lister.relist(reason)

    return relist


@contextlib.contextmanager
def signals(stop: threading.Event, inbox: Inbox) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` and wake the loop; nothing else happens in the handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: object) -> None:
        stop.set()
        inbox.put(Wake())

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def impatient(stop: threading.Event, connection: Connection) -> Iterator[None]:
    """Cut off a request to an etcd that hangs, a moment after ``stop``: the loop may wait for it.

    Nothing is half-written by that: a transaction is carried out whole or not at all.
    """
    done = threading.Event()

    def wait() -> None:
        stop.wait()
        if not done.wait(STOP_PATIENCE):
            connection.close()

    threading.Thread(target=wait, name="stop", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        stop.set()


# --- One pass, and a look -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass did, or would do."""

    changes: tuple[Change, ...]
    foreign: frozenset[bytes] = frozenset()
    malformed: frozenset[bytes] = frozenset()
    refused: tuple[tuple[bytes, str], ...] = ()
    held: frozenset[bytes] = frozenset()
    """Deletions of `changes` that a run would not believe before a second listing agrees."""


class _Once(Inbox):
    """An inbox for one pass: the first failure ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: ApiError | None = None

    def failing(self, kind: Kind, since: float, error: ApiError) -> None:
        """Take note of a failure, unless the kind may be absent."""
        if not (kind.optional and isinstance(error, ApiNotFound)):
            self.error = error
        super().failing(kind, since, error)

    def news(self, timeout: float = 0.2) -> list[News]:
        """What is new; raises the failure there was."""
        found = self.drain(timeout)
        if self.error is not None:
            raise self.error
        return found


@contextlib.contextmanager
def _reflecting(settings: Settings, inbox: Inbox) -> Iterator[list[Reflector]]:
    api = connect_api(parts.cluster(settings))
    reflectors = [Reflector(kind, api, inbox) for kind in parts.kinds(settings)]
    with contextlib.ExitStack() as ending:
        ending.callback(api.close)
        for reflector in reflectors:
            reflector.start()
            ending.callback(reflector.stop)
        yield reflectors


def listed(settings: Settings, progress: Progress = silent) -> Publisher:
    """What the cluster wants published at this moment."""
    parts.check_available(settings)
    inbox, store = _Once(), Store()
    waiting = {kind.name for kind in parts.kinds(settings)}
    with _quiet("kube2etcd.cluster.reflector"), _reflecting(settings, inbox):
        while waiting:
            progress(f"listing {', '.join(sorted(waiting))}…")
            for item in inbox.news():
                if isinstance(item, Listed):
                    store.replace(item.kind, item.objects, item.rejected)
                    waiting.discard(item.kind)
    publisher = parts.publisher(settings, store)
    publisher.refresh(publisher.units())
    parts.say_rejected(store)
    return publisher


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Callable[[], changes.Snapshot]]:
    """A way to read etcd, and none to write it."""
    connection, store = _open(settings)
    with connection:
        yield store.snapshot


def dry_run(settings: Settings, publisher: Publisher, progress: Progress = silent) -> Outcome:
    """The difference between what is wanted and what etcd holds; nothing here can write."""
    progress("reading etcd…")
    with reading(settings) as snapshot:
        existing = snapshot().entries
    owner = publisher.layout.owner
    plan = diff(existing, publisher.desired, owner)
    held = to_hold(plan, existing, f'"owner":"{owner}"'.encode())
    return Outcome(plan.changes, plan.foreign, plan.malformed, held=held)


@dataclass
class _Strict:
    """An etcd that fails once and for all: one pass has no second try."""

    store: KeyStore
    refused: list[tuple[bytes, str]] = field(default_factory=list)
    error: EtcdError | None = None

    def snapshot(self) -> changes.Snapshot:
        try:
            return self.store.snapshot()
        except EtcdError as error:
            self.error = error
            raise

    def apply(
        self,
        generations: Iterable[tuple[changes.Batch, ...]],
        progress: Callable[[int], None] | None = None,
    ) -> changes.ApplyResult:
        try:
            result = self.store.apply(generations, progress)
        except EtcdError as error:
            self.error = error
            raise
        self.refused += [(change.key, reason) for change, reason in result.refused]
        return result


def resync(settings: Settings, *, force: bool = False, progress: Progress = silent) -> Outcome:
    """One full pass: list the API, read etcd, write the difference.

    A mass deletion waits for a second listing that agrees, unless ``force``.
    """
    parts.check_available(settings)
    inbox = _Once()
    found: dict[bytes, Change] = {}
    foreign: frozenset[bytes] = frozenset()
    malformed: frozenset[bytes] = frozenset()
    last: Plan | None = None
    connection, store = _open(settings)
    # What goes wrong ends the pass and is said once, as its error.
    with (
        _quiet("kube2etcd.reconciler", "kube2etcd.cluster.reflector"),
        connection,
        _reflecting(settings, inbox) as reflectors,
    ):
        strict = _Strict(store)
        reconciler = Reconciler(
            parts.publisher(settings, Store()),
            strict,
            inbox,
            [reflector.kind.name for reflector in reflectors],
            relist=_relist_all(reflectors),
            follow=lambda revision: 0,
            metrics=Metrics(),
            status=Status(),
            force=force,
            progress=lambda done, total: progress(f"writing {done} of {total} keys…"),
        )
        progress("listing the cluster…")
        while not reconciler.equal or reconciler.held:
            reconciler.turn(inbox.news())
            if strict.error is not None:
                raise strict.error
            if reconciler.plan is not last and reconciler.equal:
                last = reconciler.plan
                found.update((change.key, change) for change in last.changes)
                foreign, malformed = foreign | last.foreign, malformed | last.malformed
            if reconciler.held:
                progress(f"{len(reconciler.held)} deletions wait for a second listing…")
    parts.say_rejected(reconciler.publisher.store)
    done = tuple(change for _, change in sorted(found.items()))
    return Outcome(done, foreign, malformed, tuple(strict.refused))


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
