"""What a zone publishes of a few objects."""

from __future__ import annotations

from kube2etcd.kube.objects import KINDS, ApiObject
from kube2etcd.kube.store import Store, Unit
from kube2etcd.zones.base import Published, Zone

_KINDS = {kind.type: name for name, kind in KINDS.items()}


def stored(*objects: ApiObject) -> Store:
    store = Store()
    for kind, name in _KINDS.items():
        store.replace(name, [one for one in objects if type(one) is kind])
    return store


def publish(zone: Zone, one: ApiObject, *others: ApiObject) -> Published:
    """The records of ``one`` where it and ``others`` are all there is."""
    unit = Unit(_KINDS[type(one)], one.metadata.namespace, one.metadata.name)
    return zone.publish(unit, stored(one, *others))


def lines(published: Published) -> list[str]:
    return [str(record) for record in published.records]
