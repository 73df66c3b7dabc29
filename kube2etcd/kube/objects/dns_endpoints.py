"""ExternalDNS's DNSEndpoint, and the webhook's state in objects of that kind.

ExternalDNS's crd source publishes, and deletes, what ``spec.endpoints`` of any DNSEndpoint says.  The
webhook's state therefore leaves it empty, and packs its endpoints into an annotation.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from kube2etcd.external import Endpoint, InvalidEndpoint
from kube2etcd.kube.objects.model import BareMetadata, Metadata, Wire, read_bare_metadata

#: Annotation with the packed endpoints of one part of the webhook's state.
ENDPOINTS: Final = "kube2etcd/endpoints"
#: Annotation with the head of the webhook's state: domains, cluster address, refused names.
HEAD: Final = "kube2etcd/webhook"
#: Octets of the endpoints of one object; compressed they must fit into the 256 KiB of all annotations.
MAX_UNPACKED: Final = 16 * 1024 * 1024


class DnsEndpoint(Struct, frozen=True, gc=False):
    """Endpoints that one object, or the webhook, asks for."""

    metadata: Metadata
    endpoints: tuple[Endpoint, ...] = ()
    refused: Mapping[str, str] = {}
    """Names that the webhook refused, with the reason."""


def pack(endpoints: bytes) -> str:
    """The JSON of a list of endpoints as the text of an annotation; the same for the same octets."""
    return base64.b64encode(zlib.compress(endpoints, 6)).decode("ascii") if endpoints != b"[]" else ""


def unpack(text: str) -> list[Any]:
    """The decoded JSON that `pack` took.

    :raises InvalidEndpoint: it is anything else, or larger than `MAX_UNPACKED`.
    """
    if not text:
        return []
    try:
        inflating = zlib.decompressobj()
        data = inflating.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED)
        found = msgspec.json.decode(data) if inflating.eof else None
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise InvalidEndpoint(f"the annotation {ENDPOINTS} is damaged")
    return found


class _DnsEndpointSpec(Wire):
    # Not typed: the reader of endpoints keeps fields that this version does not know.
    endpoints: list[Any] | None = None


class _Annotations(Wire):
    endpoints: str | None = field(default=None, name=ENDPOINTS)
    head: str | None = field(default=None, name=HEAD)


class _Metadata(BareMetadata):
    annotations: _Annotations | None = None


class WireDnsEndpoint(Wire):
    """A DNSEndpoint's JSON."""

    metadata: _Metadata
    spec: _DnsEndpointSpec | None = None


def read_dns_endpoint(wire: WireDnsEndpoint) -> DnsEndpoint:
    """The flat object.

    :raises Nameless: it has no name.
    :raises InvalidEndpoint: an endpoint does not have the shape of one.
    """
    noted = wire.metadata.annotations or _Annotations()
    endpoints = [*((wire.spec and wire.spec.endpoints) or ()), *unpack(noted.endpoints or "")]
    return DnsEndpoint(
        read_bare_metadata(wire.metadata),
        tuple([Endpoint.from_json(one) for one in endpoints if one is not None]),
        _refused(noted.head or ""),
    )


def _refused(head: str) -> Mapping[str, str]:
    """The refused names in the head of a state; a damaged head is for the webhook to report."""
    try:
        return msgspec.json.decode(head, type=_Head).refused if head else {}
    except (msgspec.MsgspecError, RecursionError):
        return {}


class _Head(Struct):
    refused: dict[str, str] = {}
