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
MACHINE = VirtualMachineInstance(Metadata("shop", "m"), (Interface("eth1", ("10.0.0.3",)),))
OBJECTS: tuple[ApiObject, ...] = (SHOP, WEB, POD, MACHINE)

CLUSTER = ClusterZone(Name.parse("c.l"), pods="verified")
PROD, LAB = Selector.parse("env=prod"), Selector.parse("env=lab")
PODLESS = ClusterZone(Name.parse("c.l"))
MACHINES = VmZone(Name.parse("vm"))


def selected(**how: object) -> ServicesZone:
    return ServicesZone(Name.parse("s.e"), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zone", "taken"),
    [
        pytest.param(CLUSTER, [SHOP, WEB, POD], id="cluster"),
        pytest.param(PODLESS, [SHOP, WEB], id="cluster without pods"),
        pytest.param(MACHINES, [SHOP, MACHINE], id="machines"),
        pytest.param(selected(), [SHOP, WEB], id="all Services"),
        pytest.param(selected(namespaces=frozenset({"shop"})), [SHOP, WEB], id="of the namespace"),
        pytest.param(selected(namespaces=frozenset({"other"})), [], id="of another namespace"),
        pytest.param(selected(selector=Selector.parse("app=web")), [SHOP, WEB], id="by label"),
        pytest.param(selected(selector=Selector.parse("app=db")), [SHOP], id="by another label"),
        pytest.param(selected(namespace_selector=PROD), [SHOP, WEB], id="by its namespace"),
        pytest.param(selected(namespace_selector=LAB), [], id="by another namespace's label"),
    ],
)
def test_what_a_zone_takes(zone: Zone, taken: list[ApiObject]) -> None:
    assert [one for one in OBJECTS if publish(zone, one, *OBJECTS).records] == taken
    assert zone.publish(Unit("services", "shop", "gone"), store_of(*OBJECTS)).records == []
    assert zone.own().records[0].name == zone.name


def test_an_external_zone_takes_names_and_has_keys_of_its_own() -> None:
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
    for other in (CLUSTER, MACHINES, selected()):
        assert other.key(layout, name) == b"/skydns/t/d/a"
