"""A reconciler with etcd in memory and a clock that only moves when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdUnavailable
from kube2etcd.etcd import KeyStore, changes
from kube2etcd.etcd.changes import ApplyResult, WatchBatch, WatchEvent
from kube2etcd.kube.objects import ApiObject, Changed, Listed, Metadata, Namespace, Service
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.events import EtcdChanged, EventQueue, SyncEvent
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reconciler import Parts, Reconciler
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.layout import Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import changed, service

KINDS = ("namespaces", "services")
FOREIGN_VALUE = encode(Message(host="10.9.9.9", owner="someone"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Entries:
    """etcd in memory; raises ``trouble`` if set, and refuses to write the keys ``refused``.

    As in etcd, deleting a missing key causes neither an event nor a revision.
    """

    entries: dict[bytes, bytes] = field(default_factory=dict)
    revision: int = 1
    trouble: EtcdError | None = None
    no_space: EtcdNoSpace | None = None
    refused: set[bytes] = field(default_factory=set)
    snapshots: int = 0
    written: list[changes.Change] = field(default_factory=list)
    attempts: int = 0
    undelivered: list[WatchEvent] = field(default_factory=list)
    fail_after: int = 0
    """Number of transactions after which etcd becomes unavailable; 0: never."""

    def read(self, begin: changes.Begin) -> int:
        self.attempts += 1
        if self.trouble is not None:
            raise self.trouble
        self.snapshots += 1
        take = begin()
        if self.entries:
            take(list(self.entries.items()))
        return self.revision

    def apply(
        self, generations: Iterable[Iterable[changes.Batch]], progress: Callable[[int], None] | None = None
    ) -> ApplyResult:
        own: set[int] = set()
        refused: list[tuple[changes.Change, str]] = []
        written = 0
        for batch in (batch for generation in generations for batch in generation):
            if self.trouble is not None:
                raise self.trouble
            if self.no_space is not None:
                raise self.no_space
            events: list[WatchEvent] = []
            for change in batch:
                if change.key in self.refused:
                    refused.append((change, "too large"))
                    continue
                written += 1
                self.written.append(change)
                if isinstance(change, changes.Put):
                    self.entries[change.key] = change.value
                    events.append(WatchEvent(change.key, change.value, self.revision + 1))
                elif self.entries.pop(change.key, None) is not None:
                    events.append(WatchEvent(change.key, None, self.revision + 1))
            if events:
                self.revision += 1
                own.add(self.revision)
                self.undelivered += events
            if progress is not None:
                progress(len(batch))
            if own and len(own) == self.fail_after:
                self.trouble, self.fail_after = EtcdUnavailable("gone"), 0
        return ApplyResult(self.revision, frozenset(own), written, tuple(refused))

    def foreign_write(self, key: bytes, value: bytes | None) -> EtcdChanged:
        """Another writer puts or deletes (None) a key; returns this and all undelivered watch events."""
        self.revision += 1
        if value is None:
            del self.entries[key]
        else:
            self.entries[key] = value
        self.undelivered.append(WatchEvent(key, value, self.revision))
        events, self.undelivered = tuple(self.undelivered), []
        return EtcdChanged(WatchBatch(self.revision, events))


WEB = service("web")
NAMESPACES_LISTED = Listed("namespaces", [Namespace(Metadata("", "shop"))])


def added(name: str, ip: str) -> Changed:
    return changed(service(name, ip), "ADDED")


def many_services(count: int) -> list[Service]:
    return [service(f"s{at}", f"10.0.1.{at}") for at in range(count)]


class World:
    def __init__(
        self,
        clock: Clock,
        entries: Entries | None = None,
        kinds: Iterable[str] = KINDS,
        *,
        late: Sequence[str] = (),
        stop: threading.Event | None = None,
        store: Store | None = None,
        other_leader: Callable[[], str] = str,
        queue: EventQueue | None = None,
        relist: Callable[[str], None] | None = None,
        zones: Sequence[Zone] = (),
    ) -> None:
        self.clock = clock
        self.etcd = entries or Entries()
        cluster = ClusterZone(Name.parse("cluster.local"))
        self.publisher = Publisher(store or Store(), Layout(), cluster, zones)
        self.relists: list[str] = []
        self.follows: list[int] = []
        self.watch = 0
        self.metrics, self.status = Metrics(), Status(clock.monotonic)
        self.loop = Reconciler(
            Parts(
                publisher=self.publisher,
                etcd=cast(KeyStore, self.etcd),
                queue=queue or EventQueue(clock.monotonic),
                kinds=kinds,
                late=late,
                relist=relist or self.relists.append,
                follow=self.follow,
                metrics=self.metrics,
                status=self.status,
                stop=stop or threading.Event(),
                other_leader=other_leader,
                clock=clock.monotonic,
            )
        )

    def follow(self, revision: int) -> int:
        """Record the revision; returns the watch number that the test has set."""
        self.follows.append(revision)
        return self.watch

    def turn(self, *events: SyncEvent) -> World:
        self.loop.turn(list(events))
        return self

    def listed(self, *services: ApiObject) -> World:
        return self.turn(NAMESPACES_LISTED, Listed("services", list(services)))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"kube2etcd_{name}", labels) or 0.0

    def metric(self, line: str) -> bool:
        return line in self.metrics.page().decode()

    @property
    def ready(self) -> bool:
        return self.status.snapshot().ready

    @property
    def reasons(self) -> str:
        return "; ".join(self.status.snapshot().reasons)

    def assert_equal(self) -> None:
        ours = {key: value for key, value in self.etcd.entries.items() if b"kube2etcd" in value}
        assert ours == self.publisher.desired
        assert self.ready
        assert self.loop.target.equal
