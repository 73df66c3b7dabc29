"""ExternalDNS's DNSEndpoint as records need it, and how its JSON becomes one."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from kube2etcd.external import Endpoint
from kube2etcd.kube.objects.common import BareMetadata, Metadata, Wire, read_bare_metadata


class DnsEndpoint(Struct, frozen=True, gc=False):
    """Names that somebody else thought of, with what they lead to."""

    metadata: Metadata
    endpoints: tuple[Endpoint, ...] = ()


class _DnsEndpointSpec(Wire):
    # As it comes: the reader of endpoints keeps fields that nobody knows yet.
    endpoints: list[Any] | None = None


class WireDnsEndpoint(Wire):
    """A DNSEndpoint's JSON."""

    metadata: BareMetadata
    spec: _DnsEndpointSpec | None = None


def read_dns_endpoint(wire: WireDnsEndpoint) -> DnsEndpoint:
    """The flat one.

    :raises Nameless: it has no name.
    :raises InvalidEndpoint: an endpoint has not the shape of one.
    """
    endpoints = (wire.spec and wire.spec.endpoints) or ()
    return DnsEndpoint(
        read_bare_metadata(wire.metadata),
        tuple([Endpoint.from_json(one) for one in endpoints if one is not None]),
    )
