"""What a zone publishes of a few objects."""

from __future__ import annotations

from kube2etcd.kube.objects import ApiObject, Metadata, Service
from kube2etcd.kube.store import Unit
from kube2etcd.zones.base import Published, Zone
from tests.objects import KIND_OF, stored


def service(name: str = "web", namespace: str = "shop", **fields: object) -> Service:
    return Service(Metadata(namespace, name), **fields)  # type: ignore[arg-type]


def publish(zone: Zone, one: ApiObject, *others: ApiObject) -> Published:
    """The records of ``one`` where it and ``others`` are all there is."""
    unit = Unit(KIND_OF[type(one)], one.metadata.namespace, one.metadata.name)
    return zone.publish(unit, stored(one, *others))


def lines(published: Published) -> list[str]:
    return [str(record) for record in published.records]
