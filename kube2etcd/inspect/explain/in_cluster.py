"""Reasons within the cluster's own zone: its namespaces, Services and pods.

Knows what is published and the objects behind it; must never know other zones, nor change anything.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from kube2etcd.inspect.listing import Row
from kube2etcd.kube.objects import Namespace, Service
from kube2etcd.kube.store import Unit
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Published
from kube2etcd.zones.cluster import ClusterZone
from skydns_compat.names import Name
from skydns_compat.reader import Answer


def published_in(publisher: Publisher, unit: Unit, zone: Name) -> Published:
    """What a unit has in one zone."""
    found = (one for where, one in publisher.by_zone(unit) if where.name == zone)
    return next(found, Published())


def other_types(rows: list[Row]) -> str:
    """Of a name that exists: the types it has, where none of them was asked for."""
    types = sorted({row.record.rtype for row in rows} - {"NODATA"})
    units = ", ".join(dict.fromkeys(str(row.unit) for row in rows))
    return f"the name exists ({units})" + (
        f" and has {', '.join(types)} only" if types else " without any data"
    )


class WhyInCluster:
    """Reasons over what ``publisher`` wants in the cluster's zone; ``labels`` are those below it."""

    def __init__(self, publisher: Publisher, zone: ClusterZone) -> None:
        self._publisher, self._zone = publisher, zone

    def reasons(
        self, labels: tuple[str, ...], rows: list[Row], shown: list[Row], answer: Answer
    ) -> Iterator[str]:
        """Why ``answer`` is what it is; ``rows`` stand at the name, ``shown`` of them are answered."""
        if labels[-1:] == ("svc",):
            yield from self._about_service(labels, rows, answer)
        elif labels[-1:] == ("pod",):
            yield from self._about_pod(self._zone.pods, labels, shown, answer)
        elif not rows:
            yield f"{self._zone.name} has svc, pod, dns and dns-version below it, and nothing else"
        elif not shown:
            yield other_types(rows)

    def _about_service(self, labels: tuple[str, ...], rows: list[Row], answer: Answer) -> Iterator[str]:
        store = self._publisher.store
        if len(labels) == 1:
            yield "the name above all namespaces exists without data"
            return
        namespace = labels[-2]
        if store.get(Unit("namespaces", "", namespace)) is None:
            yield f"there is no Namespace {namespace}" + self._close_namespace(namespace)
        if len(labels) == 2:
            if rows:
                yield f"the Namespace {namespace} exists, and has no data of its own"
            return
        unit = Unit("services", namespace, labels[-3])
        refused = store.rejected(unit)
        service = store.get(unit)
        if refused is not None:
            yield f"the Service {namespace}/{labels[-3]} cannot be read: {refused.reason}"
        elif service is None:
            yield f"there is no Service {namespace}/{labels[-3]}" + self._close_service(namespace, labels[-3])
        else:
            published = published_in(self._publisher, unit, self._zone.name)
            if not answer.answers:
                yield from self._about_nothing(labels, rows, published, service)
            yield from (f"{unit}: {reason}" for reason in published.left_out)
            yield from self._about_slices(unit)

    def _about_slices(self, service: Unit) -> Iterator[str]:
        """Slices that cannot be read do not say whose they are, but their names are made of the Service's."""
        for one in self._publisher.store.rejects():
            of_it = one.namespace == service.namespace and one.name.startswith(f"{service.name}-")
            if one.kind == "endpointslices" and of_it:
                who = f"{one.kind}/{one.namespace}/{one.name}"
                yield f"{who}, by its name one of its, cannot be read: {one.reason}"

    def _about_nothing(
        self,
        labels: tuple[str, ...],
        rows: list[Row],
        published: Published,
        service: object,
    ) -> Iterator[str]:
        described = f"the Service {labels[-2]}/{labels[-3]}"
        if rows:
            yield other_types(rows)
        elif len(labels) == 3:
            yield f"{described} is there, but has no record"
        elif labels[0].startswith("_"):
            ports = [port.name for port in service.ports if port.name] if isinstance(service, Service) else []
            yield f"{described} has no such port; its named ports are: {', '.join(ports) or 'none'}"
        else:
            below = sorted(
                {
                    record.name.labels[0]
                    for record in published.records
                    if len(record.name.labels) == len(self._zone.name.labels) + 4
                    and not record.name.labels[0].startswith("_")
                }
            )
            shown = ", ".join(below[:10]) or "none"
            yield f"{described} has no endpoint of the name {labels[0]}; it has: {shown}"

    def _about_pod(
        self, mode: str, labels: tuple[str, ...], shown: list[Row], answer: Answer
    ) -> Iterator[str]:
        if mode == "disabled":
            yield "names of pods are switched off (--pods disabled)"
        elif mode == "insecure" and len(labels) == 3:
            if answer.answers:
                yield "computed from the name, whether there is such a pod or not (--pods insecure)"
            else:
                yield "the first label is no address of this type (--pods insecure)"
        elif len(labels) == 2 and self._publisher.store.get(Unit("namespaces", "", labels[0])) is None:
            yield f"there is no Namespace {labels[0]}" + self._close_namespace(labels[0])
        elif not shown and len(labels) == 3:
            yield f"no running pod in the Namespace {labels[1]} has this address (--pods verified)"
        elif not shown:
            yield "a pod's name has an address, a namespace and pod in front of the zone"

    def _close_namespace(self, namespace: str) -> str:
        near = [
            unit.name
            for unit in self._publisher.units()
            if isinstance(self._publisher.store.get(unit), Namespace) and _alike(unit.name, namespace)
        ]
        return f"; there is {', '.join(near[:3])}" if near else ""

    def _close_service(self, namespace: str, name: str) -> str:
        near = [
            f"{unit.namespace}/{unit.name}"
            for unit in self._publisher.units()
            if unit.kind == "services"
            and (unit.name == name or (unit.namespace == namespace and _alike(unit.name, name)))
        ]
        return f"; there is {', '.join(near[:3])}" if near else ""


def _alike(one: str, other: str) -> bool:
    return one != other and (one.startswith(other) or other.startswith(one) or sorted(one) == sorted(other))
