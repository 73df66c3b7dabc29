"""Which units a zone takes, and why it does not take the others."""

from __future__ import annotations

import pytest

from kube2etcd.external import Domain, Endpoint
from kube2etcd.kube.objects import (
    ApiObject,
    DnsEndpoint,
    Interface,
    Metadata,
    Namespace,
    Pod,
    Service,
    VirtualMachineInstance,
)
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.settings import Selector
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name

WEB = Service(Metadata("shop", "web", labels={"app": "web"}), cluster_ip="10.0.0.1")
SHOP = Namespace(Metadata("", "shop", labels={"env": "prod"}))
POD = Pod(Metadata("shop", "p"), "10.0.0.2", phase="Running")
MACHINE = VirtualMachineInstance(Metadata("shop", "m"), (Interface("eth1", ("10.0.0.3",)),))
UNITS: dict[str, ApiObject] = {
    "services": WEB,
    "namespaces": SHOP,
    "pods": POD,
    "virtualmachineinstances": MACHINE,
}

CLUSTER = ClusterZone(Name.parse("c.l"), pods="verified")
PODLESS = ClusterZone(Name.parse("c.l"))
MACHINES = VmZone(Name.parse("vm"))


def selected(**how: object) -> ServicesZone:
    return ServicesZone(Name.parse("s.e"), **how)  # type: ignore[arg-type]


@pytest.fixture
def store() -> Store:
    made = Store()
    for kind, one in UNITS.items():
        made.replace(kind, [one])
    return made


@pytest.mark.parametrize(
    ("zone", "taken"),
    [
        pytest.param(CLUSTER, ["namespaces", "pods", "services"], id="cluster"),
        pytest.param(PODLESS, ["namespaces", "services"], id="cluster without pods"),
        pytest.param(MACHINES, ["namespaces", "virtualmachineinstances"], id="machines"),
        pytest.param(selected(), ["namespaces", "services"], id="all Services"),
        pytest.param(
            selected(namespaces=frozenset({"shop"})), ["namespaces", "services"], id="of the namespace"
        ),
        pytest.param(selected(namespaces=frozenset({"other"})), [], id="of another namespace"),
        pytest.param(selected(selector=Selector.parse("app=web")), ["namespaces", "services"], id="by label"),
        pytest.param(selected(selector=Selector.parse("app=db")), ["namespaces"], id="by another label"),
        pytest.param(
            selected(namespace_selector=Selector.parse("env=prod")),
            ["namespaces", "services"],
            id="by its namespace",
        ),
        pytest.param(
            selected(namespace_selector=Selector.parse("env=lab")), [], id="by another namespace's label"
        ),
    ],
)
def test_what_a_zone_takes(store: Store, zone: Zone, taken: list[str]) -> None:
    found = [
        kind
        for kind, one in UNITS.items()
        if zone.publish(Unit(kind, one.metadata.namespace, one.metadata.name), store).records
    ]
    assert sorted(found) == taken
    assert zone.publish(Unit("services", "shop", "gone"), store).records == []
    assert zone.own().records[0].name == zone.name


@pytest.mark.parametrize(
    ("zone", "above", "follows"),
    [
        (CLUSTER, 0, False),
        (MACHINES, 1, False),
        (ExternalZone(Name.parse("d.t"), (Domain.parse("d.t"),)), 0, False),
        (selected(), 1, False),
        (selected(template="{service}"), 0, False),
        (selected(template="{service}.x.{namespace}"), 2, False),
        (selected(namespace_selector=Selector.parse("env")), 1, True),
    ],
)
def test_shape(zone: Zone, above: int, follows: bool) -> None:
    assert (zone.empty_levels, zone.follows_namespaces()) == (above, follows)


def test_why_a_service_is_not_taken(store: Store) -> None:
    assert selected().unselected(WEB, store) == ""
    assert "its labels are not" in selected(selector=Selector.parse("app=db")).unselected(WEB, store)
    assert "namespace shop is not" in selected(namespaces=frozenset({"x"})).unselected(WEB, store)
    by_label = selected(namespace_selector=Selector.parse("env=prod"))
    assert "namespace shop is not" in by_label.unselected(WEB, Store())


def test_an_external_zone_takes_names_and_has_keys_of_its_own() -> None:
    store = Store()
    endpoint = Endpoint("a.d.t", ("10.0.0.1",), "A")
    store.replace("dnsendpoints", [DnsEndpoint(Metadata("shop", "x"), (endpoint,))])
    zone = ExternalZone(Name.parse("d.t"), (Domain.parse("d.t"),))
    published = zone.publish(Unit(NAMES, "", "a.d.t"), store)
    assert [str(record) for record in published.records] == ["a.d.t. 30 IN A 10.0.0.1"]
    assert not zone.publish(Unit("services", "shop", "web"), store).records
    assert [record.name for record in zone.own().non_terminals] == [zone.name]
    layout, name = Layout(), Name.parse("a.d.t")
    assert zone.key(layout, name) == b"/skydns/t/d/a/own_"
    assert zone.key(layout, name) in zone.entries(layout, published.records)
    for other in (CLUSTER, MACHINES, selected()):
        assert other.key(layout, name) == b"/skydns/t/d/a"
