"""Pods, and the namespaces they live in, as records need them, and how their JSON becomes them."""

from __future__ import annotations

from msgspec import Struct, field

from kube2etcd.kube.objects.common import (
    BareMetadata,
    Metadata,
    Wire,
    WireMetadata,
    read_bare_metadata,
    read_metadata,
)


class Namespace(Struct, frozen=True, gc=False):
    """A namespace; ``metadata.namespace`` is empty."""

    metadata: Metadata


class Pod(Struct, frozen=True, gc=False):
    """A pod as far as its address goes."""

    metadata: Metadata
    pod_ip: str = ""
    pod_ips: tuple[str, ...] = ()
    phase: str = ""


class WireNamespace(Wire):
    """A Namespace's JSON."""

    metadata: WireMetadata


class _PodIP(Wire):
    ip: str | None = None


class _PodStatus(Wire):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: tuple[_PodIP, ...] | None = field(default=None, name="podIPs")


class WirePod(Wire):
    """A Pod's JSON."""

    metadata: BareMetadata
    status: _PodStatus | None = None


def read_namespace(wire: WireNamespace) -> Namespace:
    """The flat one.

    :raises Nameless: it has no name.
    """
    return Namespace(read_metadata(wire.metadata))


def read_pod(wire: WirePod) -> Pod:
    """The flat one.

    :raises Nameless: it has no name.
    """
    status = wire.status or _PodStatus()
    return Pod(
        read_bare_metadata(wire.metadata),
        status.pod_ip or "",
        tuple([ip.ip for ip in status.pod_ips if ip.ip]) if status.pod_ips else (),
        status.phase or "",
    )
