"""An EndpointSlice as records need it, and how its JSON becomes one."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from kube2etcd.kube.objects.common import Identity, Metadata, PortNumber, Wire, read_bare_metadata

SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
"""Label by which an EndpointSlice names its Service."""


class EndpointPort(Struct, frozen=True, gc=False):
    """A port of an EndpointSlice; ``None`` means every port."""

    name: str
    protocol: str
    port: int | None


class Endpoint(Struct, frozen=True, gc=False):
    """One backend; readiness that nobody reported is ``None``."""

    addresses: tuple[str, ...]
    ready: bool | None = None
    hostname: str = ""


class EndpointSlice(Struct, frozen=True, gc=False):
    """A part of a Service's endpoints, of one address family."""

    metadata: Metadata
    service_name: str = ""
    address_type: str = ""
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class _SliceLabels(Wire):
    service_name: str | None = field(default=None, name=SERVICE_NAME_LABEL)


class _SliceMetadata(Identity):
    labels: _SliceLabels | None = None


class _Conditions(Wire):
    ready: bool | None = None


class _Endpoint(Wire):
    addresses: tuple[str, ...] | None = None
    conditions: _Conditions | None = None
    hostname: str | None = None


class _EndpointPort(Wire):
    name: str | None = None
    protocol: str | None = None
    port: PortNumber | None = None


class WireEndpointSlice(Wire):
    """An EndpointSlice's JSON."""

    metadata: _SliceMetadata
    address_type: str | None = None
    ports: tuple[_EndpointPort, ...] | None = None
    endpoints: tuple[_Endpoint, ...] | None = None


def _endpoint(wire: _Endpoint) -> Endpoint:
    ready = wire.conditions.ready if wire.conditions is not None else None
    return Endpoint(wire.addresses or (), ready, wire.hostname or "")


def read_endpoint_slice(wire: WireEndpointSlice) -> EndpointSlice:
    """The flat one.

    :raises Nameless: it has no name.
    """
    labels = wire.metadata.labels
    return EndpointSlice(
        read_bare_metadata(wire.metadata),
        (labels.service_name or "") if labels is not None else "",
        wire.address_type or "",
        tuple([EndpointPort(p.name or "", p.protocol or "TCP", p.port) for p in wire.ports])
        if wire.ports
        else (),
        tuple([_endpoint(e) for e in wire.endpoints]) if wire.endpoints else (),
    )
