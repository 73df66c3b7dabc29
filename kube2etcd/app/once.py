"""One pass, and a look: what the commands do that end by themselves.

The parts are the bridge's, in the same wiring but for one thing: here the first failure ends it, as its
error.  Only `resync` can write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kube2etcd.app import build
from kube2etcd.errors import ApiError, ApiNotFound, EtcdError
from kube2etcd.etcd import Connection, KeyStore, changes, open_store
from kube2etcd.kube.client import connect as connect_api
from kube2etcd.kube.objects import Kind
from kube2etcd.kube.reflector import Reflector, stop_all
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status
from kube2etcd.settings import Settings
from kube2etcd.sync.events import Failing, Inbox, Listed, News, Rezoned
from kube2etcd.sync.plan import Change, Delete, Plan, diff, prune, to_hold
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reconciler import Parts, Reconciler
from kube2etcd.zones.base import Zone

if TYPE_CHECKING:
    from kube2etcd.webhook.app import Stored

#: Those who tell the log what the loop does; of one pass the outcome is told.
_LOOP = tuple(f"kube2etcd.sync.{one}" for one in ("reconciler", "listings", "safety", "target"))
#: Those who tell it how listing goes.
_REFLECTING = ("kube2etcd.kube.reflector", "kube2etcd.kube.watch", "kube2etcd.kube.delivery")
#: Foreign keys that are taken out in one transaction.
BATCH = 100

#: Told what is going on: a sentence, with an ellipsis.
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass did, or would do."""

    changes: tuple[Change, ...]
    foreign: frozenset[bytes] = frozenset()
    malformed: frozenset[bytes] = frozenset()
    refused: tuple[tuple[bytes, str], ...] = ()
    held: frozenset[bytes] = frozenset()
    """Deletions of `changes` that a run would not believe before a second listing agrees."""

    def after(self, pruned: tuple[Delete, ...]) -> Outcome:
        """The same with these foreign keys taken out as well."""
        gone = {one.key for one in pruned}
        changes = sorted((*self.changes, *pruned), key=lambda change: change.key)
        return dataclasses.replace(
            self, changes=tuple(changes), foreign=self.foreign - gone, malformed=self.malformed - gone
        )


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
    api = connect_api(build.cluster(settings))
    reflectors = [Reflector(kind, api, inbox) for kind in build.kinds(settings)]
    with contextlib.ExitStack() as ending:
        ending.callback(api.close)
        ending.callback(stop_all, reflectors)
        for reflector in reflectors:
            reflector.start()
        yield reflectors


def _open(settings: Settings) -> tuple[Connection, KeyStore]:
    """etcd's keys, by the API that the settings name."""
    return open_store(build.etcd(settings), settings.etcd.api, build.etcd_prefixes(settings))


def _told(settings: Settings, inbox: Inbox) -> list[Stored]:
    """What the bridge's webhook was told, where it has one; its modules are read only then."""
    if not settings.webhook.inside:
        return []
    from kube2etcd.webhook.app import Stored

    return [Stored(settings, inbox)]


def listed(settings: Settings, progress: Progress = silent) -> Publisher:
    """What the cluster wants published at this moment."""
    inbox, store = _Once(), Store()
    told = _told(settings, inbox)
    zones: Sequence[Zone] | None = None
    waiting = {kind.name for kind in build.kinds(settings)}.union(*(one.kinds for one in told))
    for one in told:
        one.relist("")
    with _quiet(*_REFLECTING), _reflecting(settings, inbox):
        while waiting:
            progress(f"listing {', '.join(sorted(waiting))}…")
            for item in inbox.news():
                if isinstance(item, Listed):
                    store.replace(item.kind, item.objects, item.rejected)
                    waiting.discard(item.kind)
                elif isinstance(item, Failing) and item.absent:
                    waiting.discard(item.kind)
                elif isinstance(item, Rezoned):
                    zones = item.zones
    publisher = build.publisher(settings, store)
    if zones is not None:
        publisher.refresh(publisher.rezone(zones))
    publisher.refresh(publisher.units())
    build.say_rejected(store)
    build.say_left_out(publisher)
    return publisher


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Callable[[], changes.Snapshot]]:
    """A way to read etcd, and none to write it."""
    connection, store = _open(settings)
    with connection:
        yield store.snapshot


def dry_run(
    settings: Settings, publisher: Publisher, *, prune_foreign: bool = False, progress: Progress = silent
) -> Outcome:
    """The difference between what is wanted and what etcd holds; nothing here can write."""
    progress("reading etcd…")
    with reading(settings) as snapshot:
        existing = snapshot().entries
    owner = publisher.layout.owner
    plan = diff(existing, publisher.desired, owner)
    held = to_hold(plan, existing, f'"owner":"{owner}"'.encode())
    pruned = _pruned(settings, publisher, plan.foreign, existing) if prune_foreign else ()
    return Outcome(plan.changes, plan.foreign, plan.malformed, held=held).after(pruned)


def _pruned(
    settings: Settings, publisher: Publisher, foreign: Iterable[bytes], existing: dict[bytes, bytes]
) -> tuple[Delete, ...]:
    layout = publisher.layout
    zones = (layout.zone_range(name) for name in build.zone_names(settings))
    return prune(foreign, existing, layout.owner, zones)


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


def resync(
    settings: Settings, *, force: bool = False, prune_foreign: bool = False, progress: Progress = silent
) -> Outcome:
    """One full pass: list the API, read etcd, write the difference.

    A mass deletion waits for a second listing that agrees, unless ``force``.
    """
    inbox = _Once()
    found: dict[bytes, Change] = {}
    foreign: frozenset[bytes] = frozenset()
    malformed: frozenset[bytes] = frozenset()
    last: Plan | None = None
    connection, store = _open(settings)
    # What goes wrong ends the pass and is said once, as its error.

    told = _told(settings, inbox)

    def relist(reason: str) -> None:
        for reflector in reflectors:
            reflector.relist(reason)
        for one in told:
            one.relist(reason)

    with (
        _quiet(*_LOOP, *_REFLECTING),
        connection,
        _reflecting(settings, inbox) as reflectors,
    ):
        strict = _Strict(store)
        reconciler = Reconciler(
            Parts(
                publisher=build.publisher(settings, Store()),
                etcd=strict,
                inbox=inbox,
                kinds=[
                    *(reflector.kind.name for reflector in reflectors),
                    *(kind for one in told for kind in one.kinds),
                ],
                relist=relist,
                follow=lambda revision: 0,
                metrics=Metrics(),
                status=Status(),
                force=force,
                progress=lambda done, total: progress(f"writing {done} of {total} keys…"),
            )
        )
        for one in told:
            one.relist("the first pass")
        progress("listing the cluster…")
        while not (reconciler.target.equal or strict.refused) or reconciler.held.keys:
            reconciler.turn(inbox.news())
            if strict.error is not None:
                raise strict.error
            if reconciler.plan is not last and (reconciler.target.equal or strict.refused):
                last = reconciler.plan
                found.update((change.key, change) for change in last.changes)
                foreign, malformed = foreign | last.foreign, malformed | last.malformed
            if reconciler.held.keys:
                progress(f"{len(reconciler.held.keys)} deletions wait for a second listing…")
        pruned: tuple[Delete, ...] = ()
        if prune_foreign:
            there = reconciler.target.mirror.entries
            pruned = _pruned(settings, reconciler.publisher, foreign & there.keys(), there)
            gone = [changes.Delete(one.key) for one in pruned]
            strict.apply([tuple(tuple(gone[at : at + BATCH]) for at in range(0, len(gone), BATCH))])
    build.say_rejected(reconciler.publisher.store)
    done = tuple(change for _, change in sorted(found.items()))
    return Outcome(done, foreign, malformed, tuple(strict.refused)).after(pruned)


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
