"""The provider's word on what ExternalDNS wants, before it compares: pure, and changes nothing here.

ExternalDNS compares our answer with what `GET /records` says.  Names so come back as we keep them, and
a CNAME to itself, which nobody could resolve, becomes what it means: the address of the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from kube2etcd.external import Domain, Endpoint, managed, plain_name
from skydns_compat.names import Address, InvalidAddress, parse_address


class InvalidClusterAddress(ValueError):
    """The text is no cluster address; the message says what to write."""


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """At most one address of each family, the first one first; false when there is none."""

    addresses: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses)

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))

    @classmethod
    def parse(cls, text: str) -> ClusterAddress:
        """One IPv4 and/or one IPv6 address with a comma between; `InvalidClusterAddress` else."""
        parts = [part for part in re.split(r"[\s,]+", text) if part]
        try:
            found = tuple(parse_address(part) for part in parts)
        except InvalidAddress as error:
            raise InvalidClusterAddress(
                f"{error}: write one IPv4 and/or one IPv6 address, such as 192.168.122.167"
            ) from None
        if not found:
            raise InvalidClusterAddress("no address: write one such as 192.168.122.167")
        if len({address.version for address in found}) < len(found):
            raise InvalidClusterAddress(f"{text!r} has two addresses of one family: write one of each")
        return cls(found)


#: No cluster address.
NOWHERE: Final = ClusterAddress()


def points_to_itself(endpoint: Endpoint) -> bool:
    """Whether it is a CNAME whose every target is its own name."""
    return (
        endpoint.record_type == "CNAME"
        and bool(endpoint.targets)
        and all(plain_name(target) == endpoint.name for target in endpoint.targets)
    )


def adjust(
    endpoints: Iterable[Endpoint], domains: Iterable[Domain], cluster: ClusterAddress
) -> Iterator[Endpoint]:
    """The endpoints as we would keep them, in order; those outside of ``domains`` as they came."""
    known = tuple(domains)
    for endpoint in endpoints:
        if not managed(known, endpoint.dns_name):
            yield endpoint
        elif cluster and points_to_itself(endpoint):
            yield from at_cluster(endpoint, cluster)
        else:
            yield msgspec.structs.replace(endpoint, dns_name=endpoint.name)


def at_cluster(endpoint: Endpoint, cluster: ClusterAddress) -> Iterator[Endpoint]:
    """The endpoint with the cluster's address in the place of its target."""
    for address in cluster.addresses:
        yield msgspec.structs.replace(
            endpoint,
            dns_name=endpoint.name,
            targets=(str(address),),
            record_type="A" if address.version == 4 else "AAAA",
        )
