"""Short constructors of API objects, events, stores and publishers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kube2etcd.external import Domain
from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import (
    KINDS,
    ApiObject,
    Changed,
    DnsEndpoint,
    EndpointSlice,
    Event,
    Interface,
    Metadata,
    Rejected,
    Service,
    SliceEndpoint,
    VirtualMachineInstance,
)
from kube2etcd.kube.store import Store, Unit
from kube2etcd.sync.claims import Former, FormerGroups
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.base import Zone
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from skydns_compat.layout import Layout
from skydns_compat.message import decode
from skydns_compat.names import Name

ZONE = ClusterZone(Name.parse("cluster.local"), pods="verified")
PTR = b"/skydns/arpa/in-addr/10/0/0/1"

KIND_OF = {kind.type: name for name, kind in KINDS.items()}


def service(name: str, ip: str = "10.0.0.1", *, age: str = "", namespace: str = "shop") -> Service:
    return Service(Metadata(namespace, name, creation_timestamp=age), cluster_ip=ip)


def endpoint_slice(
    of: str, *addresses: str, name: str = "s", age: str = "", **fields: object
) -> EndpointSlice:
    """A slice of the Service ``of``, with one endpoint at these addresses, or none."""
    endpoint = SliceEndpoint(addresses, **fields)  # type: ignore[arg-type]
    return EndpointSlice(Metadata("shop", name, age), of, "IPv4", (), (endpoint,) if addresses else ())


def vmi(name: str, *interfaces: tuple[str, str], age: str = "") -> VirtualMachineInstance:
    nics = tuple(Interface(label, (address,)) for label, address in interfaces)
    return VirtualMachineInstance(Metadata("shop", name, creation_timestamp=age), nics)


def dns_endpoint(name: str, *endpoints: tuple[str, str]) -> DnsEndpoint:
    """``endpoints``: pairs of a name and its address, or the target of its CNAME."""
    found = (ExternalEndpoint(owner, (to,), "A" if to[0].isdigit() else "CNAME") for owner, to in endpoints)
    return DnsEndpoint(Metadata("shop", name), tuple(found))


def changed(one: ApiObject, event_type: str = "MODIFIED") -> Changed:
    return Changed(KIND_OF[type(one)], Event(event_type, one, one.metadata.namespace, one.metadata.name))


def deleted(name: str, namespace: str = "shop", kind: str = "services") -> Changed:
    return Changed(kind, Event("DELETED", None, namespace, name))


def rejected(
    name: str, reason: str = "unreadable", kind: str = "services", event_type: str = "MODIFIED"
) -> Changed:
    """An event whose object is invalid."""
    return Changed(kind, Event(event_type, None, "shop", name, rejected=Rejected(kind, "shop", name, reason)))


def store_of(*objects: ApiObject) -> Store:
    store = Store()
    for kind, name in KIND_OF.items():
        store.replace(name, [one for one in objects if type(one) is kind])
    return store


def publisher_of(
    *objects: ApiObject, zones: Sequence[Zone] = (), cluster: ClusterZone | None = ZONE
) -> Publisher:
    publisher = Publisher(store_of(*objects), Layout(), cluster, zones)
    publisher.refresh(publisher.units())
    return publisher


def flat(former: FormerGroups) -> Former:
    """The keys of all groups, in one mapping."""
    return {key: before for keys in former.values() for key, before in keys.items()}


def apply(publisher: Publisher, *events: Changed) -> Mapping[bytes, bytes | None]:
    """Apply the events; returns the keys whose value the last one changed, with the former value."""
    former: Mapping[bytes, bytes | None] = {}
    for one in events:
        touched = publisher.store.apply(one.kind, one.event)
        former = flat(publisher.refresh(publisher.with_affected_services(touched)))
    return former


def host(publisher: Publisher, key: bytes) -> str:
    return decode(publisher.desired[key]).host


def external_zone(*names: str) -> ExternalZone:
    domains = tuple(map(Domain.parse, names))
    return ExternalZone(domains[0].name, domains)


def store_after(events: Iterable[tuple[str, Event]]) -> tuple[Store, set[Unit]]:
    """A store that lists the objects which exist after the events, and the units touched by that."""
    store, touched = Store(), set[Unit]()
    final: dict[str, dict[tuple[str, str], ApiObject]] = {kind: {} for kind in (*KINDS, "webhook")}
    refused: dict[str, dict[tuple[str, str], Rejected]] = {kind: {} for kind in final}
    for kind, event in events:
        if event.type == "BOOKMARK":
            continue
        identity = (event.namespace, event.name)
        final[kind].pop(identity, None)
        refused[kind].pop(identity, None)
        if event.rejected is not None and event.type != "DELETED":
            refused[kind][identity] = event.rejected
        elif event.object is not None and event.type != "DELETED":
            final[kind][identity] = event.object
    for kind in reversed(final):
        touched |= store.replace(kind, final[kind].values(), refused[kind].values())
    return store, touched
