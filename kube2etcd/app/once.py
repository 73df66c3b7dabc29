"""One full pass with the bridge's parts, for one-shot commands; the first failure ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import structs

from kube2etcd.app import build
from kube2etcd.app.process import signals
from kube2etcd.errors import PlanChanged
from kube2etcd.etcd import changes, open_store
from kube2etcd.kube.client import ApiConnection
from kube2etcd.kube.objects import Failing
from kube2etcd.kube.reflector import Reflector, stop_all
from kube2etcd.kube.store import Store, Unit
from kube2etcd.log import quiet
from kube2etcd.metrics import Metrics
from kube2etcd.settings import Settings
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue
from kube2etcd.sync.listings import Listings
from kube2etcd.sync.plan import Change, Outcome, Plan, applied, diff, generations, prune, to_hold
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.safety import HeldDeletes
from kube2etcd.sync.target import MAX_TXN_OPS

if TYPE_CHECKING:
    from kube2etcd.webhook.app import Stored

#: Seconds for which a kind must not be installed before that counts as an empty list; somebody is waiting.
GONE_AFTER: Final = 20.0
#: Loggers of messages that a pass reports itself.
_QUIET: Final = ("kube2etcd.sync.safety", "kube2etcd.kube.reflector")


#: Called as ``(what)`` or ``(what, done, total)`` to report what a pass is doing; a total of 0 is unknown.
Progress: TypeAlias = Callable[..., None]


def silent(*_: object) -> None:
    """Shows no progress."""


class _ListedCluster:
    """The cluster's objects and their publisher."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.queue, self._progress = EventQueue(), progress
        self._api = ApiConnection(settings.cluster)
        self._reflectors = [Reflector(kind, self._api, self.queue.deliver) for kind in build.kinds(settings)]
        self._stored: list[Stored] = []
        if settings.webhook.inside:
            # Imported only if needed.
            from kube2etcd.webhook.app import Stored

            self._stored.append(Stored(settings, self.queue))
        self.publisher = build.publisher(settings, Store())
        kinds = [reflector.kind.name for reflector in self._reflectors]
        kinds += [kind for one in self._stored for kind in one.kinds]
        self.listings = Listings(self.publisher, kinds, Metrics(), gone_after=GONE_AFTER)

    def __enter__(self) -> _ListedCluster:
        for one in self._stored:
            one.relist("")
        for reflector in self._reflectors:
            reflector.start()
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self._reflectors)
        self._api.close()

    def listed(self) -> Publisher:
        """The publisher, once every kind is listed."""
        listings, store = self.listings, self.publisher.store
        while listings.waiting:
            read = sum(one.bytes_read for one in self._reflectors) / 2**20
            waiting = ", ".join(sorted(listings.waiting))
            self._progress(
                f"listing {waiting} ({read:.1f} MiB), objects", sum(map(store.count, listings.counts))
            )
            self._take_in()
        self._refresh()
        return self.publisher

    def relist(self, reason: str) -> None:
        """Request new lists of everything."""
        for reflector in self._reflectors:
            reflector.relist(reason)
        for one in self._stored:
            one.relist(reason)

    def turn(self, timeout: float = 0.2, *, fail: bool = True) -> set[bytes]:
        """Apply events that arrive within ``timeout`` seconds; returns the keys whose value changed.

        :raises ApiError: a kind cannot be listed, and ``fail`` is set.
        """
        self._take_in(timeout, fail=fail)
        return self._refresh()

    def _take_in(self, timeout: float = 0.2, *, fail: bool = True) -> None:
        for event in self.queue.drain(timeout):
            if fail and isinstance(event, Failing) and event.error is not None and not event.absent:
                raise event.error
            if not isinstance(event, EtcdChanged | EtcdLost):
                self.listings.apply(event)

    def _refresh(self) -> set[bytes]:
        found: set[bytes] = set()
        for former in self.listings.refresh():
            found.update(*former.values())
            self._progress("deriving records, keys", len(self.publisher.desired))
        return found


def listed(settings: Settings, progress: Progress = silent) -> Publisher:
    """The publisher of the cluster as it is now."""
    with quiet(*_QUIET), _ListedCluster(settings, progress) as cluster:
        return cluster.listed()


def followed(settings: Settings, stop: threading.Event) -> Iterator[tuple[Publisher, Set[Unit], Set[bytes]]]:
    """Yield the publisher now, then once a second or after a change, until ``stop``.

    Each time with the units that were refreshed and the keys whose value changed.

    :raises ApiError: a kind cannot be listed at the start.  Later failures are logged and retried.
    """
    with _ListedCluster(settings, silent) as cluster, signals(stop, cluster.queue):
        with quiet(*_QUIET):
            publisher = cluster.listed()
        keys: Set[bytes] = frozenset()
        while not stop.is_set():
            yield publisher, cluster.listings.touched, keys
            keys = cluster.turn(1.0, fail=False)


@contextlib.contextmanager
def reading(settings: Settings) -> Iterator[Callable[[], changes.Snapshot]]:
    """A way to read etcd, and none to write it."""
    connection, store = open_store(settings.etcd)
    with connection:
        yield store.snapshot


def dry_run(
    settings: Settings,
    wanted: Callable[[], Publisher],
    *,
    force: bool = False,
    prune_foreign: bool = False,
    progress: Progress = silent,
) -> tuple[Outcome, Publisher]:
    """The difference between what is ``wanted`` and what etcd holds; nothing here can write.

    etcd is read concurrently, since a large list takes long to arrive.
    """
    with reading(settings) as snapshot, ThreadPoolExecutor(1, "etcd") as reader:
        existing = reader.submit(snapshot)
        publisher = wanted()
        progress("reading etcd")
        return _outcome(settings, publisher, existing.result().entries, force, prune_foreign), publisher


def _outcome(
    settings: Settings,
    publisher: Publisher,
    existing: Mapping[bytes, bytes],
    force: bool,
    prune_foreign: bool,
) -> Outcome:
    layout = publisher.layout
    plan = diff(existing, publisher.desired, layout.owner)
    held = frozenset() if force else to_hold(plan, existing, f'"owner":"{layout.owner}"'.encode())
    zones = build.zone_names(settings)
    pruned = prune(plan.foreign, existing, layout, zones) if prune_foreign else ()
    gone = frozenset(one.key for one in pruned)
    return Outcome(
        tuple(sorted((*plan.changes, *pruned), key=lambda one: one.key)),
        plan.foreign - gone,
        plan.malformed - gone,
        held=held,
        pruned=gone,
        existing=existing,
    )


def resync(
    settings: Settings,
    *,
    force: bool = False,
    prune_foreign: bool = False,
    checksum: str = "",
    progress: Progress = silent,
) -> tuple[Outcome, Publisher]:
    """One full pass: list the API, read etcd, write the difference.

    A mass deletion waits for a second listing to confirm it, unless ``force``.  With the ``checksum`` of a
    dry run, only the changes of that run are made.

    :raises PlanChanged: the difference is no longer that of the dry run.
    """
    connection, store = open_store(settings.etcd)
    with quiet(*_QUIET), connection, _ListedCluster(settings, progress) as cluster:
        publisher, listings = cluster.listed(), cluster.listings
        progress("reading etcd")
        planned = _outcome(settings, publisher, store.snapshot().entries, force, prune_foreign)
        if checksum not in ("", planned.checksum):
            raise PlanChanged(
                f"the plan is no longer {checksum}, it is {planned.checksum} with {len(planned.changes)}"
                " changes: nothing was written; look at it with resync --dry-run"
            )
        entries: dict[bytes, bytes] = dict(planned.existing)
        done: dict[bytes, Change] = {}
        refused: dict[bytes, str] = {}
        held = HeldDeletes(publisher.layout.owner)

        def write(plan: Plan) -> None:
            nonlocal entries
            if not (total := len(plan.changes)):
                return
            result = store.apply(
                generations(plan, publisher.groups, MAX_TXN_OPS),
                lambda count: progress("writing keys", count, total),
            )
            refused.update((change.key, reason) for change, reason in result.refused)
            done.update((one.key, one) for one in plan.changes)
            entries = applied(entries, plan.without(frozenset(refused)).changes)

        while True:
            plan = diff(entries, publisher.desired, publisher.layout.owner).without(refused.keys())
            if checksum and not frozenset(planned.changes).issuperset(plan.changes):
                raise PlanChanged(
                    f"the cluster changed while deletions of the plan {checksum} were held: {len(done)} of"
                    f" its {len(planned.changes)} changes are made; look at the rest with resync --dry-run"
                )
            now = time.monotonic()
            empty = listings.take_listed_empty()
            write(plan if force else held.hold(plan, entries, listings.counts, empty, now))
            if not held.keys:
                break
            progress("deletions that wait for a second listing, keys", len(held.keys))
            if held.relist_due(now):
                cluster.relist("deletions are held")
            cluster.turn()
        write(Plan(tuple(one for one in planned.changes if one.key in planned.pruned)))
    made = tuple(done[key] for key in sorted(done))
    return structs.replace(planned, changes=made, refused=tuple(refused.items()), held=frozenset()), publisher
