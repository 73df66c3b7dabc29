"""API objects in a few words, stores and publishers of them."""

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


def piece(of: str, *addresses: str, name: str = "s", age: str = "", **fields: object) -> EndpointSlice:
    """A slice with one endpoint that has these addresses."""
    endpoint = SliceEndpoint(addresses, **fields)  # type: ignore[arg-type]
    return EndpointSlice(Metadata("shop", name, age), of, "IPv4", (), (endpoint,) if addresses else ())


def machine(name: str, *interfaces: tuple[str, str], age: str = "") -> VirtualMachineInstance:
    nics = tuple(Interface(label, (address,)) for label, address in interfaces)
    return VirtualMachineInstance(Metadata("shop", name, creation_timestamp=age), nics)


def said(name: str, *endpoints: tuple[str, str]) -> DnsEndpoint:
    """Names with an address, or an alias to another name."""
    found = (ExternalEndpoint(owner, (to,), "A" if to[0].isdigit() else "CNAME") for owner, to in endpoints)
    return DnsEndpoint(Metadata("shop", name), tuple(found))


def changed(one: ApiObject, how: str = "MODIFIED") -> Changed:
    return Changed(KIND_OF[type(one)], Event(how, one, one.metadata.namespace, one.metadata.name))


def gone(name: str, namespace: str = "shop", kind: str = "services") -> Changed:
    return Changed(kind, Event("DELETED", None, namespace, name))


def spoilt(name: str, why: str = "odd", kind: str = "services", how: str = "MODIFIED") -> Changed:
    """An object of which a version came that cannot be read."""
    return Changed(kind, Event(how, None, "shop", name, rejected=Rejected(kind, "shop", name, why)))


def stored(*objects: ApiObject) -> Store:
    store = Store()
    for kind, name in KIND_OF.items():
        store.replace(name, [one for one in objects if type(one) is kind])
    return store


def published(
    *objects: ApiObject, zones: Sequence[Zone] = (), cluster: ClusterZone | None = ZONE
) -> Publisher:
    publisher = Publisher(stored(*objects), Layout(), cluster, zones)
    publisher.refresh(publisher.units())
    return publisher


def flat(former: FormerGroups) -> Former:
    """The keys of all groups."""
    return {key: before for keys in former.values() for key, before in keys.items()}


def take(publisher: Publisher, *events: Changed) -> Mapping[bytes, bytes | None]:
    """Have these happen; the keys whose value changed with the last of them, and what they had."""
    found: Mapping[bytes, bytes | None] = {}
    for one in events:
        touched = publisher.store.apply(one.kind, one.event)
        found = flat(publisher.refresh(publisher.with_affected_services(touched)))
    return found


def host(publisher: Publisher, key: bytes) -> str:
    return decode(publisher.desired[key]).host


def external(*names: str) -> ExternalZone:
    domains = tuple(map(Domain.parse, names))
    return ExternalZone(domains[0].name, domains)


def left(told: Iterable[tuple[str, Event]]) -> tuple[Store, set[Unit]]:
    """A store that lists what these events leave, and the units that this touched."""
    store, touched = Store(), set[Unit]()
    final: dict[str, dict[tuple[str, str], ApiObject]] = {kind: {} for kind in (*KINDS, "webhook")}
    refused: dict[str, dict[tuple[str, str], Rejected]] = {kind: {} for kind in final}
    for kind, event in told:
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
