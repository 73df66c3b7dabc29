"""In which zones a unit is published, and how.

Each zone is one value that turns a unit of the store into records, and records into entries; the
cluster zone, the machines' zone, the zones of selected Services and the external ones differ in
nothing else.  Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from kube2etcd.kube.objects import Namespace, Pod, Service, VirtualMachineInstance
from kube2etcd.kube.store import NAMES, Store, Unit
from kube2etcd.zones.cluster import (
    ClusterZone,
    namespace_records,
    pod_records,
    service_records,
    zone_records,
)
from kube2etcd.zones.external import ExternalZone, external_records, external_zone_records
from kube2etcd.zones.published import Published
from kube2etcd.zones.services import (
    SelectedZone,
    selected_namespace_records,
    selected_records,
    selected_zone_records,
)
from kube2etcd.zones.vmi import (
    MachineZone,
    machine_namespace_records,
    machine_records,
    machine_zone_records,
)
from skydns_compat.layout import Layout
from skydns_compat.names import Name
from skydns_compat.nested import nested_entries, own_name
from skydns_compat.records import Record


class Zone(ABC):
    """What the publisher asks of a zone."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> Name:
        """The zone's name."""

    @property
    @abstractmethod
    def above(self) -> int:
        """So many labels below the zone are names that stand above whole trees (`Layout.entries`)."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """So many labels below the zone are the names of objects."""

    @abstractmethod
    def itself(self) -> Published:
        """What the zone has without any object."""

    @abstractmethod
    def publish(self, unit: Unit, store: Store) -> Published:
        """What ``unit`` has in this zone; nothing when it is not for it, or is gone."""

    def follows_namespaces(self) -> bool:
        """Whether a namespace's labels decide about the Services in it."""
        return False

    def entries(self, layout: Layout, records: Iterable[Record]) -> dict[bytes, bytes]:
        """Key to value for records of one unit."""
        return layout.entries(records, self.name, self.above)

    def key(self, layout: Layout, name: Name) -> bytes:
        """The one key that a name has if it exists."""
        return layout.key(name)


@dataclass(frozen=True, slots=True)
class InCluster(Zone):
    """The cluster zone."""

    settings: ClusterZone
    above = 0
    depth = 3

    @property
    def name(self) -> Name:
        """As `Zone` says."""
        return self.settings.zone

    def itself(self) -> Published:
        """As `Zone` says."""
        return zone_records(self.settings)

    def publish(self, unit: Unit, store: Store) -> Published:
        """As `Zone` says."""
        match store.get(unit):
            case Service() as service:
                return service_records(service, store.slices(unit), self.settings)
            case Namespace() as namespace:
                return namespace_records(namespace, self.settings)
            case Pod() as pod if self.settings.pods == "verified":
                return pod_records(pod, self.settings)
        return Published()


@dataclass(frozen=True, slots=True)
class OfMachines(Zone):
    """The zone of KubeVirt's machines."""

    settings: MachineZone
    above = 1
    depth = 2

    @property
    def name(self) -> Name:
        """As `Zone` says."""
        return self.settings.zone

    def itself(self) -> Published:
        """As `Zone` says."""
        return machine_zone_records(self.settings)

    def publish(self, unit: Unit, store: Store) -> Published:
        """As `Zone` says."""
        match store.get(unit):
            case VirtualMachineInstance() as machine:
                return machine_records(machine, self.settings)
            case Namespace() as namespace:
                return machine_namespace_records(namespace, self.settings)
        return Published()


@dataclass(frozen=True, slots=True)
class OfSelected(Zone):
    """A zone of selected Services."""

    settings: SelectedZone

    @property
    def name(self) -> Name:
        """As `Zone` says."""
        return self.settings.zone

    @property
    def above(self) -> int:
        """As `Zone` says."""
        return self.settings.name.count(".")

    @property
    def depth(self) -> int:
        """As `Zone` says."""
        return self.above + 1

    def itself(self) -> Published:
        """As `Zone` says."""
        return selected_zone_records(self.settings)

    def publish(self, unit: Unit, store: Store) -> Published:
        """As `Zone` says."""
        match store.get(unit):
            case Service() as service:
                if self.unselected(service, store):
                    return Published()
                return selected_records(service, store.slices(unit), self.settings)
            case Namespace() if self._has(unit.name, store):
                return selected_namespace_records(unit.name, self.settings)
        return Published()

    def follows_namespaces(self) -> bool:
        """As `Zone` says."""
        return bool(self.settings.namespace_selector.requirements)

    def unselected(self, service: Service, store: Store) -> str:
        """Why a Service is not for this zone, or nothing where it is."""
        meta = service.metadata
        if unselected := self.unselected_namespace(meta.namespace, store):
            return unselected
        if not self.settings.selector.matches(meta.labels):
            return f"its labels are not those selected for {self.name}"
        return ""

    def unselected_namespace(self, namespace: str, store: Store) -> str:
        """Why a namespace is not for this zone, or nothing where it is."""
        return "" if self._has(namespace, store) else f"namespace {namespace} is not selected for {self.name}"

    def _has(self, namespace: str, store: Store) -> bool:
        if self.settings.namespaces and namespace not in self.settings.namespaces:
            return False
        if not self.settings.namespace_selector.requirements:
            return True
        one = store.get(Unit("namespaces", "", namespace))
        return one is not None and self.settings.namespace_selector.matches(one.metadata.labels)


@dataclass(frozen=True, slots=True)
class OfExternal(Zone):
    """A zone of names that somebody else thought of."""

    settings: ExternalZone
    above = 0
    depth = 0

    @property
    def name(self) -> Name:
        """As `Zone` says."""
        return self.settings.zone

    def itself(self) -> Published:
        """As `Zone` says."""
        return external_zone_records(self.settings)

    def publish(self, unit: Unit, store: Store) -> Published:
        """As `Zone` says."""
        if unit.kind != NAMES:
            return Published()
        return external_records(unit.name, store.endpoints, self.settings)

    def entries(self, layout: Layout, records: Iterable[Record]) -> dict[bytes, bytes]:
        """As `Zone` says."""
        return nested_entries(layout, records, self.name)

    def key(self, layout: Layout, name: Name) -> bytes:
        """As `Zone` says."""
        return layout.key(own_name(name))
