"""Helpers: what a zone publishes for a few objects."""

from __future__ import annotations

from collections.abc import Iterable

from kube2etcd.kube.objects import ApiObject, Metadata, Service
from kube2etcd.kube.store import Unit
from kube2etcd.zones.base import Published, Zone
from skydns_compat.records import Record
from tests.objects import KIND_OF, store_of


def service(name: str = "web", namespace: str = "shop", **fields: object) -> Service:
    return Service(Metadata(namespace, name), **fields)  # type: ignore[arg-type]


def publish(zone: Zone, one: ApiObject, *others: ApiObject) -> Published:
    """What ``zone`` publishes for ``one``, in a cluster of it and ``others``."""
    unit = Unit(KIND_OF[type(one)], one.metadata.namespace, one.metadata.name)
    return zone.publish(unit, store_of(one, *others))


def text(records: Iterable[Record], *suffixes: str) -> str:
    """The records in one line, without these suffixes, class IN and a TTL of 5 s."""
    found = ", ".join(str(record) for record in records).replace(" 5 IN ", " ").replace(" IN ", " ")
    for suffix in suffixes:
        found = found.replace(suffix, "")
    return found
