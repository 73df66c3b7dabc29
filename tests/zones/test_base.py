"""Which units each kind of zone publishes."""

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
from kube2etcd.kube.store import NAMES, Unit
from kube2etcd.settings import Selector
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from kube2etcd.zones.services import ServicesZone
from kube2etcd.zones.vmi import VmZone
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from tests.objects import store_of
from tests.zones.published import publish

WEB = Service(Metadata("shop", "web", labels={"app": "web"}), cluster_ip="10.0.0.1")
SHOP = Namespace(Metadata("", "shop", labels={"env": "prod"}))
POD = Pod(Metadata("shop", "p"), "10.0.0.2", phase="Running")
VMI = VirtualMachineInstance(Metadata("shop", "m"), (Interface("eth1", ("10.0.0.3",)),))
OBJECTS: tuple[ApiObject, ...] = (SHOP, WEB, POD, VMI)

CLUSTER = ClusterZone(Name.parse("c.l"), pods="verified")
PROD, LAB = Selector.parse("env=prod"), Selector.parse("env=lab")
NO_PODS = ClusterZone(Name.parse("c.l"))
VM_ZONE = VmZone(Name.parse("vm"))


def services_zone(**settings: object) -> ServicesZone:
    return ServicesZone(Name.parse("s.e"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zone", "published"),
    [
        pytest.param(CLUSTER, [SHOP, WEB, POD], id="cluster"),
        pytest.param(NO_PODS, [SHOP, WEB], id="cluster without pods"),
        pytest.param(VM_ZONE, [SHOP, VMI], id="VMIs"),
        pytest.param(services_zone(), [SHOP, WEB], id="all Services"),
        pytest.param(
            services_zone(namespaces=frozenset({"shop"})), [SHOP, WEB], id="Services of the namespace"
        ),
        pytest.param(services_zone(namespaces=frozenset({"other"})), [], id="Services of another namespace"),
        pytest.param(services_zone(selector=Selector.parse("app=web")), [SHOP, WEB], id="Services by label"),
        pytest.param(
            services_zone(selector=Selector.parse("app=db")), [SHOP], id="Services by another label"
        ),
        pytest.param(
            services_zone(namespace_selector=PROD), [SHOP, WEB], id="Services by their namespace's label"
        ),
        pytest.param(services_zone(namespace_selector=LAB), [], id="Services by another namespace's label"),
    ],
)
def test_units_that_a_zone_publishes(zone: Zone, published: list[ApiObject]) -> None:
    assert [one for one in OBJECTS if publish(zone, one, *OBJECTS).records] == published
    assert zone.publish(Unit("services", "shop", "gone"), store_of(*OBJECTS)).records == []
    assert zone.own().records[0].name == zone.name


def test_external_zone_publishes_names_at_keys_of_its_own() -> None:
    endpoint = Endpoint("a.d.t", ("10.0.0.1",), "A")
    store = store_of(WEB, DnsEndpoint(Metadata("shop", "x"), (endpoint,)))
    zone = ExternalZone(Name.parse("d.t"), (Domain.parse("d.t"),))
    published = zone.publish(Unit(NAMES, "", "a.d.t"), store)
    assert [str(record) for record in published.records] == ["a.d.t. 30 IN A 10.0.0.1"]
    assert not zone.publish(Unit("services", "shop", "web"), store).records
    assert [record.name for record in zone.own().non_terminals] == [zone.name]
    layout, name = Layout(), Name.parse("a.d.t")
    assert zone.key(layout, name) == b"/skydns/t/d/a/own_"
    assert zone.key(layout, name) in zone.entries(layout, published.records)
    for other in (CLUSTER, VM_ZONE, services_zone()):
        assert other.key(layout, name) == b"/skydns/t/d/a"
