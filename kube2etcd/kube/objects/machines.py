"""A KubeVirt machine as records need it, and how its JSON becomes one."""

from __future__ import annotations

from msgspec import Struct

from kube2etcd.kube.objects.common import BareMetadata, Metadata, Wire, read_bare_metadata


class Interface(Struct, frozen=True, gc=False):
    """A network interface as the VMI's status tells it; nameless when only the guest knows it."""

    name: str = ""
    ip_address: str = ""
    ip_addresses: tuple[str, ...] = ()


class VirtualMachineInstance(Struct, frozen=True, gc=False):
    """A running KubeVirt machine."""

    metadata: Metadata
    interfaces: tuple[Interface, ...] = ()
    primary_network: str = ""
    """First network of the spec with ``pod`` set or ``multus.default``; empty when there is none."""


class _Present(Wire):
    """Anything that is an object; its content does not matter."""


class _Multus(Wire):
    default: bool | None = None


class _Network(Wire):
    name: str | None = None
    pod: _Present | None = None
    multus: _Multus | None = None


class _VmiSpec(Wire):
    networks: tuple[_Network, ...] | None = None


class _Interface(Wire):
    name: str | None = None
    ip_address: str | None = None
    ip_addresses: tuple[str, ...] | None = None


class _VmiStatus(Wire):
    interfaces: tuple[_Interface, ...] | None = None


class WireVmi(Wire):
    """A VirtualMachineInstance's JSON."""

    metadata: BareMetadata
    spec: _VmiSpec | None = None
    status: _VmiStatus | None = None


def _is_primary(network: _Network) -> bool:
    return network.pod is not None or bool(network.multus and network.multus.default)


def read_vmi(wire: WireVmi) -> VirtualMachineInstance:
    """The flat one.

    :raises Nameless: it has no name.
    """
    networks = (wire.spec and wire.spec.networks) or ()
    interfaces = (wire.status and wire.status.interfaces) or ()
    return VirtualMachineInstance(
        read_bare_metadata(wire.metadata),
        tuple([Interface(i.name or "", i.ip_address or "", i.ip_addresses or ()) for i in interfaces]),
        next((n.name or "" for n in networks if _is_primary(n)), ""),
    )
