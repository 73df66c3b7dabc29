"""Laws: events, in any order, lead to the same desired entries as one listing."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.external import Domain
from kube2etcd.kube.objects import Event
from kube2etcd.kube.store import Store, Unit
from kube2etcd.settings import Selector
from kube2etcd.sync.events import Rezoned
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import Layout
from skydns_compat.message import decode
from skydns_compat.names import Name, parse_address
from tests.objects import ZONE, flat, store_after
from tests.strategies import LAW, cname_loops, events, few_objects, histories, rivals

Steps: TypeAlias = list[tuple[str, Event]]
Rezonings: TypeAlias = list[tuple[int, Rezoned]]


def assert_same(one: Publisher, other: Publisher) -> None:
    assert one.desired == other.desired
    assert one.left_out_counts.total() == other.left_out_counts.total()
    for key in other.desired:
        assert one.desired.holder(key) == other.desired.holder(key) is not None


def external_zones(*domains: str) -> tuple[ExternalZone, ...]:
    all_ = tuple(Domain.parse(one) for one in domains)
    services = (ZONE.name, Name.parse("stage.example"), Name.parse("vm"))
    return tuple(ExternalZone(one.name, (one,), service_zones=services, all_domains=all_) for one in all_)


#: Every kind of zone, chosen by the labels of Services, of namespaces, of both.
OTHERS = (
    VmZone(Name.parse("vm"), reverse=(ip_network("10.0.0.0/24"),)),
    ServicesZone(
        Name.parse("stage.example"),
        selector=Selector.parse("tier=web"),
        namespace_selector=Selector.parse("env=stage"),
    ),
    ServicesZone(Name.parse("vm.test"), selector=Selector.parse("!env"), template="{service}"),
)

_REZONED = st.sampled_from(
    [
        Rezoned(external_zones()),
        Rezoned(external_zones("dtk.io")),
        Rezoned(external_zones("dtk.io", "a.dtk.io")),
        Rezoned(external_zones("shop.example", "svc.cluster.local")),
        Rezoned(external_zones("dtk.io", "stage.example", "shop.vm")),
    ]
)


def assert_events_equal_a_listing(
    history: Steps, rezoned: Rezonings, others: Sequence[Zone], cluster: ClusterZone = ZONE
) -> None:
    """Also while external zones are added and removed."""
    steps: list[tuple[str, Event] | Rezoned] = [Rezoned(external_zones("dtk.io")), *history]
    for at, one in rezoned:
        steps.insert(at, one)
    by_event = Publisher(Store(), Layout(), cluster, others)
    zones: Sequence[Zone] = ()
    events: Steps = []
    for step in steps:
        before = dict(by_event.desired.items())
        if isinstance(step, Rezoned):
            zones = step.zones
            changed = flat(by_event.refresh(by_event.rezone(zones)))
        else:
            events.append(step)
            changed = flat(by_event.refresh(by_event.with_affected_services(by_event.store.apply(*step))))
        differ = before.items() ^ by_event.desired.items()
        assert {key: before.get(key) for key, _ in differ}.items() <= changed.items()
    store, touched = store_after(events)
    by_list = Publisher(store, Layout(), cluster, (*others, *zones))
    by_list.refresh(touched)
    assert_same(by_event, by_list)
    # A full refresh changes nothing.
    assert by_event.refresh(by_event.units()) == {}
    assert_same(by_event, by_list)


@LAW
@given(st.lists(events(), max_size=20), st.sampled_from(["headless", "all"]))
def test_events_equal_a_listing(history: Steps, endpoint_names: str) -> None:
    assert_events_equal_a_listing(
        history, [], (), ClusterZone(ZONE.name, pods="verified", endpoint_names=endpoint_names)
    )


@LAW
@given(histories(), st.lists(st.tuples(st.integers(0, 40), _REZONED), max_size=4))
def test_events_equal_a_listing_in_all_zones(history: Steps, rezoned: Rezonings) -> None:
    assert_events_equal_a_listing(history, rezoned, OTHERS)


#: Nested zones, templates that give several objects one name, and every optional feature.
NESTED = (
    VmZone(Name.parse("vm"), name_server=parse_address("10.0.0.1"), reverse=(ip_network("10.0.0.0/24"),)),
    ServicesZone(Name.parse("shop.vm"), template="{service}"),
    ServicesZone(
        Name.parse("stage.example"), namespace_selector=Selector.parse("env=stage"), template="{service}"
    ),
)


@LAW
@given(few_objects(), st.lists(st.tuples(st.integers(0, 30), _REZONED), max_size=2))
def test_events_equal_a_listing_of_few_objects(history: Steps, rezoned: Rezonings) -> None:
    assert_events_equal_a_listing(history, rezoned, NESTED)


@LAW
@given(cname_loops(), st.lists(st.tuples(st.integers(0, 12), _REZONED), max_size=2))
def test_events_equal_a_listing_of_cname_loops(history: Steps, rezoned: Rezonings) -> None:
    assert_events_equal_a_listing(history, rezoned, ())


#: Templates that give Services of several namespaces one name; the last zone lies within the first.
SHARED = (
    ServicesZone(Name.parse("one.test"), template="{service}"),
    ServicesZone(
        Name.parse("stage.test"),
        template="x.{service}.svc",
        selector=Selector.parse("env"),
        namespace_selector=Selector.parse("env=stage"),
    ),
    ServicesZone(Name.parse("db.one.test"), template="{service}", namespaces=frozenset({"b", "c"})),
)


def assert_one_holder_for_each_name(publisher: Publisher) -> None:
    """Everything below a name is what its holder would have there by itself."""
    for zone in SHARED:
        for name in ("web", "db"):
            own = zone.name.child(*zone.template.format(service=name).split("."))
            root = publisher.layout.key(own)
            there = {k: v for k, v in publisher.desired.items() if k == root or k.startswith(root + b"/")}
            inner = [publisher.layout.key(one.name) for one in SHARED if one.name.below(own)]
            there = {key: value for key, value in there.items() if not key.startswith(tuple(inner))}
            holder = publisher.desired.holder(root) if there else None
            losers = publisher.losers(own)
            assert holder not in losers
            for loser in losers:
                assert publisher.store.get(loser) is not None
                lost = [one for where, one in publisher.by_zone(loser) if where == zone]
                assert lost[0].records == []
                assert f"{own} is {holder}'s" in lost[0].left_out[-1]
            if holder is None:
                assert losers == []
                continue
            assert {publisher.desired.holder(key) for key in there} == {holder}
            store = Store()
            for unit in (holder, Unit("namespaces", "", holder.namespace)):
                if (one := publisher.store.get(unit)) is not None:
                    store.replace(unit.kind, [one])
            store.replace("endpointslices", publisher.store.slices(holder))
            alone = Publisher(store, Layout(), ZONE, SHARED)
            alone.refresh(alone.units())
            assert there.items() <= alone.desired.items()
            if decode(there[root]).host:
                assert there.keys() == {root, root + b"/C"}, "a CNAME excludes other data"


@LAW
@given(rivals())
def test_exclusive_name_has_one_holder(history: Steps) -> None:
    assert_events_equal_a_listing(history, [], SHARED)
    publisher = Publisher(Store(), Layout(), ZONE, SHARED)
    for step in history:
        publisher.refresh(publisher.with_affected_services(publisher.store.apply(*step)))
        assert_one_holder_for_each_name(publisher)
