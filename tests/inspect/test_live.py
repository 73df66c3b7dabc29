"""The view of a running bridge (records, problems, sources), and what it alone can explain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from kube2etcd.inspect import live
from kube2etcd.inspect.explain import Explanation
from kube2etcd.inspect.live import Problem, View, explain_live, look
from kube2etcd.inspect.readers import CoreDns
from kube2etcd.kube.objects import (
    Changed,
    DnsEndpoint,
    Event,
    Failing,
    Listed,
    Metadata,
    Service,
)
from kube2etcd.sync.events import EventQueue, Wake
from skydns_compat.corefile import CorefileSettings, blocks
from skydns_compat.message import Message, encode
from skydns_compat.names import Name
from tests.objects import changed, endpoint_slice
from tests.sync.loop import FOREIGN_VALUE, NAMESPACES_LISTED, WEB, Clock, World

NAME = "web.shop.svc.cluster.local"
READER = CoreDns(blocks(CorefileSettings(Name.parse("cluster.local"))), "/skydns")

T = TypeVar("T")


@pytest.fixture
def bridge() -> World:
    bridge = World(Clock())
    bridge.turn(NAMESPACES_LISTED, Listed("services", [WEB]))
    return bridge


def asked(queue: EventQueue, question: Callable[[], T]) -> T:
    """The answer to a question of another thread, while the loop has nothing to do."""
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(question)
        while not answer.done():
            assert queue.drain(0.05) == []
        return answer.result()


def looked(bridge: World) -> View:
    return asked(bridge.loop.parts.queue, lambda: look(bridge.loop, 5))


def explained(bridge: World, rtype: str = "A") -> Explanation:
    return asked(bridge.loop.parts.queue, lambda: explain_live(bridge.loop, READER, NAME, rtype, 5))[0]


def test_records_with_the_object_behind_each(bridge: World) -> None:
    db = Service(Metadata("shop", "db"), cluster_ip="None")
    bridge.turn(changed(db, "ADDED"), changed(endpoint_slice("db", "10.1.0.1"), "ADDED"))
    view = looked(bridge)
    [row] = view.found(f"{NAME}.", kind="A")
    assert (row.zone, row.object, row.state) == ("cluster.local", "services/shop/web", "")
    assert view.found(zone="elsewhere") == []
    assert [row.type for row in view.rows if row.name == "db.shop.svc.cluster.local."] == ["A"], "no ports"
    assert {one.kind: (one.listed, one.objects, one.stale) for one in view.sources} == {
        "namespaces": (1, 1, None),
        "services": (1, 2, None),
    }
    assert view.problems == ()


def test_a_malformed_foreign_value() -> None:
    foreign = World(Clock())
    foreign.etcd.entries[b"/skydns/local/cluster/svc/shop/odd"] = b"{"
    foreign.etcd.entries[b"/skydns/local/cluster/svc/shop/theirs"] = FOREIGN_VALUE
    foreign.turn(NAMESPACES_LISTED, Listed("services", []))
    reason = "a foreign value that no DNS server can read"
    assert looked(foreign).problems == (Problem("malformed", "odd.shop.svc.cluster.local.", reason),)


def test_a_refused_name_of_externaldns(bridge: World) -> None:
    refused = DnsEndpoint(Metadata("", "webhook"), (), {"bad.dtk.io": "A: no address"})
    bridge.turn(Changed("dnsendpoints", Event("ADDED", refused, "", "webhook")))
    view = looked(bridge)
    assert view.problems == (Problem("skipped", "bad.dtk.io.", "A: no address"),)
    assert view.counts["skipped"] == 1


def test_a_stale_source(bridge: World) -> None:
    stop_following(bridge)
    [services] = [one for one in looked(bridge).sources if one.kind == "services"]
    assert services.stale is not None
    assert services.stale >= 5


def hold(bridge: World) -> None:
    bridge.turn(Listed("services", []))


def hold_what_is_no_name(bridge: World) -> None:
    key = b"/skydns/local/cluster/svc/no..name/H"
    stale = bridge.etcd.foreign_write(key, encode(Message(owner="kube2etcd")))
    bridge.turn(stale, Listed("services", []))
    assert key in bridge.loop.held.keys


def refuse(bridge: World) -> None:
    """Let etcd refuse the keys of a Service."""
    bridge.turn(Changed("services", Event("DELETED", WEB, "shop", "web")))
    wanted = World(Clock())
    wanted.turn(NAMESPACES_LISTED, Listed("services", [WEB]))
    bridge.etcd.refused = set(wanted.etcd.entries) - set(bridge.etcd.entries)
    bridge.turn(Changed("services", Event("ADDED", WEB, "shop", "web")))


def miss(bridge: World) -> None:
    bridge.loop.target.mirror.load(lambda begin: 9)


def contest(bridge: World) -> None:
    bridge.loop.target.contested.update(bridge.loop.publisher.desired)
    miss(bridge)


def stop_following(bridge: World) -> None:
    bridge.turn(Failing("services", bridge.loop.parts.clock() - 5.0))


@pytest.mark.parametrize(
    ("happen", "sorts", "state"),
    [
        (refuse, {"refused"}, "refused"),
        (hold, {"held"}, "held"),
        (hold_what_is_no_name, {"held"}, "held"),
        (contest, {"contested"}, "contested"),
        (miss, set(), "missing"),
    ],
    ids=["refused", "held", "held beside a key that is no name", "contested", "missing"],
)
def test_the_state_of_a_record(
    bridge: World, happen: Callable[[World], None], sorts: set[str], state: str
) -> None:
    happen(bridge)
    view = looked(bridge)
    assert state in {row.state for row in view.rows if row.name == f"{NAME}."}
    assert {one.sort for one in view.problems} == sorts
    assert sum(view.counts.values()) == len(view.problems)


@pytest.mark.parametrize(
    ("happen", "reason"),
    [
        (hold, "deletions are held: "),
        (refuse, "etcd refuses this name's key: "),
        (
            lambda bridge: bridge.loop.disputes.keys.update(bridge.loop.publisher.desired),
            "another writer with our owner ID keeps undoing our changes to this name",
        ),
        (miss, "a change to this name has not been written yet"),
        (stop_following, "services have not been watched since 2"),
        (
            lambda bridge: bridge.loop.listings.waiting.add("pods"),
            "pods are not listed yet; nothing is published until then",
        ),
        (lambda bridge: setattr(bridge.loop.target, "trouble", "etcd is away"), "etcd is away"),
        (lambda bridge: setattr(bridge.loop.target, "other_leader", "dns-2 writes"), "dns-2 writes"),
    ],
)
def test_what_only_the_bridge_knows(bridge: World, happen: Callable[[World], None], reason: str) -> None:
    assert not [one for one in explained(bridge).reasons if reason in one]
    happen(bridge)
    found = explained(bridge).reasons
    assert [one.startswith(reason) for one in found].count(True) == 1, found


@pytest.mark.parametrize("whose", ["foreign", "contested"])
def test_another_writers_key_is_not_a_pending_change(bridge: World, whose: str) -> None:
    getattr(bridge.loop.target, whose).update(bridge.loop.publisher.desired)
    bridge.loop.target.mirror.load(lambda begin: 9)
    assert not [one for one in explained(bridge).reasons if "has not been written" in one]


def test_a_question_blocks_the_loop_for_a_few_objects_at_a_time(
    bridge: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [Service(Metadata("shop", f"x{at}"), cluster_ip=f"10.1.0.{at}") for at in range(30)]
    bridge.turn(Listed("services", [WEB, *others]))
    desired, queue, read = bridge.loop.publisher.desired, bridge.loop.parts.queue, list[int]()
    within, pairs, ask = desired.within, desired.pairs, queue.ask

    def counted(group: bytes) -> Mapping[bytes, bytes]:
        read[-1] += 1
        return within(group)

    def whole() -> Iterator[tuple[bytes, bytes]]:
        read[-1] += len(desired)
        return pairs()

    def question(ask_for: Callable[[], object], timeout: float) -> object:
        read.append(0)
        return ask(ask_for, timeout)

    monkeypatch.setattr(live, "GROUPS", 4)
    monkeypatch.setattr(desired, "within", counted)
    monkeypatch.setattr(desired, "pairs", whole)
    monkeypatch.setattr(queue, "ask", question)
    assert explained(bridge).answers == (f"{NAME}. 30 IN A 10.0.0.1",)
    assert sum(read) > 30
    assert max(read) < 10


def test_a_bridge_explains_as_the_command_does(bridge: World) -> None:
    assert str(explained(bridge)).splitlines() == [
        f"{NAME}. A: NOERROR",
        f"  {NAME}. 30 IN A 10.0.0.1",
        "why: A 10.0.0.1 comes from services/shop/web (ClusterIP)",
    ]
    with pytest.raises(ValueError, match="is not a record type"):
        explained(bridge, "B")


def test_a_question_is_answered_between_two_turns() -> None:
    queue = EventQueue()
    assert asked(queue, lambda: queue.ask(threading.current_thread, 5)) is threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        asked(queue, lambda: queue.ask(lambda: 1 // 0, 5))


def test_a_busy_loop_times_out() -> None:
    queue = EventQueue()
    done: list[bool] = []
    with pytest.raises(TimeoutError):
        queue.ask(lambda: done.append(True), 0.01)
    queue.put(Wake())
    assert queue.length == 2
    assert queue.drain(0) == [Wake()]
    assert done == [], "the asker has given up"


def test_latency_is_measured_for_each_event(bridge: World) -> None:
    queue = bridge.loop.parts.queue
    queue.put(Changed("services", Event("DELETED", WEB, "shop", "web")))
    bridge.loop.turn(queue.drain(0))
    [(_, seconds, kind)] = bridge.metrics.delays
    assert (kind, seconds >= 0) == ("services", True)
    queue.put(Changed("services", Event("DELETED", WEB, "shop", "web")))
    bridge.loop.turn(queue.drain(0))
    assert len(bridge.metrics.delays) == 1, "an event that changes nothing has no latency"
