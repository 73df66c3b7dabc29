"""Publishers of a few objects, for the tests of what they desire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kube2etcd.external import Domain
from kube2etcd.external import Endpoint as ExternalEndpoint
from kube2etcd.kube.objects import ApiObject, DnsEndpoint, Metadata, Service
from kube2etcd.kube.store import Store
from kube2etcd.sync.claims import Groups
from kube2etcd.sync.publisher import Publisher
from kube2etcd.zones.cluster import ClusterZone
from kube2etcd.zones.external import ExternalZone
from skydns_compat.layout import Layout
from skydns_compat.message import decode
from skydns_compat.names import Name

ZONE = ClusterZone(Name.parse("cluster.local"), pods="verified")
PTR = b"/skydns/arpa/in-addr/10/0/0/1"


class GroupsBy(Groups):
    """Groups that a function of the key decides, whatever the zones."""

    def __init__(self, of: Callable[[bytes], bytes]) -> None:
        super().__init__(Layout())
        self._of = of

    def of(self, key: bytes) -> bytes:
        return self._of(key)

    def each(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        return ((self._of(key), key) for key in keys)


def service(name: str, *, age: str = "", ip: str = "10.0.0.1", namespace: str = "shop") -> Service:
    return Service(Metadata(namespace, name, creation_timestamp=age), cluster_ip=ip)


def filled(**kinds: Iterable[ApiObject]) -> Publisher:
    store = Store()
    for kind, objects in kinds.items():
        store.replace(kind, objects)
    publisher = Publisher(store, Layout(), ZONE)
    publisher.refresh(publisher.units())
    return publisher


def host(publisher: Publisher, key: bytes) -> str:
    return decode(publisher.desired[key]).host


def external(*names: str) -> ExternalZone:
    domains = tuple(map(Domain.parse, names))
    return ExternalZone(domains[0].name, domains)


def said(name: str, *endpoints: tuple[str, str]) -> DnsEndpoint:
    return DnsEndpoint(
        Metadata("shop", name),
        tuple(ExternalEndpoint(owner, (to,), "A" if to[0].isdigit() else "CNAME") for owner, to in endpoints),
    )
