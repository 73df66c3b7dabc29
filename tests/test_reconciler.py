"""The loop against a store of entries in memory: what it writes, when, and above all when it does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from kube2etcd import changes
from kube2etcd.applier import ETCD_RETRY, FULL_RETRY, REFUSED_RETRY
from kube2etcd.changes import ApplyResult, Snapshot, WatchBatch, WatchEvent
from kube2etcd.cluster.objects import (
    TENANT_CLUSTER_IP,
    ApiObject,
    DnsEndpoint,
    Event,
    Interface,
    Metadata,
    Namespace,
    Rejected,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.cluster.store import Store
from kube2etcd.errors import EtcdError, EtcdNoSpace, EtcdRefused, EtcdUnavailable
from kube2etcd.external import Domain
from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.holding import ASK_AGAIN
from kube2etcd.inbox import (
    Changed,
    EtcdChanged,
    EtcdLost,
    Failing,
    Healthy,
    Inbox,
    Listed,
    News,
    Rezoned,
    Wake,
)
from kube2etcd.intake import GONE_AFTER
from kube2etcd.metrics import Metrics, Status
from kube2etcd.plan import Delete
from kube2etcd.publish import Publisher
from kube2etcd.reasons import AT_ONCE, LONGEST
from kube2etcd.reconciler import Reconciler
from kube2etcd.sources.cluster import ClusterZone
from kube2etcd.sources.external import ExternalZone
from kube2etcd.sources.machines import MachineZone
from kube2etcd.zones import OfExternal, OfMachines, Zone
from skydns_compat.layout import Layout
from skydns_compat.message import Message, encode
from skydns_compat.names import Name

KINDS = ("namespaces", "services")
OTHERS = encode(Message(host="10.9.9.9", owner="somebody"))
FOREIGN = b"/skydns/local/cluster/foreign"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@dataclass
class Entries:
    """etcd in memory; ``trouble`` is raised in its place, ``refused`` are keys that it never takes."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    revision: int = 1
    trouble: EtcdError | None = None
    full: EtcdNoSpace | None = None
    refused: set[bytes] = field(default_factory=set)
    snapshots: int = 0
    written: list[changes.Change] = field(default_factory=list)
    tries: int = 0
    untold: list[WatchEvent] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        self.tries += 1
        if self.trouble is not None:
            raise self.trouble
        self.snapshots += 1
        return Snapshot(self.revision, dict(self.entries))

    def apply(
        self,
        generations: Iterable[tuple[changes.Batch, ...]],
        progress: Callable[[int], None] | None = None,
    ) -> ApplyResult:
        own: set[int] = set()
        refused: list[tuple[changes.Change, str]] = []
        written = 0
        for batch in (batch for generation in generations for batch in generation):
            if self.trouble is not None:
                raise self.trouble
            if self.full is not None:
                raise self.full
            self.revision += 1
            own.add(self.revision)
            for change in batch:
                if change.key in self.refused:
                    refused.append((change, "too large"))
                    continue
                written += 1
                self.written.append(change)
                if isinstance(change, changes.Put):
                    self.entries[change.key] = change.value
                else:
                    del self.entries[change.key]
                value = change.value if isinstance(change, changes.Put) else None
                self.untold.append(WatchEvent(change.key, value, self.revision))
            if progress is not None:
                progress(len(batch))
        return ApplyResult(self.revision, frozenset(own), written, tuple(refused))

    def by_hand(self, key: bytes, value: bytes | None) -> EtcdChanged:
        """Somebody else changes a key; what the watch tells of that and of all before."""
        self.revision += 1
        if value is None:
            del self.entries[key]
        else:
            self.entries[key] = value
        self.untold.append(WatchEvent(key, value, self.revision))
        told, self.untold = tuple(self.untold), []
        return EtcdChanged(WatchBatch(self.revision, told))


def service(name: str, ip: str = "10.0.0.1") -> Service:
    return Service(Metadata("shop", name), cluster_ip=ip)


def many(count: int) -> list[Service]:
    return [service(f"s{at}", f"10.0.1.{at}") for at in range(count)]


class World:
    """A reconciler and everything around it."""

    def __init__(
        self,
        clock: Clock,
        entries: Entries | None = None,
        kinds: Iterable[str] = KINDS,
        *,
        dry: bool = False,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
        store: Store | None = None,
        standing_by: Callable[[], str] = str,
        zones: Sequence[Zone] = (),
    ) -> None:
        self.clock = clock
        self.etcd = entries or Entries()
        cluster = ClusterZone(Name.parse("cluster.local"))
        self.publisher = Publisher(store or Store(), Layout(), cluster, zones)
        self.inbox = Inbox()
        self.relists: list[str] = []
        self.follows: list[int] = []
        self.watch = 0
        self.metrics, self.status = Metrics(), Status(clock.monotonic)
        self.loop = Reconciler(
            self.publisher,
            self.etcd,
            self.inbox,
            kinds,
            relist=self.relists.append,
            follow=self.follow,
            metrics=self.metrics,
            status=self.status,
            dry=dry,
            force=force,
            progress=progress,
            standing_by=standing_by,
        )

    def follow(self, revision: int) -> int:
        """The number of the watch, which is what the test says."""
        self.follows.append(revision)
        return self.watch

    def turn(self, *news: News) -> World:
        self.loop.turn(list(news))
        return self

    def listed(self, *services: ApiObject) -> World:
        return self.turn(
            Listed("namespaces", [Namespace(Metadata("", "shop"))]), Listed("services", list(services))
        )

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
        assert self.loop.applier.equal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("kube2etcd.reconciler.time", made)
    monkeypatch.setattr("kube2etcd.applier.time", made)
    monkeypatch.setattr("kube2etcd.intake.time", made)
    monkeypatch.setattr("kube2etcd.inbox.time", made)
    return made


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock).listed(service("web"))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "kube2etcd.applier")
    return caplog


def test_a_full_pass_makes_etcd_equal(world: World) -> None:
    world.assert_equal()
    assert world.follows == [2]
    assert world.metric("kube2etcd_ready 1")


@pytest.mark.parametrize("missing", KINDS)
def test_nothing_is_touched_before_every_kind_is_listed(clock: Clock, missing: str) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    etcd = Entries({b"/skydns/local/cluster/svc/shop/old": stale})
    world = World(clock, etcd)
    for kind in KINDS:
        if kind != missing:
            world.turn(Listed(kind, many(1)))
    world.turn(Changed("services", Event("ADDED", service("new"), "shop", "new")), Wake())
    assert (etcd.tries, etcd.written) == (0, [])
    assert not world.ready
    assert f"{missing} are not listed yet" in world.reasons
    world.turn(Listed(missing, many(1)))
    assert changes.Delete(b"/skydns/local/cluster/svc/shop/old") in etcd.written
    world.assert_equal()


def test_an_error_is_no_empty_list(clock: Clock) -> None:
    world = World(clock).turn(Listed("namespaces", []), Failing("services", 990.0))
    assert world.etcd.tries == 0
    assert world.status.snapshot().stale == {"services": 10.0}


def test_an_optional_kind_that_is_absent_holds_nobody_up(clock: Clock) -> None:
    world = World(clock, kinds=(*KINDS, "virtualmachineinstances")).listed(service("web"))
    assert world.etcd.tries == 0
    world.turn(Failing("virtualmachineinstances", 990.0, absent=True))
    world.assert_equal()
    assert world.status.snapshot().stale == {}


MACHINES = "virtualmachineinstances"


def many_machines(count: int) -> list[VirtualMachineInstance]:
    return [
        VirtualMachineInstance(Metadata("shop", f"m{at}"), (Interface("eth0", f"10.0.3.{at}"),))
        for at in range(count)
    ]


def with_machines(clock: Clock, machines: list[VirtualMachineInstance]) -> World:
    zone = OfMachines(MachineZone(Name.parse("vm")))
    world = World(clock, kinds=(*KINDS, MACHINES), zones=[zone])
    world.turn(Listed(MACHINES, machines)).listed(service("web"))
    world.assert_equal()
    return world


def test_a_kind_that_is_not_installed_any_more_goes_with_its_names_if_that_lasts(
    clock: Clock, told: pytest.LogCaptureFixture
) -> None:
    world = with_machines(clock, many_machines(5))
    before = dict(world.etcd.entries)
    absent = Failing(MACHINES, clock.now, absent=True)
    # A server that starts says so for a while; nothing of that counts when it ends.
    for end in (Failing(MACHINES, clock.now), Healthy(MACHINES), Listed(MACHINES, many_machines(5))):
        world.turn(absent)
        clock.now += GONE_AFTER - 1
        world.turn(absent, end)
        clock.now += 1
    world.turn(absent)
    clock.now += GONE_AFTER - 1
    world.turn(absent)
    assert (world.etcd.entries, world.loop.applier.held) == (before, frozenset())
    clock.now += 1
    world.turn(absent)
    assert told.text.count("virtualmachineinstances are not installed any more") == 1
    assert world.etcd.entries == before, "as after any empty list: not at first sight"
    assert world.loop.applier.held
    world.turn(absent, Listed("namespaces", [Namespace(Metadata("", "shop"))]))
    assert world.loop.applier.held
    world.turn(Listed("services", [service("web")]))
    world.assert_equal()
    assert not any(b"/m0" in key for key in world.etcd.entries)
    assert world.status.snapshot().stale == {}
    # Installed again: as if for the first time.
    world.turn(Listed(MACHINES, many_machines(5)))
    world.assert_equal()
    assert world.etcd.entries == before


def test_what_is_held_does_not_wait_for_ever_for_a_kind_that_is_gone(clock: Clock) -> None:
    machines = many_machines(30)
    world = with_machines(clock, machines)
    world.turn(*(Changed(MACHINES, Event("DELETED", None, "shop", one.metadata.name)) for one in machines))
    assert world.loop.applier.held
    absent = Failing(MACHINES, clock.now, absent=True)
    world.listed(service("web")).turn(absent)
    assert world.loop.applier.held
    clock.now += GONE_AFTER
    world.turn(absent)
    assert world.loop.applier.held == frozenset()
    world.assert_equal()


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([], id="a tick"),
        pytest.param([Wake()], id="a wake"),
        pytest.param([Listed("services", [service("web")])], id="the same listing"),
        pytest.param([EtcdLost("compacted")], id="etcd read anew"),
        pytest.param([EtcdChanged(WatchBatch(99))], id="a watch without news"),
        pytest.param([Changed("services", Event("MODIFIED", service("web"), "shop", "web"))], id="no change"),
    ],
)
def test_nothing_is_written_when_nothing_differs(world: World, news: list[News]) -> None:
    world.etcd.written.clear()
    world.clock.now += ETCD_RETRY
    world.turn(*news)
    assert world.etcd.written == []
    world.assert_equal()


def test_cost_follows_the_change(world: World) -> None:
    world.etcd.written.clear()
    world.turn(Changed("services", Event("ADDED", service("db", "10.0.0.2"), "shop", "db")))
    assert {change.key for change in world.etcd.written} == {
        b"/skydns/local/cluster/svc/shop/db",
        b"/skydns/local/cluster/svc/shop/db/10-0-0-2-H",
        b"/skydns/arpa/in-addr/10/0/0/2",
    }
    assert world.etcd.snapshots == 1
    world.assert_equal()


WEB = b"/skydns/local/cluster/svc/shop/web/10-0-0-1-H"


@pytest.mark.parametrize(
    "value", [None, OTHERS, b"{", b"{}"], ids=["deleted", "taken", "malformed", "emptied"]
)
def test_a_key_changed_by_hand_is_repaired(
    world: World, told: pytest.LogCaptureFixture, value: bytes | None
) -> None:
    world.turn(world.etcd.by_hand(WEB, value))
    assert "1 keys in etcd were not as written" in told.text
    world.assert_equal()


def test_a_stale_key_of_ours_that_comes_back_goes_again(world: World) -> None:
    world.turn(world.etcd.by_hand(b"/skydns/local/cluster/old", encode(Message(owner="kube2etcd"))))
    world.assert_equal()


@pytest.mark.parametrize(
    "value", [OTHERS, encode(Message(host="10.9.9.9")), b"{"], ids=["other", "none", "malformed"]
)
def test_foreign_keys_stay_and_are_counted(
    clock: Clock, told: pytest.LogCaptureFixture, value: bytes
) -> None:
    world = World(clock, Entries({FOREIGN: value})).listed(service("web")).listed()
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("again"))
    assert world.etcd.entries[FOREIGN] == value
    assert FOREIGN not in {change.key for change in world.etcd.written}
    assert world.metric("kube2etcd_foreign_keys 1")
    assert told.text.count("is malformed") == (value == b"{"), "told once"
    world.turn(world.etcd.by_hand(FOREIGN, None))
    assert world.metric("kube2etcd_foreign_keys 0")


def test_a_mass_deletion_waits_for_a_second_listing(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock).listed(*many(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.relists == ["a plan is held"]
    assert "held until a second listing agrees" in told.text
    assert "deletions are held" in world.reasons
    assert world.ready
    # Neither time nor half of the listings is a second opinion.
    world.turn(Wake()).turn(Listed("services", []))
    assert world.etcd.entries == before
    world.turn(Listed("namespaces", [Namespace(Metadata("", "shop"))]))
    assert "a second listing agrees" in told.text
    assert world.metric("kube2etcd_repairs_total 0"), "what waited was no fault of etcd's"
    assert world.loop.applier.held == frozenset()
    world.assert_equal()
    assert len(world.etcd.entries) < len(before)


@pytest.mark.parametrize("second", [[], [service("web")]])
def test_an_empty_list_waits_for_another_however_little_it_deletes(
    world: World, told: pytest.LogCaptureFixture, second: list[Service]
) -> None:
    before = dict(world.etcd.entries)
    world.turn(Listed("services", []))
    assert world.etcd.entries == before
    assert world.ready
    assert "would be deleted after an empty list: held" in told.text
    world.listed(*second)
    world.assert_equal()
    assert (world.etcd.entries == before) == bool(second)
    # what goes afterwards, one by one, is not meant
    world.turn(Listed("services", [service("last")]), Wake())
    world.turn(Changed("services", Event("DELETED", None, "shop", "last")))
    assert world.loop.applier.held == frozenset()
    world.assert_equal()


def test_an_empty_list_at_the_start_waits_for_another(clock: Clock) -> None:
    stale = encode(Message(host="10.0.0.9", owner="kube2etcd"))
    world = World(clock, Entries({b"/skydns/local/cluster/svc/shop/old": stale})).listed()
    assert b"/skydns/local/cluster/svc/shop/old" in world.etcd.entries
    world.listed().assert_equal()


def test_an_empty_list_of_what_was_empty_is_no_news(clock: Clock) -> None:
    world = World(clock, kinds=("namespaces", "services", "pods")).turn(Listed("pods", []))
    world.listed(service("web")).turn(Listed("pods", [])).turn(
        Changed("services", Event("DELETED", None, "shop", "web"))
    )
    assert world.loop.applier.held == frozenset()
    world.assert_equal()


def test_what_a_former_watch_tells_means_nothing(world: World) -> None:
    before = dict(world.loop.applier.mirror.entries)
    world.watch = 7
    world.clock.now += ETCD_RETRY
    world.turn(EtcdLost("its data is gone"))
    old = WatchBatch(10_000, (WatchEvent(b"/skydns/local/cluster/svc/shop/web", b"{}", 10_000),))
    world.turn(EtcdChanged(old, 6), EtcdLost("late", 6))
    assert world.loop.applier.mirror.entries == before
    assert not world.loop.applier.mirror.lost
    world.turn(EtcdLost("it ended", 7))
    assert world.loop.applier.mirror.lost


def test_a_second_listing_that_disagrees_deletes_nothing(clock: Clock) -> None:
    world = World(clock).listed(*many(20))
    before = dict(world.etcd.entries)
    world.turn(Listed("services", [])).listed(*many(20))
    assert world.etcd.entries == before
    assert world.loop.applier.held == frozenset()
    world.assert_equal()


def test_other_changes_go_on_while_a_plan_is_held(clock: Clock) -> None:
    world = World(clock).listed(*many(20)).turn(Listed("services", []))
    world.turn(Changed("services", Event("ADDED", service("new", "10.0.0.7"), "shop", "new")))
    assert b"/skydns/local/cluster/svc/shop/new/10-0-0-7-H" in world.etcd.entries
    assert len(world.loop.applier.held) > 0
    world.turn(Changed("services", Event("ADDED", many(1)[0], "shop", "s0")))
    assert not any(b"/s0/" in key for key in world.loop.applier.held)
    world.listed(service("new", "10.0.0.7"))
    world.assert_equal()


def test_a_second_disaster_waits_for_its_own_second_listing(clock: Clock) -> None:
    world = World(clock).listed(*many(40)).turn(Listed("services", many(20)))
    assert len(world.loop.applier.held) > 0
    world.listed()
    assert len(world.loop.applier.held) > 0
    assert any(b"/svc/shop/s0/" in key for key in world.etcd.entries)
    assert not any(b"/svc/shop/s39/" in key for key in world.etcd.entries)
    world.listed()
    world.assert_equal()


def test_what_came_while_a_plan_was_held_needs_a_second_listing_of_its_own(clock: Clock) -> None:
    """A server that begins to answer wrongly does so for one kind after the other."""
    world = World(clock, kinds=(*KINDS, "nodes"))
    namespace = Listed("namespaces", [Namespace(Metadata("", "shop"))])
    services = many(40)
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.turn(Listed("services", services[:20]), Listed("nodes", []))
    held = world.loop.applier.held
    assert any(b"/s39/" in key for key in held)
    # The listing that was asked for: the first half of it is even more wrong, the second says nothing.
    world.turn(Listed("services", services[:2]))
    assert held < world.loop.applier.held
    world.turn(namespace, Listed("nodes", []))
    gone = {change.key for change in world.etcd.written if isinstance(change, changes.Delete)}
    assert gone == held, "of these two listings say that they are gone; of the others one"
    assert world.relists == ["a plan is held"] * 2
    world.turn(namespace, Listed("services", services), Listed("nodes", []))
    world.assert_equal()
    assert world.loop.applier.held == frozenset()


def test_an_empty_list_while_a_plan_is_held_is_asked_about_as_well(clock: Clock) -> None:
    world = World(clock)
    namespace = Listed("namespaces", [Namespace(Metadata("", "shop"))])
    world.listed(*many(20)).turn(Listed("services", many(5)))
    held = world.loop.applier.held
    # Few names: nothing but the empty list makes them suspect.
    world.turn(Listed("services", []))
    assert held < world.loop.applier.held
    world.turn(namespace)
    assert any(b"/s0/" in key for key in world.loop.applier.held)
    assert any(b"/s0/" in key for key in world.etcd.entries)
    assert not any(b"/s19/" in key for key in world.etcd.entries)
    world.turn(namespace, Listed("services", []))
    world.assert_equal()


def test_force_does_not_wait(clock: Clock) -> None:
    world = World(clock, force=True).listed(*many(20)).turn(Listed("services", []))
    world.assert_equal()
    assert world.relists == []


def test_a_held_plan_asks_again_and_again(clock: Clock) -> None:
    world = World(clock).listed(*many(20))
    world.turn(Listed("services", []))
    stop = threading.Event()
    asked: list[float] = []
    began = clock.now

    def relist(reason: str) -> None:
        assert reason == "a plan is held"
        asked.append(clock.now - began)
        if len(asked) == len(ASK_AGAIN):
            stop.set()

    world.relists = []
    world.loop._relist = relist

    class Passing(Inbox):
        """Nothing ever comes; time goes by."""

        def drain(self, timeout: float) -> list[News]:
            clock.now += timeout
            return []

    world.loop.inbox = Passing()
    world.loop.run(stop)
    assert asked == pytest.approx(ASK_AGAIN, abs=1.0)


@pytest.mark.parametrize(
    "trouble", [EtcdUnavailable("etcd is away"), EtcdRefused("etcd is away")], ids=["unavailable", "refused"]
)
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_etcd_goes_and_comes_back(
    clock: Clock, told: pytest.LogCaptureFixture, trouble: EtcdError, when: str
) -> None:
    world = World(clock)
    if when == "writing":
        world.listed(service("web"))
        clock.now += ETCD_RETRY
    world.etcd.trouble = trouble
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert not world.ready
    assert "etcd is away" in world.reasons
    tries = world.etcd.tries
    world.turn(Wake())
    assert world.etcd.tries == tries, "not tried again at once"
    clock.now += ETCD_RETRY
    world.turn()
    assert told.text.count("etcd is away") == 1
    assert not world.ready
    world.etcd.trouble = None
    clock.now += ETCD_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_etcd_up 1")


def test_no_pause_grows_however_long_etcd_is_away(world: World, told: pytest.LogCaptureFixture) -> None:
    """An hour of it, with news at every turn; gRPC's own pauses end at half a second (`kube2etcd.etcd`)."""
    stop, away = threading.Event(), 3600
    world.etcd.trouble = EtcdUnavailable("away")
    pauses: list[float] = []
    began = world.clock.now

    class Passing(Inbox):
        def drain(self, timeout: float) -> list[News]:
            if world.etcd.trouble is None:
                stop.set()
                return []
            pauses.append(timeout)
            world.clock.now += timeout
            if len(pauses) == 1:
                return [EtcdLost("gone")]
            if world.clock.now > began + away:
                world.etcd.trouble = None
            one = service("db", f"10.0.0.{len(pauses) % 200 + 2}")
            return [Changed("services", Event("MODIFIED", one, "shop", "db"))]

    world.loop.inbox = Passing()
    world.loop.run(stop)
    assert max(pauses[1:]) <= ETCD_RETRY
    assert len(pauses) == pytest.approx(away / ETCD_RETRY, rel=0.01), "neither less often nor all the time"
    assert told.text.count("away") == 1
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 0"), "what changed meanwhile was no damage"


def test_what_was_spoilt_while_etcd_was_away_is_a_repair_though_the_first_attempt_fails(world: World) -> None:
    world.turn(EtcdLost("gone"))
    world.clock.now += ETCD_RETRY
    del world.etcd.entries[WEB]
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.turn(Changed("services", Event("ADDED", service("db", "10.0.0.2"), "shop", "db")))
    assert world.metric("kube2etcd_repairs_total 0")
    world.etcd.full = None
    world.clock.now += FULL_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


def test_etcd_comes_back_empty(world: World) -> None:
    world.etcd.entries.clear()
    world.etcd.revision = 1
    clock = world.clock
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("its revision went back"))
    world.assert_equal()
    assert world.follows == [2, 2]


def test_a_dry_run_never_writes(clock: Clock) -> None:
    world = World(clock, dry=True).listed(service("web"))
    world.turn(world.etcd.by_hand(FOREIGN, OTHERS), Listed("services", []))
    assert world.etcd.written == []
    clock.now += ETCD_RETRY
    world.turn(EtcdLost("again"))
    assert world.etcd.written == []
    assert {change.key for change in world.loop.applier.plan.changes} == world.publisher.desired.keys()


def test_a_refused_key_is_named_and_others_are_written(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock, Entries(refused={WEB}))
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert f"etcd refuses {WEB.decode()}: too large" in told.text
    assert world.publisher.desired.keys() - world.etcd.entries.keys() == {WEB}


def test_a_full_etcd_is_not_read_all_the_time(clock: Clock) -> None:
    world = World(clock)
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.listed(service("web"))
    assert "etcd is full" in world.reasons
    tries = world.etcd.tries
    clock.now += ETCD_RETRY
    world.turn(Wake())
    assert world.etcd.tries == tries
    world.etcd.full = None
    clock.now += FULL_RETRY
    world.turn(Wake())
    world.assert_equal()


def test_an_etcd_that_refuses_everything_is_not_equal_and_is_offered_it_again(clock: Clock) -> None:
    world = World(clock)
    world.etcd.refused = Everything()
    world.listed(service("web"))
    assert not world.ready
    assert "keys: too large" in world.reasons
    world.etcd.refused = set()
    world.turn(Wake())
    assert world.etcd.entries == {}, "not at every turn"
    clock.now += REFUSED_RETRY
    world.turn(Wake())
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 0"), "what was refused was no damage"
    assert world.ready


class Everything(set[bytes]):
    """Holds whatever is asked for."""

    def __contains__(self, key: object) -> bool:
        return True


def test_progress_is_told(clock: Clock) -> None:
    told: list[tuple[int, int]] = []
    world = World(clock, progress=lambda done, total: told.append((done, total)))
    world.listed(service("web"))
    assert told[-1] == (len(world.etcd.entries), len(world.etcd.entries))


def test_a_resync_reads_both_sides_anew(world: World) -> None:
    world.etcd.entries[WEB] = OTHERS
    world.clock.now += 299.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == ([], 1)
    world.clock.now += 1.0
    world.turn()
    assert (world.relists, world.etcd.snapshots) == (["resync"], 2)
    world.assert_equal()
    world.turn()
    assert world.relists == ["resync"]


def test_unreadable_objects_are_told(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    odd = Rejected("services", "shop", "odd", "spec.ports: expected array")
    world = World(clock).turn(Listed("namespaces", []), Listed("services", [service("web")], [odd]))
    world.turn(Changed("services", Event("MODIFIED", None, "shop", "odd", rejected=odd)))
    assert told.text.count("services shop/odd is left out: spec.ports: expected array") == 1
    other = Rejected("services", "shop", "odd", "spec.type: expected str")
    world.turn(Changed("services", Event("MODIFIED", None, "shop", "odd", rejected=other)))
    assert told.text.count("services shop/odd is left out: spec.type: expected str") == 1
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 1.0')
    assert world.metric('kube2etcd_rejected_objects{kind="namespaces"} 0.0')
    world.assert_equal()
    world.turn(Changed("services", Event("DELETED", None, "shop", "odd")))
    assert world.metric('kube2etcd_rejected_objects{kind="services"} 0.0')


def test_odd_records_are_told_once_for_each_object_and_reason(
    clock: Clock, told: pytest.LogCaptureFixture
) -> None:
    def annotated(value: str) -> Service:
        return Service(Metadata("shop", "web", annotations={TENANT_CLUSTER_IP: value}), cluster_ip="10.0.0.1")

    world = World(clock).turn(Listed("namespaces", []), Listed("services", [annotated("evil\x1b[2J")]))
    for value in ("evil\x1b[2J", "worse" * LONGEST, "10.0.0.9", "worse" * LONGEST):
        world.turn(Changed("services", Event("MODIFIED", annotated(value), "shop", "web")))
    lines = [one.getMessage() for one in told.records if "services/shop/web" in one.getMessage()]
    assert len(lines) == 2
    assert all(TENANT_CLUSTER_IP in line and line.isprintable() for line in lines)
    assert max(map(len, lines)) < LONGEST + 50
    world.turn(Changed("services", Event("DELETED", None, "shop", "web")))
    world.turn(Changed("services", Event("ADDED", annotated("worse" * LONGEST), "shop", "web")))
    assert told.text.count("services/shop/web: ") == 3


def test_many_odd_records_at_once_are_counted(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    odd = [
        Service(Metadata("shop", f"s{at}"), type="ExternalName", external_name="192.0.2.1")
        for at in range(AT_ONCE + 5)
    ]
    World(clock).turn(Listed("namespaces", []), Listed("services", odd))
    assert told.text.count("is an address") == AT_ONCE
    assert "5 more records are left out" in told.text


def test_a_kind_that_cannot_be_followed_is_stale_until_it_can(world: World) -> None:
    world.turn(Failing("services", 900.0))
    assert world.status.snapshot().stale == {"services": 100.0}
    world.assert_equal()
    world.turn(Healthy("services"))
    assert world.status.snapshot().stale == {}
    world.turn(Failing("services", 900.0)).turn(Listed("services", [service("web")]))
    assert world.status.snapshot().stale == {}


def test_since_when_a_kind_is_stale_is_said_once_and_not_with_each_failure(world: World) -> None:
    since = world.clock.now
    for _ in range(3):
        world.clock.now += 100.0
        world.turn(Failing("services", since))
    assert world.metric(f'kube2etcd_stale_since_timestamp_seconds{{kind="services"}} {since}')
    world.turn(Healthy("services"))
    assert world.metric('kube2etcd_stale_since_timestamp_seconds{kind="services"} 0.0')


def test_what_is_lost_twice_is_told_once(world: World, told: pytest.LogCaptureFixture) -> None:
    world.turn(EtcdLost("first"), EtcdLost("second"))
    assert "etcd is read anew: first" in told.text
    assert "second" not in told.text


def test_a_store_that_is_full_already_is_published(clock: Clock) -> None:
    store = Store()
    store.replace("services", [service("web")])
    World(clock, kinds=(), store=store).turn().assert_equal()


def test_stop_ends_the_loop_at_once(world: World) -> None:
    stop = threading.Event()
    stop.set()
    world.loop.run(stop)


def test_the_loop_waits_for_news_and_takes_them_in(clock: Clock) -> None:
    world = World(clock)
    world.etcd.trouble = EtcdUnavailable("away")
    stop = threading.Event()
    pauses: list[float] = []

    class Paced(Inbox):
        """Time goes by; etcd comes back after a while."""

        def drain(self, timeout: float) -> list[News]:
            pauses.append(timeout)
            clock.now += timeout
            if len(pauses) == 1:
                return [Listed("namespaces", []), Listed("services", [service("web")])]
            if len(pauses) == 3:
                world.etcd.trouble = None
            if len(pauses) == 4:
                stop.set()
            return []

    world.loop.inbox = Paced()
    world.loop.run(stop)
    assert pauses == pytest.approx([1.0, ETCD_RETRY, ETCD_RETRY, 1.0])
    world.assert_equal()


def test_everything_that_is_left_of_an_object_goes(world: World) -> None:
    world.turn(Changed("services", Event("DELETED", None, "shop", "web")))
    world.assert_equal()
    assert all(isinstance(change, Delete) for change in world.loop.applier.plan.changes)


def test_external_zones_that_change_and_names_that_another_holds(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = encode(Message(owner="a-writer"))
    own = b"/skydns/io/dtk/own_"
    world = World(clock, Entries({own: theirs}))
    domain = Domain.parse("dtk.io")
    zones = (OfExternal(ExternalZone(domain.name, (domain,))),)
    said = DnsEndpoint(Metadata("shop", "x"), (ExternalEndpoint("a.dtk.io", ("10.0.0.1",), "A"),))
    world.listed().turn(Listed("dnsendpoints", [said]), Rezoned(zones))
    assert world.etcd.entries[own] == theirs
    assert b"/skydns/io/dtk/a/own_/10-0-0-1-H" in world.etcd.entries
    assert world.metric("kube2etcd_contested_keys 1")
    world.turn(Rezoned(()))
    assert world.metric("kube2etcd_contested_keys 0")
    assert [key for key in world.etcd.entries if b"own_" in key] == [own]
    world.turn(Rezoned(zones))
    assert caplog.text.count("dtk.io is held by another writer") == 2
