"""Desired entries by unit: holders of keys and names, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

import pytest

from kube2etcd.app import build
from kube2etcd.inspect.explain import Explainer
from kube2etcd.inspect.readers import CoreDns
from kube2etcd.kube.objects import (
    ApiObject,
    Metadata,
    Namespace,
    Service,
)
from kube2etcd.kube.store import NAMES, Unit
from kube2etcd.settings import Selector, load
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Zone
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.corefile import blocks
from skydns_compat.message import decode
from skydns_compat.names import Name
from tests.objects import (
    PTR,
    ZONE,
    apply,
    changed,
    deleted,
    dns_endpoint,
    endpoint_slice,
    external_zone,
    flat,
    host,
    publisher_of,
    rejected,
    service,
    vmi,
)


def two_headless(metrics_age: str, zk_age: str) -> list[ApiObject]:
    return [service("metrics", "None", age=metrics_age), service("zk", "None", age=zk_age)]


DASHED = endpoint_slice("metrics", "10.0.0.1", name="m")
HOSTNAME = endpoint_slice("zk", "10.0.0.1", name="z", hostname="zk-0")


@pytest.mark.parametrize(
    ("claimants", "winner"),
    [
        pytest.param([service("b", age="1"), service("a", age="2")], "b.shop", id="older"),
        pytest.param([service("b", age="1"), service("a")], "b.shop", id="no age sorts last"),
        pytest.param([service("b", age="1"), service("a", age="1")], "a.shop", id="by name"),
        pytest.param([service("a", namespace="z"), service("b", namespace="y")], "b.y", id="by namespace"),
        pytest.param(
            [
                service("old", "None", age="1"),
                service("young", age="9"),
                endpoint_slice("old", "10.0.0.1"),
            ],
            "young.shop",
            id="Service before an older endpoint",
        ),
        pytest.param(
            [*two_headless("1", "2"), DASHED, HOSTNAME], "zk-0.zk.shop", id="hostname of the younger"
        ),
        pytest.param([*two_headless("2", "1"), DASHED, HOSTNAME], "zk-0.zk.shop", id="hostname of the older"),
        pytest.param(
            [
                service("zk", "None"),
                endpoint_slice("zk", "10.0.0.1", name="a"),
                endpoint_slice("zk", "10.0.0.1", name="b", hostname="zk-0"),
                endpoint_slice("zk", "10.0.0.1", name="c"),
            ],
            "zk-0.zk.shop",
            id="hostname within a Service",
        ),
    ],
)
def test_holder_of_a_ptr(claimants: list[ApiObject], winner: str) -> None:
    name, namespace = winner.split(".")[-2:]
    for order in (claimants, claimants[::-1]):
        publisher = publisher_of(*order)
        assert host(publisher, PTR) == f"{winner}.svc.cluster.local"
        assert publisher.desired.holder(PTR) == Unit("services", namespace, name)


VM_ZONE = VmZone(Name.parse("vm"), reverse=(ip_network("10.0.0.0/8"),))


def publisher_with_vm_zone(*objects: ApiObject) -> Publisher:
    return publisher_of(*objects, zones=[VM_ZONE])


def test_service_holds_the_ptr_before_a_vmi() -> None:
    """Though the VMI's name is shorter and it is older: both would win among Services."""
    guest = vmi("m", ("nic1", "10.0.0.1"), age="1")
    publisher = publisher_with_vm_zone(service("young", age="9"), guest)
    assert host(publisher, PTR) == "young.shop.svc.cluster.local"
    apply(publisher, deleted("young"))
    assert host(publisher, PTR) == "nic1.m.shop.vm"


def test_interface_and_vmi_with_one_name_both_answer() -> None:
    one, other = vmi("vm", ("my", "10.0.0.1")), vmi("my.vm", ("nic1", "10.0.0.2"))
    below = b"/skydns/vm/shop/vm/my/"
    alone = [publisher_with_vm_zone(each).desired for each in (one, other)]
    for order in ([one, other], [other, one]):
        both = publisher_with_vm_zone(*order).desired
        hosts = {decode(value).host for key, value in both.items() if key.startswith(below)} - {""}
        assert hosts == {"10.0.0.1", "10.0.0.2"}
        for desired in alone:
            assert {key for key in desired if key.startswith(below)} <= both.keys()


def test_expected_reasons_are_not_reported() -> None:
    unready = endpoint_slice("db", "10.1.0.1", ready=False)
    publisher = publisher_of(service("db", "None"), service("new", ""), unready)
    assert publisher.left_out_counts.total() == 3
    assert publisher.take_reasons() == []
    nics = (("nic1", "fe80::1"), ("nic2", "127.0.0.1"))
    [(unit, reason)] = publisher_with_vm_zone(vmi("m", *nics)).take_reasons()
    assert (str(unit), "loopback" in reason) == ("virtualmachineinstances/shop/m", True)


def test_services_follow_the_labels_of_their_namespace() -> None:
    staging = ServicesZone(Name.parse("stage.example"), namespace_selector=Selector.parse("env=staging"))
    spaces = (Namespace(Metadata("", name)) for name in ("shop", "other"))
    services = service("web"), service("web", "10.0.0.2", namespace="other")
    publisher = publisher_of(*services, *spaces, zones=[staging])
    web = b"/skydns/example/stage/shop/web"
    chosen = Namespace(Metadata("", "shop", labels={"env": "staging"}))
    assert web in apply(publisher, changed(chosen)).keys() & publisher.desired.keys()
    assert not any(key.startswith(b"/skydns/example/stage/other") for key in publisher.desired)
    renamed = Namespace(Metadata("", "shop", labels={"env": "staging", "team": "a"}))
    touched = publisher.store.apply("namespaces", changed(renamed).event)
    assert publisher.with_affected_services(touched) == touched, "still selected"


def test_object_is_stored_as_one_group() -> None:
    """Even before external zones are added: every group costs memory."""
    publisher = publisher_with_vm_zone(vmi("a", ("eth1", "10.0.0.1")))
    root = publisher.layout.key(Name.parse("a.shop.vm"))
    assert [group for group in publisher.desired.groups() if group.startswith(root)] == [root]
    assert len(publisher.desired.within(root)) > 1


def test_names_inside_a_longer_zone_are_left_out() -> None:
    """The server looks them up in the longest zone, which does not select these objects."""
    team = Selector.parse("team=a")
    zones = [
        VM_ZONE,
        ServicesZone(Name.parse("shop.vm"), selector=team, template="{service}"),
        ServicesZone(Name.parse("example")),
        ServicesZone(Name.parse("shop.example"), selector=Selector.parse("team=a"), template="{service}"),
    ]
    services = service("web"), service("db", "10.0.0.2", namespace="other")
    publisher = publisher_of(*services, vmi("web", ("nic1", "10.0.0.3")), zones=zones)
    for inner in (b"/skydns/vm/shop/", b"/skydns/example/shop/"):
        assert not [key for key in publisher.desired if key.startswith(inner + b"web")]
    assert b"/skydns/example/other/db" in publisher.desired
    web = publisher.published(Unit("services", "shop", "web"))
    assert web.left_out == ["web.shop.example is in the zone shop.example"]
    assert publisher.published(Unit("virtualmachineinstances", "shop", "web")).left_out == [
        *["web.shop.vm is in the zone shop.vm"],
        *["nic1.web.shop.vm is in the zone shop.vm"],
    ]
    assert host(publisher, PTR) == "web.shop.svc.cluster.local"
    assert b"/skydns/arpa/in-addr/10/0/0/3" not in publisher.desired


@pytest.mark.parametrize("zones", [[], [ZONE], [ZONE, ServicesZone(Name.parse("stage.example"))]])
def test_rejected_object_is_left_out_of_each_zone_and_counted_once(zones: list[Zone]) -> None:
    publisher, unit = publisher_of(service("a"), cluster=None, zones=zones), Unit("services", "shop", "a")
    apply(publisher, rejected("a"))
    assert publisher.published(unit).left_out == ["unreadable"]
    assert [(zone, one.left_out) for zone, one in publisher.by_zone(unit)] == [
        (one, ["unreadable"]) for one in zones
    ]
    assert publisher.left_out_counts.total() == 1
    assert PTR not in publisher.desired
    apply(publisher, changed(service("a")))
    assert publisher.left_out_counts["unreadable"] == 0


@pytest.mark.parametrize(
    ("target", "followed"),
    [
        ("web.shop.svc.cluster.local", True),
        ("zk-0.web.shop.svc.cluster.local", True),
        ("_http._tcp.web.shop.svc.cluster.local", True),
        ("_tcp.web.shop.svc.cluster.local", False),
        ("a.b.web.shop.svc.cluster.local", False),
        ("shop.svc.cluster.local", False),
        ("svc.cluster.local", False),
        ("10-0-0-1.shop.pod.cluster.local", True),
        ("shop.pod.cluster.local", False),
        ("pod.cluster.local", False),
        ("ns.dns.cluster.local", True),
        ("dns.cluster.local", False),
        ("cluster.local", False),
        ("web.cluster.local", False),
        ("desk.shop.vm.cluster.local", True),
        ("shop.vm.cluster.local", False),
        ("web.shop.team.cluster.local", True),
        ("shop.team.cluster.local", False),
        ("app.ext.cluster.local", False),
        ("elsewhere.example", True),
    ],
)
def test_alias_within_the_zone_is_followed_only_to_names_of_objects(target: str, followed: bool) -> None:
    zones = (
        VmZone(Name.parse("vm.cluster.local")),
        ServicesZone(Name.parse("team.cluster.local")),
        external_zone("ext.cluster.local"),
    )
    publisher = publisher_of(
        Service(Metadata("shop", "x"), "ExternalName", external_name=target), zones=zones
    )
    key = b"/skydns/local/cluster/svc/shop/x"
    assert host(publisher, key) == target
    expected = target if followed else "m.x.shop.svc.cluster.local"
    assert host(publisher, key + b"/C") == expected
    reasons = set(publisher.published(Unit("services", "shop", "x")).left_out)
    assert len(reasons) == (not followed)
    assert publisher.take_reasons() == []


def test_zone_below_a_service_of_another_zone_has_its_keys() -> None:
    zones = [ServicesZone(Name.parse(one), template="{service}") for one in ("a.org", "eu.shop.a.org")]
    publisher = publisher_of(service("shop"), cluster=None, zones=zones)
    assert {b"/skydns/org/a/shop", b"/skydns/org/a/shop/eu/shop"} < publisher.desired.keys()
    assert all(publisher.desired.get(key) == value for key, value in publisher.desired.items())


def test_rezone_reports_a_new_ptr_holder() -> None:
    publisher = publisher_of(service("a", age="1"), service("b", age="2"))
    before = publisher.desired[PTR]
    touched = publisher.store.apply("services", changed(service("b", age="0")).event)
    found = flat(publisher.refresh(touched | publisher.rezone([external_zone("dtk.io")])))
    assert (host(publisher, PTR), found[PTR]) == ("b.shop.svc.cluster.local", before)
    assert publisher.refresh(publisher.units()) == {}


# --- external names


def test_external_names_nest_and_combine_several_objects() -> None:
    publisher = publisher_of(zones=[external_zone("dtk.io")])
    store = publisher.store
    apex = b"/skydns/io/dtk/own_"
    assert apex in publisher.desired
    assert publisher.cluster == ZONE
    one, two = (
        dns_endpoint("1", ("a.b.dtk.io", "10.0.0.1")),
        dns_endpoint("2", ("a.b.dtk.io", "10.0.0.2"), ("b.dtk.io", "a.x")),
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
    # Data wins over the empty non-terminal of a name below.
    assert (host(publisher, b), publisher.desired.holder(b)) == ("a.x", Unit(NAMES, "", "b.dtk.io"))
    assert publisher.groups.of(a + b"/10-0-0-1-H") == publisher.groups.of(a) == a
    assert publisher.key(Name.parse("b.dtk.io")) == b
    assert publisher.key(Name.parse("b.example")) == b"/skydns/example/b"
    publisher.refresh(store.replace("dnsendpoints", [one]))
    assert (host(publisher, b), publisher.desired.holder(b)) == ("", Unit(NAMES, "", "a.b.dtk.io"))
    publisher.refresh(store.replace("dnsendpoints", []))
    assert {key for key in publisher.desired if key.startswith(b"/skydns/io/")} == {apex}


def test_service_names_inside_an_external_domain_are_left_out() -> None:
    reverse = "0.0.10.in-addr.arpa"
    zones = [external_zone("web.shop.svc.cluster.local"), external_zone(reverse), external_zone("local")]
    publisher = publisher_of(service("web"), service("db", "10.0.0.2"), zones=zones)
    web, db = Unit("services", "shop", "web"), Unit("services", "shop", "db")
    assert publisher.published(web).records == []
    assert len(publisher.published(db).records) == 1
    assert publisher.published(db).left_out == [f"2.{reverse} is in the external domain {reverse}"]
    assert PTR not in publisher.desired


def test_empty_non_terminal_is_held_by_the_zone_or_the_first_name() -> None:
    """All want the same value, so only their names decide, not the order of a set."""
    endpoints = [dns_endpoint(str(at), (f"n{at:02}.a.dtk.io", "10.0.0.1")) for at in range(40)]
    for order in (endpoints, endpoints[::-1]):
        publisher = publisher_of(cluster=None, zones=[external_zone("dtk.io")])
        apply(publisher, *map(changed, order))
        assert publisher.desired.holder(b"/skydns/io/dtk/a/own_") == Unit(NAMES, "", "n00.a.dtk.io")
        assert publisher.desired.holder(b"/skydns/io/dtk/own_") == Unit("zones", "", "dtk.io")
        assert publisher.cluster is None


# --- exclusive names: several Services want one

ONE_NAME = ServicesZone(Name.parse("stage.example"), template="{service}")
WEB = b"/skydns/example/stage/web"
IN_A = Service(Metadata("a", "web", creation_timestamp="1"), "ExternalName", external_name="web.example.com")
IN_SHOP = service("web", age="2")


def publisher_of_one_zone(services: Iterable[Service]) -> Publisher:
    return publisher_of(*services, cluster=None, zones=[ONE_NAME])


@pytest.mark.parametrize(
    ("services", "holder"),
    [
        pytest.param([IN_A, IN_SHOP], "a", id="older"),
        pytest.param(
            [service("web", namespace="a", age="3"), IN_SHOP], "shop", id="older, though last by namespace"
        ),
        pytest.param([service("web", namespace="a"), IN_SHOP], "shop", id="no age sorts last"),
        pytest.param([service("web", namespace="a", age="2"), IN_SHOP], "a", id="by namespace"),
    ],
)
def test_exclusive_name_goes_to_the_oldest_service(services: list[Service], holder: str) -> None:
    alone = publisher_of_one_zone(one for one in services if one.metadata.namespace == holder)
    [loser] = [Unit("services", one, "web") for one in ("a", "shop") if one != holder]
    for order in (services, services[::-1]):
        publisher = publisher_of_one_zone(order)
        assert publisher.desired == alone.desired
        assert publisher.losers(Name.parse("web.stage.example")) == [loser]
        assert (publisher.left_out_counts.total(), publisher.left_out_counts["taken"]) == (1, 1)
        [(unit, reason)] = publisher.take_reasons()
        assert unit == loser
        assert reason.startswith(f"web.stage.example is services/{holder}/web's")


def test_service_without_records_wants_no_name() -> None:
    empty = service("web", namespace="a", ip="", age="1")
    publisher = publisher_of_one_zone([empty, IN_SHOP])
    assert publisher.desired.holder(WEB) == Unit("services", "shop", "web")
    apply(publisher, rejected("web"))
    assert WEB not in publisher.desired


def test_only_the_final_holder_is_reported() -> None:
    """Not the ones that held the name while the list was applied."""
    publisher = publisher_of_one_zone([])
    aged = [service("web", namespace=at, age=str(9 - int(at))) for at in "123"]
    publisher.refresh(publisher.store.replace("services", aged))
    assert publisher.take_reasons() == [
        (
            Unit("services", at, "web"),
            "web.stage.example is services/3/web's, which is older, or as old and first by namespace",
        )
        for at in "12"
    ]


@pytest.mark.parametrize(
    ("name", "rcode"), [("web.stage.example", "NOERROR"), ("x.web.stage.example", "NXDOMAIN")]
)
def test_explain_names_the_holder_of_a_lost_name(tmp_path: Path, name: str, rcode: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text('zones: [{zone: stage.example, name: "{service}"}]')
    settings = load({}, {}, file)
    explainer = Explainer(
        publisher_of_one_zone([IN_A, IN_SHOP]), CoreDns(blocks(build.corefile(settings)), "/skydns")
    )
    [found] = explainer.explain(Name.parse(name), "A")
    assert found.rcode == rcode
    assert any(
        one.startswith("services/shop/web: web.stage.example is services/a/web's") for one in found.reasons
    )
