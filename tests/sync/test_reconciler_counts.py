"""What the loop counts as written and as repaired: what etcd took, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

import pytest

from kube2etcd.etcd import changes
from kube2etcd.kube.objects import Event, Metadata, Namespace, Service
from kube2etcd.kube.store import Store
from kube2etcd.metrics import Metrics, Status
from kube2etcd.sync.events import Changed, EtcdChanged, EventQueue, Listed, SyncEvent
from kube2etcd.sync.publisher import Publisher
from kube2etcd.sync.reconciler import Parts, Reconciler
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.layout import Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import Name

WEB = Service(Metadata("shop", "web"), cluster_ip="10.0.0.1")
LISTED = Listed("namespaces", [Namespace(Metadata("", "shop"))])


class Unwilling:
    """An etcd in memory that takes no change of the keys in ``refused``."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.refused: Container[bytes] = ()
        self.revision = 1

    def read(self, begin: changes.Begin) -> int:
        take = begin()
        if self.entries:
            take(self.entries.items())
        return self.revision

    def apply(
        self, generations: Iterable[Iterable[changes.Batch]], progress: Callable[[int], None] | None = None
    ) -> changes.ApplyResult:
        refused = []
        for change in (one for generation in generations for batch in generation for one in batch):
            if change.key in self.refused:
                refused.append((change, "too large"))
            elif isinstance(change, changes.Put):
                self.entries[change.key] = change.value
            else:
                del self.entries[change.key]
        self.revision += 1
        return changes.ApplyResult(self.revision, frozenset({self.revision}), 0, tuple(refused))


class Bridge:
    def __init__(self) -> None:
        self.etcd, self.metrics = Unwilling(), Metrics()
        self.publisher = Publisher(Store(), Layout(), ClusterZone(Name.parse("cluster.local")))
        self.loop = Reconciler(
            Parts(
                publisher=self.publisher,
                etcd=self.etcd,
                queue=EventQueue(),
                kinds=["services", "namespaces"],
                relist=lambda _: None,
                follow=lambda _: 0,
                metrics=self.metrics,
                status=Status(),
            )
        )

    def turn(self, *news: SyncEvent) -> None:
        self.loop.turn(list(news))

    def writes(self, op: str) -> float:
        return self.metrics.registry.get_sample_value("kube2etcd_writes_total", {"op": op}) or 0.0


def test_what_etcd_refuses_is_not_counted_as_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bridge = Bridge()
    bridge.turn(LISTED, Listed("services", []))
    before = set(bridge.etcd.entries)
    assert bridge.writes("put") == len(before)
    bridge.turn(Changed("services", Event("ADDED", WEB, "shop", "web")))
    added = set(bridge.etcd.entries) - before
    assert bridge.writes("put") == len(before | added)
    assert added

    key = sorted(added)[0]
    bridge.etcd.refused = {key}
    caplog.clear()
    bridge.turn(Changed("services", Event("DELETED", WEB, "shop", "web")))
    assert bridge.writes("delete") == len(added) - 1
    changed = [vars(one)["fields"] for one in caplog.records if one.getMessage() == "records changed"]
    assert sum(fields["deleted"] for fields in changed) == len(added) - 1
    assert {fields["object"] for fields in changed} == {"services/shop/web"}
    assert all(fields["latency"].endswith("ms") for fields in changed)


def test_log_of_many_changes(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("kube2etcd.sync.status.MANY", 1)
    bridge = Bridge()
    bridge.turn(LISTED, Listed("services", [WEB]))
    [fields] = [vars(one)["fields"] for one in caplog.records if one.getMessage() == "records changed"]
    assert fields["added"] == len(bridge.etcd.entries)
    assert "zone" not in fields


def test_log_of_a_stale_key_that_is_no_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bridge = Bridge()
    bridge.etcd.entries[b"/skydns/local/cluster/svc/no..name/H"] = encode(Message(owner="kube2etcd"))
    bridge.turn(LISTED, Listed("services", [WEB]))
    found = [vars(one)["fields"] for one in caplog.records if one.getMessage() == "records changed"]
    assert [fields["deleted"] for fields in found if "zone" not in fields] == [1]


def test_puts_that_etcd_refuses_are_not_counted_as_written() -> None:
    bridge = Bridge()
    wanted = Bridge()
    wanted.turn(LISTED, Listed("services", [WEB]))
    key = sorted(wanted.etcd.entries)[0]
    bridge.etcd.refused = {key}
    bridge.turn(LISTED, Listed("services", [WEB]))
    assert bridge.etcd.entries.keys() == wanted.etcd.entries.keys() - {key}
    assert bridge.writes("put") == len(bridge.etcd.entries)


@pytest.mark.parametrize("refused", [False, True])
def test_a_repair_that_etcd_refuses_is_none(refused: bool) -> None:
    bridge = Bridge()
    bridge.turn(LISTED, Listed("services", [WEB]))
    key, value = sorted(bridge.etcd.entries.items())[0]
    told = bridge.etcd.revision
    bridge.turn(EtcdChanged(changes.WatchBatch(told, (changes.WatchEvent(key, value, told),))))
    bridge.etcd.refused = {key} if refused else ()
    del bridge.etcd.entries[key]
    bridge.turn(EtcdChanged(changes.WatchBatch(told + 1, (changes.WatchEvent(key, None, told + 1),))))
    assert (key in bridge.etcd.entries) is not refused
    assert bridge.metrics.registry.get_sample_value("kube2etcd_repairs_total") == (not refused)
