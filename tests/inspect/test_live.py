"""The view of a running bridge (records, problems, sources), and the reasons that only it knows."""

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


def ask_idle_loop(queue: EventQueue, question: Callable[[], T]) -> T:
    """The result of a question that another thread asks while the loop is idle."""
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(question)
        while not answer.done():
            assert queue.drain(0.05) == []
        return answer.result()


def view_of(bridge: World) -> View:
    return ask_idle_loop(bridge.loop.parts.queue, lambda: look(bridge.loop, 5))


def explain(bridge: World, rtype: str = "A") -> Explanation:
    return ask_idle_loop(bridge.loop.parts.queue, lambda: explain_live(bridge.loop, READER, NAME, rtype, 5))[
        0
    ]


def test_records_name_their_objects(bridge: World) -> None:
    db = Service(Metadata("shop", "db"), cluster_ip="None")
    bridge.turn(changed(db, "ADDED"), changed(endpoint_slice("db", "10.1.0.1"), "ADDED"))
    view = view_of(bridge)
    [row] = view.found(f"{NAME}.", kind="A")
    assert (row.zone, row.object, row.state) == ("cluster.local", "services/shop/web", "")
    assert view.found(zone="elsewhere") == []
    assert [row.type for row in view.rows if row.name == "db.shop.svc.cluster.local."] == ["A"], "no ports"
    assert {one.kind: (one.listed, one.objects, one.stale) for one in view.sources} == {
        "namespaces": (1, 1, None),
        "services": (1, 2, None),
    }
    assert view.problems == ()


def test_malformed_foreign_value_is_a_problem() -> None:
    foreign = World(Clock())
    foreign.etcd.entries[b"/skydns/local/cluster/svc/shop/malformed"] = b"{"
    foreign.etcd.entries[b"/skydns/local/cluster/svc/shop/foreign"] = FOREIGN_VALUE
    foreign.turn(NAMESPACES_LISTED, Listed("services", []))
    reason = "a foreign value that no DNS server can read"
    assert view_of(foreign).problems == (Problem("malformed", "malformed.shop.svc.cluster.local.", reason),)


def test_refused_external_name_is_a_problem(bridge: World) -> None:
    refused = DnsEndpoint(Metadata("", "webhook"), (), {"bad.dtk.io": "A: no address"})
    bridge.turn(Changed("dnsendpoints", Event("ADDED", refused, "", "webhook")))
    view = view_of(bridge)
    assert view.problems == (Problem("skipped", "bad.dtk.io.", "A: no address"),)
    assert view.counts["skipped"] == 1


def test_stale_source(bridge: World) -> None:
    fail_services(bridge)
    [services] = [one for one in view_of(bridge).sources if one.kind == "services"]
    assert services.stale is not None
    assert services.stale >= 5


def hold(bridge: World) -> None:
    bridge.turn(Listed("services", []))


def hold_key_that_is_no_name(bridge: World) -> None:
    key = b"/skydns/local/cluster/svc/no..name/H"
    stale = bridge.etcd.foreign_write(key, encode(Message(owner="kube2etcd")))
    bridge.turn(stale, Listed("services", []))
    assert key in bridge.loop.held.keys


def refuse(bridge: World) -> None:
    """Let etcd refuse the keys of a Service."""
    bridge.turn(Changed("services", Event("DELETED", WEB, "shop", "web")))
    other = World(Clock())
    other.turn(NAMESPACES_LISTED, Listed("services", [WEB]))
    bridge.etcd.refused = set(other.etcd.entries) - set(bridge.etcd.entries)
    bridge.turn(Changed("services", Event("ADDED", WEB, "shop", "web")))


def lose_all_keys(bridge: World) -> None:
    bridge.loop.target.mirror.load(lambda begin: 9)


def contest(bridge: World) -> None:
    bridge.loop.target.contested.update(bridge.loop.publisher.desired)
    lose_all_keys(bridge)


def fail_services(bridge: World) -> None:
    bridge.turn(Failing("services", bridge.loop.parts.clock() - 5.0))


@pytest.mark.parametrize(
    ("cause", "sorts", "state"),
    [
        (refuse, {"refused"}, "refused"),
        (hold, {"held"}, "held"),
        (hold_key_that_is_no_name, {"held"}, "held"),
        (contest, {"contested"}, "contested"),
        (lose_all_keys, set(), "missing"),
    ],
    ids=["refused", "held", "held with a key that is no name", "contested", "missing"],
)
def test_state_of_a_record(
    bridge: World, cause: Callable[[World], None], sorts: set[str], state: str
) -> None:
    cause(bridge)
    view = view_of(bridge)
    assert state in {row.state for row in view.rows if row.name == f"{NAME}."}
    assert {one.sort for one in view.problems} == sorts
    assert sum(view.counts.values()) == len(view.problems)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (hold, "deletions are held: "),
        (refuse, "etcd refuses this name's key: "),
        (
            lambda bridge: bridge.loop.disputes.keys.update(bridge.loop.publisher.desired),
            "another writer with our owner ID keeps undoing our changes to this name",
        ),
        (lose_all_keys, "a change to this name has not been written yet"),
        (fail_services, "services have not been watched since 2"),
        (
            lambda bridge: bridge.loop.listings.waiting.add("pods"),
            "pods are not listed yet; nothing is published until then",
        ),
        (lambda bridge: setattr(bridge.loop.target, "trouble", "etcd is unavailable"), "etcd is unavailable"),
        (lambda bridge: setattr(bridge.loop.target, "other_leader", "dns-2 writes"), "dns-2 writes"),
    ],
)
def test_reasons_that_only_the_bridge_knows(
    bridge: World, cause: Callable[[World], None], reason: str
) -> None:
    assert not [one for one in explain(bridge).reasons if reason in one]
    cause(bridge)
    found = explain(bridge).reasons
    assert [one.startswith(reason) for one in found].count(True) == 1, found


@pytest.mark.parametrize("kind", ["foreign", "contested"])
def test_key_of_another_writer_is_not_a_pending_change(bridge: World, kind: str) -> None:
    getattr(bridge.loop.target, kind).update(bridge.loop.publisher.desired)
    bridge.loop.target.mirror.load(lambda begin: 9)
    reasons = explain(bridge).reasons
    assert not [one for one in reasons if "has not been written" in one]
    assert any("keeps this name" in one for one in reasons) is (kind == "contested")


def test_question_blocks_the_loop_for_few_objects_at_a_time(
    bridge: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [Service(Metadata("shop", f"x{at}"), cluster_ip=f"10.1.0.{at}") for at in range(30)]
    bridge.turn(Listed("services", [WEB, *others]))
    desired, queue, read = bridge.loop.publisher.desired, bridge.loop.parts.queue, list[int]()
    within, pairs, ask = desired.within, desired.pairs, queue.ask

    def counted_within(group: bytes) -> Mapping[bytes, bytes]:
        read[-1] += 1
        return within(group)

    def counted_pairs() -> Iterator[tuple[bytes, bytes]]:
        read[-1] += len(desired)
        return pairs()

    def counted_ask(question: Callable[[], object], timeout: float) -> object:
        read.append(0)
        return ask(question, timeout)

    monkeypatch.setattr(live, "GROUPS", 4)
    monkeypatch.setattr(desired, "within", counted_within)
    monkeypatch.setattr(desired, "pairs", counted_pairs)
    monkeypatch.setattr(queue, "ask", counted_ask)
    assert explain(bridge).answers == (f"{NAME}. 30 IN A 10.0.0.1",)
    assert sum(read) > 30
    assert max(read) < 10


def test_bridge_explains_as_the_command_does(bridge: World) -> None:
    assert str(explain(bridge)).splitlines() == [
        f"{NAME}. A: NOERROR",
        f"  {NAME}. 30 IN A 10.0.0.1",
        "why: A 10.0.0.1 comes from services/shop/web (ClusterIP)",
    ]
    with pytest.raises(ValueError, match="is not a record type"):
        explain(bridge, "B")


def test_question_is_answered_in_the_loops_thread() -> None:
    queue = EventQueue()
    assert ask_idle_loop(queue, lambda: queue.ask(threading.current_thread, 5)) is threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        ask_idle_loop(queue, lambda: queue.ask(lambda: 1 // 0, 5))


def test_question_to_a_busy_loop_times_out() -> None:
    queue = EventQueue()
    done: list[bool] = []
    with pytest.raises(TimeoutError):
        queue.ask(lambda: done.append(True), 0.01)
    queue.put(Wake())
    assert queue.length == 2
    assert queue.drain(0) == [Wake()]
    assert done == [], "the question was cancelled"


def test_latency_is_measured_per_event(bridge: World) -> None:
    queue = bridge.loop.parts.queue
    queue.put(Changed("services", Event("DELETED", WEB, "shop", "web")))
    bridge.loop.turn(queue.drain(0))
    [(_, seconds, kind)] = bridge.metrics.delays
    assert (kind, seconds >= 0) == ("services", True)
    queue.put(Changed("services", Event("DELETED", WEB, "shop", "web")))
    bridge.loop.turn(queue.drain(0))
    assert len(bridge.metrics.delays) == 1, "an event that changes nothing has no latency"
