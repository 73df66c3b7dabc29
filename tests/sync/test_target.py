"""The loop while etcd is away, full, unwilling or empty, and while another bridge leads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from kube2etcd.errors import EtcdDeposed, EtcdError, EtcdNoSpace, EtcdRefused, EtcdUnavailable
from kube2etcd.etcd import changes
from kube2etcd.etcd.changes import ApplyResult, WatchBatch
from kube2etcd.kube.objects import Listed, Metadata, Service, ServicePort
from kube2etcd.kube.store import Unit
from kube2etcd.log import MAX_LINES
from kube2etcd.sync.claims import FormerGroups
from kube2etcd.sync.events import EtcdChanged, EtcdLost, EventQueue, SyncEvent, Wake
from kube2etcd.sync.listings import BATCH
from kube2etcd.sync.reconciler import TICK
from kube2etcd.sync.target import ACCEPT_AFTER, ETCD_RETRY, LEADER_GRACE, NO_SPACE_RETRY, REFUSED_RETRY
from kube2etcd.zones.services import ServicesZone
from skydns_compat.message import Message, decode, encode
from skydns_compat.names import Name
from tests.objects import changed, piece, service
from tests.sync.loop import KINDS, LISTED, OTHERS, Clock, Entries, World, added, many

FOREIGN = b"/skydns/local/cluster/foreign"
WEB = b"/skydns/local/cluster/svc/shop/web/10-0-0-1-H"


@pytest.mark.parametrize(
    "trouble", [EtcdUnavailable("etcd is away"), EtcdRefused("etcd is away")], ids=["unavailable", "refused"]
)
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_etcd_outage(clock: Clock, told: pytest.LogCaptureFixture, trouble: EtcdError, when: str) -> None:
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


def test_no_pause_grows_however_long_etcd_is_away(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    """An hour of it, with news at every turn; gRPC's own pauses end at half a second (`kube2etcd.etcd`)."""
    stop, away = threading.Event(), 3600
    pauses: list[float] = []
    began = clock.now

    class Passing(EventQueue):
        def drain(self, timeout: float) -> list[SyncEvent]:
            if len(pauses) > 1 and made.etcd.trouble is None:
                stop.set()
                return []
            pauses.append(timeout)
            made.clock.now += timeout
            if len(pauses) == 1:
                return [LISTED, Listed("services", [service("web")])]
            if len(pauses) == 2:
                made.etcd.trouble = EtcdUnavailable("away")
                return [EtcdLost("gone")]
            if made.clock.now > began + away:
                made.etcd.trouble = None
            return [changed(service("db", f"10.0.0.{len(pauses) % 200 + 2}"))]

    made = World(clock, queue=Passing(), stop=stop)
    made.loop.run()
    assert pauses[:2] == [TICK, TICK]
    assert max(pauses[2:]) <= ETCD_RETRY
    assert len(pauses) == pytest.approx(away / ETCD_RETRY, rel=0.01), "neither less often nor all the time"
    assert told.text.count("away") == 1
    made.assert_equal()
    assert made.metric("kube2etcd_repairs_total 0"), "what changed meanwhile was no damage"


def test_damage_during_an_outage_is_a_repair(world: World) -> None:
    world.turn(EtcdLost("gone"))
    world.clock.now += ETCD_RETRY
    del world.etcd.entries[WEB]
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.turn(added("db", "10.0.0.2"))
    assert world.metric("kube2etcd_repairs_total 0")
    world.etcd.full = None
    world.clock.now += NO_SPACE_RETRY
    world.turn()
    world.assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


STALE = b"/skydns/local/cluster/svc/shop/gone"


@pytest.mark.parametrize("key", [STALE, WEB], ids=["stale", "changed"])
def test_a_repair_that_fails_again_and_again_is_no_dispute(world: World, key: bytes) -> None:
    world.etcd.full = EtcdNoSpace("etcd is full")
    world.turn(world.etcd.by_hand(key, encode(Message(host="10.9.9.9", owner="kube2etcd"))))
    for _ in range(5):
        world.clock.now += NO_SPACE_RETRY
        world.turn()
    assert world.reasons == "etcd is full"
    world.etcd.full = None
    world.clock.now += NO_SPACE_RETRY
    world.turn().assert_equal()
    assert world.metric("kube2etcd_repairs_total 1")


def test_etcd_comes_back_empty(world: World) -> None:
    world.etcd.entries.clear()
    world.etcd.revision = 1
    world.clock.now += ETCD_RETRY
    world.turn(EtcdLost("its revision went back"))
    for _ in range(2):
        world.clock.now += 1
        world.turn().assert_equal()
    assert (world.etcd.snapshots, len(world.follows)) == (2, 2)


def test_a_refused_key_is_named_and_others_are_written(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock, Entries(refused={WEB}))
    world.listed(service("web"), service("db", "10.0.0.2"))
    assert f"etcd refuses {WEB.decode()}: too large" in told.text
    assert world.publisher.desired.keys() - world.etcd.entries.keys() == {WEB}
    assert world.ready, "it spoils its own name only"
    assert "etcd refuses 1 keys: too large" in world.reasons, "but a ready bridge says so"


def test_what_is_said_of_refused_keys_is_bounded(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    world = World(clock).listed()
    world.etcd.refused = Everything()
    world.listed(*many(50))
    refused = world.publisher.desired.keys() - world.etcd.entries.keys()
    assert told.text.count("etcd refuses /") == MAX_LINES
    assert f"{len(refused) - MAX_LINES} more keys are refused" in told.text
    told.clear()
    clock.now += REFUSED_RETRY
    world.turn(Wake())
    assert not told.messages, "said once, however often they are tried again"


def test_what_is_said_of_malformed_keys_is_bounded(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    World(clock, Entries({FOREIGN + b"/%d" % at: b"{" for at in range(MAX_LINES + 7)})).listed()
    assert told.text.count("breaks every name above it") == MAX_LINES
    assert "7 more foreign keys are malformed" in told.text


class Asking(Entries):
    """Looks at the bridge's readiness before each write."""

    ask: Callable[[], bool]

    def apply(self, *arguments: Any) -> ApplyResult:
        self.ready = self.ask()
        return super().apply(*arguments)


@pytest.mark.parametrize(("share", "ready"), [(1, False), (10, True)], ids=["all", "a tenth"])
def test_it_is_unready_while_it_restores_what_somebody_deleted(clock: Clock, share: int, ready: bool) -> None:
    etcd = Asking()
    world = World(clock, etcd)
    etcd.ask = lambda: world.ready
    world.listed(*many(20)).assert_equal()
    world.turn(*(etcd.by_hand(key, None) for key in sorted(etcd.entries)[::share]))
    assert etcd.ready is ready
    world.assert_equal()


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
    clock.now += NO_SPACE_RETRY
    world.turn(Wake())
    world.assert_equal()


def test_an_etcd_that_refuses_everything(clock: Clock) -> None:
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
    def __contains__(self, key: object) -> bool:
        return True


OLD = b"/skydns/local/cluster/svc/shop/old"
CROWD = 2 * BATCH + 10


def crowd() -> list[Service]:
    """More than are published at once; the address of the first is every hundredth one's as well."""
    return [
        service(f"s{at}", f"10.0.{at % 100 and at // 250}.{at % 100 and at % 250}") for at in range(CROWD)
    ]


def test_what_is_filled_is_what_would_be_written(clock: Clock) -> None:
    filled = World(clock).listed(*crowd())
    filled.assert_equal()
    compared = World(clock, Entries({OLD: OTHERS})).listed(*crowd())
    assert [change.key for change in compared.etcd.written] == sorted(filled.publisher.desired)
    assert filled.etcd.entries | {OLD: OTHERS} == compared.etcd.entries
    assert filled.follows == [filled.etcd.revision + 1]
    assert filled.turn().etcd.written == filled.etcd.written


def test_no_key_is_written_twice_or_taken_back(clock: Clock) -> None:
    named = ServicesZone(Name.parse("flat.example"), template="{service}")
    ages = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    rivals = [
        Service(Metadata(space, f"s{at}", ages[at % 2]), cluster_ip=f"10.{number}.{at // 250}.{at % 250}")
        for at in range(CROWD)
        for number, space in enumerate(("shop", "other"))
    ]
    world = World(clock, zones=[named]).listed(*rivals)
    world.assert_equal()
    keys = [change.key for change in world.etcd.written]
    assert len(keys) == len(set(keys)) == len(world.etcd.entries)


def test_a_key_that_comes_back_while_etcd_is_filled(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error in the batch, units come one by one by name: here each is older than the one before."""
    port = ServicePort("http", "TCP", 80)
    rivals = [
        Service(
            Metadata(space, "web", f"2026-01-0{9 - at}T00:00:00Z"), cluster_ip=f"10.0.0.{at}", ports=ports
        )
        for at, (space, ports) in enumerate([("a", (port,)), ("b", ()), ("c", (port,))])
    ]
    world = World(clock, zones=[ServicesZone(Name.parse("flat.example"), template="{service}")])
    real, generations = world.publisher.refresh, []

    def one_by_one(units: list[Unit]) -> FormerGroups:
        if len(units) > 1:
            raise ValueError("odd")
        return real(units)

    def apply(given: Iterable[Iterable[changes.Batch]], progress: object) -> ApplyResult:
        generations.extend(whole := [list(one) for one in given])
        return Entries.apply(world.etcd, whole)

    monkeypatch.setattr(world.publisher, "refresh", one_by_one)
    monkeypatch.setattr(world.etcd, "apply", apply)
    world.listed(*rivals).assert_equal()
    for generation in generations:
        keys = [change.key for batch in generation for change in batch]
        assert len(keys) == len(set(keys))
    assert len(world.loop.target.mirror) == len(world.etcd.entries)


def test_a_better_claim_that_comes_later_wins(clock: Clock) -> None:
    """The oldest is published first, but a Service comes before an endpoint."""
    headless = service("headless", "None", age="2025-01-01T00:00:00Z")
    young = service("young", "10.9.9.9")
    world = World(clock, kinds=(*KINDS, "endpointslices"))
    world.turn(Listed("endpointslices", [piece("headless", "10.9.9.9")]))
    world.listed(headless, *crowd(), young).assert_equal()
    puts = [one for one in world.etcd.written if one.key.startswith(b"/skydns/arpa/in-addr/10/9/9/9")]
    assert [decode(cast(changes.Put, one).value).host for one in puts] == [
        "10-9-9-9.headless.shop.svc.cluster.local",
        "young.shop.svc.cluster.local",
    ]


def test_events_before_the_next_reading_are_left_to_it(clock: Clock) -> None:
    """etcd fails while it is filled, and somebody deletes what it has got."""
    world = World(clock, Entries(fail_after=1)).listed(*crowd())
    assert 0 < len(world.etcd.entries) < len(world.publisher.desired)
    world.turn(*(world.etcd.by_hand(key, None) for key in list(world.etcd.entries)))
    assert not world.ready
    world.etcd.trouble = None
    clock.now += 10
    world.turn().assert_equal()
    assert world.metric("kube2etcd_repairs_total 0")


class Standby(World):
    def __init__(self, clock: Clock, etcd: Entries) -> None:
        self.why = "standing by: another one writes to etcd"
        super().__init__(clock, etcd, other_leader=lambda: self.why)


@pytest.fixture
def leader(clock: Clock) -> World:
    return World(clock).listed(service("web"))


@pytest.fixture
def standby(clock: Clock, leader: World) -> Standby:
    made = Standby(clock, leader.etcd)
    made.listed(service("web"))
    return made


def told_by(leader: World) -> EtcdChanged:
    told, leader.etcd.untold = tuple(leader.etcd.untold), []
    return EtcdChanged(WatchBatch(leader.etcd.revision, told))


def test_a_standby_is_unready_before_the_leader_wrote(clock: Clock) -> None:
    etcd = Entries()
    standby = Standby(clock, etcd).listed(service("web"))
    assert etcd.written == []
    assert not standby.ready
    assert "keys in etcd differ from what this bridge would write" in standby.reasons
    leader = World(clock, etcd).listed(service("web"))
    standby.turn(told_by(leader))
    assert standby.ready


def test_a_standby_gives_the_leader_time(leader: World, standby: Standby, clock: Clock) -> None:
    news = added("new", "10.0.0.7")
    standby.turn(news)
    clock.now += LEADER_GRACE
    assert standby.turn(Wake()).ready
    clock.now += 0.1
    assert not standby.turn(Wake()).ready
    leader.etcd.untold.clear()
    leader.turn(news)
    standby.turn(told_by(leader))
    assert standby.ready
    assert standby.etcd.written == leader.etcd.written


def test_a_standby_is_unready_while_etcd_is_empty(leader: World, standby: Standby) -> None:
    deleted = [leader.etcd.by_hand(key, None) for key in list(leader.etcd.entries)]
    assert not standby.turn(*deleted).ready
    leader.turn(*deleted)
    assert standby.turn(told_by(leader)).ready
    standby.assert_equal()


def test_a_lasting_difference_is_the_leaders(
    leader: World, standby: Standby, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    standby.turn(added("new", "10.0.0.7"))
    clock.now += ACCEPT_AFTER
    assert not standby.turn(Wake()).ready
    clock.now += 0.1
    standby.turn(Wake())
    assert standby.turn(Wake()).ready
    assert "3 keys in etcd differ from what this bridge would write" in standby.reasons
    assert caplog.text.count("do leader and standby have the same") == 1
    assert leader.etcd.written == standby.etcd.written


def test_a_standby_never_takes_an_empty_etcd_for_the_leaders_way(clock: Clock) -> None:
    standby = Standby(clock, Entries()).listed(service("web"))
    clock.now += ACCEPT_AFTER + 1
    assert not standby.turn(Wake()).ready


def test_a_standby_that_is_elected_writes_what_is_missing(leader: World, standby: Standby) -> None:
    assert standby.reasons == standby.why
    assert standby.metric("kube2etcd_leader 0")
    standby.turn(added("new", "10.0.0.7"))
    before = len(leader.etcd.written)
    standby.why = ""
    standby.turn(Wake())
    standby.assert_equal()
    assert standby.reasons == ""
    assert standby.metric("kube2etcd_leader 1")
    assert len(leader.etcd.written) == before + 3, "the name, its address, the way back"
    assert standby.metric("kube2etcd_repairs_total 0")


class Deposing(Entries):
    def apply(self, *_: object) -> ApplyResult:
        raise EtcdDeposed("another bridge leads by now")


def test_a_leader_that_is_deposed_reads_anew_and_writes_nothing(clock: Clock) -> None:
    etcd = Deposing()
    world = Standby(clock, etcd)
    world.why = ""
    world.listed(service("web"))
    assert world.loop.target.mirror.lost
    assert not world.ready
    world.why = "standing by: another one writes to etcd"
    etcd.entries.update(world.publisher.desired)
    clock.now += ETCD_RETRY
    assert world.turn(Wake()).ready
    assert [change for change in etcd.written if isinstance(change, changes.Put)] == []
