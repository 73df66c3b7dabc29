"""Desired entries by unit: who holds a key, what goes in one transaction, and that order does not matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube2etcd.cluster.objects import (
    ApiObject,
    DnsEndpoint,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Event,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Rejected,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.cluster.objects import Port as ServicePort
from kube2etcd.cluster.store import NAMES, Store, Unit
from kube2etcd.external import Domain
from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.inbox import Rezoned
from kube2etcd.publish import Publisher
from kube2etcd.selectors import Selector
from kube2etcd.sources.cluster import ClusterZone
from kube2etcd.sources.external import ExternalZone
from kube2etcd.sources.machines import MachineZone
from kube2etcd.sources.selected import SelectedZone
from kube2etcd.zones import OfExternal, OfMachines, OfSelected, Zone
from skydns_compat.layout import Layout
from skydns_compat.message import decode
from skydns_compat.names import Name
from tests.strategies import LAW, events, histories

ZONE = ClusterZone(Name.parse("cluster.local"), pods="verified")
PTR = b"/skydns/arpa/in-addr/10/0/0/1"


def service(name: str, *, age: str = "", ip: str = "10.0.0.1", namespace: str = "shop") -> Service:
    return Service(Metadata(namespace, name, creation_timestamp=age), cluster_ip=ip)


def filled(**kinds: Iterable[ApiObject]) -> Publisher:
    store = Store()
    for kind, objects in kinds.items():
        store.replace(kind, objects)
    publisher = Publisher(store, Layout(), ZONE)
    publisher.refresh(publisher.units())
    return publisher


def host(publisher: Publisher, key: bytes) -> str:
    return decode(publisher.desired[key]).host


def test_an_empty_cluster_has_the_zone_itself() -> None:
    publisher = filled()
    assert publisher.desired.keys() >= {
        b"/skydns/local/cluster",
        b"/skydns/local/cluster/dns/apex",
        b"/skydns/local/cluster/dns-version/T",
    }
    assert list(publisher.units()) == [Unit("zones", "", "cluster.local")]


def test_two_runs_write_the_same() -> None:
    objects = [service("a"), service("b", ip="10.0.0.2"), service("c")]
    assert filled(services=objects).desired == filled(services=reversed(objects)).desired


@pytest.mark.parametrize(
    ("claimants", "winner"),
    [
        pytest.param([service("b", age="1"), service("a", age="2")], "b.shop", id="the older"),
        pytest.param([service("b", age="1"), service("a")], "b.shop", id="no age comes last"),
        pytest.param([service("b", age="1"), service("a", age="1")], "a.shop", id="by name"),
        pytest.param([service("a", namespace="z"), service("b", namespace="y")], "b.y", id="by namespace"),
    ],
)
def test_one_pointer_for_an_address(claimants: list[ApiObject], winner: str) -> None:
    for order in (claimants, claimants[::-1]):
        assert host(filled(services=order), PTR) == f"{winner}.svc.cluster.local"


def test_a_service_comes_before_an_endpoint_however_young() -> None:
    piece = EndpointSlice(Metadata("shop", "s"), "old", "IPv4", (), (Endpoint(("10.0.0.1",)),))
    services = [service("old", ip="None", age="1"), service("young", age="9")]
    publisher = filled(services=services, endpointslices=[piece])
    assert host(publisher, PTR) == "young.shop.svc.cluster.local"
    assert publisher.holder(PTR) == Unit("services", "shop", "young")


VM_ZONE = MachineZone(Name.parse("vm"), reverse=(ip_network("10.0.0.0/8"),))


def machine(name: str, *interfaces: tuple[str, str], age: str = "") -> VirtualMachineInstance:
    nics = tuple(Interface(label, address) for label, address in interfaces)
    return VirtualMachineInstance(Metadata("shop", name, creation_timestamp=age), nics)


def with_machines(services: list[Service], machines: list[VirtualMachineInstance]) -> Publisher:
    store = Store()
    store.replace("services", services)
    store.replace("virtualmachineinstances", machines)
    publisher = Publisher(store, Layout(), ZONE, [OfMachines(VM_ZONE)])
    publisher.refresh(publisher.units())
    return publisher


def test_a_guest_never_takes_the_reverse_name_of_a_service() -> None:
    """Its own name is shorter, and it is older: both would win among Services."""
    guest = machine("m", ("nic1", "10.0.0.1"), age="1")
    publisher = with_machines([service("young", age="9")], [guest])
    assert host(publisher, PTR) == "young.shop.svc.cluster.local"
    publisher.refresh(publisher.store.apply("services", Event("DELETED", None, "shop", "young")))
    assert host(publisher, PTR) == "nic1.m.shop.vm"


def test_interface_my_of_vm_and_machine_my_vm_answer_together() -> None:
    one, other = machine("vm", ("my", "10.0.0.1")), machine("my.vm", ("nic1", "10.0.0.2"))
    below = b"/skydns/vm/shop/vm/my/"
    alone = [with_machines([], [each]).desired for each in (one, other)]
    for order in ([one, other], [other, one]):
        both = with_machines([], order).desired
        hosts = {decode(value).host for key, value in both.items() if key.startswith(below)} - {""}
        assert hosts == {"10.0.0.1", "10.0.0.2"}
        for desired in alone:
            assert {key for key in desired if key.startswith(below)} <= both.keys()


def test_ordinary_reasons_are_not_told() -> None:
    piece = EndpointSlice(Metadata("shop", "s"), "db", "IPv4", (), (Endpoint(("10.1.0.1",), False),))
    publisher = filled(services=[service("db", ip="None"), service("new", ip="")], endpointslices=[piece])
    assert publisher.left_out() == 3
    assert publisher.untold() == []
    nics = (("nic1", "fe80::1"), ("nic2", "127.0.0.1"))
    [(unit, reason)] = with_machines([], [machine("m", *nics)]).untold()
    assert (str(unit), "loopback" in reason) == ("virtualmachineinstances/shop/m", True)


def test_the_next_in_line_takes_over() -> None:
    publisher = filled(services=[service("a", age="1"), service("b", age="2"), service("c", age="3")])
    for gone, heir in (("a", "b"), ("b", "c")):
        publisher.refresh(publisher.store.apply("services", Event("DELETED", None, "shop", gone)))
        assert host(publisher, PTR) == f"{heir}.shop.svc.cluster.local"
        assert publisher.holder(PTR) == Unit("services", "shop", heir)
    changed = publisher.refresh(publisher.store.apply("services", Event("DELETED", None, "shop", "c")))
    assert PTR in changed
    assert PTR not in publisher.desired
    assert publisher.holder(PTR) is None


def test_who_withdraws_without_holding_changes_nothing() -> None:
    publisher = filled(services=[service("a", age="1"), service("b", age="2")])
    before = publisher.desired[PTR]
    publisher.refresh(publisher.store.apply("services", Event("DELETED", None, "shop", "b")))
    assert publisher.desired[PTR] == before


def test_only_what_may_differ_comes_back() -> None:
    publisher = filled(services=[service("a"), service("b", ip="10.0.0.2")])
    units = publisher.store.apply("services", Event("MODIFIED", service("a", ip="10.0.0.9"), "shop", "a"))
    changed = publisher.refresh(units)
    assert changed == {
        PTR,
        b"/skydns/arpa/in-addr/10/0/0/9",
        b"/skydns/local/cluster/svc/shop/a/10-0-0-1-H",
        b"/skydns/local/cluster/svc/shop/a/10-0-0-9-H",
    }
    assert publisher.refresh(publisher.units()) == set()


def test_refused_objects_count_and_say_why() -> None:
    publisher = filled(services=[service("a")])
    unit = Unit("services", "shop", "a")
    event = Event("MODIFIED", None, "shop", "a", rejected=Rejected("services", "shop", "a", "odd"))
    publisher.refresh(publisher.store.apply("services", event))
    assert publisher.published(unit).left_out == ["odd"]
    assert publisher.left_out() == 1
    assert PTR not in publisher.desired
    publisher.refresh(publisher.store.apply("services", Event("MODIFIED", service("a"), "shop", "a")))
    assert publisher.left_out() == 0


def test_pods_have_names_where_they_are_switched_on() -> None:
    store = Store()
    store.replace("pods", [Pod(Metadata("shop", "p"), "10.0.0.1", phase="Running")])
    key = b"/skydns/local/cluster/pod/shop/10-0-0-1"
    for pods, there in (("verified", True), ("insecure", False), ("disabled", False)):
        publisher = Publisher(store, Layout(), ClusterZone(ZONE.zone, pods=pods))
        publisher.refresh(publisher.units())
        assert (key in publisher.desired) is there


def test_pods_on_the_host_share_a_name() -> None:
    pods = [Pod(Metadata("shop", name), "10.0.0.1", phase="Running") for name in ("p", "q")]
    publisher = filled(pods=pods)
    key = b"/skydns/local/cluster/pod/shop/10-0-0-1/10-0-0-1-P0"
    for gone in ("p", "q"):
        assert key in publisher.desired
        publisher.refresh(publisher.store.apply("pods", Event("DELETED", None, "shop", gone)))
    assert key not in publisher.desired


@pytest.mark.parametrize(
    ("key", "group"),
    [
        (b"/skydns/local/cluster/svc/shop/web", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/svc/shop/web/_tcp/_http/A", b"/skydns/local/cluster/svc/shop/web"),
        (b"/skydns/local/cluster/nt_/svc/shop", b"/skydns/local/cluster/nt_/svc/shop"),
        (b"/skydns/local/cluster", b"/skydns/local/cluster"),
        (PTR, PTR),
        (b"/skydns/example/a/b/c/d/e/f", b"/skydns/example/a/b/c/d/e/f"),
    ],
)
def test_what_changes_together(key: bytes, group: bytes) -> None:
    assert filled().group(key) == group


def test_a_deep_prefix_and_zone_change_together_too() -> None:
    publisher = Publisher(Store(), Layout("/a/b"), ClusterZone(Name.parse("x.y.z")))
    assert publisher.group(b"/a/b/z/y/x/svc/shop/web/_tcp/_http/A") == b"/a/b/z/y/x/svc/shop/web"


def odd_service(**fields: object) -> Service:
    return Service(Metadata("shop", "odd"), **fields)  # type: ignore[arg-type]


def odd_slice(*endpoints: Endpoint) -> list[EndpointSlice]:
    return [EndpointSlice(Metadata("shop", "s"), "odd", "IPv4", (), endpoints)]


HEADLESS = odd_service(cluster_ip="None")
LONG = "x" * 64
ODD_PORTS = (ServicePort(LONG, "TCP", 80), ServicePort("x", "T/P", 81))
NO_NAME = "no name in DNS"


@pytest.mark.parametrize(
    ("one", "pieces", "reason"),
    [
        pytest.param(odd_service(), [], "no cluster address yet", id="nothing in it"),
        pytest.param(odd_service(cluster_ip="10.0.0"), [], "'10.0.0' is not an IP address", id="no address"),
        pytest.param(odd_service(cluster_ip="fe80::1%eth0"), [], "carries a zone", id="address with a zone"),
        pytest.param(
            odd_service(cluster_ip="10.0.0.7", cluster_ips=("10.0.0.7", "x")),
            [],
            "'x' is not an IP address",
            id="half an address",
        ),
        pytest.param(HEADLESS, [], "no ready endpoint", id="headless and empty"),
        pytest.param(HEADLESS, odd_slice(Endpoint(("web",))), "not an IP", id="endpoint without address"),
        pytest.param(HEADLESS, odd_slice(Endpoint(())), "no ready endpoint", id="endpoint of nothing"),
        pytest.param(
            HEADLESS,
            odd_slice(Endpoint(("10.1.0.1",), False)),
            "10.1.0.1 is not ready",
            id="not ready",
        ),
        pytest.param(
            HEADLESS,
            odd_slice(Endpoint(("10.1.0.1",), hostname=LONG)),
            "hostname left out: label .* has 64 characters",
            id="64 letters for a host",
        ),
        pytest.param(
            HEADLESS,
            [EndpointSlice(Metadata("shop", "s"), "odd", "FQDN", (), (Endpoint(("a.example",)),))],
            "holds names, not addresses",
            id="endpoints by name",
        ),
        pytest.param(
            odd_service(type="ExternalName", external_name="192.0.2.1"),
            [],
            "is an address",
            id="CNAME to IPv4",
        ),
        pytest.param(
            odd_service(type="ExternalName", external_name="192.0.2.1."),
            [],
            "is an address",
            id="a final dot",
        ),
        pytest.param(
            odd_service(type="ExternalName", external_name="fd00::1"),
            [],
            "is an address",
            id="CNAME to IPv6",
        ),
        pytest.param(odd_service(type="ExternalName"), [], "the name is empty", id="CNAME to nothing"),
        pytest.param(
            odd_service(type="ExternalName", external_name="a/b"),
            [],
            "cannot be a DNS label",
            id="CNAME to no name",
        ),
        pytest.param(
            odd_service(cluster_ip="10.0.0.7", ports=ODD_PORTS),
            [],
            "port left out of SRV",
            id="ports without names",
        ),
        pytest.param(Service(Metadata("shop", LONG), cluster_ip="10.0.0.7"), [], NO_NAME, id="64 letters"),
        pytest.param(Service(Metadata("", ""), cluster_ip="10.0.0.7"), [], NO_NAME, id="no name"),
        pytest.param(Service(Metadata("shop", "a.b"), cluster_ip="10.0.0.7"), [], NO_NAME, id="a dot"),
        pytest.param(Service(Metadata("shop", "*"), cluster_ip="10.0.0.7"), [], NO_NAME, id="wildcard"),
    ],
)
def test_bad_input_hurts_its_own_name_only(one: Service, pieces: list[EndpointSlice], reason: str) -> None:
    alone = filled(services=[service("web")])
    beside = filled(services=[service("web"), one], endpointslices=pieces)
    assert alone.desired.items() <= beside.desired.items()
    own = beside.layout.key(Name.parse("svc.cluster.local").child("shop")) + b"/odd"
    more = beside.desired.keys() - alone.desired.keys()
    assert all(key.startswith(own) or b"/arpa/" in key for key in more)
    unit = Unit("services", one.metadata.namespace, one.metadata.name)
    said = "; ".join(beside.published(unit).left_out)
    assert re.search(reason, said), said
    assert beside.left_out() == len(beside.published(unit).left_out)


def test_a_namespace_that_is_no_label_says_so() -> None:
    publisher = filled(namespaces=[Namespace(Metadata("", LONG))])
    assert publisher.left_out() == 1
    assert publisher.desired == filled().desired


def test_thousands_of_ports() -> None:
    ports = tuple(ServicePort(f"p{at}", "TCP", at) for at in range(1, 5001))
    publisher = filled(services=[odd_service(cluster_ip="10.0.0.7", ports=ports)])
    assert b"/skydns/local/cluster/svc/shop/odd/_tcp/_p5000/10-0-0-7-P5000" in publisher.desired
    assert publisher.left_out() == 0


def test_a_service_named_any_is_kept_where_no_wildcard_is() -> None:
    publisher = filled(services=[service("any", namespace="any")])
    assert b"/skydns/local/cluster/svc/any_/any_/10-0-0-1-H" in publisher.desired
    assert not [key for key in publisher.desired if b"/any/" in key + b"/"]
    assert host(publisher, PTR) == "any.any.svc.cluster.local"


@pytest.mark.parametrize("kind", ["port", "hostname"])
def test_a_name_that_grows_too_long_hurts_nobody(kind: str) -> None:
    meta = Metadata("n" * 63, "s" * 63)
    label = "p" * 62
    one = Service(meta, cluster_ip="None", ports=(ServicePort(label, "TCP", 80),))

    zone = "cluster.local" if kind == "port" else ".".join(["z" * 30] * 2)
    piece = EndpointSlice(
        Metadata("n" * 63, "e"),
        "s" * 63,
        "IPv4",
        (EndpointPort(label if kind == "port" else "", "TCP", 80),),
        (Endpoint(("10.0.0.1",), hostname="h" * 63),),
    )
    store = Store()
    store.replace("services", [one, service("web")])
    store.replace("endpointslices", [piece])
    publisher = Publisher(store, Layout(), ClusterZone(Name.parse(zone)))
    publisher.refresh(publisher.units())
    assert publisher.left_out() > 0
    assert any(key.endswith(b"/svc/shop/web") for key in publisher.desired)


KINDS = ("services", "endpointslices", "namespaces", "pods", "virtualmachineinstances", "dnsendpoints")


def left(told: Iterable[tuple[str, Event]]) -> tuple[Store, set[Unit]]:
    """A store that lists what these events leave, and the units that this touched."""
    store = Store()
    final: dict[str, dict[tuple[str, str], ApiObject]] = {kind: {} for kind in KINDS}
    refused: dict[str, dict[tuple[str, str], Rejected]] = {kind: {} for kind in KINDS}
    for kind, event in told:
        if event.type == "BOOKMARK":
            continue
        identity = (event.namespace, event.name)
        final[kind].pop(identity, None)
        refused[kind].pop(identity, None)
        if event.rejected is not None and event.type != "DELETED":
            refused[kind][identity] = event.rejected
        elif event.object is not None and event.type != "DELETED":
            final[kind][identity] = event.object
    touched: set[Unit] = set()
    for kind in reversed(KINDS):
        touched |= store.replace(kind, final[kind].values(), refused[kind].values())
    return store, touched


def assert_same(one: Publisher, other: Publisher) -> None:
    assert one.desired == other.desired
    assert one.left_out() == other.left_out()
    for key in other.desired:
        assert one.holder(key) == other.holder(key) is not None


@LAW
@given(st.lists(events(), max_size=20), st.sampled_from(["headless", "all"]))
def test_events_lead_where_a_listing_leads(told: list[tuple[str, Event]], endpoint_names: str) -> None:
    zone = ClusterZone(ZONE.zone, pods="verified", endpoint_names=endpoint_names)
    by_event = Publisher(Store(), Layout(), zone)
    for kind, event in told:
        before = dict(by_event.desired)
        changed = by_event.refresh(by_event.store.apply(kind, event))
        differ = before.items() ^ by_event.desired.items()
        assert {key for key, _ in differ} <= changed
    store, touched = left(told)
    at_once = Publisher(store, Layout(), zone)
    at_once.refresh(touched)
    assert_same(by_event, at_once)


def external_zones(*domains: str) -> tuple[OfExternal, ...]:
    """The external zones of these domains."""
    all_ = tuple(Domain.parse(one) for one in domains)
    services = (ZONE.zone, Name.parse("stage.example"), Name.parse("vm"))
    return tuple(
        OfExternal(ExternalZone(one.name, (one,), service_zones=services, all_domains=all_)) for one in all_
    )


#: Every kind of zone, chosen by the labels of Services, of namespaces, of both.
OTHERS = (
    OfMachines(MachineZone(Name.parse("vm"), reverse=(ip_network("10.0.0.0/24"),))),
    OfSelected(
        SelectedZone(
            Name.parse("stage.example"),
            selector=Selector.parse("tier=web"),
            namespace_selector=Selector.parse("env=stage"),
        )
    ),
    OfSelected(SelectedZone(Name.parse("vm.test"), selector=Selector.parse("!env"), name="{service}")),
)

_REZONED = st.sampled_from(
    [
        Rezoned(external_zones()),
        Rezoned(external_zones("dtk.io")),
        Rezoned(external_zones("dtk.io", "a.dtk.io")),
        Rezoned(external_zones("shop.example", "svc.cluster.local")),
    ]
)


@LAW
@given(histories(), st.lists(st.tuples(st.integers(0, 40), _REZONED), max_size=4))
def test_events_lead_where_a_listing_leads_in_every_kind_of_zone(
    history: list[tuple[str, Event]], rezoned: list[tuple[int, Rezoned]]
) -> None:
    """Also while the external zones come and go, and whichever of them stand in the end."""
    told: list[tuple[str, Event] | Rezoned] = [Rezoned(external_zones("dtk.io")), *history]
    for at, one in rezoned:
        told.insert(at, one)
    by_event = Publisher(Store(), Layout(), ZONE, OTHERS)
    zones: Sequence[Zone] = ()
    changes: list[tuple[str, Event]] = []
    for step in told:
        before = dict(by_event.desired)
        if isinstance(step, Rezoned):
            zones = step.zones
            changed = by_event.refresh(by_event.rezone(zones))
        else:
            changes.append(step)
            changed = by_event.refresh(by_event.store.apply(*step))
        differ = before.items() ^ by_event.desired.items()
        assert {key for key, _ in differ} <= changed
    store, touched = left(changes)
    at_once = Publisher(store, Layout(), ZONE, (*OTHERS, *zones))
    at_once.refresh(touched)
    assert_same(by_event, at_once)
    # A relist of the same, and a look at everything, change nothing.
    assert by_event.refresh(by_event.units()) == set()
    assert_same(by_event, at_once)


def test_services_follow_the_labels_of_their_namespace() -> None:
    staging = OfSelected(
        SelectedZone(Name.parse("stage.example"), namespace_selector=Selector.parse("env=staging"))
    )
    store = Store()
    store.replace("services", [service("web"), service("web", namespace="other", ip="10.0.0.2")])
    store.replace("namespaces", [Namespace(Metadata("", "shop")), Namespace(Metadata("", "other"))])
    publisher = Publisher(store, Layout(), ZONE, [staging])
    publisher.refresh(publisher.units())
    zone = b"/skydns/example/stage/"
    assert not any(key.startswith(zone + b"shop") for key in publisher.desired)
    chosen = Namespace(Metadata("", "shop", labels={"env": "staging"}))
    changed = publisher.refresh(store.apply("namespaces", Event("MODIFIED", chosen, "", "shop")))
    assert zone + b"shop/web" in changed
    assert zone + b"shop/web" in publisher.desired
    assert not any(key.startswith(zone + b"other") for key in publisher.desired)
    publisher.refresh(store.apply("namespaces", Event("DELETED", None, "", "shop")))
    assert not any(key.startswith(zone + b"shop") for key in publisher.desired)
    assert publisher.refresh({Unit("services", "shop", "web")}) == set()


def test_an_object_of_another_zone_changes_together_too() -> None:
    shop = OfSelected(SelectedZone(Name.parse("shop.example")))
    publisher = Publisher(Store(), Layout(), ZONE, [shop])
    key = publisher.layout.key(Name.parse("web.shop.shop.example"))
    assert publisher.group(key + b"/00-10-0-0-1-H") == key


def external(*names: str) -> OfExternal:
    domains = tuple(map(Domain.parse, names))
    return OfExternal(ExternalZone(domains[0].name, domains))


def said(name: str, *endpoints: tuple[str, str]) -> DnsEndpoint:
    return DnsEndpoint(
        Metadata("shop", name),
        tuple(ExternalEndpoint(owner, (to,), "A" if to[0].isdigit() else "CNAME") for owner, to in endpoints),
    )


def test_external_names_nest_and_a_name_may_stand_in_several_objects() -> None:
    store = Store()
    publisher = Publisher(store, Layout(), ZONE, [external("dtk.io")])
    apex = b"/skydns/io/dtk/own_"
    assert apex in publisher.desired
    assert publisher.cluster == ZONE
    one, two = (
        said("1", ("a.b.dtk.io", "10.0.0.1")),
        said("2", ("a.b.dtk.io", "10.0.0.2"), ("b.dtk.io", "a.x")),
    )
    publisher.refresh(store.replace("dnsendpoints", [one, two]))
    a, b = b"/skydns/io/dtk/b/a/own_", b"/skydns/io/dtk/b/own_"
    assert {key for key in publisher.desired if key.startswith(b"/skydns/io/")} == {
        apex,
        b,
        b + b"/C",
        a,
        a + b"/10-0-0-1-H",
        a + b"/10-0-0-2-H",
    }
    # Data come before the word of a name below, that there is something.
    assert (host(publisher, b), publisher.holder(b)) == ("a.x", Unit(NAMES, "", "b.dtk.io"))
    assert publisher.group(a + b"/10-0-0-1-H") == publisher.group(a) == a
    assert publisher.key(Name.parse("b.dtk.io")) == b
    assert publisher.key(Name.parse("b.example")) == b"/skydns/example/b"
    publisher.refresh(store.replace("dnsendpoints", [one]))
    assert (host(publisher, b), publisher.holder(b)) == ("", Unit(NAMES, "", "a.b.dtk.io"))
    publisher.refresh(store.replace("dnsendpoints", []))
    assert {key for key in publisher.desired if key.startswith(b"/skydns/io/")} == {apex}


def test_an_alias_follows_what_becomes_of_its_target() -> None:
    store = Store()
    publisher = Publisher(store, Layout(), None, [external("dtk.io")])
    publisher.refresh(store.replace("dnsendpoints", [said("1", ("a.dtk.io", "b.dtk.io"))]))
    key = b"/skydns/io/dtk/a/own_"
    assert host(publisher, key) == "own_.b.dtk.io"
    ring = said("1", ("a.dtk.io", "b.dtk.io"), ("b.dtk.io", "a.dtk.io"))
    publisher.refresh(store.replace("dnsendpoints", [ring]))
    assert key not in publisher.desired
    assert {unit.name for unit, _ in publisher.untold()} == {"a.dtk.io", "b.dtk.io"}
    cut = said("1", ("a.dtk.io", "b.dtk.io"), ("b.dtk.io", "1.1.1.1"))
    publisher.refresh(store.replace("dnsendpoints", [cut]))
    assert host(publisher, key) == "own_.b.dtk.io"
    assert publisher.cluster is None


def test_external_zones_may_change() -> None:
    store = Store()
    store.replace("services", [service("web")])
    store.replace("dnsendpoints", [said("1", ("a.dtk.io", "10.0.0.1"), ("a.my.io", "10.0.0.1"))])
    publisher = Publisher(store, Layout(), ZONE, [external("dtk.io")])
    publisher.refresh(publisher.units())
    before = dict(publisher.desired)
    changed = publisher.refresh(publisher.rezone([external("my.io")]))
    assert {key for key in publisher.desired if b"own_" in key} == {
        b"/skydns/io/my/own_",
        b"/skydns/io/my/a/own_",
        b"/skydns/io/my/a/own_/10-0-0-1-H",
    }
    assert all(b"own_" in key for key in changed)
    publisher.refresh(publisher.rezone([external("dtk.io")]))
    assert publisher.desired == before


def test_names_of_services_in_a_longer_external_zone_are_left_out() -> None:
    store = Store()
    store.replace("services", [service("web"), service("db", ip="10.0.0.2")])
    reverse = "0.0.10.in-addr.arpa"
    zones = [external("web.shop.svc.cluster.local"), external(reverse), external("local")]
    publisher = Publisher(store, Layout(), ZONE, zones)
    publisher.refresh(publisher.units())
    web, db = Unit("services", "shop", "web"), Unit("services", "shop", "db")
    assert publisher.published(web).records == []
    assert len(publisher.published(db).records) == 1
    assert publisher.published(db).left_out == [f"2.{reverse} is in the external domain {reverse}"]
    assert PTR not in publisher.desired


def test_an_empty_name_belongs_to_the_zone_or_else_to_the_first_by_name() -> None:
    """All say the same of it, so nothing but their names decides; a set of names has no order."""
    spoken = [said(str(at), (f"n{at:02}.a.dtk.io", "10.0.0.1")) for at in range(40)]
    for order in (spoken, spoken[::-1]):
        store = Store()
        publisher = Publisher(store, Layout(), None, [external("dtk.io")])
        for one in order:
            publisher.refresh(store.apply("dnsendpoints", Event("ADDED", one, "shop", one.metadata.name)))
        assert publisher.holder(b"/skydns/io/dtk/a/own_") == Unit(NAMES, "", "n00.a.dtk.io")
        assert publisher.holder(b"/skydns/io/dtk/own_") == Unit("zones", "", "dtk.io")


@pytest.mark.parametrize("unusable", ["-", "fd00::1"])
def test_an_alias_follows_an_address_that_becomes_usable(unusable: str) -> None:
    """``b`` has an address beside its alias back to ``a``: with one it is no ring, without it is."""
    store = Store()
    publisher = Publisher(store, Layout(), None, [external("dtk.io")])
    publisher.refresh(
        store.apply("dnsendpoints", Event("ADDED", said("1", ("a.dtk.io", "b.dtk.io")), "shop", "1"))
    )
    key = b"/skydns/io/dtk/a/own_/C"
    for address, there in ((unusable, False), ("10.0.0.1", True), (unusable, False)):
        back = (
            ExternalEndpoint("b.dtk.io", ("a.dtk.io",), "CNAME"),
            ExternalEndpoint("b.dtk.io", (address,), "A"),
        )
        changed = DnsEndpoint(Metadata("shop", "2"), back)
        publisher.refresh(store.apply("dnsendpoints", Event("MODIFIED", changed, "shop", "2")))
        assert (key in publisher.desired) is there
