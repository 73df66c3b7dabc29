"""A Service as records need it, and how its JSON becomes one."""

from __future__ import annotations

from msgspec import Struct, field

from kube2etcd.kube.objects.common import Metadata, PortNumber, Wire, WireMetadata, read_metadata


class Port(Struct, frozen=True, gc=False):
    """A port of a Service."""

    name: str
    protocol: str
    port: int


class Ingress(Struct, frozen=True, gc=False):
    """An address that a load balancer gave to a Service; one of both is usually empty."""

    ip: str = ""
    hostname: str = ""


class Service(Struct, frozen=True, gc=False):
    """A Service; ``cluster_ip`` is ``"None"`` when headless and empty for ExternalName."""

    metadata: Metadata
    type: str = "ClusterIP"
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    load_balancer: tuple[Ingress, ...] = ()


class _Port(Wire):
    port: PortNumber
    name: str | None = None
    protocol: str | None = None


class _Ingress(Wire):
    ip: str | None = None
    hostname: str | None = None


class _ServiceSpec(Wire):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = field(default=None, name="clusterIPs")
    external_name: str | None = None
    external_ips: tuple[str, ...] | None = field(default=None, name="externalIPs")
    ports: tuple[_Port, ...] | None = None


class _LoadBalancer(Wire):
    ingress: tuple[_Ingress, ...] | None = None


class _ServiceStatus(Wire):
    load_balancer: _LoadBalancer | None = None


class WireService(Wire):
    """A Service's JSON."""

    metadata: WireMetadata
    spec: _ServiceSpec | None = None
    status: _ServiceStatus | None = None


def read_service(wire: WireService) -> Service:
    """The flat one.

    :raises Nameless: it has no name.
    """
    spec = wire.spec or _ServiceSpec()
    ingress = wire.status and wire.status.load_balancer and wire.status.load_balancer.ingress
    return Service(
        read_metadata(wire.metadata),
        spec.type or "ClusterIP",
        spec.cluster_ip or "",
        spec.cluster_ips or (),
        spec.external_name or "",
        spec.external_ips or (),
        tuple([Port(p.name or "", p.protocol or "TCP", p.port) for p in spec.ports]) if spec.ports else (),
        tuple([Ingress(i.ip or "", i.hostname or "") for i in ingress]) if ingress else (),
    )
