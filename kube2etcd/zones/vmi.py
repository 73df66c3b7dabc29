"""The vm zone: secondary interfaces of KubeVirt machines to records.

Interface names come from the machine's owner and addresses from its guest; neither is trusted.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from kube2etcd.kube.objects import Interface, Namespace, VirtualMachineInstance
from kube2etcd.kube.store import Store, Unit
from kube2etcd.zones.base import Expected, Published, Zone
from skydns_compat.layout import RESERVED
from skydns_compat.names import (
    Address,
    InvalidAddress,
    InvalidName,
    Name,
    parse_address,
    reverse_name,
    version,
)
from skydns_compat.records import Data, Exists, Host, Pointer, Record

Network = IPv4Network | IPv6Network

_LINK_LOCAL = "link-local"
_BROADCAST = ip_address("255.255.255.255")
#: Beginnings of addresses that may be refused; only those are parsed.
_SPECIAL = re.compile(r"0\.|127\.|169\.|2[2-5][0-9]\.|:|f")


@dataclass(frozen=True, slots=True)
class VmZone(Zone):
    """The zone of machines; ``ttl`` in seconds, short because guests' addresses flap.

    ``allowed`` are the networks that may be published; None allows all.  ``allowed_in`` replaces
    ``allowed`` in single namespaces.  ``reverse`` are the networks whose addresses get PTR records.
    """

    name: Name
    ttl: int = 30
    name_server: Address | None = None
    allowed: tuple[Network, ...] | None = None
    allowed_in: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    reverse: tuple[Network, ...] = ()
    kinds = frozenset({"virtualmachineinstances", "namespaces"})
    empty_levels = 1
    depth = 2

    def own(self) -> Published:
        """The apex, without data, and the name server.

        ``ns.<zone>`` is the name to which parent zones delegate; CoreDNS looks for the NS record at
        ``ns.dns.<zone>``.
        """
        server, looked_up = self.name_server, self.name.child("ns", "dns")
        servers: dict[Name, Data] = {looked_up: Exists(guarded=True)}
        if server is not None:
            servers = dict.fromkeys((looked_up, self.name.child("ns")), Host(server))
        return Published(
            [Record(name, data, self.ttl) for name, data in {self.name: Exists(), **servers}.items()]
        )

    def publish(self, unit: Unit, store: Store) -> Published:
        """The records of a machine or a Namespace."""
        match store.get(unit):
            case VirtualMachineInstance() as machine:
                return machine_records(machine, self)
            # With a name server, ns.<zone> is its name.
            case Namespace() if unit.name != "ns" or self.name_server is None:
                try:
                    return Published([Record(self.name.child(unit.name), Exists(), self.ttl)])
                except InvalidName as error:
                    return Published(left_out=[f"the namespace has no name in DNS: {error}"])
        return Published()

    def can_follow(self, name: Name) -> bool:
        """Machines and their interfaces; nothing above them."""
        return len(name.relative(self.name)) >= self.depth


def machine_records(machine: VirtualMachineInstance, zone: VmZone) -> Published:
    """``<interface>.<machine>.<namespace>.<zone>``, and the machine's own name for its first interface.

    Each named secondary interface gets its first usable address of each family.  Interface ``my`` of machine
    ``vm`` and machine ``my.vm`` in one namespace share a name, which has the addresses of both, as with
    KubeSecondaryDNS: no owner is refused because of another's name.
    """
    published = Published()
    meta = machine.metadata
    labels = meta.name.split(".")
    try:
        name = zone.name.child(*labels, meta.namespace)
    except InvalidName as error:
        published.left_out.append(f"the machine has no name in DNS: {error}")
        return published
    found: dict[str, tuple[Name, list[Address]]] = {}
    top = len(zone.name.labels)
    for interface in machine.interfaces:
        addresses = _usable(interface, zone, meta.namespace, published)
        try:
            owner = name.child(interface.name)
        except InvalidName as error:
            published.left_out.append(f"interface left out: {error}")
            continue
        label = owner.labels[0]
        if label[0] == "_" or owner.labels[-top - 2 : -top] in RESERVED:
            published.left_out.append(f"interface {interface.name!r} cannot be named {owner}")
        elif addresses and found.setdefault(label, (owner, addresses))[1] is not addresses:
            published.left_out.append("two interfaces have one name")
    if not found:
        return published
    # Names between a dotted machine name and its namespace exist without data.
    records, ttl = published.records, zone.ttl
    for cut in range(1, len(labels)):
        published.non_terminals.append(Record(Name(name.labels[cut:]), Exists(guarded=True), ttl))
    named = [found[label] for label in sorted(found)]
    for owner, addresses in [(name, named[0][1]), *named]:
        for address in addresses:
            records.append(Record(owner, Host(address), ttl))
    if zone.reverse:
        published.pointers += [
            Record(reverse_name(address), Pointer(owner), zone.ttl)
            for address, owner in {one: owner for owner, own in reversed(named) for one in own}.items()
            if any(ip_address(address) in network for network in zone.reverse)
        ]
    return published


def _usable(interface: Interface, zone: VmZone, namespace: str, published: Published) -> list[Address]:
    """The first address of each family that may be published, IPv4 first; adds reasons for the refused."""
    chosen: dict[int, Address] = {}
    for text in dict.fromkeys(interface.addresses):
        if not text:
            continue
        try:
            address = parse_address(text)
        except InvalidAddress as error:
            published.left_out.append(f"interface {interface.name!r}: {error}")
            continue
        why = _refusal(address, zone, namespace)
        if why:
            reason = f"interface {interface.name!r}: {address} is {why}"
            # Every interface with IPv6 has such an address, so a warning would be noise.
            published.left_out.append(Expected(reason) if why == _LINK_LOCAL else reason)
        else:
            chosen.setdefault(version(address), address)
    return [chosen[one] for one in sorted(chosen)] if len(chosen) > 1 else [*chosen.values()]


def _refusal(address: Address, zone: VmZone, namespace: str) -> str:
    """Why an address must not be published, since outsiders may query this zone; empty if it may."""
    allowed = zone.allowed_in.get(namespace, zone.allowed)
    if allowed is None and not _SPECIAL.match(address):
        return ""
    ip = ip_address(address)
    kinds = {
        "loopback": ip.is_loopback,
        "unspecified": ip.is_unspecified,
        _LINK_LOCAL: ip.is_link_local,
        "multicast": ip.is_multicast,
        "broadcast": ip == _BROADCAST,
    }
    for kind, yes in kinds.items():
        if yes:
            return kind
    if allowed is not None and not any(ip in network for network in allowed):
        return "outside the allowed networks"
    return ""
